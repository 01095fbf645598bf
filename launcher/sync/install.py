"""Fetch by manifest: only what changed, beside its final name, checked, then renamed.

Promises: a file below the run folder's train/ is there under its name only when its bytes have the manifest's digest;
what does not is fetched again, a bounded number of times, and then named; nothing is written outside the folder. The
files of the manifest that lies in the folder change all together or not at all, wherever this is killed: what a
resumed training starts from is never half of one checkpoint and half of another.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import IntegrityError
from launcher.files import flush, lock, sha256_file, storage, write_atomic
from launcher.sync.manifest import NAME, Entry, Manifest, parse

Fetch = Callable[[Sequence[str], Path], None]
TRIES = 3
FIRST = ("results.csv", "last.pt", "best.pt")  # what must not be lost comes before pictures
INCOMING = ".incoming"
"""Files that were fetched and checked, by their final paths, while others are still missing."""
READY = ".ready"
"""INCOMING under its second name: the set is whole, its manifest lies in it, and it is on its way to final names."""
LOCK = ".sync.lock"
_CAME = ".came"


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


def install(fetch: Fetch, manifest: Manifest, raw: bytes, folder: Path, *, beside: bool = False) -> Synced:
    """Bring the manifest's files below `folder` and leave the manifest (its bytes `raw`) beside them.

    With `beside` the files of the manifest that is in the folder stay as they are, and so does that manifest: only
    what it does not name is brought. Raises StorageError when the folder cannot be written.
    """
    with storage("keeping what came back", folder), lock(folder / LOCK):
        _settle(folder)
        held = _held(folder) if beside else frozenset()
        entries = [entry for entry in manifest.files if entry.path not in held]
        wanted = [entry for entry in entries if not _holds(folder / entry.path, entry)]
        unchanged = tuple(sorted({entry.path for entry in entries} - {entry.path for entry in wanted}))
        wrong = _bring(fetch, wanted, folder / INCOMING)
        good = [entry for entry in wanted if entry.path not in wrong]
        if wrong or beside:
            held = _held(folder)
            good = [entry for entry in good if entry.path not in held]
            for entry in good:
                _place(folder / INCOMING, folder, entry.path)
            if not wrong:
                shutil.rmtree(folder / INCOMING, ignore_errors=True)
        else:
            (folder / INCOMING).mkdir(exist_ok=True)
            if manifest.kind == "final":  # what is called verified survives a power cut
                for entry in good:
                    flush(folder / INCOMING / entry.path)
            write_atomic(folder / INCOMING / NAME, raw, durable=manifest.kind == "final")
            (folder / INCOMING).rename(folder / READY)
            _settle(folder)
    return Synced(tuple(entry.path for entry in good), unchanged, wrong)


def settle(folder: Path) -> None:
    """End what a killed process had begun: a set that had come back whole gets its final names."""
    if (folder / READY).exists():
        with storage("keeping what came back", folder), lock(folder / LOCK):
            _settle(folder)


def _settle(folder: Path) -> None:
    ready = folder / READY
    try:
        manifest = parse((ready / NAME).read_bytes())
    except (FileNotFoundError, IntegrityError):
        manifest = None  # the manifest goes last: without it all the others have gone
    if manifest is not None:
        for entry in manifest.files:
            if (ready / entry.path).exists():
                _place(ready, folder, entry.path)
        _place(ready, folder, NAME)
    shutil.rmtree(ready, ignore_errors=True)


def _bring(fetch: Fetch, wanted: Sequence[Entry], incoming: Path) -> dict[str, str]:
    """Fetch until `incoming` holds what is wanted; what is wrong after the last try, by path.

    What an earlier call has brought and checked is taken as it is; what a failing fetch has brought is kept.
    """
    came = incoming / _CAME
    shutil.rmtree(came, ignore_errors=True)
    wrong: dict[str, str] = {}
    left = [entry for entry in wanted if not _holds(incoming / entry.path, entry)]
    for _ in range(TRIES):
        if not left:
            break
        left.sort(key=lambda entry: Path(entry.path).name not in FIRST)
        came.mkdir(parents=True, exist_ok=True)
        try:
            fetch([entry.at for entry in left], came)
        finally:
            wrong = _sort_out(left, came, incoming)
            shutil.rmtree(came, ignore_errors=True)
        left = [entry for entry in left if entry.path in wrong]
    return wrong


def _sort_out(wanted: Sequence[Entry], came: Path, incoming: Path) -> dict[str, str]:
    """Move what came as it should to its place in `incoming`; why not, for the others."""
    wrong: dict[str, str] = {}
    for entry in wanted:
        file = came / entry.at
        if _through_link(came, file) or not file.is_file():
            wrong[entry.path] = "missing"
        elif file.stat().st_size != entry.size:
            wrong[entry.path] = f"{file.stat().st_size} bytes instead of {entry.size}"
        elif (found := sha256_file(file)) != entry.sha256:
            wrong[entry.path] = f"sha256 {found[:12]} instead of {entry.sha256[:12]}"
        else:
            (incoming / entry.path).parent.mkdir(parents=True, exist_ok=True)
            file.replace(incoming / entry.path)
    return wrong


def _through_link(root: Path, file: Path) -> bool:
    """Whether the file, or a folder on the way to it, is a symbolic link: what it shows is not what came."""
    return any(path.is_symlink() for path in (file, *file.parents) if path.is_relative_to(root))


def _place(source: Path, folder: Path, path: str) -> None:
    """Give a file its final name."""
    final = folder / path
    final.parent.mkdir(parents=True, exist_ok=True)
    (source / path).replace(final)


def _held(folder: Path) -> frozenset[str]:
    """The paths that the manifest in the folder names."""
    try:
        return frozenset(entry.path for entry in parse((folder / NAME).read_bytes()).files)
    except (FileNotFoundError, IntegrityError):
        return frozenset()


def _holds(path: Path, entry: Entry) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    return path.stat().st_size == entry.size and sha256_file(path) == entry.sha256
