"""The small process that stays beside a training: it carries lines, numbers events, restarts, has the last word.

Promises: it runs once per box, however often it is started; a killed training is seen, named and started again from
its last checkpoint as often as the job allows; whatever happens the box ends with a manifest of all that is there and
with state/exit.json; when it dies itself, the training ends too (its lifeline breaks), and the lock that both hold is
free only when both are gone. It imports little, because it stays in memory for hours.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import sys
import time

from .box import EVENT_MARK, EXIT_EXPIRED, Box, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .box import Json

HEARTBEAT_S = 30.0
LINE_LIMIT = 1 << 16  # characters of one line that are kept, and bytes that are read at a time
GRACE_S = 10.0  # between asking the training to end and killing it
DEADLINE_GRACE_S = 120.0  # the training leaves at its own deadline, at an epoch's end; this long after it is killed
RESERVE_BYTES = 1 << 16  # given back to the disk when it is full, so that the last words can be written
LAST = "-last"  # a second reserve, for exit.json
TORN_LIMIT = 1 << 20
WAITING_LINES = 10_000  # lines kept in memory while the disk is full
WAITING_BYTES = RESERVE_BYTES // 4  # of these, events that the reserve has room for beside manifest and last event
MARK = EVENT_MARK.encode()
OWN_EVENTS = ("done", "failed", "heartbeat")  # what the supervisor alone may say
SECRET_LENGTH = 4  # shorter values of variables ("1", "cpu") are no secrets
SECRET_LINE = 8
NOT_STARTED = 127  # what a shell says of a command that is not there
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def supervise(root: str) -> int:
    """Run the box's training to its end. Returns 0 when done, else the exit code of the training."""
    box = Box(root)
    box.make()
    lock = os.open(box.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        started = os.open(box.started, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(started, str(os.getpid()).encode())
        os.close(started)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EEXIST):
            return 0  # this box has its supervisor, or had it
        raise
    code = Supervisor(box, lock).run()
    os.close(lock)  # before the bell falls silent: who is woken by its end finds the lock free
    os._exit(code)  # nothing is left to tidy up, and Python's own tidying takes longer than the end should


class Stream:
    """out/stream.log: whole lines, appended; and the bell that wakes whoever follows it."""

    def __init__(self, box: Box, attempt: Json) -> None:
        self._fd = os.open(box.stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._box = box
        self._attempt = attempt["attempt"]
        values = [os.environ.get(name, "") for name in attempt.get("variables", ())]
        self._secrets = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
        self._seq = 0
        self._waiting: list[bytes] = []
        self._whole = True  # the stream ends with a whole line
        self.bell = Bell(box)
        for reserve in (box.reserve, box.reserve + LAST):
            try:
                with open(reserve, "wb") as stream:
                    stream.write(b"\0" * RESERVE_BYTES)
            except OSError:
                pass  # full already: the training will say so

    def event(self, name: str, fields: Json) -> None:
        """Append one numbered event."""
        self._seq += 1
        head = {"attempt": self._attempt, "seq": self._seq, "time": round(time.time(), 3), "event": name}
        self._append(EVENT_MARK + json.dumps({**fields, **head}))

    def line(self, raw: bytes) -> None:
        """Append one line of the training's output; of a line redrawn by carriage returns, what was drawn last."""
        text = self.redact(raw.decode("utf-8", "replace").rstrip("\r\n").rsplit("\r", 1)[-1])[:LINE_LIMIT]
        self._append(" " + text if text.startswith(EVENT_MARK) else text)

    def redact(self, value: Any) -> Any:
        """What the training said, without the values of the attempt's variables."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, "***")
        elif isinstance(value, list):
            return [self.redact(item) for item in value]
        elif isinstance(value, dict):
            return {key: self.redact(item) for key, item in value.items()}
        return value

    def _append(self, text: str) -> None:
        self._waiting.append(text.encode("utf-8", "replace") + b"\n")
        self.flush()

    def flush(self) -> None:
        """Write what waits. A full disk keeps lines waiting (the oldest are dropped past a limit), and is no crash."""
        try:
            while self._waiting:
                written = os.write(self._fd, self._waiting[0])
                self._whole = written == len(self._waiting[0])
                if self._whole:
                    del self._waiting[0]
                else:
                    self._waiting[0] = self._waiting[0][written:]
        except OSError:
            torn = 0 if self._whole else 1
            del self._waiting[torn : max(torn, len(self._waiting) - WAITING_LINES)]
        self.bell.ring()

    def make_room(self) -> None:
        """For the last words on a full disk: log lines give way to events, and the reserve is given up."""
        self.flush()
        if self._waiting:
            torn = 0 if self._whole else 1
            kept, room = [], WAITING_BYTES
            for line in reversed(self._waiting[torn:]):
                if line.startswith(MARK) and len(line) <= room:
                    kept.append(line)
                    room -= len(line)
            self._waiting = self._waiting[:torn] + kept[::-1]
            _unlink(self._box.reserve)
            self.flush()


class Bell:
    """A local socket: who connects is sent a byte whenever the stream has grown, and its end when we end."""

    def __init__(self, box: Box) -> None:
        import socket

        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ringing: list[socket.socket] = []
        self.open = True
        here = os.getcwd()
        os.chdir(box.state)  # a socket's path may have about 100 bytes, a folder's name more
        try:
            self.listener.bind(os.path.basename(box.bell))
            self.listener.listen(16)
            self.listener.setblocking(False)
        except OSError:
            self.open = False  # a file system without sockets: followers look at the file instead
        finally:
            os.chdir(here)

    def accept(self) -> None:
        """Take a new follower."""
        try:
            follower, _ = self.listener.accept()
        except OSError:
            return
        follower.setblocking(False)
        self._ringing.append(follower)
        self.ring()

    def ring(self) -> None:
        """Wake the followers. One that does not listen has bells enough in its buffer already."""
        for follower in list(self._ringing):
            try:
                follower.send(b"\n")
            except BlockingIOError:
                pass
            except OSError:
                follower.close()
                self._ringing.remove(follower)


class Supervisor:
    """One attempt from its first line to state/exit.json."""

    def __init__(self, box: Box, lock: int) -> None:
        self.box = box
        self.lock = lock
        self.job = box.job()
        self.attempt = box.attempt()
        self.stream = Stream(box, self.attempt)
        self.begun = time.time()
        self.stopping = ""  # why the training was asked to end
        self.kill_at = float("inf")
        self.error: Json = {}  # what the training said of its own failure
        hours = self.job.get("max_hours")
        self.deadline = self.begun + hours * 3600 if hours else float("inf")
        self.child = 0
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_w, False)
        os.set_blocking(self._wake_r, False)

    def run(self) -> int:
        """Train, restart where a kill was the cause, and write the last word."""
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        restarts = int(self.job.get("restarts", 0))
        code = -int(signal.SIGTERM)
        if os.path.exists(self.box.cancel):
            self._end("cancelled", "")
            restarts = -1
        for restart in range(restarts + 1):
            try:
                code = self._train_once(restart)
            except OSError as error:  # no such Python, no process or pipe to be had
                self.error = {"type": type(error).__name__, "reason": f"the training could not be started: {error}"}
                code = NOT_STARTED
            if code >= 0 or self.stopping or restart == restarts:
                break
            self.stream.event("warning", {"code": "trainer-killed", **_describe(code), "restart": restart + 1})
        return self._finish(code)

    def _stop(self, number: int, frame: object) -> None:
        cancelled = os.path.exists(self.box.cancel)
        self._end("cancelled" if cancelled else "expired", f"the machine sent {signal.Signals(number).name}")

    def _end(self, why: str, reason: str) -> None:
        """Ask the training to end; kill it when it does not."""
        if self.stopping:
            return
        self.stopping = why
        self.error.setdefault("reason", "cancelled" if why == "cancelled" else reason)
        self.kill_at = time.time() + GRACE_S
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self.child:
            try:
                os.killpg(self.child, number)
            except ProcessLookupError:
                pass

    def _over(self) -> float:
        """When the training is asked to end for lack of time."""
        return float("inf") if self.stopping else self.deadline + DEADLINE_GRACE_S

    def _argv(self) -> list[str]:
        python = self.attempt.get("python") or sys.executable
        payload = os.path.join(self.box.inbox, "payload.py")
        if os.path.exists(payload):
            return [python, payload, self.box.root]
        return [python, os.path.join(self.box.inbox, "worker.pyz"), "train", self.box.root]

    def _train_once(self, restart: int) -> int:
        """Start the training, carry its output to the end; returns its exit code, negative for a signal."""
        out_r, out_w = os.pipe()
        event_r, event_w = os.pipe()
        life_r, life_w = os.pipe()
        passed = {"SAMERUN_EVENTS": event_w, "SAMERUN_LIFELINE": life_r}
        for fd in (*passed.values(), self.lock):
            os.set_inheritable(fd, True)
        env = {**os.environ, **{name: str(fd) for name, fd in passed.items()}, "SAMERUN_RESTART": str(restart)}
        null = os.open(os.devnull, os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out_w, 1), (os.POSIX_SPAWN_DUP2, out_w, 2)]
        argv = self._argv()
        self.child = os.posix_spawn(argv[0], argv, env, file_actions=actions, setpgroup=0, setsigdef=list(STOP_SIGNALS))
        for fd in (out_w, event_w, life_r, null):
            os.close(fd)
        from . import manifest  # noqa: F401  now, while the training starts, and not at the end, where it is waited for

        try:
            return self._carry(out_r, event_r)
        finally:
            self.child = 0
            for fd in (out_r, event_r, life_w):
                os.close(fd)

    def _carry(self, out_r: int, event_r: int) -> int:
        """Carry lines and events until the training has ended and its pipes are drained."""
        torn = {out_r: b"", event_r: b""}
        poller = select.poll()
        for fd in (out_r, event_r, self._wake_r):
            poller.register(fd, select.POLLIN)
        if self.stream.bell.open:
            poller.register(self.stream.bell.listener, select.POLLIN)
        beat = time.time() + HEARTBEAT_S
        while True:
            wait = max(0.0, min(beat, self.kill_at, self._over()) - time.time())
            ready = {fd for fd, _ in poller.poll(min(wait, HEARTBEAT_S) * 1000)}
            now = time.time()
            if now >= beat:
                beat = now + HEARTBEAT_S
                self.stream.event("heartbeat", {"seconds": round(now - self.begun, 1)})
            if now >= self._over():
                self._end("expired", f"max_hours ({self.job['max_hours']}) is over")
            if now >= self.kill_at:
                self._signal(signal.SIGKILL)
                self.kill_at = float("inf")
            if self._wake_r in ready:
                _drain(self._wake_r)
            if self.stream.bell.open and self.stream.bell.listener.fileno() in ready:
                self.stream.bell.accept()
            ended, status = os.waitpid(self.child, os.WNOHANG)
            if ended:
                self._signal(signal.SIGKILL)  # whatever it started and left behind, before its pipes are drained
            for fd in (event_r, out_r):
                if (fd in ready or ended) and not self._read(fd, torn, final=bool(ended)) and not ended:
                    poller.unregister(fd)
            if ended:
                return os.waitstatus_to_exitcode(status)

    def _read(self, fd: int, torn: dict[int, bytes], final: bool) -> bool:
        """Take what a pipe holds; False at its end. After the child's end, all that is left, and then no more."""
        os.set_blocking(fd, False)
        alive = True
        while True:
            try:
                data = os.read(fd, LINE_LIMIT)
            except BlockingIOError:
                break
            if not data:
                alive = False
                break
            lines = (torn[fd] + data).split(b"\n")
            torn[fd] = lines.pop()[-TORN_LIMIT:]
            for line in lines:
                self._take(fd, torn, line)
            if not final:
                break  # one read a turn: a chatty training must not starve signals and followers
        if final and torn[fd]:
            self._take(fd, torn, torn[fd])
            torn[fd] = b""
        return alive

    def _take(self, fd: int, torn: dict[int, bytes], line: bytes) -> None:
        if fd == next(iter(torn)):
            self.stream.line(line)
            return
        try:
            fields = json.loads(line, parse_constant=_refuse)
            name = fields.pop("event")
            if not isinstance(name, str) or name in OWN_EVENTS:
                raise ValueError("not the training's to say")
            fields = self.stream.redact(fields)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            self.stream.line(line)
            return
        if name == "error":
            self.error = fields
        self.stream.event(name, fields)

    def _finish(self, code: int) -> int:
        """Manifest, last event, exit.json: in this order, so that who sees the exit finds the rest."""
        from . import manifest

        # A training that ended by itself is done, also when it was told to stop a moment later.
        outcome = "done" if code == 0 else self.stopping or ("expired" if code == EXIT_EXPIRED else "failed")
        fields: Json = {"outcome": outcome, "seconds": round(time.time() - self.begun, 3), **_describe(code)}
        if outcome != "done":
            fields["reason"] = self.error.get("reason") or _describe(code).get("reason", f"exit code {code}")
            fields.update({key: self.error[key] for key in ("type", "remedy", "code") if key in self.error})
        self.stream.make_room()
        try:
            fields["manifest"] = manifest.write_final(self.box, complete=outcome == "done")
        except OSError:
            _unlink(self.box.reserve)
            try:
                fields["manifest"] = manifest.write_final(self.box, complete=outcome == "done")
            except OSError as error:
                fields["manifest_error"] = str(error)
        self.stream.event("done" if outcome == "done" else "failed", fields)
        self.stream.make_room()
        _unlink(self.box.reserve + LAST)
        write_json(self.box.exit, fields)
        self.stream.bell.ring()
        return 0 if outcome == "done" else (code if code > 0 else 128 - code)


def _forms(value: str) -> set[str]:
    """How a secret may look in a text: as it is, as Python or JSON writes it, and each long line of a key file."""
    if len(value) < SECRET_LENGTH:
        return set()
    lines = [line for line in value.splitlines() if len(line) >= SECRET_LINE]
    plain = {value, repr(value)[1:-1], *lines}
    return plain | {json.dumps(text, ensure_ascii=ascii_)[1:-1] for text in plain for ascii_ in (True, False)}


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _describe(code: int) -> Json:
    """An exit code in words. 137 and -9 alone do not prove a lack of memory; the kernel's count does."""
    if code >= 0:
        return {"exit_code": code}
    name = signal.Signals(-code).name
    kills = _oom_kills()
    reason = f"the training was killed by {name}"
    if code == -signal.SIGKILL and kills:
        reason += f" (the kernel has killed {kills} process(es) here for lack of memory)"
    return {"exit_code": code, "signal": name, "reason": reason}


def _oom_kills() -> int:
    """How often the kernel killed for lack of memory in this control group (Linux, cgroup 2), 0 where unknown."""
    try:
        with open("/proc/self/cgroup", encoding="ascii") as stream:
            group = stream.read().strip().rsplit("::", 1)[-1]
        with open(f"/sys/fs/cgroup{group}/memory.events", encoding="ascii") as stream:
            counts = dict(line.split() for line in stream)
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 512):
            pass
    except BlockingIOError:
        pass
