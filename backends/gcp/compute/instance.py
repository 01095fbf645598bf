"""What a machine is asked to be: a plain value that a dry run shows, and Google's message made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from backends.gcp.compute import names

USER = "samerun"
"""The account that the guest agent makes for our key."""
PORT = 22
GPU_FAMILIES = ("a2-", "a3-", "a4-", "g2-", "g4-")
"""Machines whose GPUs are part of their type."""
HYPERDISK_FAMILIES = ("a4-", "g4-", "n4-", "c4-", "c4a-", "c4d-")  # these take no persistent disks
SCOPE = "https://www.googleapis.com/auth/cloud-platform"  # what the machine may do is its account's roles alone


@dataclass(frozen=True)
class Candidate:
    """One place to try: a zone, spot or on demand, the price in US dollars an hour where it is known.

    `lasts_s`: when the service deletes the machine, in seconds from its start; `max_hours`: the training's share of it.
    """

    zone: str
    spot: bool
    price: float | None
    lasts_s: int
    max_hours: float


@dataclass(frozen=True)
class Shape:
    """What all candidates have in common."""

    project: str
    machine: str
    accelerator: str
    image_project: str
    image: str
    service_account: str
    network: str
    subnet: str
    disk_gb: int
    external_ip: bool
    os_login: str
    iap: bool

    @property
    def has_gpu(self) -> bool:
        return bool(self.accelerator) or self.gpu_of(self.machine)

    @staticmethod
    def gpu_of(machine: str) -> bool:
        """Whether a machine type has a GPU of its own."""
        return machine.startswith(GPU_FAMILIES)

    def show(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Birth:
    """What one machine has of its own: whose it is, its image's address, its key, its script, what its handle needs."""

    attempt: str
    run: str
    expires: float
    image: str
    public_key: str
    script: str
    about: Mapping[str, Any]
    more: Mapping[str, str]


def message(shape: Shape, candidate: Candidate, birth: Birth) -> Any:
    """`compute_v1.Instance`. It ends by itself whatever becomes of us, and takes its disk along."""
    from google.cloud import compute_v1 as gce

    name, zone = names.name_of(birth.attempt), candidate.zone
    labels = names.labels_of(birth.attempt, birth.run, birth.expires)
    kind = "hyperdisk-balanced" if shape.machine.startswith(HYPERDISK_FAMILIES) else "pd-balanced"
    disk = gce.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=gce.AttachedDiskInitializeParams(
            disk_name=name,
            description=birth.attempt,
            source_image=birth.image,
            disk_size_gb=shape.disk_gb,
            disk_type=f"zones/{zone}/diskTypes/{kind}",
            labels=labels,
        ),
    )
    scheduling = gce.Scheduling(
        provisioning_model="SPOT" if candidate.spot else "STANDARD",
        instance_termination_action="DELETE",
        max_run_duration=gce.Duration(seconds=candidate.lasts_s),
        automatic_restart=False,
        on_host_maintenance="TERMINATE" if shape.has_gpu or candidate.spot else "MIGRATE",
    )
    instance = gce.Instance(
        name=name,
        description=f"samerun: {birth.attempt}",
        machine_type=f"zones/{zone}/machineTypes/{shape.machine}",
        disks=[disk],
        scheduling=scheduling,
        network_interfaces=[_face(shape, zone)],
        service_accounts=[gce.ServiceAccount(email=shape.service_account, scopes=[SCOPE])],
        labels=labels,
        metadata=gce.Metadata(items=[gce.Items(key=k, value=v) for k, v in sorted(_metadata(shape, birth).items())]),
    )
    if shape.accelerator:
        kind = f"projects/{shape.project}/zones/{zone}/acceleratorTypes/{shape.accelerator}"
        instance.guest_accelerators = [gce.AcceleratorConfig(accelerator_type=kind, accelerator_count=1)]
    return instance


def _face(shape: Shape, zone: str) -> Any:
    from google.cloud import compute_v1 as gce

    face = gce.NetworkInterface()
    if shape.subnet:
        region = names.region_of(zone)
        face.subnetwork = shape.subnet if "/" in shape.subnet else f"regions/{region}/subnetworks/{shape.subnet}"
    else:
        face.network = shape.network if "/" in shape.network else f"global/networks/{shape.network}"
    if shape.external_ip:
        face.access_configs = [gce.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")]
    return face


def _metadata(shape: Shape, birth: Birth) -> dict[str, str]:
    """Our key alone gets in; with OS Login the account's own keys do."""
    login = {"enable-oslogin": "TRUE"} if shape.os_login else {"enable-oslogin": "FALSE"}
    keys = {} if shape.os_login else {"ssh-keys": f"{USER}:{birth.public_key} {USER}"}
    return {
        **login,
        **keys,
        "block-project-ssh-keys": "TRUE",
        "enable-guest-attributes": "TRUE",
        "startup-script": birth.script,
        names.ATTEMPT: birth.attempt,
        names.ABOUT: json.dumps(dict(birth.about), sort_keys=True),
        **birth.more,
    }
