"""The machines of emulated instances that have none: a box each, whose worker does what the schedule says."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from random import Random

from backends.gcp.store import Store
from backends.gcp.store.carrier.box import Box
from backends.gcp.store.carrier.carry import Carrier
from launcher.worker import manifest
from tests.backends.gcp.launcher_process import BEGUN
from tests.backends.gcp.store.world import FAST, FakeBox
from tests.emulators.compute import ComputeEmulator
from tests.emulators.storage import StorageEmulator

OUTCOMES = ("done", "done", "done", "failed", "expired", "lost", "hangs")


class Yard:
    """Looks for what was begun and works on it, while its instance is there. `deletes`: as the watchdog does."""

    def __init__(
        self, compute: ComputeEmulator, storage: StorageEmulator, bucket: str, folder: Path, rng: Random
    ) -> None:
        self._compute, self._storage, self._bucket, self._folder, self._rng = compute, storage, bucket, folder, rng
        self._store = Store(bucket, seconds=1.0)
        self._over = threading.Event()
        self._workers: list[threading.Thread] = []
        self._seen: set[str] = set()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.deletes = rng.random() < 0.5

    def __enter__(self) -> Yard:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in (self._thread, *self._workers):
            thread.join(5)

    def _look(self) -> None:
        while not self._over.wait(0.01):
            for name, version in self._storage.objects(self._bucket).items():
                key = f"{name}@{version.generation}"
                if not name.startswith(BEGUN) or key in self._seen:
                    continue
                self._seen.add(key)
                config = json.loads(version.content.read())
                outcome, seconds = self._rng.choice(OUTCOMES), self._rng.uniform(0.0, 0.3)
                thread = threading.Thread(target=self._work, args=(config, outcome, seconds, key), daemon=True)
                self._workers.append(thread)
                thread.start()

    def _is_up(self, name: str) -> bool:
        try:
            return self._compute.instances[name].status == "RUNNING"
        except KeyError:
            return False

    def _work(self, config: dict[str, object], outcome: str, seconds: float, key: str) -> None:
        """One box, as its worker and its carrier leave it; both are gone when the instance is."""
        name, attempt = str(config["name"]), str(config["attempt"])
        root = self._folder / hashlib.sha256(key.encode()).hexdigest()[:12]
        box = FakeBox(root, attempt, int(str(config["number"])))
        carrier = Carrier(Box(str(root)), {**config, "pace": {**FAST, "retry": 0.05}})
        box.start()
        threading.Thread(target=carrier.work, daemon=True).start()
        Path(box.worker.train).mkdir(parents=True)
        Path(box.worker.train, "results.csv").write_text("epoch\n")
        box.epoch(1)
        _say(box, 1, "started", {})
        until = time.monotonic() + seconds
        while outcome == "hangs" or time.monotonic() < until:
            if self._over.wait(0.02) or not self._is_up(name):
                self._pull(root, box)
                return
        if outcome == "lost":
            box.die()
        else:
            manifest.write_final(box.worker, complete=outcome == "done")
            digest = hashlib.sha256(Path(box.worker.manifest).read_bytes()).hexdigest()
            _say(box, 2, "done" if outcome == "done" else "failed", {"outcome": outcome, "manifest": digest})
            box.end(outcome)
        if self.deletes and not self._over.wait(0.3) and self._is_up(name):
            with self._compute.world.changed:
                self._compute.instances[name].finish()

    def _pull(self, root: Path, box: FakeBox) -> None:
        """The plug: the carrier finds no box any more."""
        root.rename(root.with_name(f"{root.name}-gone"))
        box.die()


def _say(box: FakeBox, number: int, name: str, fields: dict[str, object]) -> None:
    event = {"attempt": box.attempt, "seq": number, "time": 1.0, "event": name, **fields}
    box.say(b"@samerun " + json.dumps(event).encode() + b"\n")
