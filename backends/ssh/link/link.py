"""Commands on another machine, over one connection that is made when it is needed and made again when it broke.

`run` is a question with a short answer, `pour` sends a stream, `draw` gets one. Each ends within its limit: an answer,
or RemoteError when the machine does not say what became of it. A call that overran takes its connection out of use, and
the next one gets a new one. Threads may share a Link.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.ssh.link.watch import Watch
from backends.ssh.link.where import Where
from backends.ssh.link.words import Frame, command_line
from launcher.errors import RemoteError

if TYPE_CHECKING:
    from backends.ssh.link.connect import Connection

CHANNELS = 8
"""Calls at a time: a server of OpenSSH takes 10 sessions of a connection (MaxSessions in sshd_config(5))."""
WINDOW = 8 << 20
"""Bytes that may be under way to us: four times paramiko's default, which a far host would wait for."""
PIECE = 1 << 18
ERRORS = 1 << 16
"""Bytes kept of a command's error output: its end."""


@dataclass(frozen=True)
class Done:
    """How a command ended: its own exit code, its output, and the end of its error output."""

    code: int
    out: bytes
    err: bytes

    @property
    def said(self) -> str:
        """The error output as text, without the space around it."""
        return self.err.decode(errors="replace").strip()


class Link:
    """The way to one machine. Making one does nothing; every call raises what `connect` raises, and RemoteError.

    `seconds`: the limit of a question, and of a stream that stands still.
    """

    def __init__(self, where: Where, *, seconds: float) -> None:
        self.where, self.seconds = where, seconds
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(CHANNELS)
        self._current: _Shared | None = None

    def run(self, argv: Sequence[str], *, feed: bytes = b"", limit: float | None = None, most: int = 8 << 20) -> Done:
        """Run a command, `feed` on its input. The whole call takes no longer than `limit` (default: `seconds`).

        Raises RemoteError also for more than `most` bytes of output, CredentialError when the host or its key does not
        let us in, ValueError for words that no command line can carry (100 kB, a NUL).
        """
        limit = self.seconds if limit is None else limit
        return self._call(argv, (feed,) if feed else (), _Kept(most), None, stall=limit, limit=limit)

    def pour(
        self,
        argv: Sequence[str],
        source: Iterable[bytes | bytearray],
        *,
        moved: Callable[[int], None] | None = None,
        limit: float | None = None,
        bulk: bool = False,
    ) -> Done:
        """Run a command with what `source` yields on its input; `moved` hears of each piece's bytes.

        `bulk`: so much that a connection of its own by the `ssh` command is worth its while, where that can be. Raises
        RemoteError when nothing moves, either way, for `seconds`, or after `limit`; and what `source` raises.
        """
        return self._call(argv, source, _Kept(8 << 20), moved, stall=self.seconds, limit=limit, bulk=bulk)

    def draw(
        self,
        argv: Sequence[str],
        sink: Callable[[bytes], None],
        *,
        feed: bytes = b"",
        moved: Callable[[int], None] | None = None,
        limit: float | None = None,
        bulk: bool = False,
    ) -> Done:
        """Run a command and hand what it prints to `sink`, piece by piece. Raises as `pour`, and what `sink` raises."""

        def passed_on(piece: bytes) -> None:
            sink(piece)
            if moved is not None:
                moved(len(piece))

        source = (feed,) if feed else ()
        return self._call(argv, source, passed_on, None, stall=self.seconds, limit=limit, bulk=bulk)

    def close(self) -> None:
        """End the connection. A later call makes a new one."""
        with self._lock:
            current, self._current = self._current, None
        if current is not None:
            current.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(
        self,
        argv: Sequence[str],
        source: Iterable[bytes | bytearray],
        sink: Callable[[bytes], None],
        moved: Callable[[int], None] | None,
        *,
        stall: float,
        limit: float | None,
        bulk: bool = False,
    ) -> Done:
        frame = Frame(sink)
        line = command_line(argv, frame.mark)
        begun = time.monotonic()
        if not self._free.acquire(timeout=stall):
            raise RemoteError(f"{self.where}: {CHANNELS} other calls are under way, and none ended in {stall:g} s")
        try:
            with self._channel(stall - (time.monotonic() - begun)) as (channel, shared):
                left = None if limit is None else limit - (time.monotonic() - begun)
                with contextlib.ExitStack() as stack:
                    watch = stack.enter_context(
                        Watch(stall if left is None else left, lambda: talk.close(), limit=left)
                    )
                    talk = _Talk(channel, source, frame, watch, moved)
                    try:
                        code = self._by_pipe(shared, talk, line) if bulk else None
                        if not frame.begun and not watch.over:
                            code = talk.hold(line)
                    finally:
                        shared.doomed |= watch.over
                if code is None:
                    raise self._unknown(watch, frame, watch.seconds, talk.errors)
                out = bytes(sink.data) if isinstance(sink, _Kept) else b""
                return Done(code, out, talk.errors)
        finally:
            self._free.release()

    def _by_pipe(self, shared: _Shared, talk: _Talk, line: str) -> int | None:
        """Hold the talk by the `ssh` command. One that cannot get in has said nothing, and is not tried again."""
        from backends.ssh.link.openssh import Pipe, available

        target = shared.connection.target
        if not shared.pipes or target is None or not available(target):
            return None
        with contextlib.closing(Pipe(target, self.seconds)) as pipe:
            code = talk.hold(line, by=pipe)
        shared.pipes = talk.begun
        return code

    @contextlib.contextmanager
    def _channel(self, seconds: float) -> Iterator[tuple[Any, _Shared]]:
        """A session on the connection; where an old connection has died unnoticed, on a new one."""
        end = time.monotonic() + seconds
        shared, new = self._connected(end)
        try:
            channel = self._session(shared, end, 1.0 if new else 1 / 3)
        except RemoteError:
            shared.leave()
            if new:
                raise
            shared, _ = self._connected(end)
            try:
                channel = self._session(shared, end, 1.0)
            except BaseException:
                shared.leave()
                raise
        try:
            yield channel, shared
        finally:
            _end(channel.close)
            shared.leave()

    def _session(self, shared: _Shared, end: float, share: float) -> Any:
        """A new session. A connection that does not give one in this share of the time left is not used again."""
        import paramiko

        left = end - time.monotonic()
        try:
            with Watch(max(0.0, left * share), shared.connection.close):
                return shared.connection.transport.open_session(window_size=WINDOW, timeout=max(0.1, left * share))
        except paramiko.ChannelException as error:  # the host has answered, and it is no
            raise RemoteError(
                f"{self.where} gives no session: {error}", remedy="see MaxSessions of its sshd"
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            shared.doomed = True
            raise RemoteError(f"{self.where} does not answer: {error}", remedy="look at the network to it") from error

    def _connected(self, end: float) -> tuple[_Shared, bool]:
        """The connection, and whether it was made just now."""
        from backends.ssh.link.connect import connect

        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            raise RemoteError(f"{self.where} did not answer in time", remedy="look at the network to it")
        try:
            current = self._current
            if current is not None and current.usable:
                current.enter()
                return current, False
            if current is not None:
                current.retire()
            self._current = None
            self._current = _Shared(connect(self.where, max(0.1, end - time.monotonic())))
            self._current.enter()
            return self._current, True
        finally:
            self._lock.release()

    def _unknown(self, watch: Watch, frame: Frame, stall: float, errors: bytes) -> RemoteError:
        """Why there is no exit code."""
        if watch.over:
            return RemoteError(
                f"{self.where} did not answer for {stall:g} s", remedy="look at the network to it; SAMERUN_SSH_SECONDS"
            )
        said = frame.said or errors.decode(errors="replace").strip()[-500:]
        return RemoteError(
            f"{self.where}: the connection ended before the command said how it ended{f': {said}' if said else ''}"
        )


class _Shared:
    """A connection and how many calls use it. One that is doomed gets no new ones, and is closed by the last."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.doomed = False
        self.pipes = True
        """Whether the `ssh` command can log in there, as far as is known."""
        self._users = 0
        self._lock = threading.Lock()

    @property
    def usable(self) -> bool:
        return not self.doomed and bool(self.connection.transport.is_active())

    def enter(self) -> None:
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self.doomed and not self._users
        if last:
            self.close()

    def retire(self) -> None:
        with self._lock:
            self.doomed = True
            last = not self._users
        if last:
            self.close()

    def close(self) -> None:
        _end(self.connection.close)


def _end(close: Callable[[], object]) -> None:
    """Close in a thread of its own: paramiko's close can wait for a socket that takes nothing."""

    def work() -> None:
        with contextlib.suppress(Exception):  # what is broken needs no farewell
            close()

    threading.Thread(target=work, name="ssh-close", daemon=True).start()


class _Kept:
    """A sink that keeps what it gets, up to a limit."""

    def __init__(self, most: int) -> None:
        self.data, self._most = bytearray(), most

    def __call__(self, piece: bytes) -> None:
        self.data += piece
        if len(self.data) > self._most:
            raise RemoteError(f"the command answered with more than {self._most} bytes")


class _Talk:
    """One command on one channel: input, output and error output at the same time, each in a thread of its own."""

    def __init__(
        self,
        channel: Any,
        source: Iterable[bytes | bytearray],
        frame: Frame,
        watch: Watch,
        moved: Callable[[int], None] | None,
    ) -> None:
        self.errors = b""
        self._channel, self._source, self._frame, self._watch = channel, source, frame, watch
        self._moved = moved
        self._failed: list[BaseException] = []

    @property
    def begun(self) -> bool:
        """Whether the command runs, or has run."""
        return self._frame.begun

    def close(self) -> None:
        """End it, from another thread."""
        self._channel.close()

    def hold(self, line: str, *, by: Any = None) -> int | None:
        """Run the line; the command's exit code, or None when it is not known. Raises what source and sink raise.

        `by`: another channel to try. It gets its input when the command has begun, so that none is lost if it does not.
        """
        usual, self._channel = self._channel, by or self._channel
        self.errors = b""
        try:
            return self._hold(line, wait=by is not None)
        finally:
            self._channel = usual

    def _hold(self, line: str, *, wait: bool) -> int | None:
        channel = self._channel
        sender = threading.Thread(target=self._send, args=(channel,), daemon=True)
        listener = threading.Thread(target=self._listen, args=(channel,), daemon=True)
        if not self._begin(line):
            return None
        listener.start()
        if not wait:
            sender.start()
        while piece := self._received():
            self._watch.moved()
            self._frame.take(piece)
            if wait and self.begun:
                sender.start()
                wait = False
        status = channel.recv_exit_status()  # -1 when the channel ends without one
        listener.join(self._watch.left)
        if self._failed:
            raise self._failed[0]
        code = self._frame.close()
        return code if code == status else None

    def _begin(self, line: str) -> bool:
        import paramiko

        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._channel.exec_command(line)
            return True
        return False

    def _received(self) -> bytes:
        """The next piece of output; empty at its end, and when the connection ends."""
        with contextlib.suppress(EOFError, OSError):
            return bytes(self._channel.recv(PIECE))
        return b""

    def _send(self, channel: Any) -> None:
        try:
            for piece in self._source:
                rest = memoryview(piece)
                while rest:
                    if not (sent := _sent(channel, rest[:PIECE])):
                        return  # the command reads no more
                    self._watch.moved()
                    if self._moved is not None:
                        self._moved(sent)
                    rest = rest[sent:]
            with contextlib.suppress(EOFError, OSError):
                channel.shutdown_write()
        except BaseException as error:  # noqa: BLE001  raised where the call was made
            if not channel.closed and not isinstance(error, BrokenPipeError):
                self._failed.append(error)
                channel.close()

    def _listen(self, channel: Any) -> None:
        with contextlib.suppress(Exception):
            while piece := channel.recv_stderr(PIECE):
                self._watch.moved()
                self.errors = (self.errors + piece)[-ERRORS:]


def _sent(channel: Any, piece: memoryview) -> int:
    """How many bytes the channel took; 0 when it takes no more, also because its connection has ended."""
    with contextlib.suppress(EOFError, OSError):  # OSError: paramiko's channel raises it where it is closed
        return int(channel.send(piece))
    channel.close()  # who reads from it sees the end, and does not know how the command ended
    return 0
