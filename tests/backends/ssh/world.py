"""A host for the backend's tests: real OpenSSH behind a network that can fall silent, known by ~/.ssh/config."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends.ssh import SshBackend
from backends.ssh.link.where import Where
from backends.ssh.remembered import Memory, Place
from launcher.backend import Handle, Need
from launcher.cli.out import print_error
from launcher.errors import SamerunError
from launcher.runs.record import RunRecord
from launcher.runs.store import Store
from launcher.settings import Settings
from launcher.testing import payload
from launcher.testing.attempts import AttemptMaker
from launcher.testing.faults import Faults
from tests.emulators.ssh import Sshd, SwallowingProxy

NAME = "gpubox"
HELD = "held-reply"
SECONDS = 2.0  # how long a question may take in tests: an outage is seen soon
PYTHON = f"""\
#!/bin/sh
# This test's Python. While the file {HELD} is in the home folder, a worker is started and nobody is told.
case "$*" in */__main__.py\\ start\\ *) ;; *) exec "{sys.executable}" "$@";; esac
"{sys.executable}" "$@"
code=$?
while [ -e "$HOME/{HELD}" ]; do sleep 0.05; done
exit $code
"""
SPEC = """
model: yolo11n.yaml
data: {reef: {seed: 1, train_videos: 1, val_videos: 1, frames: 2, width: 48, height: 48}}
train: {epochs: 4}
resources: {device: cpu}
sync: {patience_minutes: 0.5}
"""


class Host:
    """`gpubox` of ~/.ssh/config: the server, the network before it, and its home folder."""

    def __init__(self, sshd: Sshd, proxy: SwallowingProxy) -> None:
        self.sshd, self.proxy = sshd, proxy
        self.home = sshd.home
        self.root = self.home / ".samerun"

    def box(self, attempt: str) -> Path:
        """Of an attempt, on the host."""
        return self.root / "boxes" / attempt

    def leader(self, attempt: str) -> int:
        """The supervisor's process number."""
        return int((self.box(attempt) / "state" / "started").read_text())

    def know(self, home: Path, key: str | None = None) -> None:
        """Write ~/.ssh of the user who launches. `key`: the host key to expect instead of the host's own."""
        folder = home / ".ssh"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.proxy.port} {key or self.sshd.host_key}\n")
        lines = [f"Host {NAME}", "HostName 127.0.0.1", f"Port {self.proxy.port}", f"User {self.sshd.user}"]
        lines += [f"IdentityFile {self.sshd.identity}", f"UserKnownHostsFile {folder / 'known_hosts'}"]
        (folder / "config").write_text("\n".join(lines) + "\n")


def options(**more: Any) -> dict[str, Any]:
    """Of `resources`, for the host, and the Python that has all that trains."""
    return {"host": NAME, "python": sys.executable, **more}


def place(**more: Any) -> Place:
    """What a handle says of the host."""
    return Place(Where.of(NAME), "~/.samerun", str(options(**more)["python"]))


class Maker(AttemptMaker):
    """Attempts for the host."""

    def __init__(self, *args: Any, resources: Mapping[str, Any] | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self.resources = dict(resources or options())

    def __call__(self, **more: Any) -> Any:
        more.setdefault("need", Need("cpu", more.get("max_hours"), self.resources))
        return super().__call__(**more)


def settings_for(folder: Path, **more: Any) -> Settings:
    """Settings with which an outage is seen soon."""
    return Settings(runs_dir=folder / "runs", cache_dir=folder / "cache", **{"ssh_seconds": SECONDS, **more})


def remembering(settings: Settings, **more: Any) -> SshBackend:
    """A backend whose user has used the host before."""
    Memory(settings.cache_dir / "ssh").remember(place(**more))
    return SshBackend(settings)


def wrapper(host: Host) -> Path:
    """A Python on the host whose replies can be held back, see PYTHON."""
    path = host.home / "bin" / "python3"
    path.parent.mkdir(exist_ok=True)
    path.write_text(PYTHON)
    path.chmod(0o755)
    return path


def faults_of(host: Host, home: Path) -> Faults:
    """All that the suite may ask for and a real server can do."""

    @contextmanager
    def lose_reply() -> Iterator[None]:
        held = host.home / HELD
        held.touch()
        try:
            yield
        finally:
            held.unlink()

    @contextmanager
    def silence() -> Iterator[None]:
        host.proxy.swallow()
        try:
            yield
        finally:
            host.proxy.let_through()

    @contextmanager
    def nobody() -> Iterator[None]:
        key = host.sshd.identity
        key.rename(key.with_suffix(".hidden"))
        try:
            yield
        finally:
            key.with_suffix(".hidden").rename(key)

    def rewrite(handle: Handle, path: str, size: int, first: bytes) -> None:
        file = host.box(handle.attempt) / "out" / path
        file.write_bytes((first + file.read_bytes()[len(first) :])[:size])

    def append(handle: Handle, data: bytes) -> None:
        with (host.box(handle.attempt) / "out" / "stream.log").open("ab") as stream:
            stream.write(data)

    def tell(handle: Handle, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(host.leader(handle.attempt), number)

    return Faults(
        lose_reply=lose_reply,
        silence=silence,
        no_access=nobody,
        kill_worker=lambda handle: tell(handle, signal.SIGKILL),
        stop_machine=lambda handle: tell(handle, signal.SIGTERM),
        corrupt=lambda handle, path: rewrite(handle, path, 1 << 30, b"*"),
        truncate=lambda handle, path: rewrite(handle, path, 100, b""),
        remove=lambda handle, path: (host.box(handle.attempt) / "out" / path).unlink(),
        append=append,
    )


class Launch:
    """`launch` in this process: `launch("a.yaml", "--backend", "ssh")` is an exit code. The stub payload trains."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.host = host
        self.store = Store(folder / "runs")
        self.spec = folder / "tiny.yaml"
        self.spec.write_text(SPEC)
        self.env = {
            "SAMERUN_PAYLOAD": str(payload.__file__),
            "SAMERUN_SSH_SECONDS": str(SECONDS),
            "SAMERUN_RUNS_DIR": str(folder / "runs"),
            "SAMERUN_CACHE_DIR": str(folder / "cache"),
        }

    def __call__(self, *words: str, command: str = "run") -> int:
        try:
            return int(importlib.import_module(f"launcher.cli.{command}").main([str(word) for word in words]))
        except SamerunError as error:
            return int(print_error(error, as_json=False))

    def words(self, *overrides: str) -> list[str]:
        """Of a launch of the spec on the host, with `field=value`."""
        given = [f"resources.{name}={value}" for name, value in options().items()]
        return [
            str(self.spec),
            "--backend",
            "ssh",
            *(word for each in (*given, *overrides) for word in ("--set", each)),
        ]

    def run(self, *overrides: str) -> int:
        """Launch the spec on the host, with `field=value`."""
        return self(*self.words(*overrides))

    @property
    def record(self) -> RunRecord:
        """The newest run."""
        return self.store.read(self.store.rows()[0].id)

    @property
    def folder(self) -> Path:
        """Of the newest run."""
        return self.store.folder(self.record.id)

    def epochs(self) -> list[int]:
        """Those in the newest run's results.csv, row by row."""
        rows = (self.folder / "train/results.csv").read_text().splitlines()[1:]
        return [int(row.split(",")[0]) for row in rows]
