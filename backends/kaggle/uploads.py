"""Shards on their way to Kaggle: what was begun is written down, so that another launch goes on where it stopped.

Promises: a byte that the server has is not sent again, whoever sent it, unless the upload's address has ended or the
file has changed; a caller that raises when it is told how far it is stops at once, and loses nothing; a file that is
not what it was when it was hashed is never a whole upload.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from backends.kaggle.client import blobs
from backends.kaggle.client.blobs import Blob, EndedError
from backends.kaggle.client.refusals import RefusedError, UnansweredError
from backends.kaggle.client.wire import Wire
from launcher.backend import Tell
from launcher.bundle.shards import ShardSet
from launcher.errors import IntegrityError, RemoteError
from launcher.files import storage, write_atomic

KEPT_S = 6 * 24 * 3600  # a resumable upload ends after a week; kaggle 2.2.4 goes on with those of six days, as we do
SAVE_S = 5.0  # how often the bytes sent are written down: only those who wait for another launch read them
TELL_S = 0.5
STARTS = 3  # times that an upload is begun anew in one launch
SENDING = "sending files to Kaggle"


class _StoppedError(Exception):
    """Carries what `tell` raised past the HTTP library, which takes an OSError for one of the connection's."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Body(Protocol):
    def read(self, n: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


@dataclass
class Upload:
    """A blob that was begun at a Unix time; `sent` bytes were on their way when that was last written down."""

    blob: Blob
    begun: float
    sent: int = 0
    done: bool = False


@dataclass
class Journal:
    """What is known of one dataset, in a file that only this user reads: the addresses in it are secrets.

    `account` and `key` say of whom and of what; with others the file counts for nothing. `base`: a version was asked
    for when this number was the newest, 0 when there was no dataset, None when none was asked for since the blobs
    were sent. `verified`: the version whose listing was right.
    """

    path: Path
    account: str
    key: str
    uploads: dict[str, Upload] = field(default_factory=dict)
    base: int | None = None
    verified: int | None = None

    @classmethod
    def load(cls, path: Path, account: str, key: str) -> Journal:
        """The journal, empty where there is none that can be read. Uploads that have ended by age are left out."""
        journal = cls(path, account, key)
        try:
            value = json.loads(path.read_bytes())
            if (value["account"], value["key"]) != (account, key):
                return journal
            for name, one in value["uploads"].items():
                upload = Upload(Blob.from_json(one["blob"]), float(one["begun"]), int(one["sent"]), bool(one["done"]))
                if time.time() - upload.begun < KEPT_S:
                    journal.uploads[name] = upload
            journal.base, journal.verified = _number(value["base"]), _number(value["verified"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path, account, key)
        return journal

    def save(self) -> None:
        """Raises StorageError."""
        uploads = {
            name: {"blob": one.blob.as_json(), "begun": one.begun, "sent": one.sent, "done": one.done}
            for name, one in self.uploads.items()
        }
        head = {"account": self.account, "key": self.key, "base": self.base, "verified": self.verified}
        with storage("writing down what was sent", self.path):
            write_atomic(self.path, json.dumps({**head, "uploads": uploads}, indent=1).encode(), durable=True)

    def forget(self, verified: int | None = None) -> None:
        """The uploads have become a version, right or wrong: nothing of them can be used again."""
        self.uploads, self.base, self.verified = {}, None, verified
        self.save()

    @property
    def sent(self) -> int:
        """Bytes sent when it was last written down."""
        return sum(one.blob.size if one.done else one.sent for one in self.uploads.values())


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


@dataclass(frozen=True)
class _Part:
    """One file of the version to be."""

    name: str
    size: int
    open: Callable[[int], _Body]


def _parts(shards: ShardSet) -> Iterator[_Part]:
    for shard in shards.shards:
        yield _Part(shard.name, shard.size, shard.open)
    yield _Part(shards.index_name, len(shards.index), lambda offset: io.BytesIO(shards.index[offset:]))


@dataclass(frozen=True)
class Sender:
    """Sends the shards of one journal, one after the other."""

    signed: Wire
    journal: Journal
    tell: Tell
    patience: blobs.Patience
    sleep: Callable[[float], None]

    def send(self, shards: ShardSet) -> list[str]:
        """Bring all shards and their index to Kaggle, from where it stopped; returns the tokens.

        Raises IntegrityError for a changed file, what `tell` raises, and what calls raise.
        """
        parts = list(_parts(shards))
        of = sum(part.size for part in parts)
        before = 0
        for part in parts:
            self._part(part, before, of)
            before += part.size
        return [self.journal.uploads[part.name].blob.token for part in parts]

    def _part(self, part: _Part, before: int, of: int) -> None:
        uploads = self.journal.uploads
        for _ in range(STARTS):
            upload = uploads.get(part.name)
            fresh = upload is None or upload.blob.size != part.size
            if upload is None or fresh:
                upload = uploads[part.name] = Upload(self._start(part), time.time())
                self.journal.save()
            try:
                if not upload.done:
                    self._upload(part, upload, fresh, before, of)
                return
            except (EndedError, RefusedError, IntegrityError) as error:
                del uploads[part.name]
                self.journal.save()
                if isinstance(error, IntegrityError):
                    raise
                reason = error
        raise RemoteError(f"Kaggle does not take {part.name}: {reason.message}", remedy="try again later")

    def _upload(self, part: _Part, upload: Upload, fresh: bool, before: int, of: int) -> None:
        source = _Source(part.open)
        report = self._reporter(upload, before, of)
        try:
            report(upload.sent)
            blobs.upload(upload.blob, source, report, fresh=fresh, patience=self.patience, sleep=self.sleep)
        except _StoppedError as stopped:
            raise stopped.error from None
        finally:
            source.close()
        upload.sent, upload.done = part.size, True
        self.journal.save()

    def _reporter(self, upload: Upload, before: int, of: int) -> blobs.Progress:
        told, saved = float("-inf"), time.monotonic()

        def report(sent: int) -> None:
            nonlocal told, saved
            now = time.monotonic()
            if now - told < TELL_S and sent < upload.blob.size:
                return
            try:
                self.tell(SENDING, before + sent, of)
            except Exception as error:  # noqa: BLE001  # raised again as it is
                raise _StoppedError(error) from None
            told = now
            if now - saved > SAVE_S:
                saved, upload.sent = now, sent
                self.journal.save()

        return report

    def _start(self, part: _Part) -> Blob:
        """A second start is safe: a blob of which nothing was made is forgotten."""
        for pause in (*self.patience.pauses, None):
            try:
                return blobs.start(self.signed, part.name, part.size, int(time.time()))
            except UnansweredError as error:
                if pause is None:
                    raise
                self.tell(SENDING, 0, 0)
                self.sleep(max(pause, min(error.retry_after or 0.0, self.patience.retry_after)))
        raise AssertionError("the last pause is None")


class _Source:
    """Reads in order what is asked for by offset; another offset than the next opens the file anew."""

    def __init__(self, opened: Callable[[int], _Body]) -> None:
        self._opened = opened
        self._body: _Body | None = None
        self._at = 0

    def __call__(self, offset: int, n: int) -> bytes:
        if self._body is None or self._at != offset:
            self.close()
            self._body = self._opened(offset)
        data = self._body.read(n)
        self._at = offset + len(data)
        return data

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
