"""What can be said before anything is made: machine, price, quotas; whether credentials and bucket are good.

Nothing here raises for what is missing: it is a finding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backends.gcp import planning, prices
from backends.gcp.compute.client import LOGIN
from backends.gcp.compute.names import region_of
from launcher.backend import Need, Offer
from launcher.errors import CredentialError, SamerunError
from launcher.finding import Finding, Severity
from launcher.settings import Settings

if TYPE_CHECKING:
    from backends.gcp.account import Account

CLOCK_S = 60.0  # a clock that is further off breaks the signatures of tokens (Google allows some minutes)
QUOTA_METRICS = {
    "a2-ultragpu": "NVIDIA_A100_80GB_GPUS",
    "a2-highgpu": "NVIDIA_A100_GPUS",
    "a3-highgpu": "NVIDIA_H100_GPUS",
    "g2-standard": "NVIDIA_L4_GPUS",
    "nvidia-tesla-p100": "NVIDIA_P100_GPUS",
    "nvidia-tesla-t4": "NVIDIA_T4_GPUS",
    "nvidia-tesla-v100": "NVIDIA_V100_GPUS",
}
"""By the accelerator, or the machine type without its size."""
REGIONS_ASKED = 3
Accounts = Callable[[str], "Account"]


def own_project() -> str:
    """The project of the application default credentials; empty where there are none. Asks nobody."""
    import os

    import google.auth
    from google.auth.exceptions import GoogleAuthError

    if not _is_google():  # elsewhere nobody answers for the metadata server, and asking takes seconds
        os.environ.setdefault("NO_GCE_CHECK", "true")
    try:
        return str(google.auth.default()[1] or "")
    except (GoogleAuthError, OSError):
        return ""


def _is_google() -> bool:
    """Whether this computer may be a machine of Google's (the same file that Google's own client looks at)."""
    try:
        return "Google" in Path("/sys/class/dmi/id/product_name").read_text(encoding="utf-8")
    except OSError:
        return False


def check(settings: Settings, account: Accounts) -> list[Finding]:
    """See `Backend.check`."""
    found = [_checksum()]
    project = settings.gcp_project or own_project()
    if not project:
        message = "no credentials and no project of Google Cloud were found"
        return [
            *found,
            Finding("gcp.no-credentials", Severity.ERROR, message, remedy=f"{LOGIN}; and set SAMERUN_GCP_PROJECT"),
        ]
    found += _asked("gcp.compute", lambda: _machines(account(project), project))
    if not settings.gcp_bucket:
        remedy = "set SAMERUN_GCP_BUCKET, or resources.bucket in the spec"
        found.append(Finding("gcp.no-bucket", Severity.WARNING, "no bucket is set for this computer", remedy=remedy))
    else:
        bucket = settings.gcp_bucket
        found += _asked("gcp.bucket", lambda: _bucket(account(project), bucket))
    return found


def offer(need: Need, settings: Settings, account: Accounts) -> Offer:
    """See `Backend.offer`."""
    named = need.options.get("project") or settings.gcp_project
    wished = planning.wish(need, settings, "" if named else own_project())
    findings = list(wished.findings())
    for name, value in (("project", wished.shape.project), ("bucket", wished.bucket)):
        if not value:
            remedy = f"set resources.{name}, or SAMERUN_GCP_{name.upper()}"
            findings.append(Finding(f"gcp.no-{name}", Severity.ERROR, f"the gcp backend needs a {name}", remedy=remedy))
    places = wished.candidates
    if not findings and wished.shape.project:
        findings += _asked("gcp.quota", lambda: _quotas(account(wished.shape.project), wished))
    known = [each.price for each in places if each.price is not None]
    unpriced = sorted({region_of(each.zone) for each in places if each.price is None})
    if unpriced and not need.max_cost:
        message = f"the price table of {prices.date()} has no {wished.shape.machine} in {', '.join(unpriced)}"
        findings.append(Finding("gcp.no-price", Severity.INFO, message, source=prices.basis()))
    return Offer(
        machine=_words(wished),
        device=wished.device,
        max_hours=max((each.max_hours for each in places), default=None),
        price_per_hour=max(known) if known and not unpriced else None,
        findings=tuple(findings),
        free_disk=wished.shape.disk_gb * 10**9,
        installs=() if wished.python else ("ultralytics", "torch"),
        price_basis=f"{prices.basis()}; the dearest of the zones to be tried" if known else "",
        extra_hours=(planning.START_UP_S + planning.END_S + planning.LAG_S) / 3600,
    )


def _words(wished: planning.Wish) -> str:
    """`g2-standard-8 (spot, then on demand) in us-central1-a, ...`."""
    shape = wished.shape
    kinds = list(dict.fromkeys("spot" if each.spot else "on demand" for each in wished.candidates))
    zones = list(dict.fromkeys(each.zone for each in wished.candidates))
    gpu = f" with {shape.accelerator}" if shape.accelerator else ""
    tried = f" in {', '.join(zones)}" if zones else ""
    return ", ".join(filter(None, (f"{shape.machine}{gpu}", f"{', then '.join(kinds)}{tried}")))


def _quotas(account: Account, wished: planning.Wish) -> list[Finding]:
    """Regions whose quota for the GPU is used up; an error when none of those that were asked has any.

    Machines without a GPU are asked for too: whoever may not ask has no credentials for the rest, either.
    """
    kind = wished.shape.accelerator or wished.shape.machine.rpartition("-")[0]
    metric = QUOTA_METRICS.get(kind, "")
    found, full = [], 0
    most = REGIONS_ASKED if wished.shape.has_gpu else 1
    asked = list(dict.fromkeys((region_of(each.zone), each.spot) for each in wished.candidates))[:most]
    quotas = {region: account.compute.quotas(region) for region in dict.fromkeys(region for region, _ in asked)}
    for region, spot in asked if wished.shape.has_gpu else ():
        name = _counts(quotas[region], metric, spot=spot)
        used, limit = quotas[region].get(name, (0.0, -1.0))
        if 0 <= limit <= used:
            full += 1
            remedy = "ask for more on the console's page IAM & Admin > Quotas, or name zones of another region"
            message = f"the quota {name} of {region} is used up: {used:g} of {limit:g}"
            found.append(Finding("gcp.quota", Severity.WARNING, message, remedy=remedy))
    all_asked = len({(region_of(each.zone), each.spot) for each in wished.candidates}) == len(asked)
    if full and full == len(asked) and all_asked:
        message = "no region that may be tried has quota for the GPU"
        found.append(Finding("gcp.no-quota", Severity.ERROR, message, remedy=found[0].remedy))
    return found


def _counts(quotas: Mapping[str, tuple[float, float]], metric: str, *, spot: bool) -> str:
    """Where a spot quota was never granted, its limit is 0 and the standard one counts (Google's docs, by memory)."""
    name = f"PREEMPTIBLE_{metric}"
    return name if spot and quotas.get(name, (0.0, 0.0))[1] > 0 else metric


def _machines(account: Account, project: str) -> list[Finding]:
    mine = account.compute.machines()
    words = ", ".join(f"{each.name} in {each.zone}" for each in mine[:5]) or "none"
    return [Finding("gcp.machines", Severity.INFO, f"machines of ours in {project}: {words}")]


def _bucket(account: Account, bucket: str) -> list[Finding]:
    account.store(bucket).check()
    return [Finding("gcp.bucket", Severity.INFO, f"gs://{bucket} can be reached"), *_clock()]


def _clock() -> list[Finding]:
    """How far this computer's clock is off, by a reply's Date."""
    import os

    import requests

    address = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
    try:
        date = requests.head(address, timeout=10, allow_redirects=False).headers.get("Date", "")
        off = time.time() - parsedate_to_datetime(date).timestamp()
    except (requests.RequestException, ValueError, TypeError):
        return []
    if abs(off) < CLOCK_S:
        return []
    message = f"this computer's clock is {off:+.0f} s off"
    return [Finding("gcp.clock", Severity.ERROR, message, remedy="set the clock: tokens are refused otherwise")]


def _checksum() -> Finding:
    import google_crc32c

    kind = google_crc32c.implementation
    if kind == "c":
        return Finding("gcp.crc32c", Severity.INFO, "crc32c is computed in C")
    message = "crc32c is computed in Python, some 20 times slower: transfers wait for it"
    return Finding("gcp.crc32c", Severity.WARNING, message, kind, remedy="install google-crc32c from a wheel")


def _asked(code: str, ask: Callable[[], list[Finding]]) -> list[Finding]:
    """What asking finds; why it cannot be asked is a finding too."""
    try:
        return ask()
    except CredentialError as error:
        return [Finding("gcp.no-credentials", Severity.ERROR, error.message, remedy=error.remedy or LOGIN)]
    except SamerunError as error:
        kind = Severity.WARNING if error.exit_code == 7 else Severity.ERROR
        return [Finding(code, kind, error.message, remedy=error.remedy or "try again")]
