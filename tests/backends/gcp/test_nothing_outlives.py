"""No machine outlives its run: random schedules of faults of the service and kills of the launcher.

A schedule begins a run, kills whoever drives it a few times, and has someone go on with it. At its end there is nothing
left, or a non-zero exit and words that say what; and `launch reap` empties it. What nobody looks after ends by itself.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from launcher.backend import Need
from launcher.bundle.pack import WORKER
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.testing.attempts import AttemptMaker
from tests.backends.gcp import launcher_process, world
from tests.backends.gcp.yard import Yard
from tests.emulators.compute import ComputeEmulator
from tests.emulators.storage import StorageEmulator

DAILY, ALL = 6, 200
ZONES = "us-central1-a,us-central1-b,europe-west4-a"
SETTLED_S = 60  # a machine that is being preempted is not gone before 30 s, whoever deletes it
LATER_S = 26 * 3600  # after every machine's own end
PATIENT_S, LONGEST_S = 6.0, 60.0
FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("503", {"on": "instances.delete"}),
    ("503", {"on": "instances.insert"}),
    ("503", {"on": "instances.aggregatedList"}),
    ("503-after", {"on": "instances.insert"}),
    ("503-after", {"on": "instances.delete"}),
    ("lose-reply", {"on": "instances.insert"}),
    ("lose-reply", {"on": "instances.delete"}),
    ("hang-after", {"on": "instances.insert"}),
    ("cut-middle", {"on": "instances.get"}),
    ("permission", {"on": "instances.delete"}),
    ("stockout", {}),
    ("stockout-details", {}),
    ("quota", {"on": "instances.insert"}),
    ("quota-async", {"metric": "CPUS"}),
    ("preempted-at-birth", {}),
    ("error-but-up", {}),
    ("stuck", {}),
    ("delete-error", {}),
    ("delete-stuck", {}),
    ("done-early", {"seconds": 0.3}),
    ("disk-stays", {}),
    ("preempt", {"seconds": 0.1}),
    ("vanish", {"seconds": 0.1}),
    ("409", {"on": "instances.insert"}),
)


@dataclass
class Told:
    """What a launcher has said: its exit code (negative: the signal that killed it) and its words."""

    code: int
    words: str


class Schedule:
    """One seed's run, cloud and launchers."""

    def __init__(self, seed: int, folder: Path, compute: ComputeEmulator, storage: StorageEmulator) -> None:
        self.random, self.folder, self.compute, self.storage = random.Random(seed), folder, compute, storage
        self.store = Store(folder / "runs")
        self.env = {
            **storage.env,
            "SAMERUN_GCE_ENDPOINT": compute.endpoint,
            "SAMERUN_GCP_PROJECT": compute.project,
            "SAMERUN_GCP_BUCKET": world.BUCKET,
            "SAMERUN_RUNS_DIR": str(folder / "runs"),
            "SAMERUN_CACHE_DIR": str(folder / "cache"),
            "HOME": str(folder),
            "NO_GCE_CHECK": "true",
        }
        self.context = multiprocessing.get_context("forkserver")
        self.run = self._begin()

    def _begin(self) -> str:
        """The run, written down; nobody has asked for anything yet."""
        maker = AttemptMaker(self.folder / "made", self.folder / "cache", device="cpu")
        made = maker(need=Need("cpu"))
        options = {"python": "/usr/bin/python3", "zones": ZONES, "spot": self.random.choice(["no", "yes", "prefer"])}
        name = f"run-{self.random.randrange(10**6)}"
        record = RunRecord(
            name, "run", "gcp", RunState.CREATED, "key", str(made.describe["bundle"]), time.time(), time.time()
        )
        worker = next(file.sha256 for file in made.inputs if file.path == WORKER)
        data = {"root": str(self.folder), "fingerprint": "0" * 64}
        resources = {"device": "cpu", "options": options}
        record = replace(record, resources=resources, data=data, worker=worker, payload="stub", patience_s=2.0)
        self.store.create(replace(record, max_attempts=2), {})
        return name

    def add_faults(self) -> None:
        for _ in range(self.random.randint(0, 4)):
            kind, options = self.random.choice(FAULTS)
            times = self.random.choice([1, 1, 2, 5, None])
            self.compute.faults.add(kind, times=times, skip=self.random.choice([0, 0, 1]), **options)

    def launch(self, command: str, *argv: str, kill_after: float | None = None) -> Told:
        said = self.folder / f"{command}-{time.monotonic_ns()}.txt"
        args = (self.env, command, argv, str(said))
        process = self.context.Process(target=launcher_process.main, args=args)
        begun = time.monotonic()
        process.start()
        process.join(kill_after if kill_after is not None else PATIENT_S)
        while kill_after is None and process.is_alive() and time.monotonic() < begun + LONGEST_S:
            self.compute.clock.advance(LATER_S)  # whoever follows a training that hangs waits for its machine's end
            process.join(PATIENT_S)
        if process.is_alive():
            process.kill()
            process.join()
            assert kill_after is not None, f"`launch {command}` has not ended in time"
        words = said.read_text() if said.exists() else ""
        assert process.exitcode != 99, words
        return Told(int(process.exitcode or 0), words)

    def play(self) -> str:
        """From the first launcher to an empty project; returns what became of it, for the record of the test."""
        self.add_faults()
        for _ in range(self.random.choice([0, 1, 1, 2, 3])):
            self.launch("attach", self.run, kill_after=self.random.uniform(0.05, 1.2))
        way = self.random.choice(["follow", "follow", "cancel", "nobody", "reap"])
        if way in ("follow", "cancel"):
            told = self.launch({"follow": "attach", "cancel": "cancel"}[way], self.run)
            left = self.compute.leftovers()
            if left:
                assert told.code != 0, f"{left} are left, and the exit code is 0: {told.words}"
                assert told.words.strip(), f"{left} are left, and nobody was told"
        if way == "nobody":
            self.compute.faults.clear()
            self.compute.clock.advance(LATER_S)
            assert [each for each in self.compute.leftovers() if each.startswith("instance")] == []
        record = self.store.read(self.run)
        state, reason = record.state, record.reason
        return f"{way}, {state} ({reason[:150]}): {self.reap()}"

    def reap(self) -> str:
        """What is left is shown, and removed, when the service answers again."""
        self.compute.faults.clear()
        self.compute.clock.advance(SETTLED_S)
        left = self.compute.leftovers()
        if not self.store.read(self.run).state.ended:
            told = self.launch("cancel", self.run)
            assert told.code == 0, told.words
        elif left:
            told = self.launch("reap", "--backend", "gcp")
            assert told.code != 0, f"{left} are left, and reap says nothing: {told.words}"
            assert self.run in told.words
        told = self.launch("reap", "--backend", "gcp", "--yes")
        assert told.code == 0, told.words
        assert self.compute.leftovers() == [], told.words
        return "nothing was left" if not left else f"removed {left}"


@pytest.fixture(scope="module")
def preloaded() -> None:
    """The process from which launchers are forked has imported all that they need."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([launcher_process.__name__])


@pytest.fixture
def clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ComputeEmulator, StorageEmulator]]:
    with (
        StorageEmulator(tmp_path / "storage") as storage,
        ComputeEmulator(tmp_path / "gce", sshd=False, wait_real_seconds=0.3) as compute,
    ):
        storage.bucket(world.BUCKET)
        for name, value in storage.env.items():
            monkeypatch.setenv(name, value)
        yield compute, storage


@pytest.mark.parametrize(
    "seed", [*range(DAILY), *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(DAILY, ALL)]]
)
def test_nothing_is_left_of_a_run(
    seed: int, tmp_path: Path, preloaded: None, clouds: tuple[ComputeEmulator, StorageEmulator]
) -> None:
    compute, storage = clouds
    schedule = Schedule(seed, tmp_path / "user", compute, storage)
    with Yard(compute, storage, world.BUCKET, tmp_path / "boxes", random.Random(seed)):
        print(schedule.play())
    assert compute.leftovers() == []
