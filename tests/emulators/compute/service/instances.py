"""Instances: created, looked at and deleted by requests, and taken down by the service itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.cloud import compute_v1

from tests.emulators.compute.faults import DELETE, INSERT, Fault, Faults
from tests.emulators.compute.service import refusals
from tests.emulators.compute.service.calls import Call, page
from tests.emulators.compute.service.catalogue import GPU_QUOTAS, Catalogue
from tests.emulators.compute.service.disks import Disks
from tests.emulators.compute.service.operations import Operations
from tests.emulators.compute.service.rules import check_instance, check_labels, check_metadata, gpus_of
from tests.emulators.compute.service.vm import Vm
from tests.emulators.compute.settings import HOURS, ApiError, World, invalid, not_found

Key = tuple[str, str]
USER = "tester@samerun-test.iam.gserviceaccount.com"


@dataclass(frozen=True)
class Bill:
    """What one instance was billed for: from its creation until it was gone. `gone` is None for one that is there."""

    zone: str
    name: str
    machine_type: str
    provisioning_model: str
    created: float
    gone: float | None
    hours: float


class Instances:
    """All instances of one emulator, by zone and name, and all that were."""

    def __init__(
        self, world: World, faults: Faults, operations: Operations, disks: Disks, catalogue: Catalogue
    ) -> None:
        self._world, self._faults, self._operations = world, faults, operations
        self._disks, self._catalogue = disks, catalogue
        self.all: dict[Key, Vm] = {}
        self.ever: list[Vm] = []
        self.boot: Callable[[Vm], Any] | None = None
        self.address: Callable[[], str] = lambda: ""
        """A loopback address for one more machine."""

    def __getitem__(self, name: str) -> Vm:
        """The newest instance of this name that is there, in whichever zone. Raises KeyError."""
        for vm in reversed(self.ever):
            if vm.name == name and vm.gone_at is None:
                return vm
        raise KeyError(name)

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Any:
        return iter(list(self.all.values()))

    # Creating.

    def insert(self, call: Call) -> compute_v1.Operation:
        zone, instance, asked = call.zone, call.body, call.request_id
        self._catalogue.zone(zone)
        target = f"zones/{zone}/instances/{instance.name}"
        before = self._operations.asked_before("insert", zone, target, asked)
        if before is not None:
            return before
        check_instance(instance, zone, self._catalogue)
        path = f"projects/{call.request.project}/{target}"
        if (zone, instance.name) in self.all:
            raise ApiError(409, "alreadyExists", f"The resource '{path}' already exists")
        self._disks.check(zone, instance)
        beyond = self._beyond_quota(zone, instance)
        if beyond is not None and self._world.settings.quota_shape == "sync":
            raise refusals.quota(*beyond)
        vm = self._make(zone, instance, target)
        operation = self._operations.begin("insert", zone, target, vm.message.id, user=USER, request_id=asked)
        fault = self._faults.take(INSERT, call.method, zone, vm.name)
        if fault is None and beyond is not None:
            fault = Fault("quota-async", options={"metric": beyond[0], "limit": beyond[1], "where": beyond[2]})
        self._create(vm, operation, fault)
        return operation

    def _make(self, zone: str, instance: compute_v1.Instance, target: str) -> Vm:
        world = self._world
        instance.id, instance.kind, instance.status = world.new_id(), "compute#instance", "PROVISIONING"
        instance.self_link, instance.zone = world.link(target), world.link(f"zones/{zone}")
        instance.creation_timestamp = world.clock.stamp()
        instance.machine_type = world.link(f"zones/{zone}/machineTypes/{instance.machine_type.rsplit('/', 1)[-1]}")
        instance.label_fingerprint = instance.fingerprint = instance.metadata.fingerprint = f"f{instance.id}"
        instance.metadata.kind = "compute#metadata"
        scheduling = instance.scheduling
        spot = scheduling.preemptible or scheduling.provisioning_model == "SPOT"
        scheduling.provisioning_model = scheduling.provisioning_model or "STANDARD"
        scheduling.on_host_maintenance = scheduling.on_host_maintenance or ("TERMINATE" if spot else "MIGRATE")
        if "automatic_restart" not in scheduling:
            scheduling.automatic_restart = not spot
        scheduling.preemptible = spot
        vm = Vm(world, self._faults, zone, instance)
        vm.ended, vm.taken, vm.boot = self._ended, self._taken, self.boot if world.settings.sshd else None
        self._disks.attach(zone, instance)
        self._connect(instance)
        self.all[zone, vm.name] = vm
        self.ever.append(vm)
        return vm

    def _connect(self, instance: compute_v1.Instance) -> None:
        """The one address of the machine is its internal one and, where it asks for one, its external one."""
        address = self.address()
        for number, interface in enumerate(instance.network_interfaces):
            interface.name, interface.network_i_p = f"nic{number}", address
            for access in interface.access_configs:
                access.nat_i_p = address

    def _create(self, vm: Vm, operation: compute_v1.Operation, fault: Fault | None) -> None:
        settings, kind = self._world.settings, fault.kind if fault else ""
        extra = fault.number("seconds") if fault and kind == "slow-operation" else 0.0
        failure = refusals.failure(fault, self._world, vm, self._catalogue) if fault else None

        def staged() -> None:
            if failure is not None:
                self._operations.finish(operation, failure)
                if kind != "error-but-up":
                    vm.finish()
                    return
            vm.message.status = "STAGING"
            vm.later(settings.staging_seconds, up)

        def up() -> None:
            vm.run()
            if kind != "stuck":
                self._operations.finish(operation)

        if kind == "stuck" and not fault_effect(fault):
            vm.pending = False
            return
        vm.later(settings.provisioning_seconds + extra, staged)

    def _beyond_quota(self, zone: str, instance: compute_v1.Instance) -> tuple[str, float, str] | None:
        """Metric, limit and region of the first quota that this instance would exceed."""
        usage = self.usage()
        for (where, metric), wanted in self._needs(zone, instance).items():
            limit = self._catalogue.limit(where, metric)
            if usage.get((where, metric), 0.0) + wanted > limit:
                return metric, limit, where
        return None

    def _needs(self, zone: str, instance: compute_v1.Instance) -> dict[Key, float]:
        region = self._catalogue.zone(zone)
        kind = self._catalogue.kinds[instance.machine_type.rsplit("/", 1)[-1]]
        spot = instance.scheduling.preemptible or instance.scheduling.provisioning_model == "SPOT"
        prefix = "PREEMPTIBLE_" if spot else ""
        needs = {(region, f"{prefix}{GPU_QUOTAS[gpu]}"): float(n) for gpu, n in gpus_of(instance, kind).items()}
        gpus = sum(needs.values())
        needs[region, "CPUS"] = needs["global", "CPUS_ALL_REGIONS"] = float(kind.cpus)
        return {("global", "GPUS_ALL_REGIONS"): gpus, **needs} if gpus else needs

    def usage(self) -> dict[Key, float]:
        """(region or 'global', metric) to what the instances that exist use of it."""
        total: dict[Key, float] = {}
        for vm in self.all.values():
            for key, value in self._needs(vm.zone, vm.message).items():
                total[key] = total.get(key, 0.0) + value
        return total

    # Deleting.

    def delete(self, call: Call) -> compute_v1.Operation:
        zone, asked = call.zone, call.request_id
        target = f"zones/{zone}/instances/{call.request.instance}"
        before = self._operations.asked_before("delete", zone, target, asked)
        if before is not None:
            return before
        vm, settings = self.find(call), self._world.settings
        if vm.message.deletion_protection:
            raise invalid("resource.deletionProtection", True, "The instance is protected against deletion.")
        refused = (vm.stopping and settings.second_delete) if not vm.creating else settings.early_delete
        if refused == "not-ready":
            raise ApiError(400, "resourceNotReady", f"The resource '{target}' is not ready")
        operation = self._operations.begin("delete", zone, target, vm.message.id, user=USER, request_id=asked)
        fault = self._faults.take(DELETE, call.method, zone, vm.name)
        if vm.creating and vm.pending:
            vm.when_up(lambda: self._destroy(vm, operation, fault))
            vm.when_gone(lambda: None if vm.running_since else self._operations.finish(operation))
        else:
            self._destroy(vm, operation, fault)
        return operation

    def _destroy(self, vm: Vm, operation: compute_v1.Operation, fault: Fault | None) -> None:
        settings, kind = self._world.settings, fault.kind if fault else ""
        seconds = settings.stopping_seconds
        finish = self._operations.finish
        if fault is not None and kind == "delete-error":
            failure = refusals.failure(fault, self._world, vm, self._catalogue)
            self._world.clock.after(seconds, lambda: finish(operation, failure))
            return
        if fault is not None and kind == "slow-delete":
            seconds += fault.number("seconds")
        if fault is not None and kind == "done-early":
            self._world.clock.after(seconds, lambda: finish(operation))
            seconds += fault.number("seconds")
        vm.keep_disks = kind == "disk-stays"
        if kind == "delete-stuck":
            if fault_effect(fault):
                vm.stop(seconds, delete=True)
            return
        vm.when_gone(lambda: finish(operation))
        vm.stop(seconds, delete=True)

    def _ended(self, vm: Vm) -> None:
        if self.all.get((vm.zone, vm.name)) is vm:
            del self.all[vm.zone, vm.name]
        self._disks.detach(vm.zone, vm.message, keep=vm.keep_disks)

    def _taken(self, vm: Vm, why: str) -> None:
        """The service takes an instance down: that is an operation, too."""
        preempted = why == "preempted"
        kind = "compute.instances.preempted" if preempted else self._world.settings.deadline_operation
        target = f"zones/{vm.zone}/instances/{vm.name}"
        operation = self._operations.begin(kind, vm.zone, target, vm.message.id, user="system")
        operation.status_message = "Instance was preempted." if preempted else "The run duration of the VM has ended."
        self._operations.finish(operation)

    # Looking.

    def find(self, call: Call) -> Vm:
        """Raises ApiError 404."""
        self._catalogue.zone(call.zone)
        vm = self.all.get((call.zone, call.request.instance))
        if vm is None:
            raise not_found(f"projects/{call.request.project}/zones/{call.zone}/instances/{call.request.instance}")
        return vm

    def get(self, call: Call) -> compute_v1.Instance:
        return self.find(call).message

    def listing(self, call: Call) -> compute_v1.InstanceList:
        self._catalogue.zone(call.zone)
        items = [(vm.name, vm.message) for vm in self.all.values() if vm.zone == call.zone]
        shown, token = page(call, items, self._world.settings.page_limit)
        return compute_v1.InstanceList(
            kind="compute#instanceList", items=[one for _, one in shown], next_page_token=token
        )

    def aggregated_list(self, call: Call) -> compute_v1.InstanceAggregatedList:
        """One entry for each zone; a zone without instances has a warning instead, as at the real service."""
        items = [(f"zones/{vm.zone}/{vm.name}", vm.message) for vm in self.all.values()]
        shown, token = page(call, items, self._world.settings.page_limit)
        empty = compute_v1.Warning(code="NO_RESULTS_ON_PAGE", message="There are no results for this scope.")
        scoped = {
            f"zones/{zone}": compute_v1.InstancesScopedList()
            for zones in self._catalogue.regions.values()
            for zone in zones
        }
        for key, message in shown:
            scoped[key.rsplit("/", 1)[0]].instances.append(message)
        for scope in scoped.values():
            if not scope.instances:
                scope.warning = empty
        return compute_v1.InstanceAggregatedList(
            kind="compute#instanceAggregatedList", items=scoped, next_page_token=token
        )

    def bill(self) -> list[Bill]:
        """Machine hours of every instance that was ever created, in that order."""
        now = self._world.clock.now()
        return [
            Bill(
                zone=vm.zone,
                name=vm.name,
                machine_type=vm.message.machine_type.rsplit("/", 1)[-1],
                provisioning_model=vm.message.scheduling.provisioning_model,
                created=vm.created,
                gone=vm.gone_at,
                hours=((now if vm.gone_at is None else vm.gone_at) - vm.created) / HOURS,
            )
            for vm in self.ever
        ]

    def set_labels(self, call: Call) -> compute_v1.Operation:
        vm = self.find(call)
        check_labels("labels", call.body.labels)
        if call.body.label_fingerprint != vm.message.label_fingerprint:
            raise ApiError(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")
        return self._change(call, vm, "setLabels", lambda: self._set_labels(vm, dict(call.body.labels)))

    def _set_labels(self, vm: Vm, labels: dict[str, str]) -> None:
        vm.message.labels = labels
        vm.message.label_fingerprint = f"f{self._world.new_id()}"

    def set_metadata(self, call: Call) -> compute_v1.Operation:
        vm = self.find(call)
        check_metadata(call.body)
        if call.body.fingerprint != vm.message.metadata.fingerprint:
            raise ApiError(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.")
        return self._change(call, vm, "setMetadata", lambda: self._set_metadata(vm, call.body))

    def _set_metadata(self, vm: Vm, metadata: compute_v1.Metadata) -> None:
        metadata.fingerprint = f"f{self._world.new_id()}"
        vm.message.metadata = metadata
        if vm.host is not None:
            vm.host.authorize()

    def _change(self, call: Call, vm: Vm, kind: str, work: Callable[[], None]) -> compute_v1.Operation:
        target = f"zones/{vm.zone}/instances/{vm.name}"
        asked = call.request_id
        before = self._operations.asked_before(kind, vm.zone, target, asked)
        if before is not None:
            return before
        operation = self._operations.begin(kind, vm.zone, target, vm.message.id, user=USER, request_id=asked)
        work()
        self._operations.finish(operation)
        return operation


def fault_effect(fault: Fault | None) -> bool:
    return fault is None or bool(fault.options.get("effect", True))
