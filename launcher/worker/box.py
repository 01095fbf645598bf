"""The folder an attempt lives in, on whatever machine, and how files in it are written: whole or not at all.

    in/      what came: worker.pyz, job.json, attempt.json, data.json, resume/, probe/
    out/     the outbox: stream.log, manifest.json, probe.json, train/, checkpoint/
    work/    scratch: Ultralytics' settings, the dataset view, temporary files. Never leaves the machine
    state/   lock, started, exit.json, bell, cancel

Light on purpose (no pathlib): the supervisor stays in memory beside every training.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False  # the typing module would cost the supervisor memory that it holds for hours
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

EVENT_MARK = "@samerun "
"""Starts each line of the stream that is an event; a line of the training that starts so is indented by a space."""

EXIT_EXPIRED = 75
"""Exit code with which the training leaves when its time is up (EX_TEMPFAIL of sysexits.h)."""


class Box:
    """Paths of an attempt's folder."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.inbox = os.path.join(self.root, "in")
        self.out = os.path.join(self.root, "out")
        self.work = os.path.join(self.root, "work")
        self.state = os.path.join(self.root, "state")
        self.stream = os.path.join(self.out, "stream.log")
        self.manifest = os.path.join(self.out, "manifest.json")
        self.probe = os.path.join(self.out, "probe.json")
        self.train = os.path.join(self.out, "train")
        self.checkpoints = os.path.join(self.out, "checkpoint")
        self.lock = os.path.join(self.state, "lock")
        self.started = os.path.join(self.state, "started")
        self.exit = os.path.join(self.state, "exit.json")
        self.bell = os.path.join(self.state, "bell")
        self.cancel = os.path.join(self.state, "cancel")
        self.temporary = os.path.join(self.work, "temporary")
        self.reserve = os.path.join(self.state, "reserve")

    def make(self) -> None:
        """Create the folders that the worker writes to."""
        for folder in (self.out, self.work, self.state):
            os.makedirs(folder, exist_ok=True)

    def max_hours(self) -> float | None:
        """The longest that this attempt may take: the job's limit or the attempt's own, whichever is less."""
        limits = [hours for hours in (self.job().get("max_hours"), self.attempt().get("max_hours")) if hours]
        return min(limits, default=None)

    def job(self) -> Json:
        """in/job.json: what every attempt of the run has in common."""
        return read_json(os.path.join(self.inbox, "job.json"))

    def attempt(self) -> Json:
        """in/attempt.json: what is this attempt's own."""
        return read_json(os.path.join(self.inbox, "attempt.json"))


def read_json(path: str) -> Json:
    """A JSON object from a file. Raises OSError or ValueError."""
    with open(path, encoding="utf-8") as stream:
        value = json.load(stream)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value


def write_bytes(path: str, data: bytes) -> None:
    """Write beside the final name, rename.

    Nothing waits for the disk: after a power cut a file may be empty or old. No reader takes one for anything else:
    an unreadable exit.json is a lost attempt, and a checkpoint counts by its digests.
    """
    part = f"{path}.part-{os.getpid()}"
    try:
        with open(part, "wb") as stream:
            stream.write(data)
        os.replace(part, path)
    except OSError:
        if os.path.exists(part):
            os.unlink(part)
        raise


def write_json(path: str, value: Json) -> None:
    """A JSON object into a file, whole or not at all."""
    write_bytes(path, json.dumps(value, indent=1, sort_keys=True).encode())
