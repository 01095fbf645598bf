"""What is done on a machine by SSH: the box, the carrier, the worker; then lines, and a word to stop.

Promises: nothing is sent to a machine that does not show the host key which it has published; whatever was begun is
gone on with when it is done again; a machine that is taken away meanwhile is told from one that does not answer.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.gcp.compute import instance
from backends.gcp.compute.client import Compute
from backends.gcp.compute.seen import Life, Seen
from backends.gcp.planning import END_S
from backends.gcp.store import carrier_bytes
from launcher.backend import Lines, Status
from launcher.errors import CredentialError, RemoteError, SamerunError

if TYPE_CHECKING:
    from backends.ssh.host.machine import Machine

ROOT = "~/.samerun"
CARRIERS = "carriers"
STORAGE = ("google-cloud-storage>=3.17",)
ENVIRONMENT_S = 600.0  # making the carrier's environment: some 20 small packages; an assumption, with room
DENIED = "RefusedError"  # what the carrier calls a refusal of the bucket's (store/carrier/objects.py)
INPUTS_S = 1800.0  # the box's inputs from the bucket: weights and a checkpoint
KEEP_UP = """\
cd "$1" && mkdir state/keeper 2>/dev/null || exit 0
until "$2" "$3" carry "$1"; do sleep 2; done
: > state/carried
"""
"""For sh: carries the box until all is carried, again after each crash, once in a box's life."""
START = 'p=$1; shift; setsid -f sh -c "$p" sh "$@" </dev/null >/dev/null 2>&1 || exit 1'


class TakenAwayError(RemoteError):
    """The machine was taken away while something was done on it."""


class UnreachableError(SamerunError):
    """The machine is up, and nobody gets in."""


@dataclass(frozen=True)
class Reach:
    """How to get into a machine: what does not follow from the machine itself."""

    key: Path
    project: str
    os_login: str = ""
    iap: bool = False
    port: int = 22
    python: str = ""

    def to_json(self) -> dict[str, Any]:
        """What is kept, for whoever comes later."""
        return {"os_login": self.os_login, "iap": self.iap, "port": self.port, "python": self.python}


@dataclass(frozen=True)
class Work:
    """What is begun on a machine. `before` are the commands between the environment and the worker's own."""

    attempt: str
    config: Mapping[str, Any]
    attempt_json: Mapping[str, Any]
    env: Mapping[str, str]
    wheels: str


class Hands:
    """One machine. Constructing has no side effect."""

    def __init__(self, reach: Reach, found: Seen, host_keys: Sequence[str], seconds: float) -> None:
        from backends.ssh.host.machine import Machine
        from backends.ssh.link import Link, Where

        gateway = None
        if reach.iap:
            zone = f"--zone={shlex.quote(found.zone)} --project={shlex.quote(reach.project)}"
            gateway = f"gcloud compute start-iap-tunnel {found.name} %p --listen-on-stdin {zone}"
        where = Where(
            found.name if reach.iap else found.address,
            reach.os_login or instance.USER,
            reach.port if reach.port != 22 else instance.PORT,
            () if reach.os_login else (str(reach.key),),
            gateway,
            tuple(host_keys),
        )
        self.host_keys = tuple(host_keys)
        self._reach = reach
        self._link = Link(where, seconds=seconds)
        self.machine: Machine = Machine(self._link, ROOT, python=reach.python or None)

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def begin(self, work: Work, found: Seen) -> None:
        """Box, carrier and worker. Raises RemoteError: some of it may have been done; it may all be done again."""
        facts = self.machine.ready()
        places = self._places()
        carrier = f"{facts.root}/{CARRIERS}/{_digest()[:12]}.pyz"
        self._put(carrier, carrier_bytes())
        python = self._reach.python or self._environment(work, facts.python)
        box = f"{facts.root}/boxes/{work.attempt}"
        hours = _left(work.attempt_json.get("max_hours"), found, self._clock())
        described = {**work.attempt_json, "max_hours": hours, "data_root": f"{box}/work/source"}
        places.update({"{carrier}": carrier, "{carrier_python}": python})
        config = {**work.config, "data_root": f"{box}/work/source", "attempt_json": filled(described, places)}
        self._lay_out([python, carrier, "blobs", box, "-"], json.dumps(config).encode())
        self._run(["sh", "-c", START, "sh", KEEP_UP, box, python, carrier])
        self.machine.start(work.attempt, work.env)

    def started(self, attempt: str) -> bool:
        """Whether the worker was started there."""
        return attempt in self.machine.started([attempt])

    def lines(self, attempt: str, offset: int, wait: float) -> Lines:
        """As the machine has them."""
        return self.machine.lines(attempt, offset, wait)

    def fetch(self, attempt: str, paths: Sequence[str], to: Path) -> None:
        """As the machine has them."""
        self.machine.fetch(attempt, paths, to)

    def cancel(self, attempt: str, wait: float) -> Status:
        """Ask the worker to end."""
        return self.machine.cancel(attempt, wait=wait)

    def _places(self) -> dict[str, str]:
        """What stands for this machine in an attempt.json."""
        from backends.ssh.host import agent

        facts = self.machine.ready()
        path = f"{facts.root}/agents/{agent.name()}"
        return {"{root}": facts.root, "{agent}": path, "{host_python}": facts.python, "{platform}": facts.platform}

    def _environment(self, work: Work, host_python: str) -> str:
        """A Python with the carrier's package, made beside the host's own."""
        from backends.ssh.host.environment import Environment

        described = Environment(STORAGE, wheels=work.wheels).describe()
        places = self._places()
        described = filled(described, places)
        folder = f"{places['{root}']}/carrier/box"
        script = (
            'n=0; until "$2" -c "import ensurepip" 2>/dev/null || command -v uv >/dev/null || [ $n -ge 60 ]; '
            'do n=$((n+1)); sleep 5; done; mkdir -p "$1/in" "$1/work" && cat >"$1/in/attempt.json" && '
            'exec "$2" -I "$3" environment "$1"'
        )
        feed = json.dumps({"python": described["python"], "environment": described["environment"]}).encode()
        self._run(["sh", "-c", script, "sh", folder, host_python, places["{agent}"]], feed, ENVIRONMENT_S)
        return str(described["python"])

    def _lay_out(self, argv: Sequence[str], feed: bytes) -> None:
        """Have the box's inputs brought. Raises CredentialError where the machine's account may not read them."""
        try:
            self._run(argv, feed, INPUTS_S)
        except RemoteError as error:
            if DENIED not in error.message:
                raise
            remedy = "grant the machine's account (resources.service_account) `roles/storage.objectUser` on the bucket"
            raise CredentialError(error.message, remedy=remedy) from error

    def _clock(self) -> float:
        """The machine's own, which Google keeps: by ours, if it were wrong, the training's time would be wrong."""
        told = self._link.run(["date", "+%s"]).out.strip()
        return float(told) if told.isdigit() else time.time()

    def _put(self, path: str, data: bytes) -> None:
        """Have a file there, whole or not at all."""
        script = '[ -f "$1" ] && exit 0; mkdir -p "${1%/*}" && cat >"$1.part.$$" && mv "$1.part.$$" "$1"'
        self._run(["sh", "-c", script, "sh", path], data, 60.0)

    def _run(self, argv: Sequence[str], feed: bytes = b"", longer: float = 0.0) -> None:
        done = self._link.run(argv, feed=feed, limit=self._link.seconds + longer)
        if done.code != 0:
            told = (done.err or done.out).decode("utf-8", "replace").strip()[-1000:]
            raise RemoteError(f"{self.machine}: `{' '.join(argv)[:120]}` ended with exit code {done.code}: {told}")


def ready(compute: Compute, found: Seen, make: Callable[[Seen, Sequence[str]], Hands]) -> tuple[Hands, Seen]:
    """Wait until the machine lets us in. Raises TakenAwayError, UnreachableError, RemoteError."""
    until = time.monotonic() + compute.limits.boot
    hands, error, pause = None, "it has published no host keys", min(compute.limits.poll / 10, 1.0)
    keys: tuple[str, ...] = ()
    while time.monotonic() < until:
        now = compute.get(found.zone, found.name)
        if now is None or now.life in (Life.GOING, Life.OFF):
            raise TakenAwayError(f"{found.name} in {found.zone} was taken away while it was set up")
        if now.life is Life.UP and now.address:
            keys = keys or compute.host_keys(found.zone, found.name)
            if keys:
                hands = hands or make(now, keys)
                try:
                    hands.machine.ready()
                    return hands, now
                except (RemoteError, CredentialError) as failed:  # its account is made, and its server started, later
                    error = failed.message
        time.sleep(pause)
        pause = min(2 * pause, compute.limits.poll)
    if hands is not None:
        hands.close()
    remedy = "allow tcp:22 from here in the network's firewall, or set resources.iap; the image must have a guest agent"
    raise UnreachableError(f"nobody gets into {found.name} in {found.zone}: {error}", remedy=remedy)


def filled(value: Any, places: Mapping[str, str]) -> Any:
    """The value with each place's name in its texts replaced; {box}, {python} and {worker} are the supervisor's."""
    if isinstance(value, str):
        for name, text in places.items():
            value = value.replace(name, text)
    elif isinstance(value, dict):
        return {key: filled(each, places) for key, each in value.items()}
    elif isinstance(value, list | tuple):
        return [filled(each, places) for each in value]
    return value


def _left(hours: float | None, found: Seen, now: float) -> float | None:
    """What is left of the machine's time for the training: it may have waited for a launcher that died."""
    if found.ends is None:
        return hours
    left = max(0.01, (found.ends - now - END_S) / 3600)
    return min(hours, left) if hours else left


def _digest() -> str:
    import hashlib

    return hashlib.sha256(carrier_bytes()).hexdigest()


__all__ = ["Hands", "Reach", "TakenAwayError", "UnreachableError", "Work", "filled", "ready"]
