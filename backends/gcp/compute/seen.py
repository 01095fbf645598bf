"""What Compute Engine says of machines, disks and operations, as plain values."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backends.gcp.compute import names


class Life(enum.StrEnum):
    """Where a machine is on its way."""

    COMING = "coming"
    UP = "up"
    GOING = "going"
    """Its processes may be alive still."""
    OFF = "off"
    """No process is alive; its disk costs money still."""
    NEW = "new"
    """A status that was not known when this was written."""


LIFE = {
    "PROVISIONING": Life.COMING,
    "STAGING": Life.COMING,
    "RUNNING": Life.UP,
    "REPAIRING": Life.UP,
    "PENDING_STOP": Life.GOING,
    "STOPPING": Life.GOING,
    "SUSPENDING": Life.GOING,
    "DEPROVISIONING": Life.GOING,
    "SUSPENDED": Life.OFF,
    "STOPPED": Life.OFF,
    "TERMINATED": Life.OFF,
}


@dataclass(frozen=True)
class Seen:
    """A machine as it was seen: `zone` is its short name, `made` and `started` Unix times, `lasts` seconds."""

    name: str
    zone: str
    status: str
    attempt: str
    address: str = ""
    made: float | None = None
    started: float | None = None
    lasts: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def life(self) -> Life:
        return LIFE.get(self.status, Life.NEW)

    @property
    def ours(self) -> bool:
        """Whether the attempt that it says it is of has this name: what somebody else has called so is left alone."""
        return names.name_of(self.attempt) == self.name

    @property
    def ends(self) -> float | None:
        """When the service deletes it by itself."""
        begun = self.started or self.made
        return begun + self.lasts if begun is not None and self.lasts else None


@dataclass(frozen=True)
class Disk:
    """A disk of ours; `attempt` is its description."""

    name: str
    zone: str
    attempt: str
    used: bool


@dataclass(frozen=True)
class Happened:
    """An operation on a machine: what it was and when it ended (Unix time), or began where it has not ended."""

    kind: str
    at: float | None
    ended: bool
    words: str = ""


def machine(instance: Any) -> Seen:
    """From Google's message."""
    items = {item.key: item.value for item in instance.metadata.items}
    faces = list(instance.network_interfaces)
    outside = [access.nat_i_p for face in faces for access in face.access_configs if access.nat_i_p]
    inside = [face.network_i_p for face in faces if face.network_i_p]
    lasts = instance.scheduling.max_run_duration.seconds
    return Seen(
        instance.name,
        short(instance.zone),
        instance.status,
        items.get(names.ATTEMPT, ""),
        (outside + inside + [""])[0],
        unix(instance.creation_timestamp),
        unix(instance.last_start_timestamp),
        int(lasts) or None,
        _about(items.get(names.ABOUT, "")),
    )


def disk(found: Any) -> Disk:
    """From Google's message."""
    return Disk(found.name, short(found.zone), found.description, bool(list(found.users)))


def operation(found: Any) -> Happened:
    """From Google's message."""
    at = unix(found.end_time) or unix(found.start_time) or unix(found.insert_time)
    return Happened(found.operation_type, at, found.status == "DONE", found.status_message)


def short(link: str) -> str:
    """The last part of a resource's address."""
    return link.rsplit("/", 1)[-1]


def unix(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 time; None for what is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _about(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
