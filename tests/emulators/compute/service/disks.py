"""Persistent disks: made with an instance, deleted with it only when asked to be."""

from __future__ import annotations

from google.cloud import compute_v1

from tests.emulators.compute.service.calls import Call, page
from tests.emulators.compute.service.catalogue import Catalogue
from tests.emulators.compute.service.operations import Operations
from tests.emulators.compute.service.rules import check_name
from tests.emulators.compute.settings import ApiError, World, not_found

Key = tuple[str, str]


class Disks:
    """All disks of one emulator, by zone and name."""

    def __init__(self, world: World, operations: Operations, catalogue: Catalogue) -> None:
        self._world, self._operations, self._catalogue = world, operations, catalogue
        self.all: dict[Key, compute_v1.Disk] = {}

    def names(self, instance: compute_v1.Instance) -> list[str]:
        """The names that an instance's disks will have. Raises ApiError 409 for one that exists and is to be made."""
        names = []
        for number, disk in enumerate(instance.disks):
            made = disk.initialize_params
            name = disk.source.rsplit("/", 1)[-1] or made.disk_name
            names.append(name or (instance.name if disk.boot else f"{instance.name}-{number}"))
            check_name(f"resource.disks[{number}].initializeParams.diskName", names[-1])
        return names

    def check(self, zone: str, instance: compute_v1.Instance) -> None:
        """Raises ApiError for a disk that is to be made and exists, or is to be used and does not or is in use."""
        project = self._world.settings.project
        for disk, name in zip(instance.disks, self.names(instance), strict=True):
            there = self.all.get((zone, name))
            path = f"projects/{project}/zones/{zone}/disks/{name}"
            if disk.source and there is None:
                raise not_found(path)
            if disk.source and there is not None and there.users:
                raise ApiError(400, "resourceInUseByAnotherResource", f"The disk resource '{path}' is already in use.")
            if not disk.source and there is not None:
                raise ApiError(409, "alreadyExists", f"The resource '{path}' already exists")

    def attach(self, zone: str, instance: compute_v1.Instance) -> None:
        """Make and attach an instance's disks, and write into the instance what they are."""
        for number, (disk, name) in enumerate(zip(instance.disks, self.names(instance), strict=True)):
            if (zone, name) not in self.all:
                self.all[zone, name] = self._make(zone, name, disk)
            there = self.all[zone, name]
            there.users = [instance.self_link]
            there.last_attach_timestamp = self._world.clock.stamp()
            disk.source, disk.index = there.self_link, number
            disk.device_name = disk.device_name or f"persistent-disk-{number}"
            disk.mode, disk.type_, disk.kind = "READ_WRITE", "PERSISTENT", "compute#attachedDisk"
            disk.disk_size_gb = there.size_gb
            disk.initialize_params = None

    def detach(self, zone: str, instance: compute_v1.Instance, *, keep: bool = False) -> None:
        """The instance has gone: its disks with auto-delete go too, unless `keep` (a fault)."""
        for disk in instance.disks:
            key = (zone, disk.source.rsplit("/", 1)[-1])
            if key not in self.all:
                continue
            if disk.auto_delete and not keep:
                del self.all[key]
            else:
                self.all[key].users = []
                self.all[key].last_detach_timestamp = self._world.clock.stamp()

    def _make(self, zone: str, name: str, disk: compute_v1.AttachedDisk) -> compute_v1.Disk:
        world, made = self._world, disk.initialize_params
        image = self._catalogue.image(made.source_image) if made.source_image else None
        kind = made.disk_type.rsplit("/", 1)[-1] or "pd-standard"
        return compute_v1.Disk(
            kind="compute#disk",
            id=world.new_id(),
            name=name,
            zone=world.link(f"zones/{zone}"),
            size_gb=made.disk_size_gb or (image.disk_size_gb if image else 10),
            type_=world.link(f"zones/{zone}/diskTypes/{kind}"),
            source_image=image.self_link if image else "",
            status="READY",
            labels=dict(made.labels),
            creation_timestamp=world.clock.stamp(),
            self_link=world.link(f"zones/{zone}/disks/{name}"),
        )

    # What the service answers.

    def get(self, call: Call) -> compute_v1.Disk:
        self._catalogue.zone(call.zone)
        found = self.all.get((call.zone, call.request.disk))
        if found is None:
            raise not_found(f"projects/{call.request.project}/zones/{call.zone}/disks/{call.request.disk}")
        return found

    def listing(self, call: Call) -> compute_v1.DiskList:
        self._catalogue.zone(call.zone)
        items = [(name, disk) for (zone, name), disk in self.all.items() if zone == call.zone]
        shown, token = page(call, items, self._world.settings.page_limit)
        return compute_v1.DiskList(kind="compute#diskList", items=[one for _, one in shown], next_page_token=token)

    def aggregated_list(self, call: Call) -> compute_v1.DiskAggregatedList:
        items = [(f"zones/{zone}/{name}", disk) for (zone, name), disk in self.all.items()]
        shown, token = page(call, items, self._world.settings.page_limit)
        scoped: dict[str, list[compute_v1.Disk]] = {}
        for key, disk in shown:
            scoped.setdefault(key.rsplit("/", 1)[0], []).append(disk)
        return compute_v1.DiskAggregatedList(
            kind="compute#diskAggregatedList",
            items={scope: compute_v1.DisksScopedList(disks=disks) for scope, disks in scoped.items()},
            next_page_token=token,
        )

    def delete(self, call: Call) -> compute_v1.Operation:
        zone, name, asked = call.zone, call.request.disk, call.request_id
        target = f"zones/{zone}/disks/{name}"
        before = self._operations.asked_before("delete", zone, target, asked)
        if before is not None:
            return before
        disk = self.get(call)
        if disk.users:
            why = f"The disk resource '{disk.self_link}' is already being used by '{disk.users[0]}'"
            raise ApiError(400, "resourceInUseByAnotherResource", why)
        operation = self._operations.begin("delete", zone, target, disk.id, user="tester", request_id=asked)

        def gone() -> None:
            self.all.pop((zone, name), None)
            self._operations.finish(operation)

        self._world.clock.after(self._world.settings.stopping_seconds, gone)
        return operation
