"""What an instance must be like to be accepted, and which instances a filter lets through."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Forbidden, NotFound
from google.cloud import compute_v1
from hypothesis import given
from hypothesis import strategies as st

from tests.emulators.compute import ComputeEmulator
from tests.emulators.compute.service.filters import matcher
from tests.emulators.compute.settings import ApiError
from tests.emulators.compute.tests.cloud import IMAGE, ZONE, Cloud, instance, limited, spot

GPU = [
    compute_v1.AcceleratorConfig(accelerator_type=f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4", accelerator_count=1)
]
STAYS = compute_v1.Scheduling(on_host_maintenance="TERMINATE")


def items(*pairs: tuple[str, str]) -> Any:
    return compute_v1.Metadata(items=[compute_v1.Items(key=key, value=value) for key, value in pairs])


def disk(**made: Any) -> Any:
    return compute_v1.AttachedDisk(boot=True, initialize_params={"source_image": IMAGE, **made})


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a name with capitals": ("resource.name", {"name": "Run"}),
    "a name that ends in a dash": ("resource.name", {"name": "run-"}),
    "a name that begins with a digit": ("resource.name", {"name": "1run"}),
    "a name of 64 characters": ("resource.name", {"name": "a" * 64}),
    "a label key with capitals": ("Label key", {"labels": {"Run": "x"}}),
    "a label value with a dot": ("Label value", {"labels": {"run": "a.b"}}),
    "a label value of 64 characters": ("Label value", {"labels": {"run": "a" * 64}}),
    "65 labels": ("64 labels", {"labels": {f"k{number}": "v" for number in range(65)}}),
    "a metadata key twice": ("Duplicate", {"metadata_": items(("a", "1"), ("a", "2"))}),
    "a metadata key with a space": ("items.key", {"metadata_": items(("a b", "1"))}),
    "a metadata value above 256 KiB": ("262144 bytes", {"metadata_": items(("a", "x" * (256 * 1024 + 1)))}),
    "a machine type of another zone": (
        "not in the zone",
        {"machine_type": "zones/us-east1-b/machineTypes/e2-standard-2"},
    ),
    "a machine type without a zone": ("malformed", {"machine_type": "machineTypes/e2-standard-2"}),
    "no network interface": ("network interface", {"network_interfaces": []}),
    "no disk": ("boot disk", {"disks": []}),
    "no boot disk": ("boot disk", {"disks": [compute_v1.AttachedDisk(initialize_params={"source_image": IMAGE})]}),
    "a boot disk without an image": (
        "needs an image",
        {"disks": [compute_v1.AttachedDisk(boot=True, initialize_params={"disk_name": "d"})]},
    ),
    "a disk smaller than its image": ("smaller than the image", {"disks": [disk(disk_size_gb=5)]}),
    "a disk type that there is not": ("diskType", {"disks": [disk(disk_type=f"zones/{ZONE}/diskTypes/tape")]}),
    "a T4 that is to be migrated": (
        "live migration",
        {"machine_type": f"zones/{ZONE}/machineTypes/n1-standard-8", "guest_accelerators": GPU},
    ),
    "an L4 machine that is to be migrated": (
        "live migration",
        {"machine_type": f"zones/{ZONE}/machineTypes/g2-standard-8"},
    ),
    "a T4 at a machine type that takes none": ("not compatible", {"guest_accelerators": GPU, "scheduling": STAYS}),
    "a run time of 29 s": ("maxRunDuration", {"scheduling": limited(29)}),
    "a run time of 121 days": ("maxRunDuration", {"scheduling": limited(121 * 86400)}),
    "a run time without an action": ("instanceTerminationAction", {"scheduling": limited(60, action="")}),
    "a run time with an action that there is not": ("Must be one of", {"scheduling": limited(60, action="EXPLODE")}),
    "an action without a run time": (
        "It needs",
        {"scheduling": compute_v1.Scheduling(instance_termination_action="DELETE")},
    ),
    "a run time and an end": ("excludes", {"scheduling": limited(60, termination_time="2030-01-01T00:00:00Z")}),
    "a legacy preemptible one with a run time": ("legacy", {"scheduling": limited(60, preemptible=True)}),
    "a Spot VM that restarts": ("automaticRestart", {"scheduling": spot(automatic_restart=True)}),
    "a Spot VM that is migrated": ("onHostMaintenance", {"scheduling": spot(on_host_maintenance="MIGRATE")}),
    "a provisioning model that there is not": (
        "provisioningModel",
        {"scheduling": compute_v1.Scheduling(provisioning_model="CHEAP")},
    ),
    "a service account without scopes": ("scope", {"service_accounts": [compute_v1.ServiceAccount(email="a@b")]}),
}


@pytest.mark.parametrize(("word", "fields"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_and_nothing_is_created(cloud: Cloud, word: str, fields: dict[str, Any]) -> None:
    wanted = instance(**{name: value for name, value in fields.items() if name != "metadata_"})
    if "metadata_" in fields:
        wanted.metadata = fields["metadata_"]
    with pytest.raises(BadRequest, match=word):
        cloud.insert(wanted)
    assert cloud.compute.leftovers() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"scheduling": limited(30)},
        {"scheduling": limited(120 * 86400, action="STOP")},
        {"scheduling": spot()},
        {"scheduling": spot(max_run_duration=compute_v1.Duration(seconds=3600))},
        {"machine_type": f"zones/{ZONE}/machineTypes/n1-standard-8", "guest_accelerators": GPU, "scheduling": STAYS},
        {"machine_type": f"zones/{ZONE}/machineTypes/g2-standard-8", "scheduling": STAYS},
        {"name": "a" * 63, "labels": {"k" * 63: "v" * 63, "empty": ""}},
        {"disks": [disk(disk_type=f"zones/{ZONE}/diskTypes/pd-balanced", disk_size_gb=10)]},
    ],
)
def test_it_is_accepted(cloud: Cloud, fields: dict[str, Any]) -> None:
    cloud.up(instance(**fields))


def test_what_is_named_and_not_there_is_not_found(compute: ComputeEmulator, cloud: Cloud) -> None:
    compute.catalogue.absent.add((ZONE, "g2-standard-8"))
    with pytest.raises(NotFound):
        cloud.insert(instance(machine_type="g2-standard-8", scheduling=STAYS))
    with pytest.raises(NotFound):
        cloud.insert(instance(disks=[disk(source_image="projects/debian-cloud/global/images/family/debian-1")]))


def test_a_quota_really_counts_what_exists(compute: ComputeEmulator, cloud: Cloud) -> None:
    compute.catalogue.quotas["us-central1", "PREEMPTIBLE_NVIDIA_L4_GPUS"] = 1
    wanted = {"machine_type": "g2-standard-8", "scheduling": spot(on_host_maintenance="TERMINATE")}
    cloud.up(instance("one", **wanted))
    with pytest.raises(Forbidden) as refusal:
        cloud.insert(instance("two", "us-central1-b", **wanted), "us-central1-b")
    assert refusal.value.errors[0]["reason"] == "quotaExceeded"
    assert "PREEMPTIBLE_NVIDIA_L4_GPUS" in refusal.value.message
    cloud.up(instance("two", "us-east1-b", **wanted), "us-east1-b")
    cloud.delete("one")
    compute.clock.advance(1)
    cloud.up(instance("one", **wanted))
    compute.settings.quota_shape = "async"
    operation = cloud.insert(instance("three", **wanted))
    compute.clock.advance(1)
    [error] = cloud.operation(operation).error.errors
    assert (error.code, error.error_details[0].quota_info.limit) == ("QUOTA_EXCEEDED", 1.0)
    assert "three" not in " ".join(compute.leftovers())


ITEM = {
    "name": "run-1-a1",
    "labels": {"launcher": "samerun", "run": "r1"},
    "scheduling": {"automaticRestart": False},
    "disks": [{"diskSizeGb": "100", "boot": True}],
    "status": "RUNNING",
}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("labels.launcher=samerun", True),
        ('labels.launcher="samerun" AND labels.run=r2', False),
        ("(labels.launcher=samerun) (labels.run=r1)", True),
        ("labels.run:*", True),
        ("labels.expires:*", False),
        ("-labels.expires:*", True),
        ("NOT labels.run=r1", False),
        ("labels.run!=r1", False),
        ("labels.expires != x", True),
        ("name=run-*", True),
        ("name=run-?-a1", False),
        ("name:1-a", True),
        ("scheduling.automaticRestart = false", True),
        ("disks.diskSizeGb > 99", True),
        ("disks.diskSizeGb > 100", False),
        ("(name=x) OR (labels.run=r1) AND (status=RUNNING)", True),
        ("(status=RUNNING) OR (labels.run=r1) AND (name=x)", False),  # OR binds closer
        ("name eq run-.*", True),
        ("name eq run", False),
        ("(name ne .*a2) (status eq RUNNING)", True),
    ],
)
def test_a_filter_lets_through_what_it_names(text: str, *, fits: bool) -> None:
    assert matcher(text)(ITEM) is fits


@pytest.mark.parametrize("text", ["labels.run", "=x", "(name=a", "name=a)", "name = ", "name eq a AND x=1", 'name="a'])
def test_a_filter_that_cannot_be_read_is_refused(cloud: Cloud, text: str) -> None:
    cloud.up()
    with pytest.raises(BadRequest):
        cloud.listed(text)


@given(st.text(alphabet="ab.:=!<>()\"'- ANDORNOTeqne*\\", max_size=40))
def test_no_filter_breaks_the_server(text: str) -> None:
    try:
        assert isinstance(matcher(text)(ITEM), bool)
    except ApiError as error:
        assert error.status == 400  # noqa: PT017


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_quoted_value_means_itself(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    if "*" not in value:
        assert matcher(f'labels.run = "{quoted}"')({"labels": {"run": value}})
        assert not matcher(f'labels.run = "{quoted}"')({"labels": {"run": value + "x"}})
