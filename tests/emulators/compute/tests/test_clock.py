"""Time goes as it is told; and whatever is asked in whatever order, nothing is lost, and all can be taken away."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.emulators.compute import ComputeEmulator
from tests.emulators.compute.service.operations import DONE
from tests.emulators.compute.tests.cloud import ZONE, Cloud, instance, limited, spot


def test_actions_run_in_their_order_at_exactly_their_time(compute: ComputeEmulator) -> None:
    clock = compute.clock
    seen: list[Any] = []
    began = clock.now()
    for seconds in (30, 10, 20):
        clock.after(seconds, partial(lambda due: seen.append((due, clock.now() - began)), seconds))

    def begin_another() -> None:
        clock.after(5, lambda: seen.append(("inner", clock.now() - began)))

    clock.after(10, begin_another)
    clock.after(15, lambda: seen.append("cancelled")).cancel()
    clock.advance(25)
    assert seen == [(10, 10), ("inner", 15), (20, 20)]
    assert clock.now() - began == 25


def test_a_clock_that_stands_still_does_nothing_until_it_goes(compute: ComputeEmulator) -> None:
    seen: list[float] = []
    compute.clock.after(100, lambda: seen.append(compute.clock.now()))
    time.sleep(0.05)
    assert (seen, compute.clock.now()) == ([], 0.0)
    compute.clock(10_000)
    end = time.monotonic() + 5
    while not seen and time.monotonic() < end:
        time.sleep(0.005)
    assert seen
    compute.clock(0)
    now = compute.clock.now()
    time.sleep(0.02)
    assert compute.clock.now() == now >= 100


def test_time_does_not_go_back(compute: ComputeEmulator) -> None:
    with pytest.raises(ValueError, match="back"):
        compute.clock(-1)


NAMES = ("vm-a", "vm-b")
KINDS = st.sampled_from(
    [
        *("stockout", "error-but-up", "preempted-at-birth", "slow-operation", "stuck"),
        *("delete-error", "slow-delete", "done-early", "preempt", "vanish", "503", "lose-reply", "409"),
    ]
)
STEP = st.one_of(
    st.tuples(st.just("insert"), st.sampled_from(NAMES), st.sampled_from(["spot", "limited", "plain"])),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("preempt"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("power_off"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("fault"), st.just(""), KINDS),
    st.tuples(st.just("advance"), st.just(""), st.sampled_from([0, 1, 5, 31, 700])),
)


@given(st.lists(STEP, max_size=14))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_whatever_order_nothing_is_lost_and_all_can_be_taken_away(steps: list[tuple[str, str, Any]]) -> None:
    with ComputeEmulator(sshd=False, speed=0, provisioning_seconds=2, staging_seconds=3, stopping_seconds=4) as compute:
        cloud = Cloud(compute)
        for step in steps:
            try:
                act(cloud, *step)
            except (GoogleAPICallError, ConnectionError, OSError, KeyError):
                pass
            check(compute)
        compute.faults.clear()
        compute.clock.advance(100)
        for vm in compute.instances:
            cloud.delete(vm.name)
        compute.clock.advance(1000)
        check(compute)
        assert compute.leftovers() == []


def act(cloud: Cloud, what: str, name: str, option: Any) -> None:
    compute = cloud.compute
    scheduling = {"spot": spot(), "limited": limited(600), "plain": None}
    if what == "insert":
        cloud.insert(instance(name, scheduling=scheduling[option]))
    elif what == "delete":
        cloud.delete(name)
    elif what == "preempt":
        compute.preempt(name)
    elif what == "power_off":
        compute.power_off(name)
    elif what == "fault":
        compute.faults.add(option, seconds=3)
    else:
        compute.clock.advance(option)


def check(compute: ComputeEmulator) -> None:
    """What holds at any time."""
    there = {vm.name for vm in compute.instances}
    assert {name for _, name in compute.disks.all} == there  # all have auto-delete
    for bill in compute.bill():
        assert bill.gone is None or bill.created <= bill.gone <= compute.clock.now()
    assert {bill.name for bill in compute.bill() if bill.gone is None} == there
    stuck = sum(fault.hits for fault in compute.faults.all if fault.kind == "stuck")
    for kind in ("insert", "delete"):
        open_now = [one for one in compute.operations.named(kind) if one.status != DONE]
        for one in open_now:
            target = one.target_link.rsplit("/", 1)[-1]
            assert stuck or target in there, f"{kind} of {target} ({ZONE}) is open, and the instance is gone"
