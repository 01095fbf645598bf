"""A backend in memory: its machine trains by epochs, and each of its calls can be made to fail, lie or be the last.

The machine holds the state; a `Scripted` is one process's connection to it, and may be replaced like a launcher that
was killed and started again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.backend import (
    Attempt,
    Backend,
    DataSource,
    Feature,
    Handle,
    Lines,
    Need,
    Offer,
    RemoteFile,
    Request,
    State,
    Status,
    Tell,
)
from launcher.bundle.pack import pack
from launcher.errors import RemoteError
from launcher.finding import Finding
from launcher.runs.driving.drive import Driver
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings
from launcher.sync import manifest as manifests

__all__ = ["DataSource", "Killed", "Machine", "Scripted", "State", "World"]
LAST, BEST, CSV, ARGS = "train/weights/last.pt", "train/weights/best.pt", "train/results.csv", "train/args.yaml"


class Killed(BaseException):
    """Stands for SIGKILL of the launcher."""


@dataclass
class Work:
    """One attempt on the machine."""

    attempt: Attempt
    files: dict[str, bytes] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    state: State = State.RUNNING
    seq: int = 0

    def event(self, name: str, **fields: Any) -> None:
        self.seq += 1
        value = {"attempt": self.attempt.id, "seq": self.seq, "time": 1.0, "event": name, **fields}
        self.lines.append("@samerun " + json.dumps(value))

    def publish(self, complete: bool, epoch: int | None = None) -> str:
        """Write the manifest of all that is there."""
        files = [
            {"path": path, "at": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in sorted(self.files.items())
            if path != "manifest.json"
        ]
        more = {} if epoch is None else {"epoch": epoch, "stop": False}
        data = json.dumps({"kind": "x", "complete": complete, "files": files, **more}).encode()
        self.files["manifest.json"] = data
        return hashlib.sha256(data).hexdigest()


End = tuple[int, State]
"""After which epoch an attempt ends, and how."""


class Machine:
    """Trains each accepted attempt at once: `ends` says how the first, second, ... end (the last one repeats)."""

    def __init__(self, epochs: int = 3, ends: Sequence[End] = ((3, State.SUCCEEDED),)) -> None:
        self.epochs = epochs
        self.ends = list(ends)
        self.work: dict[str, Work] = {}
        self.accepted: list[str] = []
        self.released: list[str] = []
        self.resumed: list[int] = []
        self.after: Callable[[Work], None] = lambda work: None

    def accept(self, attempt: Attempt) -> None:
        if attempt.id in self.work:
            return
        self.accepted.append(attempt.id)
        work = self.work[attempt.id] = Work(attempt)
        last, state = self.ends[min(len(self.accepted), len(self.ends)) - 1]
        first = self._resume(work)
        self.resumed.append(first)
        work.event("started", device="cpu")
        work.lines.append(f"training from {first + 1}")
        for epoch in range(first + 1, last + 1):
            self._epoch(work, epoch)
        self._end(work, state, max(first, last))
        self.after(work)

    def _resume(self, work: Work) -> int:
        resume = work.attempt.describe["resume"]
        work.files[ARGS] = b"epochs: %d\n" % self.epochs
        if resume is None:
            work.files[CSV] = b"epoch\n"
            return 0
        for file in work.attempt.inputs:
            if file.path.startswith("resume/"):
                data = file.source.read_bytes()
                assert hashlib.sha256(data).hexdigest() == file.sha256
                work.files[CSV if file.path.endswith("csv") else f"train/weights/{Path(file.path).name}"] = data
        epoch = int(resume["epoch"])
        assert work.files[LAST] == b"last of %d" % epoch, "the checkpoint is that of its epoch"
        assert work.files[CSV].split()[-1] == b"%d" % epoch
        work.event("resumed", epoch=epoch)
        return epoch

    def _epoch(self, work: Work, epoch: int) -> None:
        work.files[LAST] = b"last of %d" % epoch
        work.files[BEST] = b"best of %d" % epoch
        work.files[CSV] += b"%d\n" % epoch
        work.publish(complete=False, epoch=epoch)
        work.event("epoch", epoch=epoch, epochs=self.epochs, metrics={"metrics/mAP50(B)": epoch / 10})
        work.event("checkpoint", epoch=epoch)

    def _end(self, work: Work, state: State, epoch: int) -> None:
        work.state = state
        if state is State.SUCCEEDED:
            work.files[LAST] += b", stripped"
            work.event("final_eval", metrics={"metrics/mAP50(B)": 0.9})
            work.event("done", outcome="done", manifest=work.publish(complete=True))
        elif state in (State.FAILED, State.EXPIRED, State.CANCELLED):
            work.event("failed", reason="told to", manifest=work.publish(complete=False, epoch=epoch or None))


class Scripted(Backend[Request]):
    """A connection to the machine. `plan`: call → what happens instead, one entry a call, None for nothing."""

    name = "scripted"
    lacks: Mapping[Feature, str] = {Feature.LIVE_FILES: "tests of the end first"}

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.calls: list[str] = []
        self.plan: dict[str, list[BaseException | None]] = {}
        self.before: Callable[[str], None] = lambda call: None
        self.after: Callable[[str], None] = lambda call: None
        self.spoil: Callable[[str, bytes], bytes | None] = lambda path, data: data
        self.chunk = 2

    def _called(self, call: str) -> None:
        self.calls.append(call)
        self.before(call)
        if (plan := self.plan.get(call)) and (fault := plan.pop(0)):
            raise fault

    def check(self) -> list[Finding]:
        return []

    def offer(self, need: Need) -> Offer:
        return Offer("memory", need.device)

    def prepare(self, attempt: Attempt) -> Request:
        self._called("prepare")
        return Request(attempt)

    def stage(self, request: Request, tell: Tell) -> None:
        self._called("stage")
        for done in range(3):
            tell("sending", done, 2)

    def submit(self, request: Request) -> Handle:
        self._called("submit")
        self.machine.accept(request.attempt)
        self.after("submit")
        return Handle(self.name, request.attempt.id, {"place": request.attempt.id})

    def find(self, attempt: Attempt) -> Handle | None:
        self._called("find")
        return Handle(self.name, attempt.id, {"place": attempt.id}) if attempt.id in self.machine.work else None

    def poll(self, handles: Sequence[Handle]) -> dict[str, Status]:
        self._called("poll")
        found = {}
        for handle in handles:
            gone = handle.attempt in self.machine.released
            found[handle.attempt] = Status(State.LOST if gone else self.machine.work[handle.attempt].state)
        return found

    def lines(self, handle: Handle, cursor: str, wait: float) -> Lines:
        self._called("lines")
        if handle.attempt in self.machine.released:
            return Lines((), cursor)
        at = int(cursor or 0)
        found = self.machine.work[handle.attempt].lines[at : at + self.chunk]
        return Lines(tuple(found), str(at + len(found)))

    def files(self, handle: Handle) -> list[RemoteFile] | None:
        self._called("files")
        files = {} if handle.attempt in self.machine.released else self.machine.work[handle.attempt].files
        return [RemoteFile(path, len(data)) for path, data in files.items()]

    def fetch(self, handle: Handle, paths: Sequence[str], to: Path) -> None:
        self._called("fetch")
        if handle.attempt in self.machine.released:
            return
        for path in paths:
            data = self.machine.work[handle.attempt].files.get(path)
            came = None if data is None else self.spoil(path, data)
            if came is not None:
                (to / path).parent.mkdir(parents=True, exist_ok=True)
                (to / path).write_bytes(came)
        self.after("fetch")

    def cancel(self, handle: Handle) -> Status:
        self._called("cancel")
        work = self.machine.work[handle.attempt]
        if not work.state.ended:
            work.state = State.CANCELLED
        return Status(work.state)

    def release(self, handle: Handle) -> list[str]:
        self._called("release")
        if handle.attempt not in self.machine.released:
            self.machine.released.append(handle.attempt)
        return []

    def owned(self) -> list[Handle]:
        return [Handle(self.name, name) for name in self.machine.work if name not in self.machine.released]


class World:
    """A runs folder with one run, a machine, and launchers that come and go."""

    def __init__(self, root: Path, machine: Machine, cache: Path | None = None, **record: Any) -> None:
        self.settings = Settings(runs_dir=root / "runs", cache_dir=cache or root / "cache")
        self.machine = machine
        bundle = pack(self.settings.cache_dir, {"version": 1}, {}, {}, "f")
        given: dict[str, Any] = {"max_attempts": 3, "patience_s": 0.05, **record}
        self.run = "run-abc"
        made = RunRecord(self.run, "run", "scripted", RunState.CREATED, "k", bundle.digest, 1.0, 1.0, **given)
        Store(self.settings.runs_dir).create(made, {})
        self.folder = self.settings.runs_dir / self.run
        self.backend = Scripted(machine)

    def launch(self) -> Driver:
        """Another process: a new connection, a new store."""
        self.backend = Scripted(self.machine)
        return self.driver()

    def driver(self) -> Driver:
        store = Store(self.settings.runs_dir)
        return Driver(store, self.settings, self.backend, store.read(self.run))

    @property
    def record(self) -> RunRecord:
        return Store(self.settings.runs_dir).read(self.run)

    def epochs(self) -> list[int]:
        return [int(row) for row in (self.folder / CSV).read_text().split()[1:]]


def silent(times: int = 1) -> list[BaseException | None]:
    """A plan: this many calls are not answered."""
    return [RemoteError("no answer") for _ in range(times)]


def verified(world: World) -> None:
    """The run is what it says: verified, each epoch once, each event once, nothing accepted twice."""
    record = world.record
    assert record.state is RunState.VERIFIED, record
    assert world.epochs() == [1, 2, 3]
    assert record.epoch == 3
    assert record.metrics == {"metrics/mAP50(B)": 0.9}
    assert record.attempt is not None
    assert record.attempt.started == {"device": "cpu"}
    assert max(Counter(world.machine.accepted).values()) == 1
    lines = [json.loads(line) for line in (world.folder / "events.jsonl").read_text().splitlines()]
    assert max(Counter((line["attempt"], line["seq"]) for line in lines).values()) == 1
    for attempt in record.attempts:
        numbers = [line["seq"] for line in lines if line["attempt"] == attempt.id]
        assert numbers == list(range(1, len(numbers) + 1))
    last = [line for line in lines if line["attempt"] == record.attempts[-1].id]
    assert last[-1]["event"] == "done"
    log = (world.folder / "log.txt").read_text().splitlines()
    assert max(Counter(log).values()) <= len(record.attempts)
    manifest = manifests.parse((world.folder / "manifest.json").read_bytes())
    assert manifest.complete
    (row,) = Store(world.settings.runs_dir).rows()
    assert (row.state, row.epoch) == ("verified", 3)


DONE = (3, State.SUCCEEDED)


def at(call: str, do: Callable[[], None], number: int = 1) -> Callable[[str], None]:
    """Do it once, before the n-th call of this name."""
    left = [number]

    def step(name: str) -> None:
        left[0] -= name == call
        if name == call and left[0] == 0:
            do()

    return step


def kill() -> None:
    raise Killed


def store_of(world: World) -> Store:
    return Store(world.settings.runs_dir)


def unended(world: World) -> None:
    """The machine's attempts go on until they are told to stop."""
    world.machine.after = lambda work: setattr(work, "state", State.RUNNING)


Loaded = Callable[[World], World]
"""The fixture `loaded`: the commands find this world's runs, and its backend."""
