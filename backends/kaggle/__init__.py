"""Kaggle as a backend: each attempt is one private script kernel that holds the worker, and whose output is the outbox.

What Kaggle has no call for stands in `lacks`. An attempt's kernel is named after its id, so that it can be found again
by whoever knows the id; the first line of its script says what it is, so that it can be found by whoever does not.
Nothing of Kaggle's client is imported before Kaggle is asked something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.kaggle.kernel import source
from backends.kaggle.kernel.source import Head
from backends.kaggle.threads import side_by_side
from launcher.backend import (
    Attached,
    Attempt,
    Backend,
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
from launcher.errors import Problem, RemoteError, SpecError
from launcher.finding import Finding
from launcher.settings import Settings
from launcher.variables import references

if TYPE_CHECKING:
    from backends.kaggle.account import Account
    from backends.kaggle.datasets import Wanted

ACCELERATORS = ("NvidiaTeslaT4",)
"""Machine shapes that every account can have; Kaggle's other GPUs are for some competitions (facts of Feb 2026)."""
MARGIN_S = 1200
"""What a session may last longer than its worker: starting the image, and the worker's own grace of two minutes."""
SESSION_S = 12 * 3600  # Kaggle's own limit for CPU and GPU sessions
NO_SECRETS = "Kaggle takes no secrets by its API, and what a kernel's script holds is stored there"


@dataclass(frozen=True)
class KaggleRequest(Request):
    """The kernel that will be pushed, and the datasets that will be made before, where they are not there yet."""

    owner: str
    slug: str
    text: str = field(repr=False)
    head: Head
    gpu: bool
    accelerator: str | None
    internet: bool
    timeout_s: int
    datasets: tuple[Wanted, ...] = field(repr=False)
    attached: tuple[str, ...] = ()
    """Datasets of the user's own, `owner/slug` or `owner/slug/N`."""
    competitions: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()

    def show(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **super().show(),
            "kernel": f"{self.owner}/{self.slug}",
            "private": True,
            "accelerator": self.accelerator,
            "internet": self.internet,
            "timeout_s": self.timeout_s,
            "script_bytes": len(self.text.encode()),
            "datasets": [f"{self.owner}/{wanted.slug}" for wanted in self.datasets] + list(self.attached),
            "competitions": list(self.competitions),
            "kernels": list(self.kernels),
        }


class KaggleBackend(Backend[KaggleRequest]):
    """See `launcher.backend.Backend`."""

    name = "kaggle"
    lacks: Mapping[Feature, str] = {
        Feature.CANCEL: "Kaggle has no call that stops a kernel: cancel deletes it, with all that it has made",
        Feature.LIVE_FILES: "Kaggle hands over a kernel's files when it has ended",
        Feature.SECRETS: NO_SECRETS,
    }
    attaches = frozenset({"kaggle-dataset", "kaggle-competition"})
    options: Mapping[str, Option] = {
        "accelerator": Option(
            str, "the GPU to ask for; default: NvidiaTeslaT4, two of which one is used", ACCELERATORS
        ),
        "internet": Option(bool, "whether the kernel has internet; default: true. Needs a verified phone number"),
        "wheels": Option(str, "owner/slug of a dataset with wheels to install from, where internet is false"),
    }

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signed_in: Account | None = None

    def check(self) -> list[Finding]:
        """Credentials, versions, quota, sessions that run."""
        from backends.kaggle import offering

        return offering.check(self._settings)

    def offer(self, need: Need) -> Offer:
        """A kernel with a GPU, or without where the spec asks for a CPU."""
        from backends.kaggle import offering

        return offering.offer(self._settings, need, self.options)

    def prepare(self, attempt: Attempt) -> KaggleRequest:
        """Name, script and sources. Looks up what the former attempt has left. Raises SpecError, CredentialError."""
        if secret := sorted(name for name, text in attempt.variables.items() if references(text)):
            remedy = "train without it there, or on another backend"
            raise SpecError(
                [Problem(NO_SECRETS, field=f"environment.variables.{name}", remedy=remedy) for name in secret]
            )
        account = self._account()
        hours = min(self._settings.kaggle_session_hours, attempt.need.max_hours or math.inf)
        gpu = attempt.need.device != "cpu"
        internet = bool(attempt.need.options.get("internet", True))
        wheels = attempt.need.options.get("wheels")
        inside, outside = source.inlined(attempt.inputs)
        former, outside = account.in_former(attempt, outside)
        carried = _carried(outside)
        data = _data(attempt)
        datasets = [*carried, *([data] if data is not None else [])]
        attached = attempt.data if isinstance(attempt.data, Attached) else None
        slug = source.slug_of(attempt.id)
        kaggle = {
            "mark": f"{slug}.json",
            "ultralytics": _pin(attempt),
            "internet": internet,
            "carried": [wanted.as_carried() for wanted in carried],
            "former": former,
            "former_mark": f"{source.slug_of(attempt.previous.attempt)}.json" if attempt.previous else "",
            "dataset": data.key if data is not None else None,
            "attached": {"kind": attached.kind, "name": attached.name} if attached else None,
        }
        described = {
            **attempt.describe,
            "device": "cuda" if gpu else "cpu",
            "max_hours": self._settings.kaggle_session_hours,
            "before": _before(gpu=gpu),
        }
        own = [f"{account.user}/{wanted.slug}" for wanted in datasets]
        given = [attached.name] if attached is not None and attached.kind == "kaggle-dataset" else []
        given += [wheels] if wheels else []
        kernels = [f"{account.user}/{source.slug_of(attempt.previous.attempt)}"] if former and attempt.previous else []
        competitions = [attached.name] if attached is not None and attached.kind == "kaggle-competition" else []
        temporary = tuple(wanted.slug for wanted in carried if wanted.temporary)
        head = Head(attempt.id, hours, tuple(sorted([*own, *given, *kernels, *competitions])), temporary)
        config = {"attempt": described, "kaggle": kaggle, "variables": dict(attempt.variables)}
        return KaggleRequest(
            attempt,
            account.user,
            slug,
            source.text_of(head, config, inside),
            head,
            gpu,
            str(attempt.need.options.get("accelerator", ACCELERATORS[0])) if gpu else None,
            internet,
            min(math.ceil(hours * 3600) + MARGIN_S, SESSION_S),
            tuple(datasets),
            tuple(given),
            tuple(competitions),
            tuple(kernels),
        )

    def stage(self, request: KaggleRequest, tell: Tell) -> None:
        """Make the datasets that are not there yet."""
        datasets = self._account().datasets
        for wanted in request.datasets:
            datasets.ensure(wanted, tell)

    def submit(self, request: KaggleRequest) -> Handle:
        """Push the kernel, once. What Kaggle took without a source, or under another name, is deleted again."""
        return self._account().push(request)

    def find(self, attempt: Attempt) -> Handle | None:
        """The kernel of this name, if its script says that it is this attempt's."""
        return self._account().find(attempt.id)

    def poll(self, handles: Sequence[Handle]) -> dict[str, Status]:
        """Kaggle has no call for many: asked side by side, and each not more often than a growing interval."""
        try:
            account = self._account()
        except RemoteError as error:
            return {handle.attempt: Status(State.UNKNOWN, error.message) for handle in handles}
        found = side_by_side(account.status, handles)
        return {handle.attempt: status for handle, status in zip(handles, found, strict=True)}

    def lines(self, handle: Handle, cursor: str, wait: float) -> Lines:
        """From the kernel's log; the cursor counts lines."""
        return self._account().lines(handle, int(cursor or 0), wait)

    def files(self, handle: Handle) -> list[RemoteFile] | None:
        """None while the kernel runs."""
        return self._account().files(handle)

    def fetch(self, handle: Handle, paths: Sequence[str], to: Path) -> None:
        """By signed addresses; none while the kernel runs."""
        self._account().fetch(handle, paths, to)

    def cancel(self, handle: Handle) -> Status:
        """Delete the kernel of work that is under way, and look up that it is gone."""
        return self._account().cancel(handle)

    def release(self, handle: Handle) -> list[str]:
        """Delete the kernel of work that has ended, and the datasets that were for it alone."""
        return self._account().release(handle)

    def owned(self) -> list[Handle]:
        """Every kernel of this account whose name and script say that it is ours."""
        return self._account().owned()

    def stored(self) -> list[Stored]:
        """Our datasets."""
        return self._account().datasets.mine()

    def discard(self, stored: Stored) -> list[str]:
        """Delete a dataset, and look up that it is gone."""
        return self._account().datasets.delete(stored)

    def _account(self) -> Account:
        """Signed in, once. Raises CredentialError, or RemoteError when Kaggle does not answer."""
        if self._signed_in is None:
            from backends.kaggle.account import Account

            self._signed_in = Account.sign_in(self._settings)
        return self._signed_in


def _before(*, gpu: bool) -> list[list[str]]:
    """The steps before the training: the device is proved before anything is installed or read."""
    steps = "{box}/in/" + source.STEPS
    prove = [["{python}", "{worker}", "prove", "{box}"]] if gpu else []
    prepare = ["{python}", "{worker}", "prepare", "{box}"]
    return [*prove, ["{python}", steps, "install", "{box}"], ["{python}", steps, "attach", "{box}"], prepare]


def _pin(attempt: Attempt) -> str:
    """The version of Ultralytics that the run was packed for; empty where it does not say."""
    import json

    job = next(file for file in attempt.inputs if file.path == "job.json")
    return str((json.loads(job.source.read_bytes()).get("pins") or {}).get("ultralytics", ""))


def _carried(outside: Sequence[InputFile]) -> list[Wanted]:
    """Datasets for the inputs that are too large for the script: one for a checkpoint, which is of use once."""
    from backends.kaggle.datasets import Wanted

    once = [file for file in outside if file.path.startswith(source.CHECKPOINT)]
    lasting = [file for file in outside if not file.path.startswith(source.CHECKPOINT)]
    sets = ((once, True), (lasting, False))
    return [Wanted.of_files(files, temporary=temporary) for files, temporary in sets if files]


def _data(attempt: Attempt) -> Wanted | None:
    """The dataset of the run's data; None where there is none to bring."""
    if not isinstance(attempt.data, DataSource):
        return None
    from backends.kaggle.datasets import Wanted

    listing = next(file for file in attempt.inputs if file.path == "data.json")
    return Wanted.of_data(attempt.data, listing.source)


__all__ = ["KaggleBackend", "KaggleRequest"]
