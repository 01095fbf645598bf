"""run.json: what is known of a run, in its own folder. The truth; the store is an index over it.

A record is changed by making a new one and writing it whole; states move only along `launcher.runs.state`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from launcher.backend import Handle, State
from launcher.errors import IntegrityError
from launcher.files import storage, write_atomic
from launcher.runs.state import RunState, check

FILE = "run.json"
VERSION = 1
TRAINING, PROBE = "training", "probe"
"""Kinds of runs: what comes of a training is a model, of a probe what a machine computed in a minute."""
_ENCODE = json.JSONEncoder(default=dict).encode


@dataclass(frozen=True)
class AttemptRecord:
    """One submission. `handle` is None until the backend's answer is known; times are Unix seconds.

    `kept`: what did not come back whole, so that releasing the attempt would lose it; `released`: nothing of it is left
    on the machine, as the backend said; `cost`: what its machines cost, as `launcher.backend.Cost`, where they do.
    """

    id: str
    number: int
    backend: str
    journalled: float
    handle: Mapping[str, Any] | None = None
    state: State | None = None
    reason: str = ""
    exit_code: int | None = None
    ended: float | None = None
    resumed_epoch: int | None = None
    started: Mapping[str, Any] | None = None
    kept: str = ""
    released: bool = False
    cost: Mapping[str, Any] | None = None

    def as_handle(self) -> Handle | None:
        """The backend's handle, if it is known."""
        return None if self.handle is None else Handle(self.backend, self.id, self.handle)


@dataclass(frozen=True)
class RunRecord:
    """Everything about a run but its outputs. `key` tells runs of the same input on the same backend.

    `worker`: sha256 of the worker that was sent; `against`: the id, name or folder of the run that it is held against
    when it has ended; `parity`: the spec's section. `kind`: TRAINING or PROBE; `probe`: what is sent so that the
    machine is probed before a training (`launcher.parity.probing.plan_of`), None where it is not.
    """

    id: str
    name: str
    backend: str
    state: RunState
    key: str
    bundle: str
    created: float
    updated: float
    model: str = ""
    machine: str = ""
    data: Mapping[str, Any] | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    max_attempts: int = 1
    while_running: bool = True
    patience_s: float = 3600.0
    payload: str | None = None
    notes: str | None = None
    worker: str = ""
    against: str | None = None
    parity: Mapping[str, Any] = field(default_factory=dict)
    kind: str = TRAINING
    probe: Mapping[str, Any] | None = None
    reason: str = ""
    epoch: int | None = None
    epochs: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    findings: tuple[Mapping[str, str], ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()
    checked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def attempt(self) -> AttemptRecord | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def dollars(self) -> float:
        """What its attempts have cost so far, as far as that is known."""
        return sum(float(attempt.cost["dollars"]) for attempt in self.attempts if attempt.cost is not None)

    def move(self, state: RunState, now: float, **changes: Any) -> RunRecord:
        """The record in another state. Raises IllegalTransitionError."""
        check(self.state, state)
        return replace(self, state=state, updated=now, **changes)

    def with_attempt(self, **changes: Any) -> RunRecord:
        """The record with its newest attempt changed."""
        last = replace(self.attempts[-1], **changes)
        return replace(self, attempts=(*self.attempts[:-1], last))

    def as_json(self) -> dict[str, Any]:
        """Plain values. (`dataclasses.asdict` copies deeply, which took a tenth of a short run.)"""
        attempts = [_plain(attempt) for attempt in self.attempts]
        return {"version": VERSION, **_plain(self), "attempts": attempts}


def write(folder: Path, record: RunRecord, *, durable: bool = False) -> None:
    """Write run.json, whole or not at all. Raises StorageError."""
    with storage("writing the run's record"):
        # A line a field: readable, and still the work of json's C encoder, which knows no indentation.
        lines = [f'"{key}": {_ENCODE(value)}' for key, value in record.as_json().items()]
        write_atomic(folder / FILE, ("{\n" + ",\n".join(lines) + "\n}\n").encode(), durable=durable)


def read(folder: Path) -> RunRecord:
    """Read run.json. Raises IntegrityError for one that cannot be read; fields of a newer version are left out."""
    try:
        value = json.loads((folder / FILE).read_bytes())
        known = {field.name for field in fields(RunRecord)}
        values = {key: item for key, item in value.items() if key in known}
        attempts = tuple(_attempt(item) for item in value.get("attempts", ()))
        values.update(state=RunState(value["state"]), attempts=attempts, findings=tuple(value.get("findings", ())))
        return RunRecord(**values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{folder / FILE} cannot be read: {error}", remedy="restore it from a copy") from error


def _plain(value: RunRecord | AttemptRecord) -> dict[str, Any]:
    return dict(vars(value))


def _attempt(value: Mapping[str, Any]) -> AttemptRecord:
    known = {field.name for field in fields(AttemptRecord)}
    values = {key: item for key, item in value.items() if key in known}
    return AttemptRecord(**{**values, "state": State(values["state"]) if values.get("state") else None})
