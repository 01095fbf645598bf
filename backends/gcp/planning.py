"""From what a spec asks for to the machine and the places to try, with its own end and what it may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from backends.gcp import prices
from backends.gcp.compute.instance import Candidate, Shape
from backends.gcp.compute.names import region_of
from launcher.backend import Need, Option
from launcher.errors import Problem, SpecError
from launcher.finding import Finding, Severity
from launcher.settings import Settings

OPTIONS: Mapping[str, Option] = {
    "project": Option(str, "the project; default: SAMERUN_GCP_PROJECT, else that of the credentials"),
    "bucket": Option(str, "the bucket for data and results, without gs://; default: SAMERUN_GCP_BUCKET"),
    "zones": Option(str, "zones to try, in this order, with commas; default: a list for the machine"),
    "machine": Option(str, "the machine type; default: g2-standard-8 (one L4), e2-standard-8 for device cpu"),
    "accelerator": Option(str, "a GPU to attach to an N1 machine, as nvidia-tesla-t4; default: the machine type's own"),
    "spot": Option(
        str, "spot machine: no, yes, or prefer (on demand where there is none); default: no", ("no", "yes", "prefer")
    ),
    "image": Option(str, "image or image family; default: Ubuntu 24.04 with NVIDIA's driver 580, or without"),
    "image_project": Option(str, "the project of the image; default: that of the default images"),
    "service_account": Option(str, "the machine's account; default: samerun@PROJECT.iam.gserviceaccount.com"),
    "network": Option(str, "the network; default: default"),
    "subnet": Option(str, "the subnetwork, by its name in each region or its path; default: the network's own"),
    "external_ip": Option(bool, "whether the machine has an address outside; default: true, but false with iap"),
    "os_login": Option(str, "your user name with OS Login, by your own keys; default: off, a key for each run"),
    "iap": Option(bool, "reach it by `gcloud compute start-iap-tunnel`; default: false"),
    "ssh_port": Option(int, "the port of the machine's SSH server; default: 22"),
    "disk_gb": Option(int, "size of its disk in GB; default: 100, 30 for device cpu"),
    "python": Option(str, "a Python on the image that has all it needs; default: a pinned environment is made"),
    "wheels": Option(str, "a folder on the image with wheels to install from; default: the package index"),
}
DEFAULT_HOURS = 24.0
"""Longest attempt where the spec says nothing: every machine has an end of its own. An assumption of ours."""
START_UP_S = 900
"""From the machine's start until its worker starts: boot, SSH, the carrier's packages. An assumption, with room."""
END_S = 600
"""For the last epoch's end (the worker's grace of 120 s) and its upload. An assumption."""
LAG_S = 60  # a deletion at the deadline may be late by 30 s (documentation of limiting a VM's run time)
SHORTEST_S = 300  # a training that has less is not worth a machine
_L4 = (
    "us-central1-a us-central1-b us-central1-c us-east1-b us-east1-c us-east1-d us-west1-a us-west1-b us-west1-c "
    "us-east4-a us-east4-c europe-west4-a europe-west4-b europe-west4-c europe-west1-b europe-west1-c"
)
_A100 = "us-central1-a us-central1-b us-central1-c us-central1-f us-east1-b us-west1-b europe-west4-a europe-west4-b"
_T4 = (
    "us-central1-a us-central1-b us-central1-c us-central1-f us-east1-c us-east1-d us-west1-a us-west1-b "
    "europe-west4-a europe-west4-b europe-west4-c europe-west1-b europe-west1-c"
)
_CPU = "us-central1-a us-central1-b us-central1-c us-east1-b us-east1-c us-west1-a europe-west4-a europe-west1-b"
ZONES = {"g2": _L4, "a2": _A100, "n1": _T4}
"""By family, cheap regions first. From Google's lists as remembered: a zone that has no such machine is passed over."""
GPU_IMAGE = ("ubuntu-os-accelerator-images", "ubuntu-accelerator-2404-amd64-with-nvidia-580")
CPU_IMAGE = ("ubuntu-os-cloud", "ubuntu-2404-lts-amd64")


@dataclass(frozen=True)
class Wish:
    """What the spec asks for, with the defaults filled in. `why_not`: what no machine can meet."""

    shape: Shape
    bucket: str
    device: str
    candidates: tuple[Candidate, ...]
    port: int
    python: str
    wheels: str
    why_not: tuple[Problem, ...] = ()

    def findings(self) -> tuple[Finding, ...]:
        """The problems as plan shows them."""
        return tuple(
            Finding(
                f"gcp.{(each.field or 'need').rpartition('.')[2]}", Severity.ERROR, each.message, "", each.remedy or ""
            )
            for each in self.why_not
        )


def wish(need: Need, settings: Settings, project: str) -> Wish:
    """Fill in the defaults. Raises nothing: what is wrong is in `why_not`."""
    given = need.options
    machine = str(given.get("machine") or ("e2-standard-8" if need.device == "cpu" else "g2-standard-8"))
    accelerator = str(given.get("accelerator") or "")
    project = str(given.get("project") or settings.gcp_project or project)
    iap = bool(given.get("iap", False))
    gpu = bool(accelerator) or Shape.gpu_of(machine)
    images = GPU_IMAGE if gpu else CPU_IMAGE
    shape = Shape(
        project=project,
        machine=machine,
        accelerator=accelerator,
        image_project=str(given.get("image_project") or images[0]),
        image=str(given.get("image") or images[1]),
        service_account=str(given.get("service_account") or f"samerun@{project}.iam.gserviceaccount.com"),
        network=str(given.get("network") or "default"),
        subnet=str(given.get("subnet") or ""),
        disk_gb=int(given.get("disk_gb") or (100 if gpu else 30)),
        external_ip=bool(given.get("external_ip", not iap)),
        os_login=str(given.get("os_login") or ""),
        iap=iap,
    )
    device = ("cuda" if gpu else "cpu") if need.device == "auto" else need.device
    candidates, problems = _candidates(need, shape)
    bucket = str(given.get("bucket") or settings.gcp_bucket or "").removeprefix("gs://").rstrip("/")
    return Wish(
        shape,
        bucket,
        device,
        candidates,
        int(given.get("ssh_port") or 22),
        str(given.get("python") or ""),
        str(given.get("wheels") or ""),
        (*_problems(need, shape, device), *problems),
    )


def refuse(wished: Wish) -> None:
    """Raise SpecError for a wish that cannot be met, or that lacks project or bucket."""
    problems = list(wished.why_not)
    for name, value in (("project", wished.shape.project), ("bucket", wished.bucket)):
        if not value:
            remedy = f"set resources.{name}, or SAMERUN_GCP_{name.upper()}"
            problems.append(Problem(f"the gcp backend needs a {name}", field=f"resources.{name}", remedy=remedy))
    if problems:
        raise SpecError(problems)


def _problems(need: Need, shape: Shape, device: str) -> list[Problem]:
    found = []
    if unknown := sorted(need.options.keys() - OPTIONS.keys()):
        message = f"the gcp backend has no resources setting {', '.join(unknown)}"
        found.append(Problem(message, field="resources.options", remedy=f"known: {', '.join(OPTIONS)}"))
    if device not in ("cpu", "cuda"):
        remedy = "set resources.device to auto, cuda or cpu"
        found.append(Problem(f"no machine of Compute Engine has {device}", field="resources.device", remedy=remedy))
    if device == "cuda" and not shape.has_gpu:
        remedy = "leave resources.machine out, or set resources.accelerator"
        found.append(Problem(f"{shape.machine} has no GPU", field="resources.machine", remedy=remedy))
    if shape.accelerator and not shape.machine.startswith("n1-"):
        remedy = "set resources.machine to an N1 type, or leave the accelerator out"
        found.append(Problem(f"{shape.machine} takes no accelerator", field="resources.accelerator", remedy=remedy))
    if shape.os_login and not shape.os_login.replace("_", "").replace("-", "").isalnum():
        found.append(Problem(f"{shape.os_login!r} is no user name", field="resources.os_login"))
    return found


def _candidates(need: Need, shape: Shape) -> tuple[tuple[Candidate, ...], list[Problem]]:
    """The places to try in order: with `prefer` all spot machines come first."""
    given = need.options.get("zones")
    family = shape.machine.partition("-")[0]
    default = ZONES.get(family, _CPU) if shape.has_gpu else _CPU
    zones = list(dict.fromkeys(zone.strip() for zone in str(given or default).replace(",", " ").split()))
    kinds = {"yes": (True,), "prefer": (True, False)}.get(str(need.options.get("spot") or "no"), (False,))
    found, dear, unknown = [], 0.0, ""
    for spot in kinds:
        for zone in zones:
            cost = prices.price(
                shape.machine,
                shape.accelerator,
                region_of(zone),
                spot=spot,
                disk_gb=shape.disk_gb,
                external_ip=shape.external_ip,
            )
            hour = cost.hour if cost is not None else None
            lasts = lifetime(need, hour)
            if lasts is None:
                dear, unknown = max(dear, hour or 0.0), unknown or ("" if hour else zone)
                continue
            found.append(Candidate(zone, spot, hour, lasts, (lasts - START_UP_S - END_S) / 3600))
    return tuple(found), [] if found else [_too_dear(need, shape, dear, unknown)]


def lifetime(need: Need, hour: float | None) -> int | None:
    """Seconds after which the service deletes the machine; None when the money does not reach, or no price is known."""
    lasts = (need.max_hours or DEFAULT_HOURS) * 3600 + START_UP_S + END_S
    if need.max_cost is None:
        return math.ceil(lasts)
    if hour is None:
        return None
    paid = need.max_cost / hour * 3600 - LAG_S
    return math.floor(min(lasts, paid)) if paid >= START_UP_S + END_S + SHORTEST_S else None


def affordable(need: Need, candidates: Sequence[Candidate], spent: float) -> tuple[Candidate, ...]:
    """With shorter lives where machines of this attempt have cost `spent` US dollars already. Raises SpecError."""
    if need.max_cost is None or spent <= 0:
        return tuple(candidates)
    left = replace(need, max_cost=need.max_cost - spent)
    lives = [(each, lifetime(left, each.price)) for each in candidates]
    found = [
        replace(each, lasts_s=lasts, max_hours=(lasts - START_UP_S - END_S) / 3600) for each, lasts in lives if lasts
    ]
    if not found:
        message = f"${spent:.2f} of ${need.max_cost:.2f} went into machines that were taken away: too little is left"
        raise SpecError([Problem(message, field="resources.max_cost", remedy="allow more, or set resources.spot=no")])
    return tuple(found)


def _too_dear(need: Need, shape: Shape, dear: float, unknown: str) -> Problem:
    field = "resources.max_cost"
    if unknown and not dear:
        message = f"max_cost cannot be held: the price table of {prices.date()} has no {shape.machine} in {unknown}"
        known = ", ".join(prices.regions(shape.machine)) or "none"
        return Problem(message, field=field, remedy=f"leave it out, or name zones of regions with a price: {known}")
    least = dear * (START_UP_S + END_S + SHORTEST_S + LAG_S) / 3600
    message = f"${need.max_cost:.2f} does not cover the start of a {shape.machine} at ${dear:.3f} an hour"
    return Problem(message, field=field, remedy=f"allow ${math.ceil(least * 100) / 100:.2f} or more")
