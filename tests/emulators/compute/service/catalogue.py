"""What the project may use: regions, zones, machine types, accelerators, images and quotas.

A small part of the real lists, by memory and public scripts of 2026: good for control flow, no source of facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.cloud import compute_v1

from tests.emulators.compute.service.calls import Call, page
from tests.emulators.compute.settings import World, not_found

REGIONS = {
    "asia-east1": "abc",
    "europe-west1": "bcd",
    "europe-west4": "abc",
    "us-central1": "abcf",
    "us-east1": "bcd",
    "us-west1": "abc",
}
GPU_QUOTAS = {
    "nvidia-l4": "NVIDIA_L4_GPUS",
    "nvidia-tesla-t4": "NVIDIA_T4_GPUS",
    "nvidia-tesla-v100": "NVIDIA_V100_GPUS",
    "nvidia-tesla-p100": "NVIDIA_P100_GPUS",
    "nvidia-tesla-a100": "NVIDIA_A100_GPUS",
    "nvidia-a100-80gb": "NVIDIA_A100_80GB_GPUS",
    "nvidia-h100-80gb": "NVIDIA_H100_GPUS",
}
DISK_TYPES = ("pd-standard", "pd-balanced", "pd-ssd", "pd-extreme", "hyperdisk-balanced")


@dataclass(frozen=True)
class Kind:
    """A machine type. `gpu` is what it always has: type and count."""

    cpus: int
    memory_gb: float
    gpu: tuple[str, int] | None = None


def _kinds() -> dict[str, Kind]:
    kinds = {"e2-micro": Kind(2, 1), "e2-small": Kind(2, 2), "e2-medium": Kind(2, 4)}
    for family, memory in (("e2-standard", 4), ("n1-standard", 3.75), ("n2-standard", 4)):
        kinds |= {f"{family}-{cpus}": Kind(cpus, cpus * memory) for cpus in (2, 4, 8, 16, 32)}
    kinds |= {f"n1-highmem-{cpus}": Kind(cpus, cpus * 6.5) for cpus in (2, 4, 8, 16, 32)}
    for cpus, count in ((4, 1), (8, 1), (12, 1), (16, 1), (32, 1), (24, 2), (48, 4), (96, 8)):
        kinds[f"g2-standard-{cpus}"] = Kind(cpus, cpus * 4, ("nvidia-l4", count))
    for count in (1, 2, 4, 8):
        kinds[f"a2-highgpu-{count}g"] = Kind(12 * count, 85 * count, ("nvidia-tesla-a100", count))
        kinds[f"a2-ultragpu-{count}g"] = Kind(12 * count, 170 * count, ("nvidia-a100-80gb", count))
        kinds[f"a3-highgpu-{count}g"] = Kind(26 * count, 234 * count, ("nvidia-h100-80gb", count))
    return kinds


class Catalogue:
    """May be changed by tests: each table is an ordinary dictionary."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.regions = {region: [f"{region}-{letter}" for letter in letters] for region, letters in REGIONS.items()}
        self.kinds = _kinds()
        self.absent: set[tuple[str, str]] = set()
        """(zone, machine type or accelerator type) that there is not."""
        self.quotas: dict[tuple[str, str], float] = {}
        """(region or 'global', metric) to its limit, where it is not `default_quota`."""
        self.default_quota = 64.0
        self.images: dict[tuple[str, str], compute_v1.Image] = {}
        """(project, family) to its newest image."""
        for project, family, size in (
            ("deeplearning-platform-release", "common-cu129-ubuntu-2404-nvidia-580", 50),
            ("deeplearning-platform-release", "common-cu129-ubuntu-2204-nvidia-580", 50),
            ("deeplearning-platform-release", "common-cu128-ubuntu-2204-nvidia-570", 50),
            ("ubuntu-os-accelerator-images", "ubuntu-accelerator-2404-amd64-with-nvidia-580", 20),
            ("ubuntu-os-cloud", "ubuntu-2404-lts-amd64", 10),
            ("ubuntu-os-cloud", "ubuntu-minimal-2404-lts-amd64", 10),
            ("debian-cloud", "debian-12", 10),
        ):
            self.add_image(project, family, f"{family}-v20260626", size)

    def add_image(self, project: str, family: str, name: str, size_gb: int) -> None:
        """Make this the newest image of the family."""
        link = f"https://www.googleapis.com/compute/v1/projects/{project}/global/images/{name}"
        image = {"name": name, "family": family, "status": "READY", "disk_size_gb": size_gb, "self_link": link}
        self.images[project, family] = compute_v1.Image(kind="compute#image", id=self._world.new_id(), **image)

    def image(self, source: str) -> compute_v1.Image:
        """The image that a disk's `sourceImage` names, by family or by name. Raises ApiError 404."""
        path = source.split("/compute/v1/")[-1].strip("/")
        parts = path.split("/")
        if parts[0] != "projects":
            parts = ["projects", self._world.settings.project, *parts]
        for (project, family), image in self.images.items():
            if parts in (
                ["projects", project, "global", "images", "family", family],
                ["projects", project, "global", "images", image.name],
            ):
                return image
        raise not_found(path)

    def zone(self, name: str) -> str:
        """The region of a zone. Raises ApiError 404."""
        for region, zones in self.regions.items():
            if name in zones:
                return region
        raise not_found(f"projects/{self._world.settings.project}/zones/{name}")

    def has(self, zone: str, what: str) -> bool:
        return (zone, what) not in self.absent and (what in self.kinds or what in GPU_QUOTAS)

    def limit(self, where: str, metric: str) -> float:
        return self.quotas.get((where, metric), self.default_quota)

    # What the service answers. `usage` is filled by whoever knows the instances.

    def region_message(self, region: str, usage: dict[tuple[str, str], float]) -> compute_v1.Region:
        metrics = ["CPUS", "PREEMPTIBLE_CPUS", "DISKS_TOTAL_GB", "INSTANCES"]
        for metric in GPU_QUOTAS.values():
            metrics += [metric, f"PREEMPTIBLE_{metric}"]
        return compute_v1.Region(
            kind="compute#region",
            name=region,
            status="UP",
            zones=[self._world.link(f"zones/{zone}") for zone in self.regions[region]],
            quotas=[self._quota(region, metric, usage) for metric in metrics],
            self_link=self._world.link(f"regions/{region}"),
        )

    def project_message(self, usage: dict[tuple[str, str], float]) -> compute_v1.Project:
        settings = self._world.settings
        items = [{"key": key, "value": value} for key, value in settings.project_metadata.items()]
        return compute_v1.Project(
            kind="compute#project",
            name=settings.project,
            id=4242,
            quotas=[self._quota("global", metric, usage) for metric in ("GPUS_ALL_REGIONS", "CPUS_ALL_REGIONS")],
            common_instance_metadata={"kind": "compute#metadata", "items": items, "fingerprint": "AAAA"},
            default_service_account="4242-compute@developer.gserviceaccount.com",
        )

    def _quota(self, where: str, metric: str, usage: dict[tuple[str, str], float]) -> compute_v1.Quota:
        used = usage.get((where, metric), 0.0)
        return compute_v1.Quota(metric=metric, limit=self.limit(where, metric), usage=used)

    def get_zone(self, call: Call) -> compute_v1.Zone:
        name = call.zone
        region = self.zone(name)
        return compute_v1.Zone(
            kind="compute#zone",
            name=name,
            status="UP",
            region=self._world.link(f"regions/{region}"),
            self_link=self._world.link(f"zones/{name}"),
        )

    def list_zones(self, call: Call) -> compute_v1.ZoneList:
        names = [zone for zones in self.regions.values() for zone in zones]
        zones = [(name, self.get_zone(Call("", compute_v1.GetZoneRequest(zone=name), None))) for name in names]
        return compute_v1.ZoneList(kind="compute#zoneList", **self._page(call, zones))

    def get_machine_type(self, call: Call) -> compute_v1.MachineType:
        name = call.request.machine_type
        self.zone(call.zone)
        if name not in self.kinds or not self.has(call.zone, name):
            raise not_found(f"projects/{call.request.project}/zones/{call.zone}/machineTypes/{name}")
        return self._machine_type(call.zone, name)

    def list_machine_types(self, call: Call) -> compute_v1.MachineTypeList:
        self.zone(call.zone)
        found = [(name, self._machine_type(call.zone, name)) for name in self.kinds if self.has(call.zone, name)]
        return compute_v1.MachineTypeList(kind="compute#machineTypeList", **self._page(call, found))

    def _machine_type(self, zone: str, name: str) -> compute_v1.MachineType:
        kind = self.kinds[name]
        gpu = [{"guest_accelerator_type": kind.gpu[0], "guest_accelerator_count": kind.gpu[1]}] if kind.gpu else []
        return compute_v1.MachineType(
            kind="compute#machineType",
            name=name,
            zone=zone,
            guest_cpus=kind.cpus,
            memory_mb=int(kind.memory_gb * 1024),
            accelerators=gpu,
            self_link=self._world.link(f"zones/{zone}/machineTypes/{name}"),
        )

    def get_accelerator_type(self, call: Call) -> compute_v1.AcceleratorType:
        name = call.request.accelerator_type
        self.zone(call.zone)
        if name not in GPU_QUOTAS or not self.has(call.zone, name):
            raise not_found(f"projects/{call.request.project}/zones/{call.zone}/acceleratorTypes/{name}")
        return self._accelerator_type(call.zone, name)

    def list_accelerator_types(self, call: Call) -> compute_v1.AcceleratorTypeList:
        self.zone(call.zone)
        found = [(name, self._accelerator_type(call.zone, name)) for name in GPU_QUOTAS if self.has(call.zone, name)]
        return compute_v1.AcceleratorTypeList(kind="compute#acceleratorTypeList", **self._page(call, found))

    def _accelerator_type(self, zone: str, name: str) -> compute_v1.AcceleratorType:
        return compute_v1.AcceleratorType(
            kind="compute#acceleratorType",
            name=name,
            zone=self._world.link(f"zones/{zone}"),
            maximum_cards_per_instance=8,
            self_link=self._world.link(f"zones/{zone}/acceleratorTypes/{name}"),
        )

    def get_image_from_family(self, call: Call) -> compute_v1.Image:
        return self.image(f"projects/{call.request.project}/global/images/family/{call.request.family}")

    def get_image(self, call: Call) -> compute_v1.Image:
        return self.image(f"projects/{call.request.project}/global/images/{call.request.image}")

    def _page(self, call: Call, items: list[tuple[str, Any]]) -> dict[str, Any]:
        shown, token = page(call, items, self._world.settings.page_limit)
        return {"items": [one for _, one in shown], "next_page_token": token}
