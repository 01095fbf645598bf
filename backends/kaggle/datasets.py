"""Private datasets of ours on Kaggle, named by their contents: sent once, pinned by version, used by every run.

Promises: a version is used only when it is READY and its listing has every shard, packed or unpacked, with its size;
what is there is not sent again, and finding that out takes two calls once it was looked at; an upload that was cut, or
whose launcher was killed, goes on where it stopped (`uploads`); a dataset is created when all its files are there, and
after a lost reply it is looked up and not created again; two launches at once send it once.

Kaggle unpacks archives, to a folder of their name or in place, and may leave them as they are: all are right. Files
that a version has beside ours do no harm: readers take contents by digest.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Literal

from backends.kaggle.client import blobs
from backends.kaggle.client.answers import DatasetState
from backends.kaggle.client.refusals import NotThereError, UnansweredError
from backends.kaggle.client.service import Service
from backends.kaggle.uploads import Journal, Sender
from launcher.backend import DataSource, InputFile, Stored, Tell
from launcher.bundle.shards import PREFIX, ShardSet, lay_out
from launcher.errors import DataError, IntegrityError, Problem, RemoteError, SamerunError
from launcher.files import storage, try_lock

KINDS = {"data": "Dataset of a training run, as samerun packed it", "files": "Files of a training run (samerun)"}
"""Kind of dataset → its subtitle, for which Kaggle wants 20 to 80 characters."""
ROUNDS = 2  # versions made in one call before a wrong listing is an error: each costs a whole upload
FRESH_S = 24 * 3600  # blobs that are older may be the reason of a refusal (an assumption: Kaggle does not say)
SLICE_S = 2.0  # longest silence towards `tell` while waiting
_REAP = "`launch reap --data --yes` deletes all of samerun's that no run uses"
_OURS = re.compile(rf"{PREFIX}({'|'.join(KINDS)})-[0-9a-f]{{20}}")


@dataclass(frozen=True)
class Waits:
    """Seconds, all assumptions. `ready`: until a version must be READY; `poll`: pauses between looks, the last again
    and again; `seen`: pauses until what was accepted must show; `settled`: until a listing must be whole.
    """

    ready: float = 7200.0
    poll: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
    seen: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0)
    settled: tuple[float, ...] = (2.0, 5.0)


@dataclass(frozen=True)
class Wanted:
    """What must be at Kaggle: a run's dataset (`data`), or `files` of its input that are too large for a script.

    `temporary`: it is for one attempt alone, and is removed with it.
    """

    kind: Literal["data", "files"]
    shards: ShardSet
    files: tuple[InputFile, ...] = ()
    temporary: bool = False

    @classmethod
    def of_data(cls, source: DataSource, listing: Path) -> Wanted | None:
        """The dataset whose files stand in `listing`, the box's in/data.json; None for one without files."""
        files = json.loads(listing.read_bytes())["files"]
        blobs = {file["sha256"]: (source.root / file["path"], file["size"]) for file in files}
        return cls("data", lay_out(blobs)) if blobs else None

    @classmethod
    def of_files(cls, files: Sequence[InputFile], *, temporary: bool = False) -> Wanted:
        """These files of the box's in/."""
        return cls("files", lay_out({file.sha256: (file.source, file.size) for file in files}), tuple(files), temporary)

    def as_carried(self) -> dict[str, Any]:
        """Where the files belong, for `unshard` on the machine."""
        files = [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in self.files]
        return {"key": self.key, "files": files}

    @property
    def key(self) -> str:
        """By which the shards are found where they are mounted."""
        return self.shards.key

    @property
    def slug(self) -> str:
        """33 or 34 characters. Also the title: it slugifies to itself."""
        return f"{PREFIX}{self.kind}-{self.key[:20]}"


@dataclass(frozen=True)
class Pinned:
    """A version that was looked at: as text, the name by which a kernel attaches it."""

    owner: str
    slug: str
    version: int

    def __str__(self) -> str:
        return f"{self.owner}/{self.slug}/{self.version}"


def wrong_with(shards: ShardSet, listing: Mapping[str, int], *, sizes: bool = True) -> str:
    """What a listing (name → bytes) lacks of the shards, in words; nothing where it is whole.

    A content is known by the last part of its name, 62 digits of its digest, in whatever folder it is listed, or in
    none. 0 is the number that the API leaves out: a size that is not said.
    """
    last = {name.rpartition("/")[2]: size for name, size in listing.items()}

    def lacks(name: str, size: int) -> bool:
        return name not in last or (sizes and last[name] not in (size, 0))

    wrong = [shards.index_name] if lacks(shards.index_name, len(shards.index)) else []
    for shard in shards.shards:
        if lacks(shard.name, shard.size):
            members = (member for member in shard.members if lacks(member.name.rpartition("/")[2], member.size))
            wrong += [f"{shard.stem}/{member.name}" for member in members]
    if not wrong:
        return ""
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return f"missing, or of another size: {', '.join(wrong[:3])}{more}"


@dataclass(frozen=True)
class Datasets:
    """The datasets of one account. `cache_dir` is samerun's own: the journals are in `kaggle/uploads` below it."""

    service: Service
    cache_dir: Path
    waits: Waits = field(default_factory=Waits)
    patience: blobs.Patience = field(default_factory=blobs.Patience)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def find(self, wanted: Wanted) -> Pinned | None:
        """The version to use, where there is one. No side effect. Raises what calls raise."""
        name = (self.service.user, wanted.slug)
        try:
            if self.service.dataset_status(*name) is not DatasetState.READY:
                return None
            version = self.service.dataset(*name).version
            known = version is not None and version == self.journal(wanted).verified
            if version is None or (not known and wrong_with(wanted.shards, self.listing(wanted, version))):
                return None
        except NotThereError:
            return None
        return Pinned(*name, version)

    def pinned(self, wanted: Wanted) -> str:
        """`find`, as a kernel attaches it. Raises RemoteError when it is not there (any more)."""
        if (found := self.find(wanted)) is None:
            message = f"the dataset {self.service.user}/{wanted.slug} is not at Kaggle (any more)"
            raise RemoteError(message, remedy="launch again: it is sent anew")
        return str(found)

    def ensure(self, wanted: Wanted, tell: Tell) -> Pinned:
        """Have it there and ready, sending what is missing. May take hours; what `tell` raises stops it.

        Raises DataError when Kaggle cannot process it, IntegrityError when a file changed or Kaggle loses files,
        RemoteError when it does not become ready, StorageError, and what calls raise. May be called again after each.
        """
        with storage("writing down what was sent", self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o700)  # also where it was there: journals hold addresses that are as good as passwords
        sent, since = -1, self.clock()
        while True:
            with contextlib.ExitStack() as held:
                with storage("locking what is sent", self._folder):
                    free = held.enter_context(try_lock(self._folder / f"{wanted.slug}.lock"))
                if free:
                    return _Making(self, wanted, tell).run()
            now_sent = self.journal(wanted).sent
            if now_sent != sent:
                sent, since = now_sent, self.clock()
            if self.clock() - since > 2 * self.waits.ready:  # the other one gives up before
                message = f"another launch here has been sending {wanted.slug} for hours, and does not get on"
                raise RemoteError(message, remedy="end that launch, or wait for it, then launch again")
            tell("waiting for another launch that sends the same", sent, wanted.shards.size)
            self.sleep(SLICE_S)

    def mine(self) -> list[Stored]:
        """All datasets of this account that were made here or by another samerun."""
        found = [each for each in self.service.datasets() if self._is_ours(each.ref)]
        return [Stored(each.ref, f"Kaggle dataset {each.ref}", each.bytes) for each in found]

    def delete(self, stored: Stored) -> list[str]:
        """Delete one of `mine` and look up that it is gone; what is left over, in words. May be repeated."""
        if not self._is_ours(stored.key):
            return [f"{stored.key} is no dataset of samerun's: it is left alone"]
        owner, slug = stored.key.split("/")
        with contextlib.suppress(NotThereError, UnansweredError):  # the look-up decides
            self.service.delete_dataset(owner, slug)
        for pause in (*self.waits.seen, None):
            try:
                if self.service.dataset_status(owner, slug) is DatasetState.DELETED:
                    break
            except NotThereError:
                break
            if pause is None:
                return [f"Kaggle still has the dataset {stored.key}: delete it at {_page(stored.key)}"]
            self.sleep(pause)
        (self._folder / f"{slug}.json").unlink(missing_ok=True)
        return []

    def remove(self, slug: str) -> list[str]:
        """`delete`, by name."""
        return self.delete(Stored(f"{self.service.user}/{slug}", slug))

    def journal(self, wanted: Wanted) -> Journal:
        """What is known here of the dataset."""
        account = f"{self.service.user} {self.service.wire!r}"  # an emulator's uploads are not Kaggle's
        return Journal.load(self._folder / f"{wanted.slug}.json", account, wanted.key)

    def listing(self, wanted: Wanted, version: int) -> Mapping[str, int]:
        """Name → bytes of all files of a version."""
        return self.service.dataset_files(self.service.user, wanted.slug, version)

    @property
    def _folder(self) -> Path:
        return self.cache_dir / "kaggle" / "uploads"

    def _is_ours(self, ref: str) -> bool:
        owner, _, slug = ref.partition("/")
        return owner == self.service.user and _OURS.fullmatch(slug) is not None


class _Making:
    """One call of `ensure`, which holds the dataset's lock."""

    def __init__(self, datasets: Datasets, wanted: Wanted, tell: Tell) -> None:
        self._datasets, self._wanted, self._tell = datasets, wanted, tell
        self._service, self._waits = datasets.service, datasets.waits
        self._ref = f"{self._service.user}/{wanted.slug}"
        self._journal = datasets.journal(wanted)

    def run(self) -> Pinned:
        """See `Datasets.ensure`."""
        self._tell("looking for the files at Kaggle", 0, 0)  # a listing of 50,000 takes a minute
        if (found := self._datasets.find(self._wanted)) is not None:
            return self._use(found.version)
        wrong = ""
        for left in range(ROUNDS, -1, -1):
            version = self._newest()
            if version:
                wrong = self._wrong_with(version)
                if not wrong:
                    return self._use(version)
            if left:
                self._make(version)
        if version and not self._wrong_with(version, sizes=False):
            return self._use(version)  # all is there, and Kaggle counts otherwise: the worker looks at every digest
        remedy = f"delete {_page(self._ref)} ({_REAP}), and the next launch sends it anew"
        raise IntegrityError(f"dataset {self._ref}: Kaggle made {ROUNDS} versions, and each is {wrong}", remedy=remedy)

    def _use(self, version: int) -> Pinned:
        journal = self._journal
        if journal.verified != version or journal.uploads or journal.base is not None:
            journal.forget(verified=version)
        return Pinned(self._service.user, self._wanted.slug, version)

    def _newest(self) -> int:
        """The newest version, when it is ready; 0 where there is none. What an earlier call asked for is waited for."""
        base = self._journal.base
        if base is None:
            return 0 if self._state() in (None, DatasetState.DELETED) else self._ready(0)
        if not self._is_accepted(base, self._waits.seen):
            return base
        version = self._ready(base)
        self._journal.forget()
        return version

    def _state(self) -> DatasetState | None:
        """The newest version's; None where there is no dataset."""
        try:
            return self._service.dataset_status(*self._ref.split("/"))
        except NotThereError:
            return None

    def _number(self) -> int:
        try:
            return self._service.dataset(*self._ref.split("/")).version or 0
        except NotThereError:
            return 0

    def _is_accepted(self, base: int, pauses: Sequence[float]) -> bool:
        """Whether the version that was asked for over `base` shows, be it unfinished."""
        for pause in (*pauses, None):
            state = self._state()
            if not base and state not in (None, DatasetState.DELETED):
                return True
            known = state not in (None, DatasetState.READY, DatasetState.UNKNOWN, DatasetState.DELETED)
            if known or (state is not None and self._number() > base):
                return True
            if pause is not None:
                self._pause(pause)
        return False

    def _ready(self, base: int) -> int:
        """Wait until a version after `base` is READY; its number."""
        until = self._datasets.clock() + self._waits.ready
        state: DatasetState | None = None
        for pause in chain(self._waits.poll, repeat(self._waits.poll[-1])):
            with contextlib.suppress(UnansweredError):
                state = self._state()
                if state is DatasetState.READY and (version := self._number()) > base:
                    return version
            if state in (DatasetState.FAILED, DatasetState.DELETED):
                self._journal.forget()
                remedy = f"see {_page(self._ref)} for the reason, and delete it there ({_REAP}); then launch again"
                problem = f"dataset {self._ref}: Kaggle could not process it, it is {state}"
                raise DataError([Problem(problem, remedy=remedy)])
            if self._datasets.clock() > until:
                break
            self._pause(pause)
        message = f"dataset {self._ref} is {state or 'not to be seen'} after {self._waits.ready / 60:.0f} minutes"
        raise RemoteError(message, remedy="launch or attach later: what was sent need not be sent again")

    def _wrong_with(self, version: int, *, sizes: bool = True) -> str:
        """What the version lacks. A listing may be whole only some time after READY."""
        wrong = ""
        for pause in (*self._waits.settled, None):
            try:
                listing = self._datasets.listing(self._wanted, version)
                wrong = wrong_with(self._wanted.shards, listing, sizes=sizes)
            except NotThereError as error:
                wrong = error.message
            if not wrong or pause is None:
                break
            self._pause(pause)
        return wrong

    def _make(self, base: int) -> None:
        """Send what is missing and ask for a version over `base`, or for the dataset where that is 0."""
        datasets = self._datasets
        sender = Sender(self._service.wire, self._journal, self._tell, datasets.patience, datasets.sleep)
        tokens = sender.send(self._wanted.shards)
        self._journal.base = base
        self._journal.save()
        for pause in (*self._waits.poll, None):
            try:
                return self._ask_for(base, tokens)
            except UnansweredError as error:
                if error.maybe_done and self._is_accepted(base, self._waits.seen):
                    return None
                if error.maybe_done or pause is None:
                    raise
                self._pause(max(pause, error.retry_after or 0.0))
            except NotThereError as error:
                # 403 while a version is processed, whoever made it (kagglehub#181).
                if pause is None:
                    raise RemoteError(error.message, remedy="launch again later") from None
                self._pause(pause)
            except SamerunError:
                # Whatever the words, such as "already in use": a version that is there now is looked at.
                if self._is_accepted(base, ()):
                    return None
                self._refused()
                raise
        return None

    def _refused(self) -> None:
        """Nothing was made. Blobs that are not fresh may be the reason: they are sent anew by the next call."""
        self._journal.base = None
        if any(time.time() - upload.begun > FRESH_S for upload in self._journal.uploads.values()):
            self._journal.uploads.clear()
        self._journal.save()

    def _ask_for(self, base: int, tokens: list[str]) -> None:
        slug, subtitle = self._wanted.slug, KINDS[self._wanted.kind]
        if base:
            made = self._service.create_version(slug, f"contents {self._wanted.key}", tokens)
        else:
            made = self._service.create_dataset(slug, slug, tokens, subtitle=subtitle)
        if made != self._ref:
            raise RemoteError(f"Kaggle made the dataset {made} instead of {self._ref}", remedy=f"delete {_page(made)}")

    def _pause(self, seconds: float) -> None:
        """Wait in slices, each with a word to the caller, who may have it stopped."""
        while seconds > 0:
            self._tell("waiting until Kaggle has the files ready", 0, 0)
            self._datasets.sleep(min(seconds, SLICE_S))
            seconds -= SLICE_S


def _page(ref: str) -> str:
    return f"kaggle.com/datasets/{ref}"
