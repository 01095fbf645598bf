"""Finds shards that a service mounted somewhere here, and lays the dataset's tree of links to what is in them.

Promises: it does not matter where the shards were mounted, nor whether the service left them as archives, unpacked
each to a folder of its name, or unpacked them beside their index; what is missing or has another size is named, all of
it, and nothing half is handed on; no path of a listing, no link and no name in an archive leads out of its folder.
Digests are the caller's to check. Writes only below the folders it is given. Knows nothing of any service.

`launcher.bundle.shards` says what shards are.
"""

from __future__ import annotations

import bisect
import json
import os
import re
import shutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator, Sequence
    from typing import Any

    Json = dict[str, Any]

PREFIX = "samerun-"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing: such a content is in no shard."""
SHOWN = 50
"""Lines of an error's text; `ShardError.problems` has all."""
_MEMBER = re.compile(r"[0-9a-f]{2}/[0-9a-f]{62}")


class ShardError(Exception):
    """What was wanted is not there. `problems`: one line for each file, or one for all when nothing was found."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        super().__init__("\n".join(problems[:SHOWN] + more))


def lay(roots: Sequence[str], key: str, files: Sequence[Json], to: str, scratch: str) -> None:
    """Make below `to` a link for each of `files` (`path`, `sha256`, `size`, as in in/data.json) to its content.

    `roots` are folders below which something may be mounted, `key` is the shards', `scratch` a folder for what must be
    taken out of archives. May be repeated after a kill. Raises ShardError, and then `to` is untouched.
    """
    for file in files:
        if not _is_inside(file["path"]):
            raise ShardError([f"{file['path']!r}: a path that leads out of its folder"])
    found = locate(roots, key, files, scratch)
    for file in files:
        link = os.path.join(to, *file["path"].split("/"))
        os.makedirs(os.path.dirname(link), exist_ok=True)
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(found[file["sha256"]], link)


def locate(roots: Sequence[str], key: str, files: Sequence[Json], scratch: str) -> dict[str, str]:
    """sha256 → absolute path of each content of `files`. Raises ShardError that names every file without one."""
    scratch = os.path.abspath(scratch)
    left = {file["sha256"]: file["size"] for file in files}
    found: dict[str, str] = {}
    reasons: dict[str, str] = {}
    notes = []
    if EMPTY in left:
        found[EMPTY] = _empty(scratch)
        del left[EMPTY]
    for marker in find(roots, key):
        try:
            shards = _shards(marker, key)
        except (OSError, ValueError) as error:
            notes.append(f"{marker}: {error}")
            continue
        for digest, place in _look(os.path.dirname(marker), shards, left, scratch, reasons, notes):
            found[digest] = place
            del left[digest]
        if not left:
            break
    if left:
        if not reasons:
            notes.append(f"no {PREFIX}{key}.json that can be read below {', '.join(roots)}")
        missing = [file for file in files if file["sha256"] in left]
        raise ShardError(notes + [f"{file['path']}: {reasons.get(file['sha256'], 'missing')}" for file in missing])
    return found


def find(roots: Sequence[str], key: str) -> Iterator[str]:
    """Paths of the key's index files, those least deep first; follows links to folders, each folder once."""
    name = f"{PREFIX}{key}.json"
    level = [os.path.abspath(root) for root in roots]
    seen = set()
    while level:
        below: list[str] = []
        for folder in level:
            real = os.path.realpath(folder)
            if real in seen:
                continue
            seen.add(real)
            if os.path.isfile(os.path.join(folder, name)):
                yield os.path.join(folder, name)
            below += _folders(folder)
        level = below


def _folders(folder: str) -> list[str]:
    """The folders in a folder, links to folders too. None of what cannot be read: its files will be missed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if _is_folder(entry))
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()  # no call to the system for what is no link: a folder may hold 100,000 images
    except OSError:
        return False


def _shards(marker: str, key: str) -> list[Json]:
    """The index's shards, in order. Raises OSError, or ValueError for what is not this key's index."""
    with open(marker, encoding="utf-8") as stream:
        value = json.load(stream)
    try:
        if value["version"] != 1 or value["key"] != key:
            raise ValueError("the index of other shards")
        shards = [{"name": str(shard["name"]), "first": str(shard["first"])} for shard in value["shards"]]
    except (KeyError, TypeError) as error:
        raise ValueError("not an index of shards") from error
    if any("/" in shard["name"] or not shard["name"].endswith(".tar") for shard in shards):
        raise ValueError("an index with odd names")
    return sorted(shards, key=lambda shard: str(shard["first"]))


def _look(
    folder: str, shards: list[Json], left: Json, scratch: str, reasons: dict[str, str], notes: list[str]
) -> list[Any]:
    """(digest, path) of what is in the shards beside one index; `reasons` and `notes` say why the rest is not."""
    firsts = [shard["first"] for shard in shards]
    by_shard: dict[int, list[str]] = {}
    for digest in left:
        by_shard.setdefault(bisect.bisect_right(firsts, digest) - 1, []).append(digest)
    found = []
    for number, digests in sorted(by_shard.items()):
        if number < 0:
            reasons.update(dict.fromkeys(digests, "in no shard"))
            continue
        name = shards[number]["name"]
        archive = os.path.join(folder, name)
        stem = name[: -len(".tar")]
        bases = [os.path.join(folder, stem), os.path.join(folder, stem, stem), archive, folder]
        if os.path.isfile(archive):
            try:
                _extract(archive, {digest: left[digest] for digest in digests}, scratch)
            except (OSError, ValueError) as error:
                notes.append(f"{archive}: {error}")
            bases = [scratch]
        bases = [base for base in bases if os.path.isdir(base)]
        for digest in digests:
            place, reason = _place(bases, digest, left[digest])
            if place is not None:
                found.append((digest, place))
            else:
                reasons[digest] = f"{reason} (shard {archive})"
    return found


def _place(bases: list[str], digest: str, size: int) -> Any:
    """(path, "") of the first file of this name and size, else (None, why not)."""
    reason = "missing"
    for base in bases:
        path = os.path.join(base, digest[:2], digest[2:])
        if os.path.isfile(path):
            has = os.stat(path).st_size
            if has == size:
                return path, ""
            reason = f"{has} bytes instead of {size}"
    return None, reason


def _extract(archive: str, wanted: dict[str, int], scratch: str) -> None:
    """Take members out of an archive, each whole or not at all. Raises OSError, or ValueError for a broken archive."""
    import tarfile

    wanted = {digest: size for digest, size in wanted.items() if _place([scratch], digest, size)[0] is None}
    if not wanted:
        return  # an earlier process has done it
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                digest = member.name.replace("/", "")
                if member.isreg() and _MEMBER.fullmatch(member.name) and wanted.get(digest) == member.size:
                    _take(tar, member, os.path.join(scratch, member.name))
    except tarfile.TarError as error:
        raise ValueError(f"not a whole archive: {error}") from error


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = f"{path}.part-{os.getpid()}"
    source = tar.extractfile(member)
    assert source is not None, "a regular file has content"
    try:
        with source, open(part, "wb") as stream:
            shutil.copyfileobj(source, stream, 1 << 20)
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.unlink(part)


def _empty(scratch: str) -> str:
    path = os.path.join(scratch, EMPTY[:2], EMPTY[2:])
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    return path


def _is_inside(path: str) -> bool:
    return "\0" not in path and not any(part in ("", ".", "..") for part in path.split("/"))
