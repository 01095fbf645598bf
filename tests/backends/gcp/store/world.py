"""Boxes whose worker is the test: what the real worker's modules write, when the test says so."""

from __future__ import annotations

import fcntl
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.gcp.store import Store
from backends.gcp.store.carrier.box import Box
from backends.gcp.store.carrier.carry import Carrier
from backends.gcp.store.carrier.objects import Objects
from launcher.worker import manifest
from launcher.worker.box import Box as WorkerBox
from launcher.worker.training import checkpoint
from tests.emulators.storage import StorageEmulator

BUCKET = "reef"
RUN = "smoke-1"
FAST = {"look": 0.01, "first": 0.02, "most": 0.02, "alive": 0.05, "retry": 0.2}


def quiet(what: str, done: int, whole: int) -> None:
    """Nobody to tell."""


class FakeBox:
    """A box as a worker leaves it, step by step. `lines` is what was printed so far."""

    def __init__(self, root: Path, attempt: str = f"{RUN}-a1", number: int = 1) -> None:
        self.root, self.attempt, self.number = root, attempt, number
        self.worker = WorkerBox(str(root))
        (root / "in").mkdir(parents=True)
        self.worker.make()
        (root / "in/job.json").write_text("{}")
        (root / "in/attempt.json").write_text(json.dumps({"attempt": attempt}))
        self._lock = -1

    def start(self) -> FakeBox:
        """As a supervisor does: the lock, then the mark."""
        self._lock = os.open(self.worker.lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        Path(self.worker.started).write_text("1")
        return self

    def say(self, data: bytes) -> None:
        """Append to the stream."""
        with Path(self.worker.stream).open("ab") as stream:
            stream.write(data)

    def epoch(self, number: int, size: int = 2000) -> None:
        """What an epoch leaves, and its manifest."""
        weights = Path(self.worker.train, "weights")
        weights.mkdir(parents=True, exist_ok=True)
        content = random.Random(number).randbytes(size)
        for name in ("last.pt", "best.pt"):
            (weights / name).write_bytes(content + name.encode())
        Path(self.worker.train, "args.yaml").write_text("the same in each epoch\n")
        with Path(self.worker.train, "results.csv").open("a") as stream:
            stream.write(f"{number}\n")
        checkpoint.announce(self.worker, checkpoint.set_aside(self.worker, number, False, False))

    def end(self, outcome: str = "done") -> None:
        """Manifest, exit.json, and nobody holds the lock."""
        manifest.write_final(self.worker, complete=outcome == "done")
        Path(self.worker.exit).write_text(json.dumps({"outcome": outcome, "exit_code": 0 if outcome == "done" else 1}))
        self.die()

    def die(self) -> None:
        """The supervisor is gone."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def printed(self) -> bytes:
        """All of the stream."""
        path = Path(self.worker.stream)
        return path.read_bytes() if path.exists() else b""

    def entries(self) -> list[dict[str, Any]]:
        """The manifest's."""
        found: list[dict[str, Any]] = json.loads(Path(self.worker.manifest).read_bytes())["files"]
        return found

    def config(self, store: Store, **pace: float) -> dict[str, Any]:
        """For its carrier."""
        return store.config(RUN, self.attempt, self.number, pace={**FAST, **pace})

    def carrier(self, store: Store, **pace: float) -> Carrier:
        """One that has not begun."""
        return Carrier(Box(str(self.root)), self.config(store, **pace))


@contextmanager
def carrying(carrier: Carrier, limit: float = 20.0) -> Iterator[threading.Thread]:
    """A carrier at work in a thread; at the end of the block it must come to its own end."""
    thread = threading.Thread(target=carrier.work, daemon=True)
    thread.start()
    yield thread
    thread.join(limit)
    assert not thread.is_alive(), "the carrier has not ended"


def slow(*values: object) -> list[object]:
    """Values of a parameter whose tests are not for every day."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for it. Fails when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come to that"
        time.sleep(0.01)


def names_in(storage: StorageEmulator) -> list[str]:
    """All objects' names, below the prefix."""
    return [name.removeprefix("samerun/") for name in storage.objects(BUCKET)]


class KilledError(BaseException):
    """Stands for SIGKILL: no handler of the code under test sees it."""


class Dying(Objects):
    """A store whose user is killed at a request: before it, after it, or with the request still on its way.

    What is on its way arrives when `late` is called, after others have gone on.
    """

    def __init__(self, seed: random.Random, deadly: float) -> None:
        super().__init__(BUCKET, "samerun", seconds=5)
        self._seed, self._deadly = seed, deadly
        self._late: list[Callable[[], object]] = []

    def late(self) -> None:
        """Let arrive what is on its way, in any order, each once or twice."""
        arriving, self._late = self._late, []
        self._seed.shuffle(arriving)
        for request in arriving * self._seed.choice((1, 1, 2)):
            try:
                request()
            except Exception:  # noqa: BLE001, S110  nobody is left to hear of it
                pass

    def _die(self, request: Callable[[], Any]) -> Any:
        if self._seed.random() >= self._deadly:
            return request()
        how = self._seed.choice(("before", "after", "late"))
        if how == "after":
            request()
        elif how == "late":
            self._late.append(request)
        raise KilledError

    def list(self, folder: str, start: str = "") -> Iterator[Any]:
        """What is on its way may arrive just when its successor has looked."""
        yield from list(super().list(folder, start))
        if self._seed.random() < 0.5:
            self.late()

    def swap(self, name: str, data: bytes, generation: int) -> int:
        return int(self._die(lambda: super(Dying, self).swap(name, data, generation)))

    def put(self, name: str, data: bytes) -> None:
        self._die(lambda: super(Dying, self).put(name, data))

    def delete(self, seen: Any) -> None:
        self._die(lambda: super(Dying, self).delete(seen))

    def upload(self, name: str, stream: Any, size: int, generation: int) -> Any:
        data = stream.read(size)

        def request() -> Any:
            import io

            return super(Dying, self).upload(name, io.BytesIO(data), size, generation)

        return self._die(request)
