"""Where things lie in the bucket, below one prefix.

datasets/<key>/<shard>.tar        a dataset's shards; immutable
datasets/<key>/manifest.json      their sizes and checksums, written last: where it is, all of it is
objects/<sha256>                  inputs that any run may share
attempts/<run>/<number>-<attempt> an attempt that was opened and not yet released
runs/<run>/LATEST.json            the run's newest record, by compare-and-swap; attempt numbers fence it
runs/<run>/objects/<sha256>       the run's outputs: a checkpoint is here when the next attempt wants it
runs/<run>/attempts/<attempt>/
    stream/<offset>               pieces of stream.log by the offset of their first byte; immutable
    records/<number>              each manifest that was carried, with its files; immutable
    exit.json  finished.json      the worker's last word, and the carrier's; immutable
    alive.json  carrier.log       how the carrier is; overwritten
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DIGITS = 15  # of an offset in a name: names sort like the numbers
DATASETS, SHARED, MARKS = "datasets/", "objects/", "attempts/"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def plain(name: str) -> str:
    """A run or attempt id that is one part of an object's name. Raises ValueError for anything else."""
    if not _SAFE.fullmatch(name):
        raise ValueError(f"{name!r} cannot be part of an object's name")
    return name


def dataset(key: str) -> str:
    """The folder of a dataset's shards."""
    return f"{DATASETS}{plain(key)}/"


def dataset_manifest(key: str) -> str:
    """What is written when all shards are there."""
    return f"{dataset(key)}manifest.json"


def shared(sha256: str) -> str:
    """An input that any run may share."""
    return f"{SHARED}{sha256}"


@dataclass(frozen=True)
class RunNames:
    """Names of one run's objects."""

    run: str

    def __post_init__(self) -> None:
        plain(self.run)

    @property
    def folder(self) -> str:
        """All that is the run's own."""
        return f"runs/{self.run}/"

    @property
    def latest(self) -> str:
        """The pointer that is swapped."""
        return f"{self.folder}LATEST.json"

    @property
    def objects(self) -> str:
        """The folder of its outputs."""
        return f"{self.folder}objects/"

    def blob(self, sha256: str) -> str:
        """One output."""
        return f"{self.objects}{sha256}"

    @property
    def marks(self) -> str:
        """The folder of the marks of its attempts."""
        return f"{MARKS}{self.run}/"


@dataclass(frozen=True)
class AttemptNames:
    """Names of one attempt's objects."""

    run: str
    attempt: str

    def __post_init__(self) -> None:
        plain(self.attempt)

    @property
    def of_run(self) -> RunNames:
        """Those of its run."""
        return RunNames(self.run)

    @property
    def folder(self) -> str:
        """All that is the attempt's own."""
        return f"{self.of_run.folder}attempts/{self.attempt}/"

    def mark(self, number: int) -> str:
        """Says that the attempt is held."""
        return f"{self.of_run.marks}{number:06}-{self.attempt}"

    @property
    def stream(self) -> str:
        """The folder of the stream's pieces."""
        return f"{self.folder}stream/"

    def piece(self, offset: int) -> str:
        """The piece that begins at this byte."""
        return f"{self.stream}{offset:0{DIGITS}}"

    @property
    def records(self) -> str:
        """The folder of the manifests."""
        return f"{self.folder}records/"

    def record(self, number: int) -> str:
        """One of them; numbers begin with 1."""
        return f"{self.records}{number:06}"

    @property
    def exit(self) -> str:
        """The worker's last word."""
        return f"{self.folder}exit.json"

    @property
    def finished(self) -> str:
        """The carrier's."""
        return f"{self.folder}finished.json"

    @property
    def alive(self) -> str:
        """Overwritten every few seconds."""
        return f"{self.folder}alive.json"

    @property
    def log(self) -> str:
        """What went wrong on the way."""
        return f"{self.folder}carrier.log"
