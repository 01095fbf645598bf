"""The words in which the service says no: by SkyPilot's parser and public threads, not by captured replies."""

from __future__ import annotations

from typing import Any

from tests.emulators.compute.faults import Fault
from tests.emulators.compute.service.catalogue import Catalogue
from tests.emulators.compute.service.operations import Failure
from tests.emulators.compute.service.rules import gpus_of
from tests.emulators.compute.service.vm import Vm
from tests.emulators.compute.settings import ApiError, World


def quota(metric: str, limit: float, where: str) -> ApiError:
    return ApiError(403, "quotaExceeded", _quota_text(metric, limit, where), domain="usageLimits")


def _quota_text(metric: str, limit: float, where: str) -> str:
    scope = "globally" if where == "global" else f"in region {where}"
    return f"Quota '{metric}' exceeded.  Limit: {limit:.1f} {scope}."


def failure(fault: Fault, world: World, vm: Vm, catalogue: Catalogue) -> Failure | None:
    """The operation error of a fault; None for one that is none."""
    zone = f"projects/{world.settings.project}/zones/{vm.zone}"
    path = f"{zone}/instances/{vm.name}"
    kind = fault.kind
    if kind in ("stockout", "stockout-details"):
        text = (
            f"The zone '{zone}' does not have enough resources available to fulfill the request.  "
            "Try a different zone, or try again later."
        )
        if kind == "stockout":
            return Failure(503, "ZONE_RESOURCE_POOL_EXHAUSTED", text)
        return Failure(503, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", text, _stockout_details(text, vm, catalogue))
    if kind == "quota-async":
        return _quota_failure(fault, vm, catalogue)
    if kind == "preempted-at-birth":
        return Failure(400, "UNSUPPORTED_OPERATION", "Instance was preempted during creation.")
    if kind in ("error", "error-but-up", "delete-error"):
        codes = {"error-but-up": "RESOURCE_NOT_FOUND", "delete-error": "RESOURCE_NOT_READY"}
        code = fault.text("code", codes.get(kind, "INTERNAL_ERROR"))
        status = int(fault.number("status", {"RESOURCE_NOT_FOUND": 404, "RESOURCE_NOT_READY": 400}.get(code, 503)))
        return Failure(status, code, fault.text("message", f"The resource '{path}' has a problem: {code}"))
    return None


def _stockout_details(text: str, vm: Vm, catalogue: Catalogue) -> list[dict[str, Any]]:
    kind = vm.message.machine_type.rsplit("/", 1)[-1]
    gpus = gpus_of(vm.message, catalogue.kinds[kind])
    metadatas = {
        "zone": vm.zone,
        "vmType": kind,
        "attachment": ",".join(f"{name}:{count}" for name, count in gpus.items()),
        "zonesAvailable": "",
    }
    info = {"reason": "resource_availability", "domain": "compute.googleapis.com", "metadatas": metadatas}
    return [{"error_info": info}, {"localized_message": {"locale": "en-US", "message": text}}]


def _quota_failure(fault: Fault, vm: Vm, catalogue: Catalogue) -> Failure:
    metric = fault.text("metric", "GPUS_ALL_REGIONS")
    region = catalogue.zone(vm.zone)
    where = fault.text("where", "global" if metric.endswith("ALL_REGIONS") else region)
    limit = fault.number("limit", 0.0)
    name = f"{metric.replace('_', '-')}-per-project{'' if where == 'global' else '-region'}"
    info = {
        "metric_name": f"compute.googleapis.com/{metric.lower()}",
        "limit_name": name,
        "limit": limit,
        "dimensions": {"region": where},
    }
    return Failure(403, "QUOTA_EXCEEDED", _quota_text(metric, limit, where), [{"quota_info": info}])


def before(fault: Fault, method: str) -> ApiError:
    """The answer of a fault that happens before anything was done, where it is an answer."""
    if fault.kind == "quota":
        metric = fault.text("metric", "CPUS")
        where = fault.text("where", "global" if metric.endswith("ALL_REGIONS") else "us-central1")
        return quota(metric, fault.number("limit"), where)
    needed = f"compute.{method}"
    answers = {
        "503": ApiError(503, "backendError", "The service is currently unavailable."),
        "500": ApiError(500, "internalError", "Internal error. Please try again."),
        "429": ApiError(429, "rateLimitExceeded", "Too many requests.", domain="usageLimits"),
        "rate": ApiError(403, "rateLimitExceeded", "Rate Limit Exceeded", domain="usageLimits"),
        "permission": ApiError(403, "forbidden", f"Required '{needed}' permission for 'projects/samerun-test'"),
        "401": ApiError(401, "authError", "Invalid Credentials"),
        "404": ApiError(404, "notFound", "The resource was not found"),
        "409": ApiError(409, "alreadyExists", "The resource already exists"),
    }
    return answers[fault.kind]
