"""What Kaggle would give, and whether it would: credentials, quota, sessions that run, versions.

Nothing here raises because Kaggle does not answer or nobody is signed in: that is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib import metadata

from backends.kaggle.account import limits_for
from backends.kaggle.client import credentials
from backends.kaggle.client.answers import KernelState, Quota
from backends.kaggle.client.refusals import NotThereError
from backends.kaggle.client.service import Service, ask_of, sign_in
from launcher.backend import Need, Offer, Option
from launcher.errors import CredentialError, SamerunError
from launcher.finding import Finding, Severity
from launcher.settings import Settings

OUTPUT_LIMIT = 20 * 10**9  # bytes of /kaggle/working (public code and pages of 2026)
GPU_SESSIONS = 2  # batch sessions with a GPU that an account may have at a time (kaggle-cli#185)
SESSION_H = 12.0
RECENT = timedelta(hours=13)  # a kernel that ran longer ago has ended: a session lasts 12 h
LOW_QUOTA_H = 1.0
LIMITS = "https://www.kaggle.com/docs/notebooks"
PHONE = Finding(
    "kaggle.phone",
    Severity.INFO,
    "internet and GPUs need an account with a verified phone number; Kaggle's API does not say whether yours is",
    remedy="see https://www.kaggle.com/settings",
    source="fastai/course-v3#347 (internet), instructlab/instructlab#355 (GPU)",
)
MACHINE = {
    "cuda": "a Kaggle kernel with two T4 GPUs, of which one is used (T4)",
    "cpu": "a Kaggle kernel without a GPU",
}


def check(settings: Settings) -> list[Finding]:
    """For `doctor`."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("kaggle", "kagglesdk"))
    found = [Finding("kaggle.client", Severity.INFO, versions)]
    if settings.kaggle_endpoint:
        text = f"not Kaggle itself: SAMERUN_KAGGLE_ENDPOINT is {settings.kaggle_endpoint}"
        found.append(Finding("kaggle.endpoint", Severity.INFO, text))
    credential, said = credentials.check(ask_of(settings.kaggle_endpoint))
    found += said
    if credential is None:
        return found
    try:
        service, _ = sign_in(settings.kaggle_endpoint, limits_for(settings))
        found += _quota(service.quota())
        found += _sessions(service)
    except CredentialError as error:
        found.append(Finding("kaggle.refused", Severity.ERROR, error.message, remedy=error.remedy or ""))
    except SamerunError as error:
        found.append(Finding("kaggle.silent", Severity.WARNING, error.message, remedy=error.remedy or "try again"))
    found.append(PHONE)
    return found


def offer(settings: Settings, need: Need, options: Mapping[str, Option]) -> Offer:
    """For `plan`."""
    device = "cuda" if need.device == "auto" else need.device
    found = list(_impossible(settings, need, device, options))
    if device in MACHINE:
        found += _account(settings, need, gpu=device == "cuda")
        found.append(PHONE)
    hours = min(settings.kaggle_session_hours, need.max_hours or SESSION_H)
    machine = MACHINE.get(device, "a Kaggle kernel")
    if settings.kaggle_endpoint:
        machine += f" (not Kaggle itself: {settings.kaggle_endpoint})"
    return Offer(
        machine,
        device,
        hours,
        price_per_hour=0.0,
        findings=tuple(found),
        output_limit=OUTPUT_LIMIT,
        installs=("ultralytics",),
        versions={},
    )


def _impossible(settings: Settings, need: Need, device: str, options: Mapping[str, Option]) -> Iterator[Finding]:
    if device not in MACHINE:
        message = f"resources.device is {device}, and Kaggle has none"
        yield Finding("kaggle.no-device", Severity.ERROR, message, remedy="set resources.device to auto, cuda or cpu")
    if unknown := sorted(need.options.keys() - options.keys()):
        message = f"Kaggle has no resources setting {', '.join(unknown)}"
        yield Finding("kaggle.options", Severity.ERROR, message, remedy=f"known: {', '.join(sorted(options))}")
    if settings.kaggle_session_hours > SESSION_H - 0.25:
        message = f"kaggle_session_hours is {settings.kaggle_session_hours:g}: Kaggle ends a session at {SESSION_H:g} h"
        remedy = "leave a quarter of an hour at least: what is cut by Kaggle may keep no output"
        yield Finding("kaggle.session-hours", Severity.WARNING, message, remedy=remedy, source=LIMITS)
    if need.max_hours is not None and need.max_hours > settings.kaggle_session_hours:
        session = settings.kaggle_session_hours
        message = f"resources.max_hours is {need.max_hours:g}, and the training leaves a session after {session:g}"
        remedy = "the run goes on in the next session, as often as resume.attempts allows"
        yield Finding("kaggle.session-shorter", Severity.INFO, message, remedy=remedy, source=LIMITS)
    if need.options.get("internet") is False and not need.options.get("wheels"):
        message = "resources.internet is false, and Ultralytics is not in Kaggle's image"
        remedy = "attach a dataset of wheels: resources.wheels=owner/slug (README, Kaggle)"
        yield Finding("kaggle.no-wheels", Severity.ERROR, message, remedy=remedy)


def _account(settings: Settings, need: Need, *, gpu: bool) -> Iterator[Finding]:
    """What the account has left of what this needs, and whether it can read the data that is to be attached."""
    try:
        service, said = sign_in(settings.kaggle_endpoint, limits_for(settings))
        yield from said
        quota = service.quota()  # also for a CPU: a key is good or not only when something is asked with it
        if gpu:
            yield from _quota(quota, needed=True)
            yield from _sessions(service, full=Severity.WARNING)
        if need.attached is not None and need.attached.kind == "kaggle-dataset":
            yield from _dataset(service, need.attached.name)
    except CredentialError as error:
        yield Finding("kaggle.no-credentials", Severity.ERROR, error.message, remedy=error.remedy or "")
    except SamerunError as error:
        remedy = error.remedy or "try again"
        yield Finding("kaggle.silent", Severity.WARNING, f"the quota is not known: {error.message}", remedy=remedy)


def _dataset(service: Service, name: str) -> Iterator[Finding]:
    """Whether the account sees a dataset that is to be attached."""
    owner, slug = name.split("/")[:2]
    try:
        service.dataset(owner, slug)
    except NotThereError as error:
        remedy = "check its name, and that your account can read it"
        yield Finding("kaggle.no-dataset", Severity.ERROR, f"dataset {name}: {error.message}", remedy=remedy)


def _quota(quota: Quota | None, *, needed: bool = False) -> Iterator[Finding]:
    if quota is None or quota.total is None:
        yield Finding("kaggle.quota", Severity.INFO, "Kaggle does not say how much GPU time is left")
        return
    left = max(quota.total - quota.used - quota.reserved, timedelta())
    hours, total = left / timedelta(hours=1), quota.total / timedelta(hours=1)
    until = ""
    if quota.refresh is not None:
        wait = max(quota.refresh - datetime.now(UTC), timedelta()) / timedelta(hours=1)
        until = f"; the week begins anew on {quota.refresh:%A %Y-%m-%d %H:%M} UTC, in {wait:.0f} h"
    message = f"{hours:.1f} of {total:g} h of GPU time are left this week{until}"
    remedy = "wait for the new week, or train elsewhere; resources.device=cpu needs no quota"
    if hours <= 0:
        severity = Severity.ERROR if needed else Severity.WARNING
        yield Finding("kaggle.no-quota", severity, message, remedy=remedy)
    elif hours < LOW_QUOTA_H:
        yield Finding("kaggle.quota", Severity.WARNING, message, remedy=remedy)
    else:
        yield Finding("kaggle.quota", Severity.INFO, message)


def _sessions(service: Service, full: Severity = Severity.INFO) -> Iterator[Finding]:
    """Kernels of this account that run now. Counted from their listing: no call says it."""
    recent = datetime.now(UTC) - RECENT
    running = []
    for kernel in service.kernels():
        if kernel.last_run is not None and kernel.last_run < recent:
            break  # they come with the newest first
        owner, slug = kernel.ref.split("/", 1)
        state = service.status(owner, slug).state
        if state in (KernelState.RUNNING, KernelState.QUEUED):
            running.append(kernel)
    names = ", ".join(kernel.ref for kernel in running) or "none"
    with_gpu = sum(bool(kernel.gpu) for kernel in running)
    message = f"{len(running)} kernel(s) running, {with_gpu} of {GPU_SESSIONS} with a GPU: {names}"
    if with_gpu >= GPU_SESSIONS:
        remedy = "wait until one ends, or `launch cancel` it: Kaggle refuses another one, and has no queue"
        yield Finding("kaggle.sessions", full, message, remedy=remedy)
    else:
        yield Finding("kaggle.sessions", Severity.INFO, message)
