"""Checkpoints come home while the training goes on."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

from launcher.backend import Backend, Handle
from launcher.errors import IntegrityError, RemoteError, StorageError
from launcher.runs.driving import collect


class Partial:
    """Brings each checkpoint home while the training goes on, in a thread, newest first, one at a time.

    What fails here fails quietly: the next checkpoint, or the end, brings the same files again.
    """

    def __init__(self, backend: Backend[Any], handle: Handle, folder: Path, *, enabled: bool) -> None:
        self._backend, self._handle, self._folder, self._enabled = backend, handle, folder, enabled
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._over = False

    def go(self) -> None:
        """A checkpoint is there."""
        if not self._enabled:
            return
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="partial-sync", daemon=True)
            self._thread.start()

    def join(self) -> None:
        """No more checkpoints; wait for the one under way."""
        self._over = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while self._wanted.wait() and not self._over:
            self._wanted.clear()
            with contextlib.suppress(RemoteError, IntegrityError, StorageError, OSError):
                collect.collect(self._backend, self._handle, self._folder)
