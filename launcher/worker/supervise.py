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

from .box import EXIT_EXPIRED, Box, write_json
from .stream import LAST, LINE_LIMIT, Stream, unlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .box import Json

HEARTBEAT_S = 30.0
GRACE_S = 10.0  # between asking the training to end and killing it
DEADLINE_GRACE_S = 120.0  # the training leaves at its own deadline, at an epoch's end; this long after it is killed
TORN_LIMIT = 1 << 20
OWN_EVENTS = ("done", "failed", "heartbeat")  # what the supervisor alone may say
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
        self.hours = box.max_hours()
        self.deadline = self.begun + self.hours * 3600 if self.hours else float("inf")
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
        elif (code := self._prepare() or self._probe()) == 0 and not self.job.get("probe_only"):
            code = self._train(restarts)
        return self._finish(code)

    def _prepare(self) -> int:
        """The commands that come before the training; returns the exit code of the first that fails, or 0."""
        for command in self.attempt.get("before") or ():
            argv = [self._filled(word) for word in command]
            code = self._once(argv, 0)
            if code or self.stopping:
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                self.error.setdefault("reason", f"`{' '.join(argv)[:200]}` {how}")
                return code or -int(signal.SIGTERM)
            self.error = {}  # it has told of something and got over it: not why a training ends hours later
        return 0

    def _probe(self) -> int:
        """Before a training begins at its first epoch: does this machine compute the same? The exit code, or 0.

        A probe that was killed has said nothing: a training that does not require one begins all the same.
        """
        asked = self.attempt.get("probe")
        if not asked or self.attempt.get("resume"):
            return 0
        code = self._once([self._filled(word) for word in ("{python}", "{worker}", "probe", "{box}")], 0)
        if code < 0 and not self.stopping and not asked.get("required"):
            reason = f"the probe was killed by {signal.Signals(-code).name}"
            self.stream.event("warning", {"code": "probe-failed", "reason": reason})
            code = 0
        if code == 0 and not self.stopping:
            self.error = {}
            return 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self.error.setdefault("reason", f"the probe {how}")
        return code or -int(signal.SIGTERM)

    def _train(self, restarts: int) -> int:
        """The training, again where a kill ended it; returns the exit code of the last."""
        for restart in range(restarts + 1):
            code = self._once(self._argv(), restart)
            if code >= 0 or self.stopping or restart == restarts:
                break
            self.stream.event("warning", {"code": "trainer-killed", **_describe(code), "restart": restart + 1})
        return code

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

    def _filled(self, word: str) -> str:
        """A word of a command, with the places of this machine in it."""
        worker = os.path.join(self.box.inbox, "worker.pyz")
        return word.replace("{box}", self.box.root).replace("{python}", self._python()).replace("{worker}", worker)

    def _python(self) -> str:
        return str(self.attempt.get("python") or sys.executable)

    def _argv(self) -> list[str]:
        python = self._python()
        payload = os.path.join(self.box.inbox, "payload.py")
        if os.path.exists(payload):
            return [python, payload, self.box.root]
        return [python, os.path.join(self.box.inbox, "worker.pyz"), "train", self.box.root]

    def _once(self, argv: list[str], restart: int) -> int:
        """Run one command to its end; one that cannot be started has the code that a shell gives it."""
        try:
            return self._run_command(argv, restart)
        except OSError as error:  # no such Python, no process or pipe to be had
            self.error = {"type": type(error).__name__, "reason": f"{argv[0]} could not be started: {error}"}
            return NOT_STARTED

    def _run_command(self, argv: list[str], restart: int) -> int:
        """Start it, carry its output to the end; returns its exit code, negative for a signal."""
        out_r, out_w = os.pipe()
        event_r, event_w = os.pipe()
        life_r, life_w = os.pipe()
        passed = {"SAMERUN_EVENTS": event_w, "SAMERUN_LIFELINE": life_r}
        for fd in (*passed.values(), self.lock):
            os.set_inheritable(fd, True)
        env = {**os.environ, **{name: str(fd) for name, fd in passed.items()}, "SAMERUN_RESTART": str(restart)}
        null = os.open(os.devnull, os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out_w, 1), (os.POSIX_SPAWN_DUP2, out_w, 2)]
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
            if os.path.exists(self.box.temporary):  # a training that was killed has not removed it
                from . import scratch

                scratch.remove(self.box)

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
                self._end("expired", f"max_hours ({self.hours}) is over")
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
            unlink(self.box.reserve)
            try:
                fields["manifest"] = manifest.write_final(self.box, complete=outcome == "done")
            except OSError as error:
                fields["manifest_error"] = str(error)
        self.stream.event("done" if outcome == "done" else "failed", fields)
        self.stream.make_room()
        unlink(self.box.reserve + LAST)
        write_json(self.box.exit, fields)
        self.stream.bell.ring()
        return 0 if outcome == "done" else (code if code > 0 else 128 - code)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


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
