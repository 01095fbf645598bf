"""A kernel's log as numbered lines of its standard output.

A thread holds the stream; Kaggle's balancer cuts it when it is silent, and every new one begins with the first record
again. Lines are numbered from the start of the log, so that a replay repeats nothing and skips nothing, however its
records are cut.

Promises: `lines` answers at once when there are any, else within `wait`; memory holds what was not asked for yet, up
to `KEEP` characters, then the thread waits; what was dropped is read again when it is asked for; garbage is passed over
when it is there twice; an end is no last word, because Kaggle may end the log of a kernel that has not begun yet.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

from backends.kaggle.client.records import Lines, Mark, Record, array, events
from backends.kaggle.client.wire import LogStream
from launcher.errors import CredentialError, SamerunError

KEEP = 8 << 20  # characters
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between connections that bring nothing new; an assumption
STDERR_LINES = 200
REPLAYS = 5  # how often garbage may cause a new connection, and how often a finished log that has no end is read
CLOSE_S = 1.0
REOPEN_S = 10.0  # after this a log that has ended is looked at again, when more is asked for: an assumption


class LogReader:
    """Reads one kernel's log. `connect` opens the stream, as `Wire.open_log` does; nothing runs before `lines`."""

    def __init__(
        self,
        connect: Callable[[], LogStream],
        *,
        keep: int = KEEP,
        pauses: tuple[float, ...] = PAUSES,
        reopen: float = REOPEN_S,
    ) -> None:
        self._connect = connect
        self._keep = keep
        self._pauses = pauses
        self._reopen = reopen
        self._bell = threading.Condition()
        self._reading: _Reading | None = None
        self._closed = False

    def lines(self, after: int, wait: float) -> list[str]:
        """Whole lines from number `after` on (0 is the first), as many as are there.

        Waits up to `wait` s for the first. Raises CredentialError while Kaggle does not accept the credential.
        """
        with self._bell:
            if self._closed:
                return []
            reading = self._reading
            if reading is None or after < reading.base or self._is_due(reading, after):
                reading = self._begin(after)
            reading.drop(after)
            self._bell.notify_all()
            self._bell.wait_for(lambda: reading.kept or reading.ended or reading.refused or self._closed, wait)
            if not reading.kept and reading.refused is not None:
                raise reading.refused
            return list(reading.kept)

    @property
    def ended(self) -> bool:
        """The log is complete, as far as Kaggle says, and all that is left of it has been read."""
        with self._bell:
            return self._reading is not None and self._reading.ended

    @property
    def problem(self) -> str:
        """Why nothing came, the last time that a connection failed; empty while one holds."""
        with self._bell:
            return self._reading.problem if self._reading is not None else ""

    def stderr(self) -> list[str]:
        """The last lines of standard error that have come."""
        with self._bell:
            return list(self._reading.stderr) if self._reading is not None else []

    def close(self) -> None:
        """End the thread. `lines` answers nothing from now on."""
        with self._bell:
            self._closed = True
            reading = self._reading
            self._stop()
        if reading is not None:
            reading.thread.join(CLOSE_S)

    # Below the interface; all under the bell.

    def _is_due(self, reading: _Reading, after: int) -> bool:
        """Whether a log that has ended is to be looked at again for lines from this number on."""
        nothing = after >= reading.base + len(reading.kept)
        return reading.ended and nothing and time.monotonic() - reading.ended_at > self._reopen

    def _begin(self, after: int) -> _Reading:
        self._stop()
        former = self._reading
        self._reading = _Reading(self._bell, self._connect, after, self._keep, self._pauses)
        if former is not None:
            self._reading.stderr = former.stderr
        self._reading.thread.start()
        return self._reading

    def _stop(self) -> None:
        if self._reading is not None:
            self._reading.stopped = True
            if self._reading.stream is not None:
                self._reading.stream.close()
            self._bell.notify_all()


class _Reading:
    """One thread that reads on from a line, over as many connections as it takes. Fields are under the bell."""

    def __init__(
        self,
        bell: threading.Condition,
        connect: Callable[[], LogStream],
        base: int,
        keep: int,
        pauses: tuple[float, ...],
    ) -> None:
        self.base = base
        """The number of the first line in `kept`."""
        self.kept: deque[str] = deque()
        self.stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self.ended = False
        self.ended_at = 0.0
        self.stopped = False
        self.refused: CredentialError | None = None
        self.problem = ""
        self.stream: LogStream | None = None
        self.thread = threading.Thread(target=self._run, name="kaggle-log", daemon=True)
        self._bell = bell
        self._connect = connect
        self._keep = keep
        self._pauses = pauses
        self._size = 0
        self._suspects: set[int] = set()
        self._endless = 0

    def drop(self, after: int) -> None:
        """Forget the lines before a number."""
        while self.kept and self.base < after:
            self._size -= len(self.kept.popleft()) + 1
            self.base += 1
        self.base = max(self.base, after)

    def _run(self) -> None:
        fruitless = 0
        while not self.stopped and not self.ended:
            before = self.base + len(self.kept)
            again_at_once = self._connection()
            with self._bell:
                fruitless = 0 if self.base + len(self.kept) > before else fruitless + 1
                pause = self._pauses[min(fruitless, len(self._pauses) - 1)]
                if not again_at_once:
                    self._bell.wait_for(lambda: self.stopped or self.ended, pause)

    def _connection(self) -> bool:
        """Read one connection to its end; whether the next is due at once."""
        refused: CredentialError | None = None
        problem, again = "", False
        stream: LogStream | None = None
        try:
            stream = self._connect()
            with self._bell:
                if self.stopped:
                    return False
                self.stream, self.refused, self.problem = stream, None, ""
            again = self._read(stream)
        except CredentialError as error:
            refused, problem = error, error.message
        except SamerunError as error:
            problem = error.message
        finally:
            if stream is not None:
                with contextlib.suppress(SamerunError):
                    stream.close()
        with self._bell:
            self.stream, self.refused, self.problem = None, refused, problem
            self._bell.notify_all()
        return again

    def _read(self, stream: LogStream) -> bool:
        """See `_connection`. Sets `ended` when the log is complete."""
        out, err = Lines(), Lines()
        errors: deque[str] = deque(maxlen=STDERR_LINES)
        order = _Order()
        complete = False
        for index, record in enumerate(events(stream.pieces) if stream.live else array(stream.pieces)):
            if record is Mark.END:
                complete = True
                break
            if isinstance(record, Mark):
                # A lost record shifts the numbers of the lines after it: only what a replay has lost, too, is passed
                # over.
                if self._again(index):
                    return True
                continue
            begun_anew, doubtful = order.look(record)
            if begun_anew:
                out, err = Lines(), Lines()
            elif doubtful and self._again(index):
                return True
            text = record.get("data")
            if not isinstance(text, str):
                continue
            if record.get("stream_name", "stdout") == "stdout":
                for number, line in out.feed(text):
                    if not self._add(number, line):
                        return False
            elif record["stream_name"] == "stderr":
                errors.extend(line for _, line in err.feed(text))
                with self._bell:
                    self.stderr = errors
        if not complete and not stream.live:
            self._endless += 1
            complete = self._endless >= REPLAYS
        if complete:
            for number, line in out.last():
                self._add(number, line)
            with self._bell:
                errors.extend(line for _, line in err.last())
                self.ended, self.ended_at = True, time.monotonic()
        return False

    def _again(self, index: int) -> bool:
        """Whether a record that looks wrong is worth another connection: once each, and not too often."""
        if index in self._suspects or len(self._suspects) >= REPLAYS:
            return False
        self._suspects.add(index)
        return True

    def _add(self, number: int, line: str) -> bool:
        """Keep a line that is new; wait while there is no room. False when the reading is stopped."""
        with self._bell:
            self._bell.wait_for(lambda: self.stopped or self._size < self._keep)
            if self.stopped:
                return False
            if number >= self.base + len(self.kept):
                self.kept.append(line)
                self._size += len(line) + 1
                self._bell.notify_all()
            return True


class _Order:
    """Notices a log that begins again within one connection, by the records' times (seconds since the start)."""

    def __init__(self) -> None:
        self._first: Record | None = None
        self._last: dict[object, float] = {}

    def look(self, record: Record) -> tuple[bool, bool]:
        """Whether this is surely the first record again, and whether it may be one that was there before."""
        time = record.get("time")
        if not isinstance(time, (int, float)):
            return False, False
        stream = str(record.get("stream_name"))
        back = time < self._last.get(stream, time)
        same = record == self._first
        self._first = self._first or record
        self._last = {stream: time} if back and same else {**self._last, stream: time}
        return back and same, back or same
