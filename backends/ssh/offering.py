"""What a host would give, and whether it would: for `plan` and `doctor`. A host that is silent is a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from backends.ssh.remembered import Memory, Place, Remembered
from launcher.backend import Need, Offer, Option
from launcher.errors import CredentialError, NotFoundError, SamerunError, SpecError
from launcher.finding import Finding, Severity

if TYPE_CHECKING:
    from backends.ssh.host.facts import Facts
    from backends.ssh.host.machine import Machine

LOW_DISK_BYTES = 12 << 30
"""An environment with torch for CUDA takes 8 GB unpacked (its wheels of 2026), beside uv's cache of the same files."""
INSTALLS = ("ultralytics", "torch")
UV = "https://docs.astral.sh/uv"


def check(memory: Memory, machine: Callable[[Place], Machine]) -> list[Finding]:
    """For `doctor`."""
    from backends.ssh import side_by_side

    known = {each.place: each for each in memory}
    if not known:
        return [Finding("ssh.hosts", Severity.INFO, "no host was used from here yet; a spec names one: resources.host")]

    def ask(place: Place) -> list[Finding]:
        return list(_checked(known[place], machine(place)))

    return [finding for found in side_by_side(ask, list(known)) for finding in found]


def offer(need: Need, options: Mapping[str, Option], machine: Callable[[], Machine]) -> Offer:
    """For `plan`: asks the host once, and leaves nothing there."""
    findings = []
    if unknown := sorted(need.options.keys() - options.keys()):
        message = f"an SSH host has no resources setting {', '.join(unknown)}"
        findings.append(Finding("ssh.options", Severity.ERROR, message, remedy=f"known: {', '.join(sorted(options))}"))
    if need.device not in ("auto", "cpu", "cuda", "mps"):
        message = f"resources.device is {need.device}, and no host has one"
        findings.append(Finding("ssh.no-device", Severity.ERROR, message, remedy="set it to auto, cpu, cuda or mps"))
    own = str(need.options.get("python") or "").lstrip("0123456789.")
    host = str(need.options.get("host") or "an SSH host")
    try:
        facts = machine().facts()
    except SpecError as error:
        (problem, *_) = error.problems
        code = "ssh.no-host" if not need.options.get("host") else "ssh.host"
        findings.append(Finding(code, Severity.ERROR, problem.message, remedy=problem.remedy or ""))
    except SamerunError as error:
        findings.append(_trouble(error))
    else:
        findings += _about(facts, own=bool(own), device=need.device)
        device = facts.device if need.device == "auto" else need.device
        versions = facts.versions if own else {}
        findings_, machine_ = tuple(findings), f"{host}: {facts}"
        return Offer(
            machine_,
            device,
            need.max_hours,
            None,
            facts.memory,
            facts.disk,
            findings_,
            installs=() if own else INSTALLS,
            versions=versions,
        )
    return Offer(host, need.device, need.max_hours, findings=tuple(findings), installs=() if own else INSTALLS)


def _checked(known: Remembered, machine: Machine) -> Iterator[Finding]:
    try:
        facts = machine.facts()
    except SamerunError as error:
        found = _trouble(error)
        forget = f"; a host that is gone for good is forgotten by deleting {known.file.parent}"
        yield Finding(found.code, found.severity, f"{known.place}: {found.message}", remedy=found.remedy + forget)
        return
    yield Finding("ssh.host", Severity.INFO, f"{known.place}: {facts}", f"Python {'.'.join(map(str, facts.version))}")
    yield from _about(facts, own=bool(known.place.python), device="auto")


def _trouble(error: SamerunError) -> Finding:
    """A host that cannot be asked, as a finding: who is not let in is an error, silence may pass."""
    remedy = error.remedy or "try `ssh` by hand"
    if isinstance(error, CredentialError):
        return Finding("ssh.no-credentials", Severity.ERROR, error.message, remedy=remedy)
    if isinstance(error, NotFoundError):
        return Finding("ssh.no-python", Severity.ERROR, error.message, remedy=remedy)
    return Finding("ssh.silent", Severity.WARNING, error.message, remedy=remedy)


def _about(facts: Facts, *, own: bool, device: str) -> Iterator[Finding]:
    """What a host says of itself that is worth knowing. `own`: the spec names a Python that trains."""
    if device in ("cuda", "mps") and device != facts.device:
        seen = "it shows no driver of NVIDIA's" if device == "cuda" else f"it is {facts.system} {facts.machine}"
        remedy = "set resources.device to auto or cpu, or take another host"
        yield Finding("ssh.no-device", Severity.ERROR, f"{facts.node} has no {device}", seen, remedy)
    if facts.cuda and not facts.gpus:
        remedy = "run nvidia-smi there; the worker proves the GPU before it trains"
        yield Finding(
            "ssh.gpu", Severity.WARNING, f"{facts.node} has a driver, and nvidia-smi lists no GPU", "", remedy
        )
    if facts.shared:
        message, remedy = f"{facts.root} on {facts.node} is not safe: {facts.shared}", "`chmod go-w`, or another root"
        yield Finding("ssh.shared-root", Severity.ERROR, message, remedy=remedy)
    if not facts.writable:
        message, remedy = f"{facts.root} cannot be written on {facts.node}", "set resources.root to a folder that can"
        yield Finding("ssh.root", Severity.ERROR, message, remedy=remedy)
    if facts.disk is not None and facts.disk < LOW_DISK_BYTES and not own:
        message = f"{facts.disk / 1e9:.1f} GB are free for {facts.root} on {facts.node}"
        remedy = "free some space there, or set resources.root to another disk"
        yield Finding("ssh.disk", Severity.WARNING, message, remedy=remedy)
    if not (own or facts.uv or facts.pip):
        message = f"{facts.node} has neither uv nor a Python that can make environments"
        remedy = f"install uv there ({UV}; needs no root), or name a Python that has all: resources.python=/path"
        yield Finding("ssh.no-uv", Severity.ERROR, message, remedy=remedy)
    if facts.ends_at_logout:
        message = f"{facts.node} ends a user's processes when the last login is over (KillUserProcesses)"
        remedy = f"run `loginctl enable-linger` there once, as {facts.user}"
        yield Finding("ssh.logout", Severity.WARNING, message, remedy=remedy, source="logind.conf(5)")
