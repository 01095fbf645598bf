"""The contract of a backend: everything `launch` asks of a kind of machine, and all that a new backend must write.

A backend knows its cloud and nothing of training: it carries a box of input files to a machine, starts the worker in
it, hands back the lines that the worker printed and the files that it made, and ends it. The suite in
`launcher.testing.conformance` checks each sentence below; README, "Writing a backend", walks through one.

1. Nothing here may block for ever: every call ends, in bounded time, in an answer or a `SamerunError`.
2. The key of the work is the attempt's id. Whatever number the service hands out is never ours (services reuse them).
3. `prepare` has no side effect and returns all that `stage` and `submit` use: what a dry run shows is what is sent.
4. `submit` twice with one attempt id is one job. After a lost reply `find` tells whether the first was accepted.
5. `poll` answers `UNKNOWN` for what it cannot tell. Unknown is no failure.
6. `lines` may repeat nothing before its cursor and skip nothing after it; a line still being written waits for its end.
7. `fetch` may bring part of what was asked for, or wrong bytes: the caller checks every digest.
8. `cancel` and `release` may be repeated, look up what they did, and say what is left over.

What every machine has in common a class gets by inheriting from `Backend`: no settings of its own, nothing to stage, no
price.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from launcher.finding import Finding


class State(enum.StrEnum):
    """What a backend can say of an attempt. Set by backends only; the run's own state is `launcher.runs.state`."""

    QUEUED = "queued"
    """Accepted; no machine works on it yet."""
    RUNNING = "running"
    """The worker is alive."""
    SUCCEEDED = "succeeded"
    """The worker ended by itself and says that it is done."""
    FAILED = "failed"
    """The worker ended by itself and says that the training failed. Going on would fail again."""
    EXPIRED = "expired"
    """The worker left because its time was up, or its machine told it to stop. It can go on from its checkpoint."""
    CANCELLED = "cancelled"
    """Ended because `cancel` asked for it."""
    LOST = "lost"
    """The machine or the worker is gone without a word (killed, preempted, rebooted). It can go on elsewhere."""
    UNKNOWN = "unknown"
    """The backend could not be asked, or said something new. Ask again."""

    @property
    def ended(self) -> bool:
        """True when no process of the attempt can be alive any more."""
        return self not in (State.QUEUED, State.RUNNING, State.UNKNOWN)


OUTCOMES: Mapping[str, State] = {
    "done": State.SUCCEEDED,
    "failed": State.FAILED,
    "expired": State.EXPIRED,
    "cancelled": State.CANCELLED,
}
"""The worker's own word for how it ended, `outcome` in state/exit.json, as a state."""


class Feature(enum.StrEnum):
    """What not every backend can do. One that cannot declares it in `lacks`, with the reason in words for a human."""

    CANCEL = "cancel"
    """Stop the work without deleting what it has made."""
    LIVE_LINES = "live-lines"
    """Hand over lines while the worker runs."""
    LIVE_FILES = "live-files"
    """List and fetch files while the worker runs."""
    SECRETS = "secrets"
    """Hand values of this machine's environment to the training without writing them down anywhere."""


@dataclass(frozen=True)
class Option:
    """A setting that a spec may have under `resources` for one backend alone."""

    kind: type[str] | type[bool] | type[int] | type[float]
    help: str
    """One line, with the default."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attached:
    """A dataset that lies where the machine is, or can be attached there, and never was on this one.

    `kind` is one of the backend's `attaches` (`launcher.spec.attached` has all that a spec may name); `name` is the
    service's own, with the version where there is one. There is no in/data.json then: the worker lists it.
    """

    kind: str
    name: str


@dataclass(frozen=True)
class Need:
    """What a spec asks of a machine. `options` are the backend's own settings of `resources`.

    `max_cost`: US dollars that this attempt may cost; what former attempts of the run have cost is taken off already.
    A backend whose machines cost money gives each of them an end of its own by which this holds.
    """

    device: str = "auto"
    max_hours: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    attached: Attached | None = None
    max_cost: float | None = None


@dataclass(frozen=True)
class Offer:
    """The machine a backend would use; None is not known.

    `max_hours`: longest attempt it allows; price in US dollars an hour; free memory and disk in bytes; `output_limit`:
    bytes that an attempt may leave; `installs`: packages of which it gets the version that is wanted; `versions`: what
    else is known to be installed there, None where the training runs in the very environment that plans it.
    `price_basis` says where the price is from, and of which day; `extra_hours` are paid beside the training in each
    attempt: the machine's start and its end.
    """

    machine: str
    device: str
    max_hours: float | None = None
    price_per_hour: float | None = None
    free_memory: int | None = None
    free_disk: int | None = None
    findings: tuple[Finding, ...] = ()
    output_limit: int | None = None
    installs: tuple[str, ...] = ()
    versions: Mapping[str, str] | None = None
    price_basis: str = ""
    extra_hours: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What an attempt's machines have cost up to now, in US dollars and machine hours, by which price list."""

    dollars: float
    hours: float
    basis: str


@dataclass(frozen=True)
class InputFile:
    """A file to carry into the box: `path` is relative to the box's `in/` folder, `source` lies on this machine."""

    path: str
    source: Path
    sha256: str
    size: int


@dataclass(frozen=True)
class DataSource:
    """The dataset to bring: a folder here whose files, named in the box's `in/data.json`, have this fingerprint."""

    root: Path
    fingerprint: str


@dataclass(frozen=True)
class Attempt:
    """One submission of a run to one backend: all that a backend is told.

    `inputs` are the bundle's files and, for a resumed run, the checkpoint. `describe` becomes the box's
    `in/attempt.json`, to which the backend adds what it alone knows:

        data_root     the folder where the dataset, or what is attached, lies on the machine; it may be read only
        python        the program that runs the training (default: the one that runs the worker)
        verify_data   False where the dataset has not travelled since it was hashed (default: each file is hashed)
        check_pins    True where the backend installs versions: others than the run's end it (default: a warning)
        max_hours     the longest session that the backend allows; the spec's own limit may be shorter
        before        commands to run one after the other before the training, each a list of words: what else the
                      machine needs. In a word {box} is the box, {python} the training's Python, {worker} worker.pyz;
                      `{python} {worker} prove {box}` computes something on the device asked for, and `{python}
                      {worker} prepare {box}`, which attached data needs, runs the spec's `prepare` script, if any.
                      Their output is in the stream; one that fails ends the attempt

    `variables` maps names to texts in which `${env:NAME}` stands for a value of this machine's environment. A backend
    puts the texts, filled in, into the worker's environment at the last moment, with the values that went into them as
    a JSON list in `SAMERUN_SECRETS`, which the worker strikes out of all that it writes. `previous` is the run's former
    attempt while this backend still holds it, for a backend that can take its files from there: it is released when
    this one has ended.
    """

    id: str
    run: str
    number: int
    need: Need
    inputs: tuple[InputFile, ...]
    data: DataSource | Attached | None
    describe: Mapping[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)
    previous: Handle | None = None


@dataclass(frozen=True)
class Request:
    """All that `submit` will send. Each backend has its own frozen subclass; `show` is what a dry run prints."""

    attempt: Attempt

    def show(self) -> dict[str, Any]:
        """Plain values, without secrets, sizes instead of contents."""
        files = [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in self.attempt.inputs]
        return {"attempt": self.attempt.id, "files": files, "variables": sorted(self.attempt.variables)}


@dataclass(frozen=True)
class Handle:
    """Enough to find submitted work again from another process. `data` holds JSON values of the backend's own."""

    backend: str
    attempt: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """What `poll` says. `reason` is for a human; `exit_code` is the worker's, where the backend knows it."""

    state: State
    reason: str = ""
    exit_code: int | None = None


@dataclass(frozen=True)
class Lines:
    """Whole lines of the worker, without their line ends, and the cursor after them."""

    lines: tuple[str, ...]
    cursor: str


@dataclass(frozen=True)
class RemoteFile:
    """A file in the worker's outbox; `path` is relative to it."""

    path: str
    size: int


@dataclass(frozen=True)
class Stored:
    """What a backend keeps for runs to come, so that it need not be sent again: a dataset, an environment.

    `key` finds it again; `what` is for a human; size in bytes and Unix time of its making where they are known.
    """

    key: str
    what: str
    size: int | None = None
    made: float | None = None


Tell = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is. May raise, to have it stopped."""

R = TypeVar("R", bound=Request)


class Backend(Protocol[R]):
    """See the module's docstring. Built once per command as `Backend(Settings)`; constructing has no side effect."""

    name: str
    lacks: Mapping[Feature, str]
    options: Mapping[str, Option] = {}
    """Settings of `resources` that this backend understands, beside those that all do."""
    attaches: frozenset[str] = frozenset()
    """Kinds of `Attached` data that it can attach."""

    def check(self) -> list[Finding]:
        """Credentials, versions, clock, quota, disk. No side effect; a missing credential is a finding."""
        ...

    def offer(self, need: Need) -> Offer:
        """The machine this need would get, without side effect. A need that cannot be met is an error finding."""
        ...

    def prepare(self, attempt: Attempt) -> R:
        """Decide everything, do nothing. Raises SpecError for an attempt that this backend cannot carry."""
        ...

    def stage(self, request: R, tell: Tell) -> None:
        """Bring what is large, the dataset above all, to where the machine will find it. Called before each `submit`.

        What is there already is not sent again, whoever sent it; what was sent in part is gone on with. The one call
        that may take hours: it calls `tell` every few seconds, and ends with an error when nothing moves any more.
        Raises what `submit` raises.
        """
        del request, tell

    def submit(self, request: R) -> Handle:
        """Send it. Raises CapacityError, QuotaError, CredentialError, or RemoteError when the outcome is not known."""
        ...

    def find(self, attempt: Attempt) -> Handle | None:
        """The handle of work already accepted under this attempt's id. Raises RemoteError when it cannot be told."""
        ...

    def poll(self, handles: Sequence[Handle]) -> dict[str, Status]:
        """One status for each handle, by attempt id. One call for many; never raises for one that is unknown."""
        ...

    def lines(self, handle: Handle, cursor: str, wait: float) -> Lines:
        """Lines after the cursor (`""` is the start). Returns at once when there are any, else within `wait` s."""
        ...

    def files(self, handle: Handle) -> list[RemoteFile] | None:
        """What lies in the outbox now; None when the backend cannot tell (yet)."""
        ...

    def fetch(self, handle: Handle, paths: Sequence[str], to: Path) -> None:
        """Write outbox files below `to`, by their paths. Missing ones are left out."""
        ...

    def cancel(self, handle: Handle) -> Status:
        """Stop the work, look up that it has stopped, return the state seen last."""
        ...

    def release(self, handle: Handle) -> list[str]:
        """Remove what the attempt holds on the machine; returns what is left over, in words. Called after sync."""
        ...

    def cost(self, handle: Handle) -> Cost | None:
        """What the attempt has cost so far; None where machines cost nothing, or nobody can tell (any more).

        Asked before `release`. Raises RemoteError when it cannot be told now.
        """
        del handle
        return None

    def owned(self) -> list[Handle]:
        """Every attempt of ours that this backend still holds, live or not: what `launch reap` looks through."""
        ...

    def stored(self) -> list[Stored]:
        """What it keeps for runs to come."""
        return []

    def discard(self, stored: Stored) -> list[str]:
        """Remove it; returns what is left over, in words. May be repeated."""
        del stored
        return []
