"""Fetch by manifest: only what changed, beside its final name, checked, then renamed.

Promises: a file below the run folder's train/ gets its name only when its bytes have the manifest's digest; what does
not is fetched again, a bounded number of times, and then named; nothing is written outside the folder. The files of
the manifest that lies in the folder change all together or not at all, wherever this is killed: what a resumed
training starts from is never half of one checkpoint and half of another. A file that does not come holds up only
itself, unless it is of the checkpoint, or of a finished training.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import IntegrityError, RemoteError
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
    """Paths by what became of them. `wrong`: path → what was found instead, after the last try.

    `checkpoint`: the one that is here is no older than that of the manifest.
    """

    installed: tuple[str, ...]
    unchanged: tuple[str, ...]
    wrong: dict[str, str]
    checkpoint: bool = True

    @property
    def whole(self) -> bool:
        """Every file of the manifest is here with its digest."""
        return not self.wrong


def install(fetch: Fetch, manifest: Manifest, raw: bytes, folder: Path) -> Synced:
    """Bring the manifest's files below `folder` and leave the manifest (its bytes `raw`) beside them.

    Where not all of them come, the checkpoint is installed as soon as it is whole, and the manifest left here names
    only what is here. A finished training's files are never replaced by those of an unfinished one, nor a checkpoint
    by an older one or by none: of an older one only what is not here yet is brought. Raises StorageError when the
    folder cannot be written, and what `fetch` raises.
    """
    with storage("keeping what came back", folder), lock(folder / LOCK):
        _settle(folder)
        held = _manifest(folder)
        if held is not None and held.complete and not manifest.complete:
            return Synced((), (), {})
        named = frozenset(entry.path for entry in held.files) if held is not None else frozenset()
        older = held is not None and not manifest.complete and (manifest.epoch or 0) < (held.epoch or 0)
        entries = [entry for entry in manifest.files if not (older and entry.path in named)]
        wanted = [entry for entry in entries if not _holds(folder / entry.path, entry)]
        unchanged = tuple(sorted({entry.path for entry in entries} - {entry.path for entry in wanted}))
        wrong, failed = _bring(fetch, wanted, folder / INCOMING)
        good = [entry for entry in wanted if entry.path not in wrong]
        broken = {entry.path for entry in manifest.checkpoint} & set(wrong)
        if not older and (not wrong or (manifest.checkpoint and not broken)):
            _switch(folder, manifest, good, manifest.without(wrong) if wrong else raw)
        elif failed is None:
            good = [entry for entry in good if entry.path not in named]
            for entry in good:
                _place(folder / INCOMING, folder, entry.path)
            if not wrong:
                shutil.rmtree(folder / INCOMING, ignore_errors=True)
        if failed is not None and wrong:
            raise failed
    return Synced(tuple(entry.path for entry in good), unchanged, wrong, older or not broken)


def _switch(folder: Path, manifest: Manifest, good: Sequence[Entry], raw: bytes) -> None:
    """Give all that came its final names, and this manifest with them: all of it or nothing."""
    incoming, final = folder / INCOMING, manifest.kind == "final"
    incoming.mkdir(exist_ok=True)
    for entry in set(manifest.files) - set(good):
        if (incoming / entry.path).is_file():
            (incoming / entry.path).unlink()  # what an earlier manifest had asked for
    if final:  # what is called verified survives a power cut
        for entry in good:
            flush(incoming / entry.path)
    write_atomic(incoming / NAME, raw, durable=final and bool(manifest.files))
    incoming.rename(folder / READY)
    _settle(folder)


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


def _bring(fetch: Fetch, wanted: Sequence[Entry], incoming: Path) -> tuple[dict[str, str], RemoteError | None]:
    """Fetch until `incoming` holds what is wanted; what is wrong after the last try, by path, and why it ended early.

    What an earlier call has brought and checked is taken as it is; what a failing fetch has brought is kept.
    """
    came = incoming / _CAME
    shutil.rmtree(came, ignore_errors=True)
    wrong: dict[str, str] = {}
    failed: RemoteError | None = None
    left = [entry for entry in wanted if not _holds(incoming / entry.path, entry)]
    for _ in range(TRIES):
        if not left or failed is not None:
            break
        left.sort(key=lambda entry: Path(entry.path).name not in FIRST)
        came.mkdir(parents=True, exist_ok=True)
        try:
            fetch([entry.at for entry in left], came)
        except RemoteError as error:
            failed = error
        finally:
            wrong = _sort_out(left, came, incoming)
            shutil.rmtree(came, ignore_errors=True)
        left = [entry for entry in left if entry.path in wrong]
    return wrong, failed


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


def _manifest(folder: Path) -> Manifest | None:
    """The manifest that lies in the folder, if it is one."""
    try:
        return parse((folder / NAME).read_bytes())
    except (FileNotFoundError, IntegrityError):
        return None


def _holds(path: Path, entry: Entry) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    return path.stat().st_size == entry.size and sha256_file(path) == entry.sha256
