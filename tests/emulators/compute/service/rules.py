"""What an instance must be like to be accepted, by the documentation; the first broken rule is the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.cloud import compute_v1

from tests.emulators.compute.service.catalogue import DISK_TYPES, Catalogue, Kind
from tests.emulators.compute.settings import DAYS, ApiError, invalid, not_found

NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
METADATA_KEY = re.compile(r"[a-zA-Z0-9-_]{1,128}")
LABELS_MOST, VALUE_MOST, METADATA_MOST = 64, 256 * 1024, 512 * 1024
SHORTEST, LONGEST = 30.0, 120 * DAYS
"""Of max_run_duration: documentation of limiting the run time of a VM."""
Scheduling = compute_v1.Scheduling


def check_instance(instance: compute_v1.Instance, zone: str, catalogue: Catalogue) -> None:
    """Raises ApiError: 400, or 404 for what it names and is not there."""
    check_name("resource.name", instance.name)
    check_labels("resource.labels", instance.labels)
    kind = _kind(instance, zone, catalogue)
    check_metadata(instance.metadata)
    _check_gpus(instance, kind, zone, catalogue)
    _check_scheduling(instance.scheduling)
    _check_disks(instance, zone, catalogue)
    if not instance.network_interfaces:
        raise invalid("resource.networkInterfaces", "", "At least one network interface is required.")
    if len(instance.service_accounts) > 1:
        raise invalid("resource.serviceAccounts", "", "At most one service account may be specified.")
    for account in instance.service_accounts:
        if not account.scopes:
            raise invalid("resource.serviceAccounts[0].scopes", "", "At least one scope is required.")


def check_name(field: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise invalid(field, name, f"Must be a match of regex '{NAME.pattern}'")


def check_labels(field: str, labels: Mapping[str, str]) -> None:
    if len(labels) > LABELS_MOST:
        raise invalid(field, len(labels), f"At most {LABELS_MOST} labels are allowed.")
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key):
            raise invalid(field, key, f"Label key must match '{LABEL_KEY.pattern}'.")
        if not LABEL_VALUE.fullmatch(value):
            raise invalid(field, value, f"Label value must match '{LABEL_VALUE.pattern}'.")


def check_metadata(metadata: compute_v1.Metadata) -> None:
    total = 0
    keys = [item.key for item in metadata.items]
    for item in metadata.items:
        if not METADATA_KEY.fullmatch(item.key):
            raise invalid("resource.metadata.items.key", item.key, f"Must match '{METADATA_KEY.pattern}'.")
        size = len(item.value.encode())
        total += size + len(item.key)
        if size > VALUE_MOST:
            raise invalid("resource.metadata.items.value", item.key, f"Values may have at most {VALUE_MOST} bytes.")
    if len(set(keys)) != len(keys):
        raise invalid("resource.metadata.items", sorted(keys), "Duplicate keys are not allowed.")
    if total > METADATA_MOST:
        raise invalid("resource.metadata", total, f"At most {METADATA_MOST} bytes in all.")


def _kind(instance: compute_v1.Instance, zone: str, catalogue: Catalogue) -> Kind:
    parts = instance.machine_type.split("/compute/v1/")[-1].strip("/").split("/")
    if parts[:1] == ["projects"]:
        parts = parts[2:]
    where = "resource.machineType"
    if len(parts) != 4 or (parts[0], parts[2]) != ("zones", "machineTypes"):
        raise invalid(where, instance.machine_type, "The URL is malformed.")
    if parts[1] != zone:
        raise invalid(where, instance.machine_type, f"It is not in the zone {zone}.")
    if parts[3] not in catalogue.kinds or not catalogue.has(zone, parts[3]):
        raise not_found(f"zones/{zone}/machineTypes/{parts[3]}")
    return catalogue.kinds[parts[3]]


def gpus_of(instance: compute_v1.Instance, kind: Kind) -> dict[str, int]:
    """Accelerator types and counts, those of the machine type included."""
    found = dict([kind.gpu]) if kind.gpu else {}
    for one in instance.guest_accelerators:
        name = one.accelerator_type.rsplit("/", 1)[-1]
        found[name] = max(found.get(name, 0), one.accelerator_count)
    return found


def _check_gpus(instance: compute_v1.Instance, kind: Kind, zone: str, catalogue: Catalogue) -> None:
    gpus = gpus_of(instance, kind)
    for name in gpus:
        if not catalogue.has(zone, name):
            raise not_found(f"zones/{zone}/acceleratorTypes/{name}")
        if (kind.gpu is None or name != kind.gpu[0]) and "/n1-" not in instance.machine_type:
            where = instance.machine_type.rsplit("/", 1)[-1]
            raise ApiError(400, "badRequest", f"[{where}, {name}] features are not compatible for creating instance.")
    if gpus and instance.scheduling.on_host_maintenance != "TERMINATE":
        raise ApiError(400, "badRequest", "Instances with guest accelerators do not support live migration.")


def _check_scheduling(scheduling: compute_v1.Scheduling) -> None:
    model = _member(Scheduling.ProvisioningModel, "provisioningModel", scheduling.provisioning_model) or "STANDARD"
    _member(Scheduling.OnHostMaintenance, "onHostMaintenance", scheduling.on_host_maintenance)
    action = _member(
        Scheduling.InstanceTerminationAction, "instanceTerminationAction", scheduling.instance_termination_action
    )
    where = "resource.scheduling"
    spot = model == "SPOT"
    limited = "max_run_duration" in scheduling or bool(scheduling.termination_time)
    if scheduling.preemptible and limited and not spot:
        raise invalid(f"{where}.preemptible", True, "A legacy preemptible VM cannot have a limit to its run time.")
    if spot or scheduling.preemptible:
        if scheduling.automatic_restart:
            raise invalid(f"{where}.automaticRestart", True, "Must be false for preemptible and Spot VMs.")
        if scheduling.on_host_maintenance == "MIGRATE":
            raise invalid(f"{where}.onHostMaintenance", "MIGRATE", "Must be TERMINATE for preemptible and Spot VMs.")
    if action and not (spot or limited):
        why = "It needs provisioningModel SPOT, maxRunDuration or terminationTime."
        raise invalid(f"{where}.instanceTerminationAction", action, why)
    if not limited:
        return
    if "max_run_duration" in scheduling and scheduling.termination_time:
        raise invalid(f"{where}.terminationTime", scheduling.termination_time, "It excludes maxRunDuration.")
    if not action:
        raise invalid(f"{where}.instanceTerminationAction", "", "It is needed with a limit to the run time.")
    seconds = seconds_of(scheduling.max_run_duration)
    if "max_run_duration" in scheduling and not SHORTEST <= seconds <= LONGEST:
        raise invalid(f"{where}.maxRunDuration", f"{seconds:g}s", f"Must be from {SHORTEST:g}s to {LONGEST:g}s.")


def seconds_of(duration: compute_v1.Duration) -> float:
    return float(duration.seconds) + float(duration.nanos) / 1e9


def _member(enum: Any, field: str, value: str) -> str:
    if value and (value not in enum.__members__ or value.startswith("UNDEFINED")):
        raise invalid(f"resource.scheduling.{field}", value, f"Must be one of {', '.join(enum.__members__)}.")
    return value


def _check_disks(instance: compute_v1.Instance, zone: str, catalogue: Catalogue) -> None:
    boots = [disk for disk in instance.disks if disk.boot]
    if len(boots) != 1 or not instance.disks[0].boot:
        raise invalid("resource.disks", len(boots), "The first disk, and no other, must be the boot disk.")
    for number, disk in enumerate(instance.disks):
        made = disk.initialize_params
        where = f"resource.disks[{number}]"
        if not disk.source and not made:
            raise invalid(where, "", "It needs a source or initializeParams.")
        kind = made.disk_type.rsplit("/", 1)[-1]
        if made.disk_type and (kind not in DISK_TYPES or f"zones/{zone}/diskTypes/{kind}" not in made.disk_type):
            raise invalid(f"{where}.initializeParams.diskType", made.disk_type, "There is no such type in this zone.")
        if made.source_image:
            smallest = catalogue.image(made.source_image).disk_size_gb
            if 0 < made.disk_size_gb < smallest:
                why = f"Requested disk size cannot be smaller than the image size ({smallest} GB)"
                raise invalid(f"{where}.initializeParams.diskSizeGb", made.disk_size_gb, why)
        elif disk.boot and not disk.source:
            raise invalid(f"{where}.initializeParams.sourceImage", "", "A boot disk needs an image.")
