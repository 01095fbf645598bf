"""Attempts' boxes on this host: laid out whole or not at all, started once, looked at without trusting a number.

Whether a worker lives is told by the lock that its supervisor and its training hold together and that the system takes
back when both are gone. Process numbers are used only while that lock is held: the system gives no number out again
that names a living session. Imports are few, and made where they are needed: each question starts Python anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time

from .answer import Refusal, take
from .facts import boot_id, node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, BinaryIO

    Json = dict[str, Any]

BOXES, INCOMING = "boxes", "incoming"
LOOK_S = 0.005
HOME = "state/machine.json"
"""Where a box was started: node and boot id."""
CAFFEINATE = "/usr/bin/caffeinate"


def box_of(root: str, attempt: str) -> str:
    """The box's folder. Raises Refusal for a name that is no folder's."""
    if not attempt or attempt.startswith(".") or "/" in attempt or "\0" in attempt:
        raise Refusal(f"{attempt!r} is no attempt's name")
    return os.path.join(root, BOXES, attempt)


def boxes(root: str) -> list[str]:
    """Attempts whose box is here."""
    folder = os.path.join(root, BOXES)
    return sorted(name for name in os.listdir(folder) if name[0] != ".") if os.path.isdir(folder) else []


def lay_out(root: str, asked: Json, stream: BinaryIO) -> Json:
    """Make the box, under another name first. Files come now (`size` bytes each), or were `sent` to incoming/."""
    import shutil

    box = box_of(root, asked["attempt"])
    part = os.path.join(root, BOXES, f".part-{asked['attempt']}-{os.getpid()}")
    incoming = os.path.join(root, INCOMING, asked["attempt"])
    if os.path.isdir(box):
        return {"made": False}
    _sweep(root, asked["attempt"])
    try:
        for name in ("in", "out", "state", "work"):
            os.makedirs(os.path.join(part, name))
        for file in asked["files"]:
            target = _inside(os.path.join(part, "in"), file["path"])
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if "sent" in file:
                _bring(_inside(incoming, file["sent"]), target)
            else:
                with open(target, "wb") as out:
                    out.write(take(stream, file["size"]))
            if _sha256(target) != file["sha256"]:
                raise Refusal(f"in/{file['path']} arrived with other bytes than were sent", "launch again")
        with open(os.path.join(part, "in", "attempt.json"), "w", encoding="utf-8") as out:
            json.dump(asked["attempt_json"], out)
        with open(os.path.join(part, HOME), "w", encoding="utf-8") as out:
            json.dump({"node": node(), "boot": boot_id()}, out)
        try:
            os.rename(part, box)
        except OSError:
            if not os.path.isdir(box):  # else another launcher was first
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {"made": True}


def start(root: str, asked: Json) -> Json:
    """Start the supervisor in a session of its own, and wait until it, or another one, has taken the box."""
    import subprocess

    box = box_of(root, asked["attempt"])
    started = os.path.join(box, "state", "started")
    if not os.path.isdir(box):
        raise Refusal(f"there is no box of {asked['attempt']}", "launch again")
    if other := _elsewhere(box):
        raise Refusal(f"{asked['attempt']} was begun on {other}, which shares this folder", f"ask {other} for it")
    if os.path.exists(started):
        return {"how": ""}
    with open(os.path.join(box, HOME), "w", encoding="utf-8") as out:
        json.dump({"node": node(), "boot": boot_id()}, out)
    prefix, how = _scope()
    argv = [*prefix, sys.executable, "-I", "-S", os.path.join(box, "in", "worker.pyz"), box]
    null = subprocess.DEVNULL
    env = {**os.environ, **asked["env"]}
    worker = subprocess.Popen(argv, env=env, cwd="/", stdin=null, stdout=null, stderr=null, start_new_session=True)
    until = time.monotonic() + asked["wait"]
    while not os.path.exists(started):
        code = worker.poll()
        if code not in (None, 0) or time.monotonic() > until:
            if code is None or code <= 0:  # 0: another one had the box, and died before it said so
                why = f"it was ended by signal {-code}" if code else f"not within {asked['wait']:g} s"
                raise Refusal(f"the worker did not take its box: {why}", "once more", unsure=True)
            raise Refusal(f"the worker did not start (exit code {code})", f"run {' '.join(argv)} on the host")
        time.sleep(LOOK_S)
    if sys.platform == "darwin" and leader_of(box):
        keep = [CAFFEINATE, "-i", "-w", str(leader_of(box))]
        subprocess.Popen(keep, stdin=null, stdout=null, stderr=null, start_new_session=True)
    return {"how": how}


def status(root: str, attempt: str) -> Json:
    """What box, lock, exit.json and boot id say: `state` is one of the launcher's, `started` whether it was accepted.

    `outcome` is the worker's own word for how it ended.
    """
    box = box_of(root, attempt)
    state = os.path.join(box, "state")
    started = os.path.exists(os.path.join(state, "started"))
    try:
        if not os.path.isdir(box):
            return {"state": "lost", "reason": "its folder is gone", "started": False}
        other = _elsewhere(box)
        ended = os.path.join(state, "exit.json")
        if other and not os.path.exists(ended):
            reason = f"it runs on {other}, which shares this folder: ask there"
            return {"state": "unknown", "reason": reason, "started": started}
        if not started:
            return {"state": "queued", "started": False}
        if not other and is_held(os.path.join(state, "lock")):
            return {"state": "running", "started": True}
        with open(ended, encoding="utf-8") as stream:
            said = json.load(stream)
        found = {"outcome": said["outcome"], "reason": said.get("reason", ""), "exit_code": said.get("exit_code")}
        return {**found, "state": "ended", "started": True}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        if os.path.exists(os.path.join(state, "cancel")):
            return {"state": "cancelled", "started": started}
        return {"state": "lost", "reason": _why_lost(box), "started": started}


def _why_lost(box: str) -> str:
    """Told by the boot id: a machine that was restarted, or a supervisor that was killed."""
    before, now = _home(box).get("boot"), boot_id()
    if before and now and before != now:
        return "the host was restarted"
    return "its supervisor is gone without a word (killed, or its container was restarted)"


def files(root: str, attempt: str) -> list[list[Any]] | None:
    """Path and size of each file of the outbox. The training adds and removes files meanwhile."""
    import stat

    out = os.path.join(box_of(root, attempt), "out")
    if not os.path.isdir(out):
        return None
    found = []
    for folder, _, names in os.walk(out, onerror=_unless_gone):
        for path in (os.path.join(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                seen = os.lstat(path)
                if stat.S_ISREG(seen.st_mode):
                    found.append([os.path.relpath(path, out), seen.st_size])
    return sorted(found)


def cancel(root: str, attempt: str, wait: float, kill: bool) -> Json:
    """Ask the supervisor to end (it ends the whole process group), wait a while for it; `kill` its session first."""
    import signal

    box = box_of(root, attempt)
    found = status(root, attempt)
    if found["state"] not in ("queued", "running"):
        return found
    with open(os.path.join(box, "state", "cancel"), "ab"):
        pass
    _never_start(box)
    until = time.monotonic() + wait
    asked = False
    while (found := status(root, attempt))["state"] in ("queued", "running") and time.monotonic() < until:
        leader = leader_of(box)
        if found["state"] == "running" and leader and not asked:
            asked = True
            if kill:
                _kill_session(leader)
            with contextlib.suppress(ProcessLookupError):
                os.kill(leader, signal.SIGTERM)
        time.sleep(LOOK_S)
    return found


def release(root: str, attempt: str) -> list[str]:
    """Delete the box of an attempt that has ended, and what was sent for it; returns what is left, in words."""
    import shutil

    box = box_of(root, attempt)
    if os.path.isdir(box):
        found = status(root, attempt)
        if found["state"] in ("queued", "running", "unknown"):
            return [f"{box}: {found.get('reason') or 'it is ' + found['state']}; cancel it first"]
    left = []
    _sweep(root, attempt)
    for folder in (box, os.path.join(root, INCOMING, attempt)):
        shutil.rmtree(folder, ignore_errors=True)
        left += [f"{folder}: could not be deleted"] if os.path.lexists(folder) else []
    return left


def _sweep(root: str, attempt: str) -> None:
    """Remove boxes of this attempt that were half laid out by one who is dead."""
    import shutil

    folder, start = os.path.join(root, BOXES), f".part-{attempt}-"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        number = name[len(start) :] if name.startswith(start) else ""
        if number.isdigit() and not _lives(number):  # what follows may be more of another attempt's name
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def _lives(number: str) -> bool:
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def leader_of(box: str) -> int:
    """The supervisor's process number, which is also its session's; 0 while it is not known."""
    try:
        with open(os.path.join(box, "state", "started"), encoding="ascii") as stream:
            return int(stream.read() or 0)
    except (OSError, ValueError):
        return 0


def is_held(path: str) -> bool:
    """Whether someone holds this lock. Looking disturbs neither them nor others who look."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _never_start(box: str) -> None:
    """End a box whose supervisor was never started: one that comes later finds it taken."""
    state = os.path.join(box, "state")
    with locked(os.path.join(state, "lock"), wait=False) as free:
        if free and not os.path.exists(os.path.join(state, "started")):
            said = {"outcome": "cancelled", "reason": "cancelled before it was started"}
            with open(os.path.join(state, "exit.json"), "w", encoding="utf-8") as out:
                json.dump(said, out)
            with open(os.path.join(state, "started"), "xb"):
                pass


@contextlib.contextmanager
def locked(path: str, *, wait: bool) -> Iterator[bool]:
    """Hold a lock that the system takes back when this process dies; yields whether it was free."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if _is_there(fd, path):  # else it was deleted while it was waited for, and others may hold a new one
                yield True
                return
        finally:
            os.close(fd)


def _is_there(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _home(box: str) -> Json:
    try:
        with open(os.path.join(box, HOME), encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _elsewhere(box: str) -> str:
    """The other machine whose box this is, in a home folder that several share; empty for our own.

    Locks need not reach from one machine to another, and process numbers do not.
    """
    home = str(_home(box).get("node", ""))
    return "" if home == node() else home


def _scope() -> tuple[Sequence[str], str]:
    """What to put before a command so that it outlives the login.

    A session of its own is enough unless the system ends all of a user's processes at logout. Then a scope of the
    user's service manager is needed, and that lives on only for users who linger; without lingering it would end what
    a mere session would have kept.
    """
    import shutil
    import subprocess

    from .facts import lingers

    prefix = ("systemd-run", "--user", "--scope", "--quiet", "--collect", "--")
    if not lingers() or shutil.which(prefix[0]) is None:
        return (), "session"
    try:
        null = subprocess.DEVNULL
        tried = subprocess.run([*prefix, "true"], stdin=null, stdout=null, stderr=null, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return (), "session"
    return (prefix, "scope") if tried.returncode == 0 else ((), "session")


def _kill_session(leader: int) -> None:
    """Kill every process of the supervisor's session."""
    import signal
    import subprocess

    if os.path.isdir("/proc/self"):
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    else:
        listed = subprocess.run(["ps", "-axo", "pid="], stdout=subprocess.PIPE, check=False).stdout
        numbers = [int(number) for number in listed.split()]
    for number in numbers:
        with contextlib.suppress(OSError):
            if leader and os.getsid(number) == leader:
                os.kill(number, signal.SIGKILL)


def _inside(folder: str, path: str) -> str:
    """A path below a folder. Raises Refusal for one that leads out of it."""
    if os.path.isabs(path) or ".." in path.split("/"):
        raise Refusal(f"{path!r} leads out of its folder")
    return os.path.join(folder, *path.split("/"))


def _bring(source: str, target: str) -> None:
    """Have a file that was sent before in the box, without a second copy where the file system can do that."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise Refusal(f"{source} is gone", "launch again") from None
    except OSError:
        import shutil

        shutil.copyfile(source, target)


def _sha256(path: str) -> str:
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
