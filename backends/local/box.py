"""An attempt's box on this machine: laid out whole or not at all, and looked at without trusting a process number."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher.backend import OUTCOMES, InputFile, Lines, State, Status
from launcher.errors import RemoteError
from launcher.files import is_held, try_lock, write_atomic

READ_BYTES = 1 << 20
HOST = "state/host"


def lay_out(box: Path, inputs: Sequence[InputFile], attempt_json: Mapping[str, Any]) -> None:
    """Make the box under another name, and give it its own: a box is whole, or not there."""
    part = box.with_name(f".part-{box.name}-{os.getpid()}-{threading.get_ident()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for folder in ("in", "out", "state", "work"):
            (part / folder).mkdir(parents=True)
        for file in inputs:
            target = part / "in" / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.source, target)
        write_atomic(part / "in" / "attempt.json", json.dumps(dict(attempt_json)).encode())
        (part / HOST).write_text(platform.node(), encoding="utf-8")
        try:
            part.rename(box)
        except OSError:
            if not box.exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def status_of(box: Path) -> Status:
    """What box, lock and exit.json say."""
    state = box / "state"
    try:
        if not state.exists() and not box.exists():
            return Status(State.LOST, "its folder is gone")
        if (host := elsewhere(box)) and not (state / "exit.json").exists():
            return Status(State.UNKNOWN, f"it runs on {host}, which shares this folder: ask there")
        if not (state / "started").exists():
            return Status(State.QUEUED)
        if not host and is_held(state / "lock"):
            return Status(State.RUNNING)
        ended = json.loads((state / "exit.json").read_bytes())
        return Status(OUTCOMES.get(ended["outcome"], State.UNKNOWN), ended.get("reason", ""), ended.get("exit_code"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        if (state / "cancel").exists():
            return Status(State.CANCELLED)
        return Status(State.LOST, "its supervisor is gone without a word (killed, or a restart)")
    except OSError as error:
        return Status(State.UNKNOWN, f"{box} cannot be looked at: {error.strerror}")


def elsewhere(box: Path) -> str:
    """The name of the other machine whose box this is, in a runs folder that several share; empty for our own.

    Locks need not reach from one machine to another, and process numbers do not.
    """
    try:
        host = (box / HOST).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return "" if host == platform.node() else host


def never_start(box: Path) -> None:
    """End a box whose supervisor was never started (its submit was killed): one that comes later finds it taken."""
    state = box / "state"
    with try_lock(state / "lock") as free:
        if free and not (state / "started").exists():
            write_atomic(state / "exit.json", b'{"outcome": "cancelled", "reason": "cancelled before it was started"}')
            write_atomic(state / "started", b"")


def read(stream: Path, offset: int) -> Lines:
    try:
        with asking(stream), stream.open("rb") as file:
            file.seek(offset)
            data = file.read(READ_BYTES)
            while b"\n" not in data and (more := file.read(READ_BYTES)):
                data += more  # a line that is longer than a read
    except FileNotFoundError:
        return Lines((), str(offset))
    whole = data[: data.rfind(b"\n") + 1]
    return Lines(tuple(whole.decode("utf-8", "replace").split("\n")[:-1]), str(offset + len(whole)))


def connect(path: Path) -> socket.socket:
    """A socket connected to one whose path may be longer than the 100 bytes that an address holds."""
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bell.setblocking(False)
        if len(os.fsencode(path)) < 100:
            bell.connect(str(path))
            return bell
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            bell.connect(f"/proc/self/fd/{folder}/{path.name}")  # Linux; elsewhere the stream is looked at instead
        finally:
            os.close(folder)
    except OSError:
        bell.close()
        raise
    return bell


@contextmanager
def asking(what: object) -> Iterator[None]:
    """What the system refuses to tell is an answer that did not come; that a file is not there is one."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RemoteError(f"{what} cannot be looked at: {error.strerror}") from error


def unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
