"""The folder for temporary files: below the box where its path is short, else in the system's temporary folder.

Data loaders bind sockets below it, and a socket's path may have 107 bytes (104 on macOS). A folder outside the box is
written down in work/temporary, so that whoever is left to do so can remove it.
"""

from __future__ import annotations

import os
import shutil
import tempfile

from .box import Box, write_bytes

LONGEST = 60  # bytes of the folder's path; a socket's name below it takes up to 40 more
PREFIX = "samerun-"
SHORT = "/tmp"  # only where the system's own temporary folder is too deep as well


def make(box: Box) -> str:
    """Make the folder; returns its path. What an earlier process of this box left is removed first."""
    remove(box)
    folder = os.path.join(box.work, "tmp")
    if len(os.fsencode(folder)) > LONGEST:
        parent = tempfile.gettempdir()
        if len(os.fsencode(parent)) + len(PREFIX) + 9 > LONGEST and os.access(SHORT, os.W_OK):
            parent = SHORT
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        write_bytes(box.temporary, os.fsencode(folder))
    os.makedirs(folder, exist_ok=True)
    return folder


def remove(box: Box) -> None:
    """Remove the folder that lies outside the box, if there is one. May be repeated; never raises OSError."""
    try:
        with open(box.temporary, "rb") as stream:
            folder = os.fsdecode(stream.read())
        if os.path.basename(folder).startswith(PREFIX) and not os.path.islink(folder):
            shutil.rmtree(folder, ignore_errors=True)
        os.unlink(box.temporary)
    except OSError:
        return
