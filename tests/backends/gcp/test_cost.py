"""What an attempt has cost: by its machine's own times and the table, while it lives and after it is gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.gcp import GcpBackend, prices, watching
from backends.gcp.compute.names import name_of
from backends.gcp.compute.seen import Happened, Seen
from backends.gcp.watching import LATE_S, LEAST_S, Machine
from launcher.backend import Cost, Handle
from launcher.errors import RemoteError
from launcher.runs.state import RunState
from launcher.settings import Settings
from tests.backends.gcp import world
from tests.backends.gcp.test_end_to_end import meanwhile
from tests.backends.gcp.world import Cloud, Launch
from tests.emulators.compute import ComputeEmulator
from tests.emulators.compute.tests.cloud import Cloud as Clients
from tests.emulators.compute.tests.cloud import instance, limited
from tests.emulators.storage import StorageEmulator

ATTEMPT, ZONE, PRICE = "smoke-1-a1", "us-central1-a", 0.36
NAME = name_of(ATTEMPT)
HOUR = 3600.0
GONE = Machine(True, None)
MADE = 1_700_000_000.0


class Project:
    """A machine of one attempt on a clock that is moved by hand, and the backend that is asked for its cost."""

    def __init__(self, compute: ComputeEmulator, folder: Path) -> None:
        self.compute, self.clients = compute, Clients(compute)
        self.backend = GcpBackend(
            Settings(
                runs_dir=folder,
                cache_dir=folder,
                gcp_project=compute.project,
                gcp_bucket=world.BUCKET,
                gce_endpoint=compute.endpoint,
                gce_poll_seconds=0.05,
            )
        )
        self.clients.up(instance(NAME, ZONE, scheduling=limited(2 * 3600)))
        made = self.clients.get(NAME, ZONE).creation_timestamp
        key = {"project": compute.project, "bucket": world.BUCKET, "run": "smoke-1", "number": 1}
        machine = {"zone": ZONE, "name": NAME, "price": PRICE, "lasts_s": 2 * 3600}
        self.handle = Handle("gcp", ATTEMPT, {**key, **machine, "made": watching_time(made)})

    def hours(self, **data: Any) -> float:
        """By `cost`; its dollars and its basis are checked on the way."""
        cost = self.backend.cost(Handle("gcp", ATTEMPT, {**self.handle.data, **data}))
        assert cost is not None
        assert cost.dollars == pytest.approx(cost.hours * PRICE, abs=1e-3)
        assert cost.basis == prices.basis()
        return cost.hours


def watching_time(stamp: str) -> float:
    from backends.gcp.compute.seen import unix

    found = unix(stamp)
    assert found is not None
    return found


@pytest.fixture
def project(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    elsewhere = tmp_path_factory.mktemp("google")
    with (
        StorageEmulator(elsewhere / "storage") as storage,
        ComputeEmulator(elsewhere / "gce", sshd=False, speed=0.0) as compute,
    ):
        storage.bucket(world.BUCKET)
        for name, value in storage.env.items():
            monkeypatch.setenv(name, value)
        yield Project(compute, tmp_path / "runs")


def test_after_its_deletion_a_machine_has_cost_the_time_between_its_creation_and_its_deletion(project: Project) -> None:
    project.compute.clock.advance(1.5 * HOUR)
    project.clients.delete(NAME, ZONE)
    project.compute.clock.advance(60)
    assert project.compute.leftovers() == []
    assert project.hours() == pytest.approx(1.5, abs=0.02)
    project.compute.clock.advance(20 * HOUR)
    assert project.hours() == pytest.approx(1.5, abs=0.02), "a machine that is gone costs nothing any more"


def test_a_machine_that_the_service_deleted_at_its_deadline_has_cost_its_whole_time(project: Project) -> None:
    project.compute.clock.advance(30 * HOUR)
    assert project.compute.leftovers() == []
    assert project.hours() == pytest.approx(2.0, abs=0.02)


def test_a_preempted_machine_has_cost_the_time_until_then(project: Project) -> None:
    project.compute.clock.advance(0.5 * HOUR)
    project.compute.preempt(NAME)
    project.compute.clock.advance(HOUR)
    assert project.hours() == pytest.approx(0.5, abs=0.02)


def test_while_it_is_there_it_costs_the_time_until_now(project: Project) -> None:
    assert project.hours(made=time.time() - HOUR) == pytest.approx(1.0, abs=0.01)


def test_nobody_invents_the_cost_of_what_is_not_known(project: Project) -> None:
    of = project.backend.cost
    data = dict(project.handle.data)
    assert of(Handle("gcp", ATTEMPT, {**data, "price": None})) is None
    assert of(Handle("gcp", ATTEMPT, {**data, "made": None})) is None
    assert of(Handle("gcp", ATTEMPT, {**data, "zone": None})) is None
    nobody = Handle("gcp", "other-a1", {**data, "run": "other"})
    assert of(nobody) is None, "no such machine, no operation of it, and its carrier has never spoken"


def test_a_service_that_does_not_answer_is_an_error_and_not_a_cost(project: Project) -> None:
    project.compute.faults.add("503", on="instances.get", times=None)
    from backends.gcp.compute import limits

    account = project.backend._account(project.compute.project)
    account.compute.limits = limits.Limits(poll=0.02, call=0.2, again=0.3)
    with pytest.raises(RemoteError):
        project.backend.cost(project.handle)


def seen(status: str) -> Seen:
    return Seen(NAME, ZONE, status, ATTEMPT, made=MADE)


def cost(machine: Machine, happened: list[Happened], alive: float | None = None, **data: Any) -> Cost | None:
    return watching.cost({"price": PRICE, "made": MADE, "lasts_s": 7200, **data}, machine, happened, alive)


def test_the_end_is_the_first_thing_that_ended_it_and_not_of_a_former_machine() -> None:
    happened = [
        Happened("delete", MADE + 1800, ended=True),
        Happened("compute.instances.preempted", MADE + 1000, ended=True),
        Happened("insert", MADE + 10, ended=True),
        Happened("delete", MADE - 50, ended=True),
    ]
    found = cost(GONE, happened)
    assert found is not None
    assert found.hours == pytest.approx(1000 / HOUR, abs=1e-4)


def test_where_the_operations_are_forgotten_the_carriers_last_sign_of_life_counts() -> None:
    found = cost(GONE, [], alive=MADE + 900)
    assert found is not None
    assert found.hours == pytest.approx(0.25)
    assert cost(GONE, []) is None


def test_a_machine_that_was_switched_off_costs_until_then() -> None:
    found = cost(Machine(True, seen("TERMINATED")), [Happened("stop", MADE + 600, ended=True)])
    assert found is not None
    assert found.hours == pytest.approx(600 / HOUR, abs=1e-4)


def test_a_minute_is_paid_for_at_least() -> None:
    found = cost(GONE, [Happened("delete", MADE + 5, ended=True)])
    assert found is not None
    assert found.hours == pytest.approx(LEAST_S / HOUR, abs=1e-4)


@given(
    ends=st.lists(st.floats(-1e6, 1e6), max_size=4),
    alive=st.none() | st.floats(-1e6, 1e6),
    lasts=st.floats(60, 1e5),
    price=st.floats(0.01, 20),
)
def test_a_cost_is_never_negative_and_never_more_than_the_machine_can_have_lasted(
    ends: list[float], alive: float | None, lasts: float, price: float
) -> None:
    happened = [Happened("delete", MADE + each, ended=True) for each in ends]
    found = cost(GONE, happened, MADE + alive if alive is not None else None, lasts_s=lasts, price=price)
    if found is not None:
        assert LEAST_S / HOUR - 1e-4 <= found.hours <= (lasts + LATE_S) / HOUR + 1e-4
        assert found.dollars == pytest.approx(found.hours * price, abs=1e-3 * price + 1e-3)


# In the run's record.


def test_every_attempt_of_a_run_has_its_cost_in_the_record_and_they_add_up(launch: Launch, cloud: Cloud) -> None:
    cloud.compute.settings.soft_off, cloud.compute.settings.preemption_seconds = False, 0.0
    cloud.compute.settings.environment["SAMERUN_STUB_EPOCH_S"] = "0.5"

    def is_in_the_middle() -> bool:
        return any("/records/" in name for name in cloud.storage.objects(world.BUCKET))

    thread = meanwhile(is_in_the_middle, lambda: cloud.compute.preempt(name_of(launch.record.attempts[0].id)))
    assert launch.run("resume.attempts=2", "resources.max_cost=5") == 0
    thread.join(5)
    record = launch.record
    assert record.state is RunState.VERIFIED
    costs = [attempt.cost for attempt in record.attempts]
    assert len(costs) == 2
    for each, bill, attempt in zip(costs, cloud.compute.bill(), record.attempts, strict=True):
        assert each is not None
        assert attempt.handle is not None
        price = float(attempt.handle["price"])
        assert each["dollars"] == pytest.approx(each["hours"] * price, abs=1e-3)
        assert each["hours"] * HOUR == pytest.approx(LEAST_S, abs=1.0), bill
    assert record.dollars == pytest.approx(sum(each["dollars"] for each in costs if each), abs=1e-6)
    first, second = (vm.message.scheduling.max_run_duration.seconds for vm in cloud.compute.instances.ever)
    assert second <= first, "the second attempt may cost what the first has left"
