"""What the API promises, seen through Google's own client: lives of instances, disks, operations, lists."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest
import requests
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud import compute_v1

from tests.emulators.compute import ComputeEmulator
from tests.emulators.compute.tests.cloud import DONE, IMAGE, ZONE, Cloud, bearer, instance, nobody


def test_an_instance_goes_through_its_states_in_the_time_that_is_set(compute: ComputeEmulator, cloud: Cloud) -> None:
    compute.settings.change({"provisioning_seconds": 3, "staging_seconds": 5, "stopping_seconds": 30})
    operation = cloud.insert()
    assert (cloud.get().status, cloud.operation(operation).status.name) == ("PROVISIONING", "RUNNING")
    compute.clock.advance(3)
    assert cloud.get().status == "STAGING"
    compute.clock.advance(5)
    assert (cloud.get().status, cloud.operation(operation).status) == ("RUNNING", DONE)
    deletion = cloud.delete()
    compute.clock.advance(29)
    assert (cloud.get().status, cloud.operation(deletion).status.name) == ("STOPPING", "RUNNING")
    compute.clock.advance(1)
    with pytest.raises(NotFound):
        cloud.get()
    assert cloud.operation(deletion).status == DONE
    assert compute.leftovers() == []


def test_what_is_answered_is_what_was_asked_for_and_what_the_service_adds(cloud: Cloud) -> None:
    seen = cloud.up(instance(labels={"launcher": "samerun"}, metadata={"a": "b"}))
    assert dict(seen.labels) == {"launcher": "samerun"}
    assert [(item.key, item.value) for item in seen.metadata.items] == [("a", "b")]
    assert seen.id > 0
    assert seen.zone.endswith(f"/zones/{ZONE}")
    assert seen.disks[0].source.endswith(f"/zones/{ZONE}/disks/run-1-a1")
    assert seen.network_interfaces[0].access_configs[0].nat_i_p.startswith("127.")
    assert (seen.scheduling.on_host_maintenance, seen.scheduling.automatic_restart) == ("MIGRATE", True)


def test_without_an_access_config_there_is_no_external_address(cloud: Cloud) -> None:
    seen = cloud.up(instance(network_interfaces=[compute_v1.NetworkInterface(network="global/networks/default")]))
    assert not seen.network_interfaces[0].access_configs
    assert seen.network_interfaces[0].network_i_p.startswith("127.")


def test_the_same_request_id_is_the_same_operation_even_after_the_instance_has_gone(cloud: Cloud) -> None:
    asked = str(uuid.uuid4())
    first = cloud.insert(request_id=asked)
    cloud.compute.clock.advance(1)
    cloud.delete()
    cloud.compute.clock.advance(1)
    assert cloud.insert(request_id=asked).name == first.name
    assert cloud.compute.leftovers() == []


def test_a_request_id_is_forgotten_after_an_hour(cloud: Cloud) -> None:
    asked = str(uuid.uuid4())
    cloud.insert(request_id=asked)
    cloud.compute.clock.advance(3700)
    with pytest.raises(Conflict):
        cloud.insert(request_id=asked)


def test_a_request_id_of_another_request_and_one_that_is_no_uuid_are_refused(cloud: Cloud) -> None:
    asked = str(uuid.uuid4())
    cloud.insert(request_id=asked)
    with pytest.raises(BadRequest, match="used before"):
        cloud.insert(instance("other"), request_id=asked)
    for bad in ("yes", "00000000-0000-0000-0000-000000000000"):
        with pytest.raises(BadRequest, match="UUID"):
            cloud.insert(instance("other"), request_id=bad)


def test_a_second_instance_of_the_name_is_a_conflict_in_the_same_zone_only(cloud: Cloud) -> None:
    cloud.up()
    with pytest.raises(Conflict, match="instances/run-1-a1") as refusal:
        cloud.insert(request_id=str(uuid.uuid4()))
    assert refusal.value.errors[0]["reason"] == "alreadyExists"
    cloud.up(zone="us-east1-b")
    assert len(cloud.compute.instances) == 2


def test_a_boot_disk_without_auto_delete_survives_and_is_billed_on(cloud: Cloud) -> None:
    disk = compute_v1.AttachedDisk(boot=True, initialize_params={"source_image": IMAGE})
    cloud.up(instance(disks=[disk]))
    with pytest.raises(BadRequest, match="already being used"):
        cloud.disks.delete_unary(project=cloud.project, zone=ZONE, disk="run-1-a1")
    cloud.delete()
    cloud.compute.clock.advance(1)
    assert cloud.compute.leftovers() == [f"disk {ZONE}/run-1-a1"]
    with pytest.raises(Conflict, match="disks/run-1-a1"):
        cloud.insert()
    cloud.disks.delete_unary(project=cloud.project, zone=ZONE, disk="run-1-a1")
    cloud.compute.clock.advance(1)
    assert cloud.compute.leftovers() == []


def test_disks_are_listed_with_who_uses_them(cloud: Cloud) -> None:
    cloud.up()
    listed = list(cloud.disks.list(project=cloud.project, zone=ZONE))
    assert [(one.name, one.size_gb, len(one.users)) for one in listed] == [("run-1-a1", 20, 1)]
    everywhere = cloud.disks.aggregated_list(project=cloud.project)
    assert [one.name for _, scope in everywhere for one in scope.disks] == ["run-1-a1"]


def test_wait_returns_as_soon_as_it_is_done_and_at_the_deadline_without_error(cloud: Cloud) -> None:
    operation = cloud.insert()
    began = time.monotonic()
    assert cloud.wait(operation).status.name == "RUNNING"
    assert 0.25 < time.monotonic() - began < 5
    cloud.compute.clock(1)
    began = time.monotonic()
    assert cloud.wait(operation).status == DONE
    assert time.monotonic() - began < 0.25


def test_operations_are_listed_filtered_deleted_and_expire(cloud: Cloud) -> None:
    first = cloud.insert()
    cloud.compute.clock.advance(1)
    cloud.delete()
    cloud.compute.clock.advance(1)

    def kinds(text: str) -> list[str]:
        request = compute_v1.ListZoneOperationsRequest(project=cloud.project, zone=ZONE, filter=text)
        return sorted(one.operation_type for one in cloud.operations.list(request))

    assert kinds("") == ["delete", "insert"]
    assert kinds('operationType="insert"') == ["insert"]
    assert kinds("targetLink:run-1-a1 AND operationType != insert") == ["delete"]
    cloud.operations.delete(project=cloud.project, zone=ZONE, operation=first.name)
    assert kinds("") == ["delete"]
    cloud.compute.clock.advance(15 * 86400)
    assert kinds("") == []
    with pytest.raises(NotFound):
        cloud.operation(first)


def test_lists_come_in_pages_that_nothing_falls_between(cloud: Cloud) -> None:
    zones = ("us-central1-a", "us-east1-b", "europe-west4-a")
    for number in range(9):
        cloud.insert(instance(f"vm-{number}", zones[number % 3]), zones[number % 3])
    assert sorted(cloud.listed(max_results=2)) == [f"vm-{number}" for number in range(9)]
    pages = cloud.compute.count("instances.aggregatedList")
    assert pages == 5
    listed = cloud.instances.list(compute_v1.ListInstancesRequest(project=cloud.project, zone=ZONE, max_results=1))
    assert [one.name for one in listed] == ["vm-0", "vm-3", "vm-6"]


def test_a_zone_without_instances_is_a_warning_and_not_missing(cloud: Cloud) -> None:
    cloud.up()
    scopes = dict(cloud.instances.aggregated_list(project=cloud.project))
    assert scopes["zones/us-east1-b"].warning.code == "NO_RESULTS_ON_PAGE"
    assert len(scopes[f"zones/{ZONE}"].instances) == 1


def test_labels_and_metadata_change_with_the_right_fingerprint_only(cloud: Cloud) -> None:
    seen = cloud.up()
    change = compute_v1.InstancesSetLabelsRequest(label_fingerprint=seen.label_fingerprint, labels={"a": "b"})
    where = {"project": cloud.project, "zone": ZONE, "instance": "run-1-a1"}
    cloud.instances.set_labels_unary(**where, instances_set_labels_request_resource=change)
    assert dict(cloud.get().labels) == {"a": "b"}
    stale = compute_v1.Metadata(fingerprint="AAAA", items=[compute_v1.Items(key="k", value="v")])
    with pytest.raises(Exception, match="fingerprint"):
        cloud.instances.set_metadata_unary(**where, metadata_resource=stale)
    stale.fingerprint = cloud.get().metadata.fingerprint
    cloud.instances.set_metadata_unary(**where, metadata_resource=stale)
    assert cloud.get().metadata.items[0].key == "k"


def test_the_catalogue_and_the_quotas_can_be_read(compute: ComputeEmulator, cloud: Cloud) -> None:
    compute.catalogue.quotas["us-central1", "CPUS"] = 24
    cloud.up(instance(machine_type="e2-standard-4"))
    region = compute.client(compute_v1.RegionsClient).get(project=cloud.project, region="us-central1")
    quotas = {quota.metric: (quota.usage, quota.limit) for quota in region.quotas}
    assert quotas["CPUS"] == (4.0, 24.0)
    assert len(list(compute.client(compute_v1.RegionsClient).list(project=cloud.project))) == len(
        compute.catalogue.regions
    )
    zones = [zone.name for zone in compute.client(compute_v1.ZonesClient).list(project=cloud.project)]
    assert ZONE in zones
    kinds = compute.client(compute_v1.MachineTypesClient)
    kind = kinds.get(project=cloud.project, zone=ZONE, machine_type="g2-standard-8")
    assert (kind.guest_cpus, kind.accelerators[0].guest_accelerator_type) == (8, "nvidia-l4")
    compute.catalogue.absent.add((ZONE, "g2-standard-8"))
    with pytest.raises(NotFound):
        kinds.get(project=cloud.project, zone=ZONE, machine_type="g2-standard-8")
    gpus = compute.client(compute_v1.AcceleratorTypesClient).list(project=cloud.project, zone=ZONE)
    assert "nvidia-tesla-t4" in [gpu.name for gpu in gpus]
    image = compute.client(compute_v1.ImagesClient).get_from_family(project="debian-cloud", family="debian-12")
    assert (image.family, image.status) == ("debian-12", "READY")
    project = compute.client(compute_v1.ProjectsClient).get(project=cloud.project)
    assert {quota.metric for quota in project.quotas} == {"GPUS_ALL_REGIONS", "CPUS_ALL_REGIONS"}


def test_a_field_that_google_does_not_know_is_refused_and_so_is_a_call_that_is_not_emulated(
    compute: ComputeEmulator, cloud: Cloud
) -> None:
    base = f"{compute.endpoint}/compute/v1/projects/{compute.project}/zones/{ZONE}/instances"
    body = compute_v1.Instance.to_dict(instance(), use_integers_for_enums=False)
    session = requests.Session()
    session.trust_env = False
    assert session.post(base, json={"nmae": body["name"]}).status_code == 400
    assert session.get(base, params={"filtre": "x"}).status_code == 400
    assert session.post(f"{base}/run-1-a1/suspend").status_code == 501
    with pytest.raises(NotFound):
        cloud.instances.get(project="another", zone=ZONE, instance="x")
    with pytest.raises(NotFound):
        cloud.instances.get(project=cloud.project, zone="mars-1a", instance="x")


def test_only_tokens_of_the_emulators_own_endpoint_are_good(compute: ComputeEmulator) -> None:
    where = {"client_options": {"api_endpoint": compute.endpoint}}

    def ask(credentials: object) -> object:
        client = compute_v1.ZonesClient(credentials=credentials, **where)
        return client.get(project=compute.project, zone=ZONE, retry=None)

    ask(nobody())
    compute.settings.anonymous = False
    with pytest.raises(GoogleAuthError):
        ask(nobody())
    with pytest.raises(GoogleAuthError):
        ask(bearer("made-up"))
    token = compute.tokens.issue()["access_token"]
    ask(bearer(token))
    compute.tokens.revoke()
    with pytest.raises(GoogleAuthError):  # the clients' own answer to a 401 that they cannot refresh
        ask(bearer(token))
    refreshing = bearer(
        None, refresh_token="r", token_uri=f"{compute.endpoint}/token", client_id="i", client_secret="s"
    )
    ask(refreshing)


def test_a_life_without_machines_is_quick(tmp_path: Path) -> None:
    with ComputeEmulator(tmp_path / "quick", sshd=False) as compute:
        cloud = Cloud(compute)
        best = 1.0
        for _ in range(5):
            began = time.monotonic()
            cloud.wait(cloud.insert())
            cloud.wait(cloud.delete())
            best = min(best, time.monotonic() - began)
        assert compute.leftovers() == []
    assert best < 0.05


def test_the_bill_counts_from_creation_until_it_is_gone(cloud: Cloud) -> None:
    cloud.up()
    cloud.compute.clock.advance(7199)
    cloud.delete()
    cloud.compute.clock.advance(3600)
    [bill] = cloud.compute.bill()
    assert bill.name == "run-1-a1"
    assert bill.hours == pytest.approx(2.0, abs=0.001)
    cloud.up(zone="us-east1-b")
    cloud.compute.clock.advance(3600)
    assert cloud.compute.bill()[1].hours == pytest.approx(1.0, abs=0.001)
    assert cloud.compute.bill()[1].gone is None


def test_it_can_be_steered_from_another_process(compute: ComputeEmulator, cloud: Cloud) -> None:
    session = requests.Session()
    session.trust_env = False
    there = f"{compute.endpoint}/_emulator"
    assert session.post(f"{there}/faults", json={"kind": "409", "on": "instances.insert"}).status_code == 200
    assert session.post(f"{there}/faults", json={"kind": "nonsense"}).status_code == 400
    with pytest.raises(Conflict):
        cloud.insert()
    cloud.insert()
    session.post(f"{there}/advance", json={"seconds": 5})
    assert session.get(f"{there}/leftovers").json()[0] == f"instance {ZONE}/run-1-a1 RUNNING"
    assert session.get(f"{there}/requests").json()[0]["fault"] == "409"
