"""One attempt as it is followed: what its kernel says, what Kaggle says of it, what it left.

Promises: Kaggle is not asked for a state more often than a growing interval; every state of Kaggle's, also one that is
new, becomes one of ours; an attempt has ended only when its output is listed whole, or was waited for; the lines are
those of the worker's stream, each once and in order, from the log while the kernel runs and from the file that it left
where the log was cut short.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.kaggle.client.answers import KernelState
from backends.kaggle.client.answers import Status as Told
from backends.kaggle.client.refusals import NotThereError
from backends.kaggle.kernel.source import slug_of
from launcher.backend import OUTCOMES, Handle, Lines, State, Status
from launcher.errors import RemoteError, SamerunError
from launcher.sync import manifest as manifests

if TYPE_CHECKING:
    from backends.kaggle.client.logs import LogReader
    from backends.kaggle.client.service import Service

EXIT = "exit.json"
STREAM = "stream.log"
OVER = (KernelState.COMPLETE, KernelState.ERROR, KernelState.CANCELLED)
GROWTH, LONGEST = 1.5, 6.0
"""How the interval between two questions grows, and how many times the first it may be: assumptions, against 429."""
SETTLE = 2.0
"""First intervals for which what Kaggle does not show may yet come: the output of a kernel that has ended, a kernel
that was there a moment ago. An assumption."""
FRESH = 6.0  # the same for a kernel that was just pushed; an assumption (kaggle-cli#890, of datasets: seconds)
STUCK = 60.0  # first intervals that Kaggle may take to notice that a kernel's script has ended; an assumption
GHOST_S = 2 * 3600  # a session that Kaggle shows as running so long after its limit is one that nobody can tell of
DRAIN_S = 30.0  # how long the end of a finished kernel's log is waited for, before the file that it left is read
CONNECT_S = 2.0  # how long the first look into a running kernel's log may take
STREAM_BYTES = 256 << 20


class Watch:
    """What is known of one attempt in this process. Made by `Account`, which holds one for each handle."""

    def __init__(self, service: Service, handle: Handle, reader: LogReader, poll_s: float) -> None:
        self.cancelled = False
        """Whether this process deleted the kernel."""
        self.is_gone = False
        """Whether Kaggle had no kernel of this name when it was asked last."""
        self.is_over = False
        """Whether Kaggle said last that the session has ended, whatever it shows of its output."""
        self.has_manifest = False
        """Whether the worker, by its own word, has left a manifest."""
        self._service = service
        self._handle = handle
        self._reader = reader
        self._poll_s = poll_s
        self._lock = threading.Lock()
        self._made = time.monotonic()
        self._begun: float | None = None  # Unix time
        self._seen = False
        self._final: Status | None = None
        self._last: Status | None = None
        self._asked = float("-inf")
        self._interval = poll_s
        self._since: dict[str, float] = {}  # what was seen for the first time when
        self._first: int | None = None  # number of the log's line that is the first of the stream
        self._length: int | None = None  # lines of the stream, once the mark after the last was there
        self._known = 0  # lines of the stream that were there already
        self._fresh = True  # nobody has asked for lines yet
        self._left: list[str] | None = None  # the stream as the kernel left it in a file
        self._nothing_left = False

    @property
    def owner(self) -> str:
        """Of the kernel."""
        return str(self._handle.data["owner"])

    @property
    def slug(self) -> str:
        """Of the kernel: the attempt's own, or where Kaggle put it."""
        return str(self._handle.data.get("at") or slug_of(self._handle.attempt))

    @property
    def version(self) -> int | None:
        """Of the kernel."""
        version = self._handle.data.get("version")
        return int(version) if version else None

    # The state.

    def status(self, *, now: bool = False) -> Status:
        """The newest state; asked for when the interval is over, when the stream has ended, or `now`."""
        with self._lock:
            if self._final is not None:
                return self._final
            interval = self._interval if self._length is None else min(self._interval, self._poll_s)
            if self._last is not None and not now and time.monotonic() - self._asked < interval:
                return self._last
            found = self._ask()
            changed = self._last is None or found.state is not self._last.state
            self._interval = self._poll_s if changed else min(self._interval * GROWTH, self._poll_s * LONGEST)
            self._asked, self._last = time.monotonic(), found
            if found.state.ended:
                self._final = found
            return found

    def settled(self) -> Status:
        """The newest state, waited for where the session is over and its output may yet come."""
        until = time.monotonic() + (SETTLE + 1) * self._poll_s
        while not (status := self.status(now=True)).state.ended and self.is_over and time.monotonic() < until:
            time.sleep(self._poll_s / 2)
        return status

    def _ask(self) -> Status:
        if self.cancelled:
            return Status(State.CANCELLED, "its kernel was deleted, with all that it had made")
        try:
            told = self._service.status(self.owner, self.slug, self.version)
            self._seen, self.is_gone, self.is_over = True, False, told.state in OVER
            self._since.pop("gone", None)
            return self._ours(told)
        except NotThereError as error:
            return self._gone(error)
        except SamerunError as error:
            return Status(State.UNKNOWN, error.message)

    def _ours(self, told: Told) -> Status:
        match told.state:
            case KernelState.QUEUED:
                return Status(State.QUEUED)
            case KernelState.RUNNING | KernelState.CANCELLING:
                return self._running()
            case KernelState.COMPLETE | KernelState.ERROR:
                return self._ended(told)
            case KernelState.CANCELLED:
                # Kaggle may call its own time limit so, too. Who stops a kernel there does not want it again.
                if self._lasted() >= self._hours() * 3600:
                    return self._ended(told)
                return Status(State.CANCELLED, "it was stopped at kaggle.com")
            case KernelState.NEW:
                return Status(State.UNKNOWN, "Kaggle has saved the kernel and not run it")
        return Status(State.UNKNOWN, told.message or "Kaggle gives it a state that is not known here")

    def _running(self) -> Status:
        """Running, unless nobody can believe it any more."""
        if self._length is not None and self._is_over("stuck", STUCK):
            return Status(State.UNKNOWN, "the worker has ended, and Kaggle still shows its kernel as running")
        late = time.time() - self._limit()
        if late > GHOST_S:
            hours = f"{late / 3600:.1f} h"
            return Status(State.UNKNOWN, f"Kaggle shows it as running {hours} after the limit of its session")
        return Status(State.RUNNING)

    def _is_over(self, what: str, intervals: float) -> bool:
        """Whether something is so for longer than some intervals, as far as this process has seen."""
        now = time.monotonic()
        return now - self._since.setdefault(what, now) > intervals * self._poll_s

    def _hours(self) -> float:
        return float(self._handle.data["hours"])

    def _limit(self) -> float:
        """When its session must be over, Unix time."""
        if self._begun is None:
            # The listing is small. Asked for itself, a kernel comes with its whole source.
            listed = self._service.kernels(search=self.slug)
            found = [kernel for kernel in listed if kernel.ref == f"{self.owner}/{self.slug}"]
            last_run = (found[0] if found else self._service.kernel(self.owner, self.slug)).last_run
            self._begun = last_run.timestamp() if last_run is not None else time.time()
        return self._begun + self._hours() * 3600

    def _lasted(self) -> float:
        """Seconds from the session's start to the last line of its log; 0 where there is none."""
        try:
            return max((float(record["time"]) for record in self._log()), default=0.0)
        except (ValueError, KeyError, TypeError):
            return 0.0

    def _has_said_end(self) -> bool:
        """Whether the script came to its own end."""
        text = "".join(str(record.get("data", "")) for record in self._log() if record.get("stream_name") == "stdout")
        return self._mark("end") in text.splitlines()

    def _log(self) -> list[dict[str, Any]]:
        """The records of a finished kernel's log; none where it cannot be read. Raises what the listing raises."""
        try:
            log = json.loads(self._service.outputs(self.owner, self.slug, self.version).log or "[]")
        except ValueError:
            return []
        return [record for record in log if isinstance(record, dict)] if isinstance(log, list) else []

    def _mark(self, what: str) -> str:
        return f"--- samerun {what} {self._handle.attempt} ---"

    def _ended(self, told: Told) -> Status:
        """The worker's own word where it left one, when all that it left is listed."""
        settled = self._is_over("ended", SETTLE)
        try:
            left, listed = self._read(EXIT, manifests.NAME)
        except SamerunError as error:
            return Status(State.UNKNOWN, error.message)
        if EXIT not in left:
            if not settled:
                return Status(State.UNKNOWN, "the kernel has ended, and its output is not listed yet")
            words = told.message or f"Kaggle ended its session ({told.state})"
            if told.state is KernelState.ERROR and self._has_said_end():  # it would be the same another time
                return Status(State.FAILED, f"Kaggle did not keep what the training has made: {words}")
            last = [line for line in self._reader.stderr() if line.strip()][-1:]
            reason = f"the worker is gone without a word: {words}{''.join(f'; {line}' for line in last)}"
            return Status(State.LOST, reason)
        try:
            value = json.loads(left[EXIT])
            state, reason = OUTCOMES[value["outcome"]], str(value.get("reason") or "")
        except (ValueError, KeyError, TypeError, AttributeError):
            return Status(State.UNKNOWN, f"{EXIT} of its output cannot be read")
        self.has_manifest = bool(value.get("manifest"))
        if self.has_manifest and not settled and not _is_whole(left.get(manifests.NAME), listed):
            return Status(State.UNKNOWN, "the kernel has ended, and not all of its output is listed yet")
        code = value.get("exit_code")
        return Status(state, reason, code if isinstance(code, int) else None)

    def _gone(self, error: NotThereError) -> Status:
        self.is_gone = True
        if not self._seen and time.monotonic() - self._made < FRESH * self._poll_s:
            return Status(State.UNKNOWN, error.message)
        try:
            self.is_gone = error.certain or not is_listed(self._service, self.owner, self.slug)
        except SamerunError as failure:
            return Status(State.UNKNOWN, failure.message)
        if not self.is_gone or not self._is_over("gone", SETTLE):
            return Status(State.UNKNOWN, error.message)
        return Status(State.CANCELLED, "its kernel is gone: somebody deleted it")

    # The lines.

    def lines(self, after: int, wait: float) -> Lines:
        """Whole lines of the stream after the first `after` ones."""
        if self._last is None:
            self.status()  # what has ended is read to its end, also by who does not wait
        ended = self._final is not None
        if self._left is None:
            lines = self._from_log(after, time.monotonic() + max(wait, self._due(after)))
            self._known = max(self._known, after + len(lines))
            if lines or self._length is not None or not ended:
                return Lines(tuple(lines), str(after + len(lines)))
            # The log has ended before the stream has: its session was killed, or Kaggle kept less of it.
            if not self._nothing_left:
                self._take_left()
        left = (self._left or [])[after:]
        return Lines(tuple(left), str(after + len(left)))

    def _due(self, after: int) -> float:
        """How long lines are waited for that are surely there, by who does not wait for others."""
        if self.cancelled or self.is_gone or self._nothing_left:
            return 0.0
        if self._final is not None or after < self._known:
            return DRAIN_S
        fresh, self._fresh = self._fresh, False
        return CONNECT_S if fresh and self._last is not None and self._last.state is State.RUNNING else 0.0

    def _from_log(self, after: int, until: float) -> list[str]:
        """From the log: what lies between the two marks."""
        begin, end = self._mark("begin"), self._mark("end")
        seen = 0
        while self._first is None:
            before = self._reader.lines(seen, max(0.0, until - time.monotonic()))
            if not before:
                return []
            if begin in before:
                self._first = seen + before.index(begin) + 1
            seen += len(before)
        if self._length is not None and after >= self._length:
            return []
        lines = self._reader.lines(self._first + after, max(0.0, until - time.monotonic()))
        if end in lines:
            lines = lines[: lines.index(end)]
            self._length = after + len(lines)
        return lines

    def _take_left(self) -> None:
        """The stream out of the kernel's output; what the log has is all there is where the kernel left none."""
        try:
            left, _ = self._read(STREAM)
        except NotThereError:
            left = {}
        except SamerunError as error:
            raise RemoteError(f"the stream of {self._handle.attempt} cannot be read: {error.message}") from error
        if STREAM not in left:
            self._nothing_left = True
            return
        data = left[STREAM]
        self._left = data[: data.rfind(b"\n") + 1].decode("utf-8", "replace").split("\n")[:-1]

    def _read(self, *names: str) -> tuple[dict[str, bytes], frozenset[str]]:
        """Small files of the output that are there, and all that is listed.

        Raises RemoteError when the first is listed and does not come, and what the listing raises.
        """
        from backends.kaggle.client import download

        listed: set[str] = set()

        def listing() -> Mapping[str, str]:
            urls = self._service.outputs(self.owner, self.slug, self.version).urls
            listed.update(urls)
            return urls

        with tempfile.TemporaryDirectory(prefix="samerun-kaggle-") as folder:
            missing = download.fetch(names, Path(folder), listing)
            if names[0] in missing and names[0] in listed:
                raise RemoteError(f"{names[0]} of {self._handle.attempt} does not come: {missing[names[0]]}")
            return _contents(Path(folder), names), frozenset(listed)

    def close(self) -> None:
        """End the thread that reads the log."""
        self._reader.close()


def is_listed(service: Service, owner: str, slug: str) -> bool:
    """Whether the account's own listing has the kernel: Kaggle answers 403 for what is not there, too."""
    return any(kernel.ref == f"{owner}/{slug}" for kernel in service.kernels())


def _contents(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    found: dict[str, Any] = {}
    for name in names:
        if (folder / name).is_file():
            with (folder / name).open("rb") as stream:
                found[name] = stream.read(STREAM_BYTES)
    return found


def _is_whole(manifest: bytes | None, listed: frozenset[str]) -> bool:
    """Whether a manifest is there, and all that it names is listed. One that cannot be read is the collector's."""
    if manifest is None:
        return False
    try:
        return listed.issuperset(entry.at for entry in manifests.parse(manifest).files)
    except SamerunError:
        return True
