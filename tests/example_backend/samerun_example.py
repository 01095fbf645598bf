"""An example of a backend, to copy from: a folder that takes a job and shows nothing of it until it has ended.

It behaves like a service that runs what it was sent as a batch: no output and no files meanwhile, and no way to stop.
What it cannot do stands in `lacks`; the rest keeps the eight sentences of `launcher.backend`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.backend import (
    OUTCOMES,
    Attempt,
    Backend,
    DataSource,
    Feature,
    Handle,
    Lines,
    Need,
    Offer,
    RemoteFile,
    Request,
    State,
    Status,
)
from launcher.errors import RemoteError
from launcher.files import is_held, storage
from launcher.finding import Finding, Severity
from launcher.settings import Settings
from launcher.sync.manifest import safe
from launcher.variables import expand

START_S = 20.0


@dataclass(frozen=True)
class ExampleRequest(Request):
    """The folder that will be made, and the in/attempt.json that will lie in it."""

    box: Path
    attempt_json: Mapping[str, Any]

    def show(self) -> dict[str, Any]:
        """What a dry run prints."""
        return {**super().show(), "box": str(self.box), "attempt.json": dict(self.attempt_json)}


class ExampleBackend(Backend[ExampleRequest]):
    """See `launcher.backend.Backend`: each method there says what it owes."""

    name = "example"
    lacks: Mapping[Feature, str] = {
        Feature.CANCEL: "what was handed in runs to its end",
        Feature.LIVE_LINES: "output is shown when the worker has ended",
        Feature.LIVE_FILES: "files are shown when the worker has ended",
    }

    def __init__(self, settings: Settings) -> None:
        self._root = settings.runs_dir / ".example"

    def check(self) -> list[Finding]:
        """A backend with credentials or a quota looks at them here."""
        return [Finding("example.place", Severity.INFO, f"attempts lie in {self._root}")]

    def offer(self, need: Need) -> Offer:
        """The CPU of this machine, and nothing else."""
        found = []
        if need.device not in ("auto", "cpu"):
            found.append(Finding("example.device", Severity.ERROR, f"there is no {need.device} here"))
        if need.options:
            found.append(Finding("example.options", Severity.ERROR, f"unknown settings: {', '.join(need.options)}"))
        return Offer("this machine", "cpu", need.max_hours, 0.0, findings=tuple(found))

    def prepare(self, attempt: Attempt) -> ExampleRequest:
        """The dataset is read where it lies; a backend elsewhere decides here how to bring it."""
        described = {**attempt.describe, "device": "cpu", "python": sys.executable}
        if isinstance(attempt.data, DataSource):
            described["data_root"] = str(attempt.data.root)
        return ExampleRequest(attempt, self._box(attempt.id), described)

    def submit(self, request: ExampleRequest) -> Handle:
        """Whole or not at all: laid out under another name, renamed. A second worker in one box ends at once."""
        values = {name: expand(text, os.environ) for name, text in request.attempt.variables.items()}
        if not request.box.exists():
            with storage("laying out the attempt"):
                self._lay_out(request)
        argv = [sys.executable, str(request.box / "in" / "worker.pyz"), str(request.box)]
        null = subprocess.DEVNULL
        worker = subprocess.Popen(
            argv, env={**os.environ, **values}, stdin=null, stdout=null, stderr=null, start_new_session=True
        )
        until = time.monotonic() + START_S
        while self.find(request.attempt) is None:
            if worker.poll() or time.monotonic() > until:
                raise RemoteError(f"the worker of {request.attempt.id} has not started")
            time.sleep(0.005)
        return self._handle(request.attempt.id)

    def find(self, attempt: Attempt) -> Handle | None:
        """The worker writes `started` first of all."""
        return self._handle(attempt.id) if (self._box(attempt.id) / "state" / "started").exists() else None

    def poll(self, handles: Sequence[Handle]) -> dict[str, Status]:
        """A service would be asked once, for all of them."""
        return {handle.attempt: self._status(self._box(handle.attempt)) for handle in handles}

    def lines(self, handle: Handle, cursor: str, wait: float) -> Lines:
        """The cursor counts bytes. A line without its end stays where it is."""
        begun = int(cursor or 0)
        if not self._shown(handle):
            time.sleep(wait)
            return Lines((), cursor)
        data = (self._box(handle.attempt) / "out" / "stream.log").read_bytes()[begun:]
        whole = data[: data.rfind(b"\n") + 1]
        return Lines(tuple(whole.decode("utf-8", "replace").split("\n")[:-1]), str(begun + len(whole)))

    def files(self, handle: Handle) -> list[RemoteFile] | None:
        """None while nothing is shown."""
        if not self._shown(handle):
            return None
        out = self._box(handle.attempt) / "out"
        files = [path for path in out.rglob("*") if path.is_file() and not path.is_symlink()]
        return [RemoteFile(path.relative_to(out).as_posix(), path.stat().st_size) for path in sorted(files)]

    def fetch(self, handle: Handle, paths: Sequence[str], to: Path) -> None:
        """`safe` refuses paths that lead outside."""
        shown = {file.path for file in self.files(handle) or ()}
        with storage("keeping what came back"):
            for path in shown & {safe(path) for path in paths}:
                (to / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._box(handle.attempt) / "out" / path, to / path)

    def cancel(self, handle: Handle) -> Status:
        """There is no way; a status that has not ended says why."""
        status = self.poll([handle])[handle.attempt]
        return status if status.state.ended else Status(status.state, self.lacks[Feature.CANCEL])

    def release(self, handle: Handle) -> list[str]:
        """Nothing is deleted under a worker that runs."""
        box = self._box(handle.attempt)
        if box.exists() and not self._status(box).state.ended:
            return [f"{box}: its worker is still running"]
        shutil.rmtree(box, ignore_errors=True)
        return [f"{box}: could not be deleted"] if box.exists() else []

    def owned(self) -> list[Handle]:
        """Folders whose names start with a dot are not yet laid out."""
        boxes = sorted(self._root.glob("[!.]*"))
        return [self._handle(box.name) for box in boxes]

    def _box(self, attempt: str) -> Path:
        return self._root / attempt

    def _handle(self, attempt: str) -> Handle:
        return Handle(self.name, attempt)

    def _shown(self, handle: Handle) -> bool:
        box = self._box(handle.attempt)
        return self._status(box).state.ended and (box / "out" / "stream.log").exists()

    def _lay_out(self, request: ExampleRequest) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=self._root) as folder:
            part = Path(folder) / "box"
            for file in request.attempt.inputs:
                target = part / "in" / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.source, target)
            (part / "in" / "attempt.json").write_text(json.dumps(dict(request.attempt_json)))
            try:
                part.rename(request.box)
            except OSError:
                if not request.box.exists():  # else another process was first
                    raise

    def _status(self, box: Path) -> Status:
        """The worker holds a lock as long as one of its processes lives, and leaves exit.json when it ends itself."""
        try:
            if not (box / "state" / "started").exists():
                return Status(State.QUEUED) if box.exists() else Status(State.LOST, "its folder is gone")
            if is_held(box / "state" / "lock"):
                return Status(State.RUNNING)
            ended = json.loads((box / "state" / "exit.json").read_bytes())
            return Status(OUTCOMES.get(ended["outcome"], State.UNKNOWN), ended.get("reason", ""), ended["exit_code"])
        except FileNotFoundError:
            return Status(State.LOST, "its worker is gone without a word")
        except (OSError, ValueError, KeyError) as error:
            return Status(State.UNKNOWN, f"{box} cannot be looked at: {error}")
