"""The machine ends itself: the startup script as a real process, with locks held by real processes, and short limits.

Nobody else deletes anything here, and the deadline of the service is far away.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.cloud import compute_v1

import backends.gcp
from backends.gcp import GcpBackend, birth
from launcher.backend import Handle, State, Status
from launcher.settings import Settings
from tests.backends.gcp.world import Cloud, Maker
from tests.emulators.compute import ComputeEmulator
from tests.emulators.compute.tests.cloud import Cloud as Clients
from tests.emulators.compute.tests.cloud import instance, limited

NAME = "run-1-a1"
SCRIPT = (Path(backends.gcp.__file__).parent / "machine/watchdog.py").read_text()
NEVER = 600.0
LOOK_S = 0.05
SHORT_S = 0.6
LATE_S = 4.0  # two cores, which others use too
WORKER = """
import fcntl, os, signal, sys, time
state = sys.argv[1]
def end(*_):
    open(state + "/told", "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
lock = os.open(state + "/lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
with open(state + "/started", "w") as stream:
    stream.write(str(os.getpid()))
time.sleep(600)
"""


class Guarded:
    """One machine with the watchdog, and what lies on it."""

    def __init__(self, compute: ComputeEmulator, limits: Mapping[str, float]) -> None:
        self.compute = compute
        watch = {"claim": NEVER, "idle": NEVER, "done": NEVER, "look": LOOK_S, "api": compute.endpoint, **limits}
        account = compute_v1.ServiceAccount(email="samerun@p", scopes=["cloud-platform"])
        Clients(compute).up(
            instance(
                NAME,
                metadata={"startup-script": SCRIPT, "samerun-watch": json.dumps(watch)},
                service_accounts=[account],
                scheduling=limited(24 * 3600),
            )
        )
        until(lambda: compute.instances[NAME].host is not None, 10)
        self.vm = compute.instances[NAME]
        host = self.vm.host
        assert host is not None
        until(lambda: "exit status 0" in host.serial(), 10)
        self.home = host.home

    def box(self, name: str = "run-1-a1") -> Path:
        """The state folder of a box, laid out as the carrier lays it out."""
        state = self.home / ".samerun/boxes" / name / "state"
        state.mkdir(parents=True)
        return state

    @property
    def is_there(self) -> bool:
        return self.vm.status == "RUNNING"

    def stays(self, seconds: float) -> bool:
        """Whether it is there all that time."""
        end = time.monotonic() + seconds
        while self.is_there and time.monotonic() < end:
            time.sleep(0.02)
        return self.is_there

    def goes(self, seconds: float = LATE_S) -> bool:
        """Whether machine and disk are gone by then."""
        end = time.monotonic() + seconds
        while self.compute.leftovers() and time.monotonic() < end:
            time.sleep(0.02)
        return self.compute.leftovers() == []


def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come to that in time"
        time.sleep(0.01)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A process of the machine holds this lock: to the watchdog any other process is one."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@pytest.fixture
def compute(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[ComputeEmulator]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with ComputeEmulator(tmp_path_factory.mktemp("gce")) as emulator:
        yield emulator
    assert emulator.processes_alive == 0


def test_a_machine_on_which_nothing_is_begun_deletes_itself_not_before_its_time(compute: ComputeEmulator) -> None:
    machine = Guarded(compute, {"claim": SHORT_S, "idle": 0.0, "done": 0.0})
    assert machine.stays(SHORT_S / 2)
    assert machine.goes()


def test_a_machine_is_kept_while_worker_or_carrier_holds_its_lock(compute: ComputeEmulator) -> None:
    machine = Guarded(compute, {"idle": SHORT_S, "claim": 2.0})
    state = machine.box()
    (state / "lock").touch()
    with held(state / "lock"):
        assert machine.stays(2 * SHORT_S)
    with held(state / "carrier.lock"):
        assert machine.stays(2 * SHORT_S)
    assert machine.goes()


def test_a_machine_whose_processes_were_all_killed_deletes_itself(compute: ComputeEmulator) -> None:
    machine = Guarded(compute, {"idle": SHORT_S})
    state = machine.box()
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(state)])
    until((state / "started").exists, 10)
    assert machine.stays(2 * SHORT_S)
    worker.kill()
    worker.wait()
    assert machine.stays(SHORT_S / 3)
    assert machine.goes()


def test_a_box_that_comes_late_has_the_whole_idle_time_for_its_worker_to_start(compute: ComputeEmulator) -> None:
    """The environment may take longer to make than a machine may idle: the box is laid out after it."""
    machine = Guarded(compute, {"idle": SHORT_S})
    assert machine.stays(2 * SHORT_S)
    state = machine.box()
    assert machine.stays(SHORT_S / 2), "it was deleted between the layout of its box and the start of its worker"
    with held(state / "carrier.lock"):
        assert machine.stays(2 * SHORT_S)
    assert machine.goes()


def test_a_machine_deletes_itself_soon_after_everything_was_carried(compute: ComputeEmulator) -> None:
    machine = Guarded(compute, {"done": SHORT_S})
    state = machine.box()
    with held(state / "carrier.lock"):
        (state / "carried").touch()
        assert machine.stays(2 * SHORT_S), "its carrier was alive still"
    assert machine.goes()


def test_a_machine_with_another_box_that_is_not_carried_is_not_done(compute: ComputeEmulator) -> None:
    machine = Guarded(compute, {"done": 0.2})
    other = machine.box("other")
    with held(other / "lock"):
        (machine.box() / "carried").touch()
        assert machine.stays(1.0)
    assert machine.stays(1.0)
    (other / "carried").touch()
    assert machine.goes()


@pytest.mark.parametrize("fault", ["503", "lose-reply", "cut-before", "delete-error"])
def test_a_deletion_that_does_not_get_through_is_asked_for_again(compute: ComputeEmulator, fault: str) -> None:
    compute.faults.add(fault, times=2, on="instances.delete")
    machine = Guarded(compute, {"claim": 0.1})
    assert machine.goes(LATE_S + 2)


def test_a_machine_whose_account_may_not_delete_it_switches_itself_off(compute: ComputeEmulator) -> None:
    compute.faults.add("permission", on="instances.delete", times=None)
    machine = Guarded(compute, {"claim": 0.1})
    until(lambda: machine.vm.status == "TERMINATED", 10)
    assert compute.processes_alive == 0
    assert compute.count("instances.delete") >= 5, "it has given up too early"


def test_metadata_that_does_not_answer_for_a_while_ends_nothing_and_stops_no_watch(compute: ComputeEmulator) -> None:
    machine = Guarded(compute, {"claim": 1.0})
    fault = compute.faults.add("503", on="metadata/*", times=None)
    assert machine.stays(0.5)
    assert not machine.goes(1.5), "it has no token to delete itself with"
    fault.times = 0
    assert machine.goes()


def test_the_notice_of_preemption_reaches_the_worker(compute: ComputeEmulator) -> None:
    compute.settings.soft_off, compute.settings.preemption_seconds = False, 5.0
    machine = Guarded(compute, {})
    state = machine.box()
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(state)])
    try:
        until((state / "started").exists, 10)
        compute.preempt(NAME)
        until((state / "told").exists, 3)
        assert worker.wait(3) == 0
    finally:
        worker.kill()


def test_no_signal_goes_to_a_number_whose_worker_has_ended(compute: ComputeEmulator) -> None:
    """The number may be another process's by now: only whoever holds the lock is told."""
    compute.settings.soft_off, compute.settings.preemption_seconds = False, 2.0
    machine = Guarded(compute, {})
    state = machine.box()
    (state / "lock").touch()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (state / "started").write_text(str(stranger.pid))
        compute.preempt(NAME)
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(1.0)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_training_that_is_preempted_leaves_with_its_word_and_all_of_it_is_carried(
    cloud: Cloud, backend: GcpBackend, make_attempt: Maker
) -> None:
    """The whole way: metadata, watchdog, supervisor, carrier, bucket. The system itself tells nobody here."""
    cloud.compute.settings.soft_off, cloud.compute.settings.preemption_seconds = False, 20.0
    cloud.compute.settings.environment["SAMERUN_STUB_EPOCH_S"] = "0.3"
    attempt = make_attempt(epochs=100)
    request = backend.prepare(attempt)
    backend.stage(request, lambda what, done, of: None)
    handle = backend.submit(request)
    until(lambda: bool(backend.files(handle)), 20)
    cloud.compute.preempt(str(handle.data["name"]))
    status = ended(backend, handle)
    assert (status.state, cloud.compute.instances.ever[-1].preempted) == (State.EXPIRED, True), status


def ended(backend: GcpBackend, handle: Handle) -> Status:
    end = time.monotonic() + 30
    while not (status := backend.poll([handle])[handle.attempt]).state.ended:
        assert time.monotonic() < end, status
        time.sleep(0.1)
    return status


def test_the_limits_are_those_of_the_readme_and_short_only_with_an_emulator(tmp_path: Path) -> None:
    real = birth._watch(Settings(runs_dir=tmp_path, cache_dir=tmp_path))
    assert real == {"claim": 1800.0, "idle": 300.0, "done": 15.0, "look": 5.0}
    given = Settings(runs_dir=tmp_path, cache_dir=tmp_path, gce_endpoint="http://127.0.0.1:1", gce_poll_seconds=0.05)
    assert birth._watch(given)["api"] == "http://127.0.0.1:1"
