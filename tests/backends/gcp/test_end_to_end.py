"""Whole runs with `launch`: on machines that are real, found again after kills, gone on with after a preemption."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.gcp.compute.names import name_of
from launcher.runs.state import RunState
from tests.backends.gcp import world
from tests.backends.gcp.world import Cloud, Launch

ROOT = Path(__file__).parents[3]


def meanwhile(condition: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """In a thread: wait for the condition, then act."""

    def work() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not condition():
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_run_is_verified_and_its_machine_is_gone(launch: Launch, cloud: Cloud) -> None:
    assert launch.run() == 0
    assert launch.record.state is RunState.VERIFIED
    assert launch.epochs() == [1, 2, 3, 4]
    assert cloud.compute.leftovers() == []
    kept = ("samerun/datasets/", "samerun/objects/")  # for runs to come
    assert [name for name in cloud.storage.objects(world.BUCKET) if not name.startswith(kept)] == []
    cost = launch.record.attempts[0].cost
    assert cost is not None
    assert 0 < cost["dollars"] < 0.1
    assert "2026-07-30" in cost["basis"]
    handle = launch.record.attempts[0].handle
    assert handle is not None
    assert "ubuntu-2404" in str(handle["image"])


def test_a_preempted_run_goes_on_elsewhere_from_its_checkpoint(
    launch: Launch, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.compute.settings.environment["SAMERUN_STUB_EPOCH_S"] = "0.6"
    cloud.compute.settings.soft_off, cloud.compute.settings.preemption_seconds = False, 0.0

    def is_in_the_middle() -> bool:
        return any("/records/" in name for name in cloud.storage.objects(world.BUCKET))

    def take() -> None:
        cloud.compute.faults.add("stockout", zone=launch.record.attempts[0].handle["zone"], times=None)  # type: ignore[index]
        cloud.compute.preempt(name_of(launch.record.attempts[0].id))

    thread = meanwhile(is_in_the_middle, take)
    assert launch.run("resources.spot=yes", "resume.attempts=3") == 0
    thread.join(5)
    first, second = launch.record.attempts
    assert first.reason == "its machine was preempted"
    assert second.resumed_epoch
    assert first.handle is not None
    assert second.handle is not None
    assert first.handle["zone"] != second.handle["zone"]
    assert launch.epochs() == [1, 2, 3, 4]
    assert cloud.compute.leftovers() == []


def test_a_machine_deletes_itself_when_nobody_comes_back(launch: Launch, cloud: Cloud) -> None:
    assert launch(str(launch.spec), "--backend", "gcp", "--detach", "--set", f"resources.python={cloud.python}") == 0
    end = time.monotonic() + 40
    while cloud.compute.leftovers() and time.monotonic() < end:
        time.sleep(0.1)
    assert cloud.compute.leftovers() == []
    assert launch(launch.record.id, command="attach") == 0
    assert launch.record.state is RunState.VERIFIED


def test_money_that_does_not_cover_the_start_is_refused_before_anything_is_made(launch: Launch, cloud: Cloud) -> None:
    assert launch.run("resources.max_cost=0.01") == 2
    assert cloud.compute.count("instances.insert") == 0


def test_the_deadline_on_the_machine_holds_the_cost(launch: Launch, cloud: Cloud) -> None:
    assert launch.run("resources.max_cost=0.5") == 0
    (bill,) = cloud.compute.instances.ever
    lasts = bill.message.scheduling.max_run_duration.seconds
    assert lasts < 0.5 / 0.27 * 3600
    assert bill.message.scheduling.instance_termination_action == "DELETE"
    assert bill.message.disks[0].auto_delete


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.timeout(600)
def test_the_smoke_spec_trains_and_is_verified(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    launch = Launch(cloud, monkeypatch, stub=False)
    assert launch.run("resources.device=cpu", spec=str(ROOT / "jobspecs/smoke.yaml")) == 0
    assert launch.record.state is RunState.VERIFIED
    assert cloud.compute.leftovers() == []
