"""A backend with someone looking over its shoulder, and the small questions that the suite asks again and again."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from launcher.backend import Attempt, Backend, Handle, Lines, State, Status
from launcher.errors import SamerunError
from launcher.sync import manifest as manifests

CALLS = frozenset(
    ("check", "offer", "prepare", "submit", "find", "poll", "lines", "files", "fetch", "cancel", "release", "owned")
)
MARK = "@samerun "
LOOK_S = 0.01


def watched(backend: Backend[Any], limit_s: float) -> Backend[Any]:
    """The same backend; a call that takes longer than `limit_s`, or raises what is no SamerunError, fails the test."""
    return cast(Backend[Any], _Watched(backend, limit_s))


class _Watched:
    def __init__(self, backend: Backend[Any], limit_s: float) -> None:
        self._backend = backend
        self._limit_s = limit_s

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._backend, name)
        return (lambda *args, **kwargs: self._call(name, value, args, kwargs)) if name in CALLS else value

    def _call(self, name: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call in a thread, so that a call that never ends is seen (and left behind)."""
        result: list[Any] = []
        error: list[BaseException] = []

        def work() -> None:
            try:
                result.append(method(*args, **kwargs))
            except BaseException as raised:  # noqa: BLE001  handed over to the test
                error.append(raised)

        thread = threading.Thread(target=work, name=f"{name}()", daemon=True)
        thread.start()
        thread.join(self._limit_s)
        if error:
            if not isinstance(error[0], SamerunError):
                raise AssertionError(f"{name}() raised {error[0]!r}, which is no SamerunError") from error[0]
            raise error[0]
        if not result:
            raise AssertionError(f"{name}() has not ended within {self._limit_s:g} s")
        return result[0]


def ended(backend: Backend[Any], handle: Handle, within_s: float) -> Status:
    """Ask until the attempt has ended. Raises AssertionError when it does not."""
    return until(backend, handle, lambda status: status.state.ended, within_s)


def until(backend: Backend[Any], handle: Handle, is_so: Callable[[Status], bool], within_s: float) -> Status:
    """Ask until the status is so."""
    limit = time.monotonic() + within_s
    while not is_so(status := backend.poll([handle])[handle.attempt]):
        if time.monotonic() > limit:
            raise AssertionError(f"after {within_s:g} s the attempt is still {status}")
        time.sleep(LOOK_S)
    return status


def wait_until(is_so: Callable[[], bool], within_s: float, otherwise: str) -> None:
    """Look until it is so. Raises AssertionError, with these words, when it does not become so."""
    limit = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > limit:
            raise AssertionError(f"after {within_s:g} s {otherwise}")
        time.sleep(LOOK_S)


def all_lines(backend: Backend[Any], handle: Handle, cursor: str = "") -> list[str]:
    """Every line after the cursor that there is now."""
    found: list[str] = []
    while (chunk := backend.lines(handle, cursor, 0.0)).lines:
        found += chunk.lines
        cursor = chunk.cursor
    return found


def wait_for_line(backend: Backend[Any], handle: Handle, is_it: Callable[[str], bool], within_s: float) -> list[str]:
    """Read until a line is the one; returns all up to it, and those that came with it."""
    limit = time.monotonic() + within_s
    read = Lines((), "")
    found: list[str] = []
    while not any(is_it(line) for line in read.lines):
        if time.monotonic() > limit:
            raise AssertionError(f"the line has not come within {within_s:g} s; these have: {found[-5:]}")
        read = backend.lines(handle, read.cursor, 0.2)
        found += read.lines
    return found


def is_event(line: str, name: str) -> bool:
    """Whether the line is an event of this name."""
    return any(event["event"] == name for event in events([line]))


def events(lines: list[str]) -> list[dict[str, Any]]:
    """The events among these lines."""
    return [json.loads(line[len(MARK) :]) for line in lines if line.startswith(MARK)]


def manifest_of(backend: Backend[Any], handle: Handle, to: Path) -> tuple[manifests.Manifest, bytes]:
    """The outbox's manifest and its bytes."""
    to.mkdir(parents=True, exist_ok=True)
    backend.fetch(handle, [manifests.NAME], to)
    raw = (to / manifests.NAME).read_bytes()
    return manifests.parse(raw), raw


def tree(folder: Path) -> dict[str, str]:
    """What lies below a folder: path → kind and digest. Two equal trees are two equal folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        found[str(path.relative_to(folder))] = kind + (_digest(path) if kind == "file" else "")
    return found


def files_with(folder: Path, text: bytes) -> list[str]:
    """The files below a folder that hold this text."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def handed_over(handle: Handle) -> Handle:
    """The handle as another process gets it: through JSON."""
    text = json.dumps({"backend": handle.backend, "attempt": handle.attempt, "data": dict(handle.data)})
    return Handle(**json.loads(text))


def submitted(backend: Backend[Any], attempt: Attempt) -> Handle:
    """Prepare, stage and submit an attempt, as a run does."""
    request = backend.prepare(attempt)
    backend.stage(request, lambda what, done, of: None)
    return backend.submit(request)


def running(status: Status) -> bool:
    """Whether a machine works on it."""
    return status.state is State.RUNNING


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return os.strerror(error.errno or 0)
