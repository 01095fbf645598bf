"""What a refusal of Compute Engine means: where to try next, and which of our errors it is when nowhere is left.

Refusals come in two shapes, as an answer to the call and as an error of the operation that the call began; both are
taken here. The table follows SkyPilot's (facts of 22 Nov 2026, section B3): no reply of the real service was seen.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from launcher.errors import CapacityError, CredentialError, Problem, QuotaError, RemoteError, SamerunError, SpecError


class Where(enum.StrEnum):
    """Where an insert that was refused may be tried next."""

    ZONE = "zone"
    """In another zone."""
    REGION = "region"
    """In another region: a quota is a region's."""
    NOWHERE = "nowhere"
    """No zone of this project will take it."""


class Why(enum.StrEnum):
    """What is missing."""

    CAPACITY = "capacity"
    QUOTA = "quota"
    ACCESS = "access"
    REQUEST = "request"
    """The request itself is wrong: something in the spec."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Meaning:
    where: Where
    why: Why


_STOCK_OUT = Meaning(Where.ZONE, Why.CAPACITY)
_ACCESS = Meaning(Where.NOWHERE, Why.ACCESS)
_REQUEST = Meaning(Where.NOWHERE, Why.REQUEST)
CODES = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": _STOCK_OUT,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": _STOCK_OUT,
    "insufficientCapacity": _STOCK_OUT,
    "UNSUPPORTED_OPERATION": _STOCK_OUT,  # a spot machine taken away while it was made
    "RESOURCE_NOT_READY": _STOCK_OUT,
    "resourceNotReady": _STOCK_OUT,
    "RESOURCE_OPERATION_RATE_EXCEEDED": _STOCK_OUT,
    "RESOURCE_NOT_FOUND": _STOCK_OUT,  # also said of machines that came up all the same
    "notFound": _STOCK_OUT,  # this zone has no such machine type or accelerator
    "QUOTA_EXCEEDED": Meaning(Where.REGION, Why.QUOTA),
    "quotaExceeded": Meaning(Where.REGION, Why.QUOTA),
    "IAM_PERMISSION_DENIED": _ACCESS,
    "forbidden": _ACCESS,
    "accessNotConfigured": _ACCESS,
    "insufficientPermissions": _ACCESS,
    "SERVICE_ACCOUNT_ACCESS_DENIED": _ACCESS,
    "VPC_NOT_FOUND": _REQUEST,
    "invalid": _REQUEST,
    "badRequest": _REQUEST,
    "required": _REQUEST,
}
"""Codes of operation errors, in capitals, and reasons of refused calls."""
TEXTS = (
    ("disk size cannot be smaller", _REQUEST),
    ("does not exist in zone", _STOCK_OUT),
    ("is not found or access is unauthorized", _STOCK_OUT),
    ("_ALL_REGIONS", Meaning(Where.NOWHERE, Why.QUOTA)),
)
"""What a message says counts more than its code."""
PASSING = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "backendError", "internalError"})
"""Reasons that pass by themselves: the same call again."""


class RefusedError(Exception):
    """An insert that will not succeed as it was asked; what may be there all the same is to be looked up."""

    def __init__(self, zone: str, code: str, message: str) -> None:
        super().__init__(": ".join(word for word in (zone, code, message) if word))
        self.zone, self.code, self.message = zone, code, message
        self.meaning = meaning(code, message)


def meaning(code: str, message: str) -> Meaning:
    """What the table says; for what is not in it another zone is tried, and nobody knows why at the end."""
    for text, found in TEXTS:
        if text in message and (found.why is not Why.QUOTA or "uota" in message or "QUOTA" in code):
            return found
    return CODES.get(code, Meaning(Where.ZONE, Why.UNKNOWN))


def of_operation(operation: Any) -> tuple[str, str] | None:
    """Code and message of the first error of a finished operation, or None."""
    for error in operation.error.errors:
        details = [f"{key}={value}" for detail in error.error_details for key, value in _facts(detail)]
        message = error.message or operation.http_error_message
        return error.code, f"{message} ({', '.join(details)})" if details else message
    if operation.http_error_status_code >= 400:
        return str(operation.http_error_status_code), operation.http_error_message
    return None


def of_call(error: Any) -> tuple[str, str]:
    """Reason and message of a refused call: the reason stands in the first of its errors, where there are any."""
    reasons = [
        str(each["reason"]) for each in getattr(error, "errors", ()) if isinstance(each, dict) and "reason" in each
    ]
    return (reasons[0] if reasons else str(getattr(error, "code", "") or "")), str(getattr(error, "message", error))


def final(refused: Iterable[RefusedError]) -> SamerunError:
    """The error of an attempt that no zone has taken. Capacity comes and goes; a quota has to be raised by someone."""
    found = list(refused)
    words = "; ".join(str(each) for each in found[:12])[:2000]
    whys = [each.meaning.why for each in found]
    if Why.ACCESS in whys:
        remedy = "grant the account `roles/compute.instanceAdmin.v1` and `roles/iam.serviceAccountUser`, enable the API"
        return CredentialError(f"Compute Engine refuses to make a machine: {words}", remedy=remedy)
    if Why.REQUEST in whys:
        return SpecError([Problem(f"Compute Engine will not make this machine: {words}", field="resources")])
    if Why.CAPACITY in whys:
        remedy = "try again later, or name more zones (resources.zones), another machine, or resources.spot"
        return CapacityError(f"no zone has the machine now: {words}", remedy=remedy)
    if Why.QUOTA in whys:
        remedy = "ask for more on the console's page IAM & Admin > Quotas, or name zones of another region"
        return QuotaError(f"the project's quota does not hold the machine: {words}", remedy=remedy)
    return RemoteError(f"no machine was made, for reasons not known here: {words}", remedy="try again; report it")


def _facts(detail: Any) -> Iterable[tuple[str, str]]:
    return sorted(dict(detail.error_info.metadatas).items()) if detail.error_info else ()
