"""Any host that can be reached by SSH as a backend: a lab's server, another cloud's machine, a Host of ~/.ssh/config.

The worker runs there in a session of its own and survives the connection, the launcher and the laptop. An attempt's
box is `<root>/boxes/<attempt id>` on the host. Nothing that connects is imported before a host is asked something.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from backends.ssh.host.environment import Environment
from backends.ssh.link.where import Where
from backends.ssh.remembered import Memory, Place
from launcher.backend import (
    Attempt,
    Backend,
    DataSource,
    Feature,
    Handle,
    Lines,
    Need,
    Offer,
    Option,
    RemoteFile,
    Request,
    State,
    Status,
    Stored,
    Tell,
)
from launcher.errors import Problem, RemoteError, SamerunError, SpecError
from launcher.finding import Finding
from launcher.settings import Settings
from launcher.variables import expand, references

if TYPE_CHECKING:
    from backends.ssh.host.machine import Machine

ROOT = "~/.samerun"
CANCEL_S = 30.0  # the supervisor gives the training 10 s to end, then kills it
CANCEL_LOOK_S = 5.0  # how long one question waits for that end
WAITING = "waiting for another launch, which sends the same dataset"
T = TypeVar("T")


@dataclass(frozen=True)
class SshRequest(Request):
    """The box that will be made on the host, and what its attempt.json will say ({root} and such are the host's)."""

    place: Place
    attempt_json: Mapping[str, Any]
    listing: Path | None = field(repr=False)
    """The dataset's, where there is one to bring."""

    def show(self) -> dict[str, Any]:
        """Plain values."""
        box = f"{self.place.root}/boxes/{self.attempt.id}"
        return {**super().show(), "host": str(self.place.where), "box": box, "attempt.json": dict(self.attempt_json)}


class SshBackend(Backend[SshRequest]):
    """See `launcher.backend.Backend`."""

    name = "ssh"
    lacks: Mapping[Feature, str] = {}
    options: Mapping[str, Option] = {
        "host": Option(str, "the machine: user@host, user@host:port, or a Host of ~/.ssh/config"),
        "host_key": Option(str, "its public key, `ssh-ed25519 AAAA...`; default: as known_hosts has it"),
        "root": Option(str, f"samerun's folder on the host; default: {ROOT}"),
        "python": Option(
            str, "a Python on the host that has all that trains, or the version to make an environment with, as '3.12'"
        ),
        "wheels": Option(str, "what to install from, alone: a folder of wheels on the host (ssh), owner/slug (kaggle)"),
        "torch_backend": Option(str, "which build of torch the host gets: uv's --torch-backend; default: auto"),
    }

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._memory = Memory(settings.cache_dir / "ssh")
        self._machines: dict[Place, Machine] = {}
        self._lock = threading.Lock()

    def check(self) -> list[Finding]:
        """The hosts that were used before: whether they answer, and what they have."""
        from backends.ssh import offering

        return offering.check(self._memory, self._machine)

    def offer(self, need: Need) -> Offer:
        """The host that the spec names, if it answers."""
        from backends.ssh import offering

        return offering.offer(need, self.options, lambda: self._machine(place_of(need.options)))

    def prepare(self, attempt: Attempt) -> SshRequest:
        """The place and what the box will say. Asks nobody. Raises SpecError."""
        place = place_of(attempt.need.options)
        described = {**attempt.describe, "device": attempt.need.device, **training_of(attempt)}
        listing = None
        if isinstance(attempt.data, DataSource):
            described["data_root"] = f"{{root}}/data/{attempt.data.fingerprint}"
            listing = next(file.source for file in attempt.inputs if file.path == "data.json")
        return SshRequest(attempt, place, described, listing)

    def stage(self, request: SshRequest, tell: Tell) -> None:
        """Send the dataset, and inputs that are too large to travel with the question that lays out the box."""
        _values(request.attempt)
        self._memory.remember(request.place, request.attempt.id)
        machine = self._machine(request.place)
        if isinstance(request.attempt.data, DataSource) and request.listing is not None:
            source = request.attempt.data
            with self._memory.turn(request.place, source.fingerprint, lambda: tell(WAITING, 0, 0)):
                machine.data(source, request.listing, tell)
        machine.bring(request.attempt.id, request.attempt.inputs, tell)

    def submit(self, request: SshRequest) -> Handle:
        """Lay the box out, start the worker in it: each happens once, however often it is asked for."""
        values = _values(request.attempt)
        self._memory.remember(request.place, request.attempt.id)
        machine = self._machine(request.place)
        described = dict(request.attempt_json)
        if described["device"] == "auto" and machine.ready().cuda:
            described["device"] = "cuda"  # and proved: a GPU that torch cannot use is no reason to train on the CPU
        machine.lay_out(request.attempt.id, request.attempt.inputs, described)
        machine.start(request.attempt.id, values)
        return self._handle(request.place, request.attempt.id)

    def find(self, attempt: Attempt) -> Handle | None:
        """A box on the host whose worker was started."""
        place = place_of(attempt.need.options)
        return self._handle(place, attempt.id) if self._machine(place).started([attempt.id]) else None

    def poll(self, handles: Sequence[Handle]) -> dict[str, Status]:
        """One question for each host."""
        by_place: dict[Place, list[str]] = {}
        for handle in handles:
            by_place.setdefault(Place.from_json(handle.data), []).append(handle.attempt)

        def ask(place: Place) -> dict[str, Status]:
            try:
                return self._machine(place).status(by_place[place])
            except SamerunError as error:
                return dict.fromkeys(by_place[place], Status(State.UNKNOWN, error.message))

        found: dict[str, Status] = {}
        for statuses in side_by_side(ask, list(by_place)):
            found.update(statuses)
        return found

    def lines(self, handle: Handle, cursor: str, wait: float) -> Lines:
        """From the worker's stream; the cursor is a byte offset."""
        return self._of(handle).lines(handle.attempt, int(cursor or 0), wait)

    def files(self, handle: Handle) -> list[RemoteFile] | None:
        """What lies in the outbox."""
        return self._of(handle).files(handle.attempt)

    def fetch(self, handle: Handle, paths: Sequence[str], to: Path) -> None:
        """All of them in one stream."""
        self._of(handle).fetch(handle.attempt, paths, to)

    def cancel(self, handle: Handle) -> Status:
        """Ask the supervisor, which ends the whole process group; kill the session when it does not answer."""
        machine = self._of(handle)
        begun = time.monotonic()
        while True:
            spent = time.monotonic() - begun
            status = machine.cancel(handle.attempt, wait=min(CANCEL_LOOK_S, CANCEL_S), kill=spent > CANCEL_S)
            if status.state.ended:
                return status
            if status.state is State.UNKNOWN or spent > CANCEL_S:
                reason = status.reason or f"it is {status.state} still"
                raise RemoteError(f"{handle.attempt} does not end: {reason}", remedy=f"look at it on {machine}")

    def release(self, handle: Handle) -> list[str]:
        """Delete the box of an attempt that has ended."""
        place = Place.from_json(handle.data)
        left = self._machine(place).release(handle.attempt)
        if not left:
            self._memory.gone(place, handle.attempt)
        return left

    def owned(self) -> list[Handle]:
        """Every box on the hosts that were used from here. Of a host that is silent, what it may hold."""
        known = list(self._memory)
        found: list[Handle] = []
        for each, names in zip(known, side_by_side(self._boxes, [each.place for each in known]), strict=True):
            found += [self._handle(each.place, name) for name in (each.attempts if names is None else names)]
        return found

    def stored(self) -> list[Stored]:
        """Datasets, environments and samerun's own program on those hosts; silent ones are left out."""
        known = list(self._memory)
        found: list[Stored] = []
        for each, entries in zip(known, side_by_side(self._kept, [each.place for each in known]), strict=True):
            place = each.place
            for entry in entries or ():
                what = f"{entry['what']} on {place.where}, {place.root}/{entry['key']}"
                found.append(Stored(f"{place.key}/{entry['key']}", what, entry["size"], entry["made"]))
            if entries == [] and not each.attempts and not self._boxes(place):
                self._memory.forget(place)
        return found

    def discard(self, stored: Stored) -> list[str]:
        """Remove it from its host."""
        key, _, path = stored.key.partition("/")
        places = [each.place for each in self._memory if each.place.key == key]
        return [left for place in places for left in self._machine(place).discard(path)]

    # Below the contract.

    def _machine(self, place: Place) -> Machine:
        """One for each place, with one connection that lasts."""
        from backends.ssh.host.machine import Machine
        from backends.ssh.link import Link

        with self._lock:
            if place not in self._machines:
                link = Link(place.where, seconds=self._settings.ssh_seconds)
                self._machines[place] = Machine(link, place.root, python=place.python or None)
            return self._machines[place]

    def _of(self, handle: Handle) -> Machine:
        return self._machine(Place.from_json(handle.data))

    def _handle(self, place: Place, attempt: str) -> Handle:
        return Handle(self.name, attempt, place.to_json())

    def _boxes(self, place: Place) -> list[str] | None:
        """None when the host cannot be asked."""
        try:
            return self._machine(place).boxes()
        except SamerunError:
            return None

    def _kept(self, place: Place) -> list[dict[str, Any]] | None:
        try:
            return self._machine(place).kept()
        except SamerunError:
            return None


def place_of(options: Mapping[str, Any]) -> Place:
    """The host that `resources` names. Raises SpecError."""
    host = str(options.get("host") or "")
    if not host:
        remedy = "--set resources.host=user@machine, or a Host of ~/.ssh/config"
        raise SpecError([Problem("--backend ssh needs a host", field="resources.host", remedy=remedy)])
    keys = tuple(line.strip() for line in str(options.get("host_key") or "").splitlines() if line.strip())
    python = str(options.get("python") or "")
    return Place(
        Where.of(host, host_keys=keys), str(options.get("root") or ROOT), "" if _is_version(python) else python
    )


def training_of(attempt: Attempt) -> dict[str, Any]:
    """What attempt.json says of the Python that trains, and of what comes before. Raises SpecError."""
    options = attempt.need.options
    prove = [["{python}", "{worker}", "prove", "{box}"]] if attempt.need.device != "cpu" else []
    python = str(options.get("python") or "")
    if python and not _is_version(python):
        return {"python": "{host_python}", "before": prove}
    job = next(file for file in attempt.inputs if file.path == "job.json")
    pins = json.loads(job.source.read_bytes()).get("pins") or {}
    wheels, backend = str(options.get("wheels") or ""), str(options.get("torch_backend") or "auto")
    described = Environment.of(pins, python=python, wheels=wheels, torch_backend=backend).describe()
    return {**described, "before": [*described["before"], *prove]}


def side_by_side(ask: Callable[[Place], T], places: Sequence[Place]) -> list[T]:
    """The answers in order; hosts are asked at the same time, so that a silent one is waited for once."""
    if len(places) < 2:
        return [ask(place) for place in places]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(16, len(places))) as pool:
        return list(pool.map(ask, places))


def _is_version(python: str) -> bool:
    return python != "" and all(part.isdigit() for part in python.split("."))


def _values(attempt: Attempt) -> dict[str, str]:
    """The worker's variables, filled in, and the values that went into them. Raises SpecError for what is not set."""
    values = {name: expand(text, os.environ) for name, text in attempt.variables.items()}
    named = {name for text in attempt.variables.values() for name in references(text)}
    return {**values, "SAMERUN_SECRETS": json.dumps([os.environ[name] for name in sorted(named)])}


__all__ = ["SshBackend", "SshRequest"]
