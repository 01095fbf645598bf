"""Downloading output files from signed addresses.

Promises:

- A file has its name only when all its bytes are here: as many as the server announced, and not fewer than the listing
  says where it says it. Until then they lie beside it, in `.NAME.part`. More than it says is believed when it comes
  twice: how Kaggle counts is not known for sure, and the caller looks at the digest.
- A dropped connection is gone on with where it stopped, if the server still has the same file (`ETag`, length).
- An address that has ended (HTTP 400, 401, 403, 404, 410) is asked for anew. A page in place of a file is no file.
- A name that leads out of the folder is left out. What does not come holds up only itself.
- It ends: each try after a silence, each file after some tries without progress.
"""

from __future__ import annotations

import contextlib
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from launcher.errors import SamerunError
from launcher.files import storage

if TYPE_CHECKING:
    import requests

FIRST = ("results.csv", "last.pt", "best.pt", "manifest.json")  # what must not be lost comes before pictures
SLOW_BYTES = 1 << 10  # fewer within `silence` seconds is a break, too: a server that drips would hold us for ever

List = Callable[[], Mapping[str, str]]
"""path → a fresh signed address, of all files that are there. May raise a SamerunError."""


@dataclass(frozen=True)
class Patience:
    """Seconds and counts; all assumptions. `listings`: how often addresses are asked for, for all files together."""

    connect: float = 10.0
    silence: float = 30.0
    tries: int = 5
    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    retry_after: float = 60.0
    listings: int = 5
    parallel: int = 4


class _LeftError(Exception):
    """Why a file is left out, for good."""


class _AgainError(Exception):
    """Why a try failed. `anew`: the address is no good any more; `after`: seconds that the server asked to wait;
    `surplus`: bytes of a file that is whole, by the server's word, and larger than it is listed.
    """

    def __init__(
        self, reason: str, *, anew: bool = False, after: float | None = None, surplus: int | None = None
    ) -> None:
        super().__init__(reason)
        self.anew = anew
        self.after = after
        self.surplus = surplus


def fetch(
    paths: Sequence[str],
    to: Path,
    listing: List,
    sizes: Mapping[str, int] | None = None,
    *,
    patience: Patience | None = None,
    sleep: Callable[[float], object] | None = None,
) -> dict[str, str]:
    """Bring the files that are there below `to`; returns why not, by path, for those that did not come.

    Raises the listing's SamerunError when there is none at all, StorageError when this disk is full.
    """
    patience = patience or Patience()
    addresses = _Addresses(listing, patience.listings)
    sizes = sizes or {}
    fetcher = _Fetcher(to, addresses, sizes, patience, sleep)
    ordered = sorted(dict.fromkeys(paths), key=lambda path: _rank(path, sizes))
    todo, came = queue.SimpleQueue[str](), queue.SimpleQueue[_Outcome]()
    for path in ordered:
        todo.put(path)
    # Not a pool of the standard library: the process waits for its threads, also for one that a server lets hang.
    threads = [
        threading.Thread(target=_work, args=(fetcher, todo, came), name="kaggle-download", daemon=True)
        for _ in range(min(patience.parallel, len(ordered)))
    ]
    for thread in threads:
        thread.start()
    reasons: dict[str, str] = {}
    try:
        for _ in ordered:
            path, outcome = came.get()
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is not None:
                reasons[path] = outcome
    except Exception:
        fetcher.interrupt()
        for thread in threads:  # whoever goes on after this finds nobody writing here
            thread.join()
        fetcher.close()
        raise
    except BaseException:
        fetcher.interrupt()
        raise
    fetcher.close()
    return reasons


_Outcome = tuple[str, str | BaseException | None]


def _work(fetcher: _Fetcher, todo: queue.SimpleQueue[str], came: queue.SimpleQueue[_Outcome]) -> None:
    """One thread: file after file, until none is left or the fetcher was stopped."""
    with contextlib.suppress(queue.Empty):
        while not fetcher.stopped:
            path = todo.get_nowait()
            try:
                came.put((path, fetcher.bring(path)))
            except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
                came.put((path, error))


def _rank(path: str, sizes: Mapping[str, int]) -> tuple[bool, int]:
    name = PurePosixPath(path).name
    return not (name in FIRST or name.endswith(".pt")), sizes.get(path, 1 << 62)


def is_safe(path: str) -> bool:
    """Whether a name from the other side stays within a folder, on every system."""
    parts = path.split("/")
    return all(part not in ("", ".", "..") for part in parts) and not re.search(r"[\\\0:]", path)


class _Addresses:
    """Signed addresses, listed when first asked for and again when one has ended; one listing serves all threads."""

    def __init__(self, listing: List, limit: int) -> None:
        self._listing = listing
        self._left = self._limit = limit
        self._lock = threading.Lock()
        self._urls: Mapping[str, str] = {}
        self._listed = False

    def get(self, path: str, ended: str | None) -> str:
        """An address; a freshly listed one where the last has `ended`."""
        with self._lock:
            url = self._urls.get(path)
            if not self._listed or (url is not None and url == ended):
                self._list()
                url = self._urls.get(path)
            if url is None:
                raise _LeftError("it is not in the listing")
            return url

    def good(self) -> None:
        """A file has come: the addresses do work, so that later ones may end again."""
        with self._lock:
            self._left = self._limit

    def _list(self) -> None:
        if self._left <= 0:
            raise _LeftError("its address does not work, though it was listed anew")
        self._left -= 1
        try:
            self._urls = self._listing()
        except SamerunError as error:
            if not self._listed:
                raise
            raise _AgainError(f"listing anew: {error.message}") from None
        self._listed = True


class _Fetcher:
    """Brings one file at a time in each of the pool's threads."""

    def __init__(
        self,
        to: Path,
        addresses: _Addresses,
        sizes: Mapping[str, int],
        patience: Patience,
        sleep: Callable[[float], object] | None,
    ) -> None:
        self._stop = threading.Event()
        self._to = to
        self._addresses = addresses
        self._sizes = sizes
        self._patience = patience
        self._sleep = sleep or self._stop.wait
        self._own = threading.local()
        self._sessions: list[requests.Session] = []
        self._running: set[requests.Response] = set()

    @property
    def stopped(self) -> bool:
        """Whether it was interrupted."""
        return self._stop.is_set()

    def interrupt(self) -> None:
        """End what runs, from another thread."""
        from backends.kaggle.client import http

        self._stop.set()
        for response in list(self._running):
            http.interrupt(response)

    def close(self) -> None:
        """Close all threads' connections."""
        for session in self._sessions:
            session.close()

    def bring(self, path: str) -> str | None:
        """None when the file is here under its name, else why not. Raises StorageError, and what a listing raises."""
        if not is_safe(path):
            return "its name leads out of the folder"
        final = self._to / path
        part = final.with_name(f".{final.name}.part")
        try:
            with storage("keeping what came back", final):
                final.parent.mkdir(parents=True, exist_ok=True)
                part.unlink(missing_ok=True)
                self._whole(path, part)
                part.replace(final)
        except _LeftError as error:
            return str(error)
        except SamerunError:
            self.interrupt()  # a full disk, no listing: the others need not go on
            raise
        except OSError as error:  # what `storage` has no remedy for, such as a name that is too long
            return f"this disk does not take it: {error.strerror}"
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return None

    def _whole(self, path: str, part: Path) -> None:
        """Try until the part is the whole file."""
        tag: str | None = None
        url: str | None = None
        ended: str | None = None
        surplus: int | None = None
        tries = best = 0
        while not self._stop.is_set():
            try:
                url = self._addresses.get(path, ended) if url is None else url
                transfer = _Transfer(self._session(), url, part, tag, self._patience.silence, self._running)
                try:
                    transfer.run(self._sizes.get(path))
                    self._addresses.good()
                    return
                finally:
                    tag = transfer.tag
            except _AgainError as error:
                if error.surplus is not None and error.surplus == surplus:
                    return
                surplus = error.surplus
                size = part.stat().st_size if part.exists() else 0
                tries = 1 if size > best else tries + 1
                best = max(best, size)
                if tries >= self._patience.tries:
                    raise _LeftError(f"{error} ({tries} times)") from None
                if error.anew:
                    ended, url = url, None
                pauses = self._patience.pauses
                asked = min(error.after or 0.0, self._patience.retry_after)
                self._sleep(max(asked, pauses[min(tries, len(pauses)) - 1] * random.uniform(0.5, 1.0)))
        raise _LeftError("it was stopped")

    def _session(self) -> requests.Session:
        from backends.kaggle.client import http

        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = http.transfers(self._patience.connect, self._patience.silence)
            self._sessions.append(session)
        return session


class _Transfer:
    """One GET, which appends to the part or begins it anew. `tag`: what the part's bytes are of, None for not known."""

    def __init__(
        self,
        session: requests.Session,
        url: str,
        part: Path,
        tag: str | None,
        silence: float,
        running: set[requests.Response],
    ) -> None:
        self.tag = tag
        self._session = session
        self._url = url
        self._part = part
        self._silence = silence
        self._running = running

    def run(self, expected: int | None) -> None:
        """Raises _AgainError, _LeftError; returns when the part is whole."""
        import requests

        from backends.kaggle.client import http

        at = self._part.stat().st_size if self._part.exists() and self.tag else 0
        headers = {"Range": f"bytes={at}-", "If-Range": self.tag} if at and self.tag else {}
        try:
            response = self._session.get(self._url, headers=headers, stream=True)
        except requests.exceptions.RequestException as error:
            raise _AgainError(http.unanswered(error, "downloading").message) from None
        self._running.add(response)
        try:
            total = self._accepted(response, at)
            self._take(response, at if response.status_code == 206 else 0)
        finally:
            self._running.discard(response)
            response.close()
        got = self._part.stat().st_size
        if total is not None and got != total:
            if got > total:
                self.tag = None  # not the file that was announced: nothing to go on from
            raise _AgainError(f"{got} bytes came, the server announced {total}")
        if expected is not None and got != expected:
            self.tag = None
            surplus = got if got == total and got > expected else None
            raise _AgainError(f"{got} bytes came, the listing says {expected}", anew=True, surplus=surplus)

    def _accepted(self, response: requests.Response, at: int) -> int | None:
        """The size of the whole file, where this answer says it and is one that a file can come from."""
        from backends.kaggle.client import http

        status = response.status_code
        if passing := http.passing(status, response, "downloading"):
            raise _AgainError(passing.message, after=passing.retry_after)
        if status == 416:  # the file is shorter than what is here
            self.tag = None
            raise _AgainError("the file has changed", anew=True)
        if status not in (200, 206):
            raise _AgainError(f"HTTP {status}", anew=True)
        kind = response.headers.get("Content-Type", "").lower()
        if "html" in kind and self._part.name.removesuffix(".part").rpartition(".")[2].lower() not in ("html", "htm"):
            raise _AgainError("a page in place of the file", anew=True)
        encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
        length = None if encoded else _number(response.headers.get("Content-Length"))
        if status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if found is None or int(found[1]) != at or not at:
                self.tag = None
                raise _AgainError("another part of the file than was asked for")
            return _number(found[2])
        # What If-Range takes (RFC 9110, 13.1.5): a strong tag, or a date. Without either a break begins anew.
        tag = response.headers.get("ETag", "")
        tag = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
        self.tag = tag if tag and not encoded else None
        return length

    def _take(self, response: requests.Response, at: int) -> None:
        import requests

        from backends.kaggle.client import http

        since, taken = time.monotonic(), 0
        with self._part.open("ab" if at else "wb") as stream:
            try:
                for piece in http.pieces(response):
                    stream.write(piece)
                    taken += len(piece)
                    now = time.monotonic()
                    if now - since > self._silence:
                        if taken < SLOW_BYTES:
                            raise _AgainError("the server sends too slowly")
                        since, taken = now, 0
            except requests.exceptions.RequestException as error:
                raise _AgainError(http.unanswered(error, "downloading").message) from None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
