"""What Kaggle answers, as values of ours, and how each is read out of the SDK's objects.

An `error` text within an answer is raised, as `refusals` classes it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from backends.kaggle.client.credentials import Renewed, Secret
from backends.kaggle.client.refusals import refusal


class KernelState(enum.StrEnum):
    """Kaggle's states of a kernel's newest session. UNKNOWN: one that this client does not know."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"
    CANCELLING = "CANCEL_REQUESTED"
    CANCELLED = "CANCEL_ACKNOWLEDGED"
    NEW = "NEW_SCRIPT"
    """Saved, and never run."""
    UNKNOWN = "unknown"


class DatasetState(enum.StrEnum):
    """Kaggle's states of a dataset's newest version; all but READY, FAILED and DELETED are on the way."""

    NOT_YET_PERSISTED = "NOT_YET_PERSISTED"
    RECEIVED = "BLOBS_RECEIVED"
    DECOMPRESSED = "BLOBS_DECOMPRESSED"
    COPIED = "BLOBS_COPIED_TO_SDS"
    COMPRESSED = "INDIVIDUAL_BLOBS_COMPRESSED"
    READY = "READY"
    FAILED = "FAILED"
    DELETED = "DELETED"
    REPROCESSING = "REPROCESSING"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Push:
    """A private Python script to save and run. `title` must slugify to `slug`. `machine_shape` only with `gpu`.

    Sources: datasets as `owner/slug` or `owner/slug/N`, kernels as `owner/slug`, competitions as `slug`.
    """

    owner: str
    slug: str
    title: str
    text: str
    gpu: bool
    internet: bool
    timeout_s: int
    machine_shape: str | None = None
    datasets: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    competitions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pushed:
    """What Kaggle accepted. `invalid`: kind of source → those that it dropped, while the kernel runs without them."""

    ref: str
    url: str
    version: int | None
    id: int
    invalid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Kernel:
    """A saved kernel. `ref` is `owner/slug`; `source` is None in listings; `last_run` is taken for UTC."""

    ref: str
    id: int
    title: str
    version: int | None
    private: bool | None
    gpu: bool | None
    internet: bool | None
    machine_shape: str | None
    last_run: datetime | None
    datasets: tuple[str, ...]
    kernels: tuple[str, ...]
    competitions: tuple[str, ...]
    source: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Status:
    """State of a session and, where it failed, Kaggle's words."""

    state: KernelState
    message: str = ""


@dataclass(frozen=True)
class Outputs:
    """Files of a finished kernel: path → signed address, which ends after a while and is as good as a password."""

    urls: Mapping[str, str] = field(repr=False)
    log: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Quota:
    """This week's GPU time. `refresh`: when the week begins anew."""

    used: timedelta
    reserved: timedelta
    total: timedelta | None
    refresh: datetime | None


@dataclass(frozen=True)
class Dataset:
    """`version` is the newest one's number. `bytes` as Kaggle counts, after unpacking."""

    ref: str
    title: str
    version: int | None
    private: bool
    bytes: int | None


def slug_of(ref: str) -> str:
    """`owner/slug` of the forms that Kaggle gives: `/code/alice/x`, `datasets/Alice/x`, whole addresses."""
    return "/".join(ref.strip("/").split("?")[0].split("/")[-2:]).lower()


def label_of(version: int | None) -> str | None:
    """A version as these calls want it: a bare number is answered by 404 (kaggle-cli#1200)."""
    return f"v{version}" if version else None


def _aware(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def user_in(answer: Any) -> str | None:
    """The owner of a token that Kaggle calls active."""
    return (answer.username or None) if answer.active else None


def renewed_in(answer: Any) -> Renewed | None:
    """A new access token."""
    return Renewed(Secret(answer.token), timedelta(seconds=answer.expires_in)) if answer.token else None


def refused_in(name: str, doing: str) -> Callable[[Any], None]:
    """Read an answer that holds nothing but, perhaps, an error text."""

    def read(answer: Any) -> None:
        if text := getattr(answer, name):
            raise refusal(text, doing)

    return read


def pushed_in(name: str) -> Callable[[Any], Pushed]:
    """Read the answer to a push of `owner/slug`."""

    def read(answer: Any) -> Pushed:
        refused_in("error", f"pushing {name}")(answer)
        kinds = ("dataset", "kernel", "competition", "model")
        invalid = {kind: tuple(getattr(answer, f"invalid_{kind}_sources")) for kind in kinds}
        dropped = {kind: sources for kind, sources in invalid.items() if sources}
        version = answer.version_number or None
        return Pushed(slug_of(answer.ref or answer.url), answer.url, version, answer.kernel_id, dropped)

    return read


def created_in(name: str) -> Callable[[Any], str]:
    """Read the ref of a dataset that was made or got a version."""

    def read(answer: Any) -> str:
        refused_in("error", f"creating dataset {name}")(answer)
        if answer.status and answer.status.lower() != "ok":
            raise refusal(f"status {answer.status}", f"creating dataset {name}")
        return slug_of(answer.ref or answer.url or name)

    return read


def kernel_in(found: Any, source: str | None = None) -> Kernel:
    """A kernel of its metadata."""
    return Kernel(
        ref=slug_of(found.ref),
        id=found.id,
        title=found.title,
        version=found.current_version_number or None,
        private=found.is_private,
        gpu=found.enable_gpu,
        internet=found.enable_internet,
        machine_shape=found.machine_shape or None,
        last_run=_aware(found.last_run_time),
        datasets=tuple(found.dataset_data_sources),
        kernels=tuple(found.kernel_data_sources),
        competitions=tuple(found.competition_data_sources),
        source=source,
    )


def dataset_in(found: Any) -> Dataset:
    """A dataset of its metadata."""
    version, size = found.current_version_number or None, found.total_bytes or None
    return Dataset(slug_of(found.ref), found.title or "", version, found.is_private, size)


def quota_in(answer: Any) -> Quota | None:
    """The GPU part of the quota statistics."""
    gpu = answer.gpu_quota
    if gpu is None:
        return None
    none = timedelta()
    return Quota(
        gpu.time_used or none, gpu.time_reserved or none, gpu.total_time_allowed, _aware(answer.quota_refresh_time)
    )


def sizes_in(pairs: Callable[[Any], Iterable[tuple[str, int]]]) -> Callable[[Any], Iterable[tuple[str, int]]]:
    """Names and sizes, of which an answer with other types is no answer."""

    def read(answer: Any) -> list[tuple[str, int]]:
        return [(str(name), int(size)) for name, size in pairs(answer) if name]

    return read
