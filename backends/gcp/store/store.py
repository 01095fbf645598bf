"""One bucket as the store of runs: datasets and inputs go in, attempts are carried out of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.gcp.store import staging
from backends.gcp.store.carrier import names
from backends.gcp.store.carrier.objects import AbsentError, Objects, Seen
from backends.gcp.store.carrier.outputs import read_pointer
from backends.gcp.store.errors import asking
from backends.gcp.store.outbox import Outbox
from launcher.backend import InputFile, Stored, Tell
from launcher.bundle.shards import ShardSet
from launcher.errors import NotFoundError

DATA_ROOT = "{box}/work/source"
_INPUTS = "inputs"


@dataclass(frozen=True)
class Latest:
    """A run's LATEST.json. `holder`: the attempt that may write it, with its `number`; `attempt`, `record`: whose
    newest record it points to. Record 0: none was carried yet.
    """

    holder: str
    number: int
    attempt: str
    record: int


class Store:
    """One bucket, all below `prefix`. Constructing has no side effect; threads may share it.

    `seconds`: the longest silence of one request, and how long one call is tried again. Where STORAGE_EMULATOR_HOST is
    set it is asked, anonymously; else Google, with the application default credentials.
    """

    def __init__(
        self, bucket: str, *, project: str | None = None, prefix: str = "samerun", seconds: float = 60.0
    ) -> None:
        self.bucket, self._project, self._prefix, self._seconds = bucket, project, prefix, seconds
        self._objects = Objects(bucket, prefix, project=project, seconds=seconds)
        self._outboxes: dict[tuple[str, str, int], Outbox] = {}

    def check(self) -> None:
        """One request. Raises CredentialError, NotFoundError for a bucket that there is not, RemoteError."""
        with asking(self.bucket):
            try:
                self._objects.exists()
            except AbsentError as error:
                remedy = f"make it (`gcloud storage buckets create gs://{self.bucket}`), or set SAMERUN_GCP_BUCKET"
                raise NotFoundError(f"there is no bucket gs://{self.bucket}", remedy=remedy) from error

    def put_dataset(self, shards: ShardSet, tell: Tell) -> str:
        """Have the dataset there; the key that `config` wants. Again it takes two requests.

        Raises IntegrityError for a file that has changed, CredentialError, RemoteError, and what `tell` raises.
        """
        with asking(self.bucket):
            return staging.put_dataset(self._objects, shards, tell, self._seconds)

    def put_blobs(self, run: str, files: Sequence[InputFile], tell: Tell) -> list[dict[str, Any]]:
        """Have files of a box's in/ there; where each lies, for `config`. Raises like `put_dataset`."""
        with asking(self.bucket):
            return staging.put_blobs(self._objects, run, files, tell, self._seconds)

    def config(
        self,
        run: str,
        attempt: str,
        number: int,
        *,
        inputs: Sequence[Mapping[str, Any]] = (),
        dataset: str | None = None,
        data_root: str = DATA_ROOT,
        pace: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """What the carrier is told, as JSON values; no secret is in it. `pace`: fields of `carrier.carry.Pace`."""
        names.AttemptNames(run, attempt).folder  # noqa: B018  raises ValueError for a name that cannot be one
        where = {"bucket": self.bucket, "prefix": self._prefix, "project": self._project, "seconds": self._seconds}
        who = {"run": run, "attempt": attempt, "number": number}
        what = {"inputs": [dict(file) for file in inputs], "dataset": dataset, "data_root": data_root}
        return {**where, **who, **what, "pace": dict(pace or {})}

    def attempt(self, run: str, attempt: str, number: int) -> Outbox:
        """One attempt's side of the store. No request."""
        key = (run, attempt, number)
        return self._outboxes.setdefault(key, Outbox(self._objects, *key))

    def latest(self, run: str) -> Latest | None:
        """Where the run's newest record is; None where no attempt of it was opened."""
        with asking(self.bucket):
            found, generation = read_pointer(self._objects, names.RunNames(run))
        return Latest(**vars(found)) if generation else None

    def owned(self) -> list[Outbox]:
        """Every attempt that was opened and not released."""
        with asking(self.bucket):
            marks = [seen.name[len(names.MARKS) :].split("/") for seen in self._objects.list(names.MARKS)]
        found = [(mark[0], *mark[1].partition("-")[::2]) for mark in marks if len(mark) == 2]
        return [self.attempt(run, attempt, int(number)) for run, number, attempt in found if number.isdecimal()]

    def stored(self) -> list[Stored]:
        """Datasets, and the inputs that runs share as one."""
        with asking(self.bucket):
            by_key: dict[str, list[Seen]] = defaultdict(list)
            for seen in self._objects.list(names.DATASETS):
                by_key[seen.name.split("/")[1]].append(seen)
            inputs = list(self._objects.list(names.SHARED))
        found = [_stored(key, f"dataset {key[:12]} in gs://{self.bucket}", by_key[key]) for key in sorted(by_key)]
        return [*found, *([_stored(_INPUTS, f"inputs of runs in gs://{self.bucket}", inputs)] if inputs else [])]

    def discard(self, stored: Stored) -> list[str]:
        """Delete it and look; what is left over. A dataset's manifest goes first: what is there in part is not used."""
        with asking(self.bucket):
            folder = names.SHARED if stored.key == _INPUTS else names.dataset(stored.key)
            if stored.key != _INPUTS and (seen := self._objects.look(names.dataset_manifest(stored.key))):
                self._objects.delete(seen)
            self._objects.delete_all(folder)
            left = list(self._objects.list(folder))
        return [f"{stored.what}: {len(left)} objects are still there"] if left else []


def _stored(key: str, what: str, objects: Sequence[Seen]) -> Stored:
    made = [seen.made for seen in objects if seen.made is not None]
    return Stored(key, what, sum(seen.size for seen in objects), min(made, default=None))
