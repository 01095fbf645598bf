"""Fetch by manifest: only what changed, beside its final name, checked, then renamed.

Promises: a file below the run folder's train/ is there under its name only when its bytes have the manifest's digest;
what does not is fetched again, a bounded number of times, and then named; nothing is written outside the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.files import sha256_file, storage, write_atomic
from launcher.sync.manifest import NAME, Entry, Manifest

Fetch = Callable[[Sequence[str], Path], None]
TRIES = 3
FIRST = ("results.csv", "last.pt", "best.pt")  # what must not be lost comes before pictures


@dataclass(frozen=True)
class Synced:
    """Paths by what became of them. `wrong`: path → what was found instead, after the last try."""

    installed: tuple[str, ...]
    unchanged: tuple[str, ...]
    wrong: dict[str, str]

    @property
    def whole(self) -> bool:
        """Every file of the manifest is here with its digest."""
        return not self.wrong


def install(fetch: Fetch, manifest: Manifest, raw: bytes, folder: Path) -> Synced:
    """Bring the manifest's files below `folder` and leave the manifest (its bytes `raw`) beside them.

    Raises StorageError when the folder cannot be written.
    """
    with storage("keeping what came back"):
        wanted = [entry for entry in manifest.files if not _holds(folder / entry.path, entry)]
        unchanged = tuple(sorted({entry.path for entry in manifest.files} - {entry.path for entry in wanted}))
        incoming = folder / f".incoming-{os.getpid()}"
        installed: list[str] = []
        wrong: dict[str, str] = {}
        try:
            for _ in range(TRIES):
                if not wanted:
                    break
                wanted = sorted(wanted, key=lambda entry: Path(entry.path).name not in FIRST)
                fetch([entry.at for entry in wanted], incoming)
                wrong = _place(wanted, incoming, folder, installed)
                wanted = [entry for entry in wanted if entry.path in wrong]
                shutil.rmtree(incoming, ignore_errors=True)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        if not wrong:
            write_atomic(folder / NAME, raw)
    return Synced(tuple(installed), unchanged, wrong)


def _place(wanted: Sequence[Entry], incoming: Path, folder: Path, installed: list[str]) -> dict[str, str]:
    wrong: dict[str, str] = {}
    for entry in wanted:
        came = incoming / entry.at
        if came.is_symlink() or not came.is_file():
            wrong[entry.path] = "missing"
        elif came.stat().st_size != entry.size:
            wrong[entry.path] = f"{came.stat().st_size} bytes instead of {entry.size}"
        elif (found := sha256_file(came)) != entry.sha256:
            wrong[entry.path] = f"sha256 {found[:12]} instead of {entry.sha256[:12]}"
        else:
            final = folder / entry.path
            final.parent.mkdir(parents=True, exist_ok=True)
            came.replace(final)
            installed.append(entry.path)
    return wrong


def _holds(path: Path, entry: Entry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and sha256_file(path) == entry.sha256
