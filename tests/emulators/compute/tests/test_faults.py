"""Faults happen as they are named, as often as they are asked for, and to nobody else."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from google.api_core.exceptions import (
    Conflict,
    Forbidden,
    GoogleAPICallError,
    InternalServerError,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
)
from google.auth.exceptions import GoogleAuthError

from tests.emulators.compute import ComputeEmulator
from tests.emulators.compute.tests.cloud import DONE, ZONE, Cloud, instance, limited, spot


def failed(cloud: Cloud, **options: Any) -> Any:
    """The operation of an insert that fails with a fault of this kind."""
    cloud.compute.faults.add(**options)
    operation = cloud.insert()
    cloud.compute.clock.advance(1)
    return cloud.operation(operation)


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        ("stockout", "ZONE_RESOURCE_POOL_EXHAUSTED", 503),
        ("stockout-details", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", 503),
        ("quota-async", "QUOTA_EXCEEDED", 403),
        ("preempted-at-birth", "UNSUPPORTED_OPERATION", 400),
        ("error", "INTERNAL_ERROR", 503),
    ],
)
def test_an_insert_fails_in_its_operation_and_nothing_stays(cloud: Cloud, kind: str, code: str, status: int) -> None:
    done = failed(cloud, kind=kind)
    assert (done.status, done.error.errors[0].code, done.http_error_status_code) == (DONE, code, status)
    assert cloud.compute.leftovers() == []
    cloud.up()


def test_a_stockout_can_name_what_was_wanted_and_hold_for_one_zone(cloud: Cloud) -> None:
    done = failed(cloud, kind="stockout-details", zone=ZONE, times=None)
    assert done.error.errors[0].error_details[0].error_info.metadatas["vmType"] == "e2-standard-2"
    assert failed(cloud, kind="slow", times=0).error.errors
    cloud.up(zone="us-central1-b")


def test_the_global_gpu_quota_is_told_by_its_name(cloud: Cloud) -> None:
    [error] = failed(cloud, kind="quota-async").error.errors
    assert "'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally." in error.message
    [error] = failed(cloud, kind="quota-async", metric="NVIDIA_L4_GPUS", limit=2).error.errors
    assert "'NVIDIA_L4_GPUS' exceeded.  Limit: 2.0 in region us-central1." in error.message
    assert error.error_details[0].quota_info.metric_name == "compute.googleapis.com/nvidia_l4_gpus"


def test_an_insert_says_error_and_the_instance_comes_up_all_the_same(cloud: Cloud) -> None:
    done = failed(cloud, kind="error-but-up")
    assert done.error.errors[0].code == "RESOURCE_NOT_FOUND"
    assert cloud.get().status == "RUNNING"


def test_a_stuck_insert_is_never_done_whether_it_comes_up_or_not(cloud: Cloud) -> None:
    assert failed(cloud, kind="stuck").status.name == "RUNNING"
    assert cloud.get().status == "RUNNING"
    cloud.delete()
    cloud.compute.clock.advance(1)
    assert failed(cloud, kind="stuck", effect=False).status.name == "RUNNING"
    assert cloud.get().status == "PROVISIONING"
    cloud.delete()
    cloud.compute.clock.advance(1)
    assert cloud.compute.leftovers() == []


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        ("503", ServiceUnavailable, "backendError"),
        ("500", InternalServerError, "internalError"),
        ("429", TooManyRequests, "rateLimitExceeded"),
        ("rate", Forbidden, "rateLimitExceeded"),
        ("quota", Forbidden, "quotaExceeded"),
        ("permission", Forbidden, "forbidden"),
        ("404", NotFound, "notFound"),
        ("409", Conflict, "alreadyExists"),
    ],
)
def test_a_refusal_comes_before_anything_is_done(cloud: Cloud, kind: str, error: Any, reason: str) -> None:
    cloud.compute.faults.add(kind, on="instances.insert")
    with pytest.raises(error) as refusal:
        cloud.insert()
    assert refusal.value.errors[0]["reason"] == reason
    assert cloud.compute.leftovers() == []
    cloud.up()


def test_credentials_can_be_refused_for_once(cloud: Cloud) -> None:
    cloud.compute.faults.add("401", on="instances.delete")
    cloud.up()
    with pytest.raises(GoogleAuthError):
        cloud.delete()
    assert cloud.get().status == "RUNNING"


def test_a_lost_reply_is_a_cut_connection_after_the_work_or_before_it(cloud: Cloud) -> None:
    cloud.compute.faults.add("cut-before", on="instances.insert")
    cloud.compute.faults.add("lose-reply", on="instances.insert")
    with pytest.raises((requests.exceptions.ConnectionError, GoogleAPICallError)):
        cloud.insert()
    assert cloud.compute.leftovers() == []
    with pytest.raises((requests.exceptions.ConnectionError, GoogleAPICallError)):
        cloud.insert()
    assert len(cloud.compute.instances) == 1
    log = [(one.status, one.fault) for one in cloud.compute.requests if one.method == "instances.insert"]
    assert log == [(0, "cut-before"), (200, "lose-reply")]


def test_work_that_was_done_can_be_answered_with_503_or_half_a_reply(cloud: Cloud) -> None:
    cloud.compute.faults.add("503-after", on="instances.insert")
    with pytest.raises(ServiceUnavailable):
        cloud.insert()
    cloud.compute.faults.add("cut-middle", on="instances.get")
    with pytest.raises((requests.exceptions.RequestException, ValueError)):
        cloud.get()
    assert cloud.get().name == "run-1-a1"


@pytest.mark.parametrize("kind", ["hang", "hang-after"])
def test_a_server_that_hangs_ends_with_the_clients_time_limit(cloud: Cloud, kind: str) -> None:
    cloud.compute.faults.add(kind, on="instances.list")
    with pytest.raises((requests.exceptions.RequestException, GoogleAPICallError)):
        cloud.instances.list(project=cloud.project, zone=ZONE, retry=None, timeout=0.2)


def test_a_delete_is_refused_so_often_and_then_works(cloud: Cloud) -> None:
    cloud.up()
    cloud.compute.faults.add("503", on="instances.delete", times=3)
    for _ in range(3):
        with pytest.raises(ServiceUnavailable):
            cloud.delete()
    cloud.delete()
    cloud.compute.clock.advance(1)
    assert cloud.compute.leftovers() == []


def test_the_nth_call_can_be_meant(cloud: Cloud) -> None:
    cloud.compute.faults.add("409", on="instances.insert", skip=2)
    cloud.insert(instance("a"))
    cloud.insert(instance("b"))
    with pytest.raises(Conflict):
        cloud.insert(instance("c"))
    cloud.insert(instance("c"))


def test_a_delete_fails_or_sticks_in_its_operation(cloud: Cloud) -> None:
    cloud.up()
    cloud.compute.faults.add("delete-error")
    refused = cloud.delete()
    cloud.compute.clock.advance(1)
    assert cloud.operation(refused).error.errors[0].code == "RESOURCE_NOT_READY"
    assert cloud.get().status == "RUNNING"
    cloud.compute.faults.add("delete-stuck", effect=False)
    cloud.delete()
    cloud.compute.clock.advance(1)
    assert cloud.get().status == "RUNNING"
    cloud.compute.faults.add("delete-stuck")
    stuck = cloud.delete()
    cloud.compute.clock.advance(1)
    assert cloud.operation(stuck).status.name == "RUNNING"
    assert cloud.compute.leftovers() == []


def test_a_delete_is_done_while_the_instance_is_still_stopping(cloud: Cloud) -> None:
    cloud.up()
    cloud.compute.faults.add("done-early", seconds=60)
    operation = cloud.delete()
    cloud.compute.clock.advance(30)
    assert (cloud.operation(operation).status, cloud.get().status) == (DONE, "STOPPING")
    cloud.compute.clock.advance(60)
    assert cloud.compute.leftovers() == []


def test_an_operation_can_be_slow(cloud: Cloud) -> None:
    cloud.compute.faults.add("slow-operation", seconds=100)
    created = cloud.insert()
    cloud.compute.clock.advance(99)
    assert (cloud.operation(created).status.name, cloud.get().status) == ("RUNNING", "PROVISIONING")
    cloud.compute.clock.advance(2)
    assert cloud.operation(created).status == DONE
    cloud.compute.faults.add("slow-delete", seconds=100)
    cloud.delete()
    cloud.compute.clock.advance(99)
    assert cloud.get().status == "STOPPING"
    cloud.compute.clock.advance(2)
    assert cloud.compute.leftovers() == []


def test_a_disk_can_stay_behind(cloud: Cloud) -> None:
    cloud.up()
    cloud.compute.faults.add("disk-stays")
    cloud.delete()
    cloud.compute.clock.advance(1)
    assert cloud.compute.leftovers() == [f"disk {ZONE}/run-1-a1"]


def test_a_second_delete_and_one_during_creation_are_answered_as_set(cloud: Cloud) -> None:
    compute = cloud.compute
    compute.settings.change({"stopping_seconds": 50, "provisioning_seconds": 10, "staging_seconds": 10})
    cloud.insert()
    early = cloud.delete()
    compute.clock.advance(21)
    assert cloud.get().status == "STOPPING"
    second = cloud.delete()
    assert second.name != early.name
    compute.settings.second_delete = "not-ready"
    with pytest.raises(GoogleAPICallError, match="not ready"):
        cloud.delete()
    compute.clock.advance(50)
    assert {cloud.operation(one).status for one in (early, second)} == {DONE}
    assert compute.leftovers() == []
    compute.settings.early_delete = "not-ready"
    cloud.insert()
    with pytest.raises(GoogleAPICallError, match="not ready"):
        cloud.delete()


def test_a_delete_during_a_creation_that_fails_is_done_too(cloud: Cloud) -> None:
    cloud.compute.faults.add("stockout")
    cloud.insert()
    deletion = cloud.delete()
    cloud.compute.clock.advance(1)
    assert cloud.operation(deletion).status == DONE
    assert cloud.compute.leftovers() == []


# What the service does by itself.


def test_the_deadline_deletes_at_its_second_whoever_looks(cloud: Cloud) -> None:
    cloud.up(instance(scheduling=limited(3600)))
    assert cloud.get().resource_status.scheduling.termination_timestamp
    cloud.compute.clock.advance(3598)
    assert cloud.get().status == "RUNNING"
    cloud.compute.clock.advance(2)
    assert cloud.compute.leftovers() == []
    assert cloud.compute.bill()[0].hours == pytest.approx(1.0, abs=0.001)


def test_a_deadline_that_stops_leaves_a_disk_that_is_billed(cloud: Cloud) -> None:
    cloud.up(instance(scheduling=limited(60, action="STOP")))
    cloud.compute.clock.advance(120)
    assert cloud.compute.leftovers() == [f"instance {ZONE}/run-1-a1 TERMINATED", f"disk {ZONE}/run-1-a1"]
    cloud.delete()
    cloud.compute.clock.advance(1)
    assert cloud.compute.leftovers() == []


def test_an_absolute_end_is_kept_too(compute: ComputeEmulator, cloud: Cloud) -> None:
    scheduling = spot(termination_time=compute.clock.stamp(compute.clock.now() + 500))
    cloud.up(instance(scheduling=scheduling))
    compute.clock.advance(498)
    assert cloud.get().status == "RUNNING"
    compute.clock.advance(3)
    assert compute.leftovers() == []


def test_preemption_gives_thirty_seconds_and_leaves_an_operation(compute: ComputeEmulator, cloud: Cloud) -> None:
    compute.faults.add("preempt", name="run-*", seconds=100)
    cloud.up(instance(scheduling=spot()))
    compute.clock.advance(100)
    assert (cloud.get().status, compute.instances["run-1-a1"].preempted) == ("STOPPING", True)
    compute.clock.advance(28)
    assert cloud.get().status == "STOPPING"
    compute.clock.advance(2)
    assert compute.leftovers() == []
    text = 'operationType="compute.instances.preempted"'
    [found] = cloud.operations.list({"project": cloud.project, "zone": ZONE, "filter": text})
    assert found.target_link.endswith("/instances/run-1-a1")
    assert found.user == "system"


def test_preemption_of_one_that_is_to_be_stopped_leaves_it_terminated(compute: ComputeEmulator, cloud: Cloud) -> None:
    cloud.up(instance(scheduling=spot(instance_termination_action="STOP")))
    compute.preempt("run-1-a1")
    compute.clock.advance(31)
    assert cloud.get().status == "TERMINATED"


def test_a_delete_during_the_thirty_seconds_takes_the_stopped_one_away(compute: ComputeEmulator, cloud: Cloud) -> None:
    cloud.up(instance(scheduling=spot(instance_termination_action="STOP")))
    compute.preempt("run-1-a1")
    compute.clock.advance(1)
    operation = cloud.delete()
    compute.clock.advance(31)
    assert cloud.operation(operation).status == DONE
    assert compute.leftovers() == []


def test_an_instance_can_vanish_without_a_word(compute: ComputeEmulator, cloud: Cloud) -> None:
    compute.faults.add("vanish", seconds=10)
    cloud.up()
    compute.clock.advance(11)
    assert compute.leftovers() == []
    assert [one.operation_type for one in cloud.operations.list(project=cloud.project, zone=ZONE)] == ["insert"]


def test_a_power_off_inside_only_stops_it(compute: ComputeEmulator, cloud: Cloud) -> None:
    cloud.up(instance(scheduling=limited(3600)))
    compute.power_off("run-1-a1")
    compute.clock.advance(1)
    assert cloud.get().status == "TERMINATED"


def test_a_fault_that_there_is_not_is_refused(compute: ComputeEmulator) -> None:
    with pytest.raises(ValueError, match="is no fault"):
        compute.faults.add("nonsense")
    with pytest.raises(ValueError, match="is no setting"):
        compute.settings.change({"nonsense": 1})
