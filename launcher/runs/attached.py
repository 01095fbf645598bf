"""A run's data that lies where its machine is: what the record says of it, and which backends can attach it.

Until a worker has read it nothing is known but its kind and name. What the worker says then is kept, and later attempts
are held to it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher import registry
from launcher.backend import Attached, Backend, DataSource
from launcher.errors import NotFoundError
from launcher.finding import Finding, Severity
from launcher.runs.events import Event
from launcher.settings import Settings

EVENT = "dataset"
COUNTS = ("n_train", "n_val", "n_test", "classes", "bytes")
_DIGESTS = ("fingerprint", "images", "labels", "splits")
_SHA256 = re.compile(r"[0-9a-f]{64}")
YAML_LIMIT = 1000  # characters of a path


def source(data: Mapping[str, Any] | None) -> DataSource | Attached | None:
    """What an attempt brings or attaches, by the run's record."""
    if data is None:
        return None
    return attached(data) or DataSource(Path(data["root"]), data["fingerprint"])


def attached(data: Mapping[str, Any] | None) -> Attached | None:
    """The data of a run's record, where it is not on this machine."""
    return Attached(str(data["kind"]), str(data["name"])) if data is not None and "kind" in data else None


def drafted(data: Attached) -> dict[str, Any]:
    """What the record of a new run says of it."""
    return {"kind": data.kind, "name": data.name, "fingerprint": None}


def learnt(data: Mapping[str, Any] | None, event: Event) -> Mapping[str, Any] | None:
    """The record's data after a worker's `dataset` event. What the first one said stays."""
    if data is None or "kind" not in data or data.get("fingerprint"):
        return data
    digests = {name: event.fields.get(name) for name in _DIGESTS}
    if not all(isinstance(digest, str) and _SHA256.fullmatch(digest) for digest in digests.values()):
        return data
    counts = {name: event.count(name) for name in COUNTS if event.number(name) is not None}
    return {**data, **digests, "facts": counts, "yaml": str(event.fields.get("yaml", ""))[:YAML_LIMIT]}


def described(data: Mapping[str, Any]) -> str:
    """The record's data in one line."""
    kept = attached(data)
    where = f"{kept.kind}:{kept.name}" if kept is not None else str(data.get("root"))
    mark = data.get("fingerprint")
    return f"{where}, fingerprint {str(mark)[:12] if mark else 'not known: no worker has read it yet'}"


def refusal(settings: Settings, backend: Backend[Any], data: Attached | None) -> list[Finding]:
    """Why this backend cannot run what needs this data; empty when it can."""
    if data is None or data.kind in backend.attaches:
        return []
    others: list[str] = []
    with contextlib.suppress(NotFoundError):
        others = registry.attaching(settings, data.kind)
    can = " or ".join(f"--backend {name}" for name in others)
    remedy = can or "no installed backend can: bring the dataset here, and name its data.yaml"
    message = f"{backend.name} cannot attach data of the kind {data.kind}"
    return [Finding("data.cannot-attach", Severity.ERROR, message, f"data {data.kind}:{data.name}", remedy)]
