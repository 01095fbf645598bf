"""Google Cloud as a backend: a machine of Compute Engine for each attempt, Cloud Storage between it and everybody else.

The machine is named after the attempt and deletes itself at a time that is set when it is made. What the training
makes is carried to the bucket by the machine: launcher and laptop may sleep. Nothing of Google's clients is imported
before Google is asked something.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.gcp import planning
from backends.gcp.compute.instance import Candidate, Shape
from backends.gcp.compute.names import name_of
from backends.gcp.planning import OPTIONS, Wish
from launcher.backend import (
    Attempt,
    Backend,
    Cost,
    DataSource,
    Feature,
    Handle,
    InputFile,
    Lines,
    Need,
    Offer,
    Option,
    RemoteFile,
    Request,
    State,
    Status,
    Stored,
    Tell,
)
from launcher.errors import CredentialError, RemoteError, SamerunError
from launcher.finding import Finding
from launcher.settings import Settings
from launcher.variables import expand, references

if TYPE_CHECKING:
    from backends.gcp.account import Account
    from backends.gcp.hands import Reach, Work
    from backends.gcp.store import Store

LISTING = "data.json"
PROJECT = "run `gcloud auth application-default login`, and set SAMERUN_GCP_PROJECT and SAMERUN_GCP_BUCKET"


@dataclass(frozen=True)
class GcpRequest(Request):
    """The machine that will be made, the places to try in their order, and what the box will say."""

    bucket: str
    shape: Shape
    candidates: tuple[Candidate, ...]
    attempt_json: Mapping[str, Any] = field(repr=False)
    port: int
    python: str
    wheels: str

    def show(self) -> dict[str, Any]:
        """Plain values."""
        places = [
            {
                "zone": each.zone,
                "spot": each.spot,
                "price_per_hour": each.price,
                "max_run_duration_s": each.lasts_s,
                "max_hours": round(each.max_hours, 3),
            }
            for each in self.candidates
        ]
        machine = {"name": name_of(self.attempt.id), **self.shape.show(), "bucket": self.bucket}
        return {**super().show(), "machine": machine, "places": places, "attempt.json": dict(self.attempt_json)}

    def reach(self, key: Path) -> Reach:
        """How to get into its machine."""
        from backends.gcp.hands import Reach

        return Reach(key, self.shape.project, self.shape.os_login, self.shape.iap, self.port, self.python)

    def work(self, config: Mapping[str, Any], env: Mapping[str, str], max_hours: float) -> Work:
        """What is begun on the machine."""
        from backends.gcp.hands import Work

        return Work(self.attempt.id, config, {**self.attempt_json, "max_hours": max_hours}, env, self.wheels)

    def hours_of(self, lasts_s: object) -> float:
        """The training's share of a machine that lasts so long."""
        same = [each.max_hours for each in self.candidates if each.lasts_s == lasts_s]
        return min(same or [each.max_hours for each in self.candidates])


class GcpBackend(Backend[GcpRequest]):
    """See `launcher.backend.Backend`."""

    name = "gcp"
    lacks: Mapping[Feature, str] = {}
    options: Mapping[str, Option] = OPTIONS

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._accounts: dict[str, Account] = {}
        self._staged: dict[str, tuple[list[dict[str, Any]], str | None]] = {}
        self._lock = threading.Lock()

    def check(self) -> list[Finding]:
        """Credentials, project, bucket, the checksum's speed, the clock."""
        from backends.gcp import offering

        return offering.check(self._settings, self._account)

    def offer(self, need: Need) -> Offer:
        """The machine, the zones to try, its price, and the region's quota."""
        from backends.gcp import offering

        return offering.offer(need, self._settings, self._account)

    def prepare(self, attempt: Attempt) -> GcpRequest:
        """Machine, places and box. Asks nobody but for the credentials' project. Raises SpecError."""
        wished = planning.wish(attempt.need, self._settings, self._own_project(attempt.need))
        planning.refuse(wished)
        return GcpRequest(
            attempt,
            wished.bucket,
            wished.shape,
            wished.candidates,
            {**attempt.describe, **_described(attempt, wished)},
            wished.port,
            wished.python,
            wished.wheels,
        )

    def stage(self, request: GcpRequest, tell: Tell) -> None:
        """Dataset and inputs to the bucket. A refusal leaves no machine of an earlier try."""
        _values(request.attempt)
        try:
            self._account(request.shape.project).store(request.bucket).check()
            self._inputs(request, tell)
        except RemoteError:
            raise
        except SamerunError:
            self._account(request.shape.project).starter.leave_nothing(request.attempt, request.bucket)
            raise

    def submit(self, request: GcpRequest) -> Handle:
        """A machine, the box on it, carrier and worker started: from then on nobody here needs to be awake."""
        values = _values(request.attempt)
        inputs, dataset = self._inputs(request, lambda what, done, of: None)
        account = self._account(request.shape.project)
        attempt = request.attempt
        config = account.store(request.bucket).config(
            attempt.run, attempt.id, attempt.number, inputs=inputs, dataset=dataset, pace=_pace(self._settings)
        )
        return account.starter.submit(request, values, config)

    def find(self, attempt: Attempt) -> Handle | None:
        """Work whose worker was started, or whose carrier has written already."""
        wished = planning.wish(attempt.need, self._settings, self._own_project(attempt.need))
        return self._account(wished.shape.project).starter.find(attempt, wished.bucket)

    def poll(self, handles: Sequence[Handle]) -> dict[str, Status]:
        """One list of machines for each project, and each attempt's last word in the bucket."""
        found: dict[str, Status] = {}
        for project in {_project(handle) for handle in handles}:
            mine = [handle for handle in handles if _project(handle) == project]
            try:
                found.update(self._account(project).poll(mine))
            except (RemoteError, CredentialError) as error:
                found.update({handle.attempt: Status(State.UNKNOWN, error.message) for handle in mine})
        return found

    def lines(self, handle: Handle, cursor: str, wait: float) -> Lines:
        """From the machine, else from the bucket."""
        return self._of(handle).lines(handle, cursor, wait)

    def files(self, handle: Handle) -> list[RemoteFile] | None:
        """What was carried to the bucket."""
        return self._of(handle).files(handle)

    def fetch(self, handle: Handle, paths: Sequence[str], to: Path) -> None:
        """From the bucket."""
        self._of(handle).fetch(handle, paths, to)

    def cancel(self, handle: Handle) -> Status:
        """End the worker, wait for what it leaves, delete the machine and look."""
        return self._of(handle).cancel(handle)

    def release(self, handle: Handle) -> list[str]:
        """Delete machine, disk and outbox, and look."""
        return self._of(handle).release(handle)

    def cost(self, handle: Handle) -> Cost | None:
        """The machine's hours by the price table."""
        return self._of(handle).cost(handle)

    def owned(self) -> list[Handle]:
        """Machines and disks with our labels, attempts in the bucket, and those of this computer's journals."""
        project = self._settings.gcp_project or self._own_project(Need())
        journalled = self._journalled("project") - {""}
        projects = {project, *journalled} - {""}
        if not projects:
            raise CredentialError("no project and no credentials of Google Cloud were found", remedy=PROJECT)
        found: dict[str, Handle] = {}
        for each in sorted(projects):
            buckets = {self._settings.gcp_bucket or "", *self._journalled("bucket")}
            try:
                found.update({handle.attempt: handle for handle in self._account(each).owned(buckets)})
            except CredentialError as error:
                if each not in journalled:
                    raise
                message = f"{error.message}; attempts of this computer may have machines in {each}"
                raise RemoteError(message, remedy=error.remedy) from error
        return list(found.values())

    def stored(self) -> list[Stored]:
        """Datasets and inputs in the bucket."""
        store = self._own_store()
        return store.stored() if store is not None else []

    def discard(self, stored: Stored) -> list[str]:
        """Delete it, and look that it is gone."""
        store = self._own_store()
        return store.discard(stored) if store is not None else [f"{stored.key}: set SAMERUN_GCP_BUCKET"]

    # Below the contract.

    def _inputs(self, request: GcpRequest, tell: Tell) -> tuple[list[dict[str, Any]], str | None]:
        """Where the inputs lie in the bucket, and the dataset's key there; sent where they are not there yet."""
        from backends.gcp.store import data_shards

        attempt = request.attempt
        if attempt.id not in self._staged:
            store, dataset = self._account(request.shape.project).store(request.bucket), None
            if isinstance(attempt.data, DataSource):
                dataset = store.put_dataset(data_shards(attempt.data, _listing(attempt.inputs).source), tell)
            self._staged[attempt.id] = store.put_blobs(attempt.run, attempt.inputs, tell), dataset
        return self._staged[attempt.id]

    def _of(self, handle: Handle) -> Account:
        return self._account(_project(handle))

    def _account(self, project: str) -> Account:
        from backends.gcp.account import Account

        with self._lock:
            return self._accounts.setdefault(project, Account(self._settings, project))

    def _own_store(self) -> Store | None:
        bucket = self._settings.gcp_bucket
        return self._account(self._settings.gcp_project or "").store(bucket) if bucket else None

    def _own_project(self, need: Need) -> str:
        """That of the credentials, where none is named."""
        if need.options.get("project") or self._settings.gcp_project:
            return ""
        from backends.gcp.offering import own_project

        return own_project()

    def _journalled(self, what: str) -> set[str]:
        from backends.gcp.compute.journal import Journal

        folders = (self._settings.runs_dir / ".gcp").glob("*/machine.json")
        return {str(Journal(self._settings.runs_dir, each.parent.name).read().get(what) or "") for each in folders}


def _described(attempt: Attempt, wished: Wish) -> dict[str, Any]:
    """What attempt.json says beside what every backend's does; {carrier} and such are filled in on the machine."""
    import json

    from backends.ssh.host.environment import Environment

    described: dict[str, Any] = {"device": wished.device, "verify_data": False}
    if wished.python:
        described.update(python=wished.python, before=[])
    else:
        job = next(file for file in attempt.inputs if file.path == "job.json")
        pins = json.loads(job.source.read_bytes()).get("pins") or {}
        described.update(Environment.of(pins, wheels=wished.wheels).describe())
    prove = [["{python}", "{worker}", "prove", "{box}"]] if wished.device != "cpu" else []
    data = [["{carrier_python}", "{carrier}", "data", "{box}"]] if isinstance(attempt.data, DataSource) else []
    return {**described, "before": [*described["before"], *prove, *data]}


def _values(attempt: Attempt) -> dict[str, str]:
    """The worker's environment, filled in. Raises SpecError for a variable that is not set here."""
    import json

    values = {name: expand(text, os.environ) for name, text in attempt.variables.items()}
    named = {name for text in attempt.variables.values() for name in references(text)}
    return {**values, "SAMERUN_SECRETS": json.dumps([os.environ[name] for name in sorted(named)])}


def _listing(inputs: Sequence[InputFile]) -> InputFile:
    return next(file for file in inputs if file.path == LISTING)


def _project(handle: Handle) -> str:
    return str(handle.data.get("project") or "")


def _pace(settings: Settings) -> dict[str, float]:
    """The carrier's, quicker where everything is: an emulator's poll interval is."""
    pace = min(1.0, settings.gce_poll_seconds / 10)
    usual = {"look": 0.5, "first": 1.0, "most": 15.0, "alive": 15.0}
    return {name: max(0.05, seconds * pace) for name, seconds in usual.items()} if pace < 1 else {}


__all__ = ["GcpBackend", "GcpRequest"]
