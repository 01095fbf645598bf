"""Google's unmodified clients at an emulator, with the shortest calls that a test can be written in."""

from __future__ import annotations

from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1
from google.oauth2.credentials import Credentials

from tests.emulators.compute import ComputeEmulator

ZONE = "us-central1-a"
IMAGE = "projects/debian-cloud/global/images/family/debian-12"
DONE = compute_v1.Operation.Status.DONE


def nobody() -> Any:
    return AnonymousCredentials()  # type: ignore[no-untyped-call]


def bearer(token: str | None, **more: str) -> Any:
    return Credentials(token=token, **more)  # type: ignore[no-untyped-call]


def instance(name: str = "run-1-a1", zone: str = ZONE, machine_type: str = "e2-standard-2", **fields: Any) -> Any:
    """An instance that is accepted. `metadata` may be a dictionary; fields given replace those here."""
    disk = compute_v1.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=compute_v1.AttachedDiskInitializeParams(disk_size_gb=20, source_image=IMAGE),
    )
    metadata = fields.pop("metadata", {})
    items = [compute_v1.Items(key=key, value=value) for key, value in metadata.items()]
    given: dict[str, Any] = {
        "name": name,
        "machine_type": machine_type if "/" in machine_type else f"zones/{zone}/machineTypes/{machine_type}",
        "disks": [disk],
        "network_interfaces": [
            compute_v1.NetworkInterface(
                network="global/networks/default",
                access_configs=[compute_v1.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")],
            )
        ],
        "metadata": compute_v1.Metadata(items=items),
        **fields,
    }
    return compute_v1.Instance(**given)


def limited(seconds: int, action: str = "DELETE", **fields: Any) -> Any:
    """Scheduling with a limit to the run time."""
    return compute_v1.Scheduling(
        max_run_duration=compute_v1.Duration(seconds=seconds),
        instance_termination_action=action,
        automatic_restart=False,
        **fields,
    )


def spot(**fields: Any) -> Any:
    return compute_v1.Scheduling(
        **{"provisioning_model": "SPOT", "instance_termination_action": "DELETE", "automatic_restart": False, **fields}
    )


class Cloud:
    """The clients of one emulator. Without retries: a test sees each answer."""

    def __init__(self, compute: ComputeEmulator) -> None:
        self.compute = compute
        self.project = compute.project
        self.instances = compute.client(compute_v1.InstancesClient)
        self.operations = compute.client(compute_v1.ZoneOperationsClient)
        self.disks = compute.client(compute_v1.DisksClient)

    def insert(self, wanted: Any = None, zone: str = ZONE, request_id: str | None = None) -> Any:
        """The operation, as it was answered."""
        request = compute_v1.InsertInstanceRequest(
            project=self.project, zone=zone, instance_resource=instance(zone=zone) if wanted is None else wanted
        )
        if request_id:
            request.request_id = request_id
        return self.instances.insert_unary(request, retry=None)

    def delete(self, name: str = "run-1-a1", zone: str = ZONE, request_id: str | None = None) -> Any:
        request = compute_v1.DeleteInstanceRequest(project=self.project, zone=zone, instance=name)
        if request_id:
            request.request_id = request_id
        return self.instances.delete_unary(request, retry=None)

    def get(self, name: str = "run-1-a1", zone: str = ZONE) -> Any:
        return self.instances.get(project=self.project, zone=zone, instance=name, retry=None)

    def wait(self, operation: Any, zone: str = ZONE) -> Any:
        """Until it is DONE, or the server does not wait any longer."""
        return self.operations.wait(project=self.project, zone=zone, operation=operation.name, retry=None)

    def operation(self, operation: Any, zone: str = ZONE) -> Any:
        return self.operations.get(project=self.project, zone=zone, operation=operation.name, retry=None)

    def up(self, wanted: Any = None, zone: str = ZONE) -> Any:
        """Create, let the time pass that it takes, and look at it."""
        made = instance(zone=zone) if wanted is None else wanted
        operation = self.insert(made, zone)
        if self.compute.clock.speed == 0:
            self.compute.clock.advance(1)
        done = self.wait(operation, zone)
        assert done.status == DONE, done
        assert not done.error.errors, done
        return self.get(made.name, zone)

    def listed(self, text: str = "", **more: Any) -> list[str]:
        """Names of all instances of the project, over all pages."""
        request = compute_v1.AggregatedListInstancesRequest(project=self.project, filter=text, **more)
        pages = self.instances.aggregated_list(request, retry=None)
        return [one.name for _, scope in pages for one in scope.instances]
