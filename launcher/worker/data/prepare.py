"""The user's script that makes a dataset of what is attached: in/prepare.py, run before the training.

It is called as `python in/prepare.py SOURCE TARGET`: SOURCE is the folder that is attached, which may be read only, and
TARGET a fresh folder, in which the script leaves data.yaml and what that names (links to files of SOURCE will do). The
script runs once in a box: what it made is kept when it has come to its end, and made anew when it has not. TARGET is
the same path from its first to its last day, because lists of images and data.yaml may name it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

from .. import manifest
from ..box import Box, write_bytes
from ..events import FD_VARIABLE, LIFELINE_VARIABLE, Emitter, hold_lifeline
from . import dataset, listing

FAILED = "prepare-failed"


def prepare(root: str) -> int:
    """Run the box's script, if it has one. Returns 0 when the dataset is made, else 1; the `error` event says why."""
    box = Box(root)
    emit = Emitter()
    hold_lifeline()
    if not os.path.exists(listing.script(box)) or listing.is_prepared(box):
        return 0
    begun = time.monotonic()
    try:
        reason = _checked(box) or _made(box, emit)
    except OSError as error:
        reason = f"{type(error).__name__}: {error}"
    if reason:
        remedy = "its output in the log says more; mend the script, then `launch` the spec again"
        emit("error", type="PrepareError", code=FAILED, reason=f"prepare.py: {reason}"[:2000], remedy=remedy)
        return 1
    write_bytes(f"{listing.prepared(box)}.done", b"")
    emit("prepared", seconds=round(time.monotonic() - begun, 3))
    return 0


def _checked(box: Box) -> str:
    """What is wrong with what came: nothing is run that was not sent."""
    attempt = box.attempt()
    sent = attempt.get("files", {}).get("prepare.py")
    if sent != manifest.entry(box.inbox, "prepare.py")["sha256"]:
        return "it is not the one that was sent: its sha256 differs"
    source = str(attempt.get("data_root") or "")
    return "" if os.path.isdir(source) else f"the attached data is not here: there is no folder {source!r}"


def _made(box: Box, emit: Emitter) -> str:
    """Run the script to its end; returns why there is no dataset now, or nothing."""
    source, target = str(box.attempt()["data_root"]), listing.prepared(box)
    shutil.rmtree(target, ignore_errors=True)  # of a script that was killed
    os.makedirs(target)
    emit("preparing", what=f"prepare.py makes the dataset of {source}")
    # Its words are to be seen as they come; the worker's pipes are not its own.
    env = {name: value for name, value in os.environ.items() if name not in (FD_VARIABLE, LIFELINE_VARIABLE)}
    argv = [sys.executable, listing.script(box), source, target]
    code = subprocess.call(argv, cwd=box.work, env={**env, "PYTHONUNBUFFERED": "1"}, stdin=subprocess.DEVNULL)
    if code:
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    try:
        listing.find(target)
    except dataset.FaultyError as error:
        return f"has left no dataset: {error}"
    return ""
