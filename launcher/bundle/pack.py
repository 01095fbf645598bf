"""The content-addressed input of a run: worker, job, spec, dataset listing, and what else must travel.

Promises: the digest depends on contents alone; a bundle that is in the cache is not written again; two processes that
pack the same input at once, or one that is killed half way, leave one whole bundle or none.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.backend import InputFile
from launcher.errors import IntegrityError, NotFoundError
from launcher.files import sha256_file, storage, write_atomic

WORKER = "worker.pyz"
PACKAGE = "samerun_worker"
INDEX = "bundle.json"
# Runs from the zip, and from a folder it was unpacked to, which Python in isolated mode does not look into by itself.
_MAIN = f"""\
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from {PACKAGE}.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: the archive must not depend on when it was made


@dataclass(frozen=True)
class Bundle:
    """`digest` names it; `files` lie below `folder`; `packed` says whether this call had to write it."""

    digest: str
    folder: Path
    files: tuple[InputFile, ...]
    packed: bool


def worker_bytes() -> bytes:
    """The worker as one file: a zip that Python runs, the same bytes wherever it is made from the same sources."""
    source = Path(__file__).parent.parent / "worker"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        modules = {
            f"{PACKAGE}/{path.relative_to(source).as_posix()}": path.read_bytes() for path in source.rglob("*.py")
        }
        for name, data in sorted({**modules, "__main__.py": _MAIN.encode()}.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, data)
    return buffer.getvalue()


def pack(
    cache_dir: Path, job: Mapping[str, Any], texts: Mapping[str, bytes], carried: Mapping[str, Path], fingerprint: str
) -> Bundle:
    """Make or find the bundle.

    `texts` are small files by name (spec.yaml, data.json), `carried` files of this machine (a model, a payload);
    `fingerprint` is the dataset's, which is part of the digest though its files are not in the bundle.
    """
    contents = {WORKER: worker_bytes(), "job.json": _json(job), **texts}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    digests.update({name: sha256_file(path) for name, path in carried.items()})
    digest = hashlib.sha256(_json({"files": digests, "data": fingerprint})).hexdigest()
    folder = cache_dir / "bundles" / digest
    if files := _whole(folder):
        return Bundle(digest, folder, files, packed=False)
    with storage("packing the bundle", cache_dir):
        part = folder.with_name(f".part-{digest[:16]}-{os.getpid()}")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, data in contents.items():
            (part / name).write_bytes(data)
        for name, path in carried.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, part / name)
            if sha256_file(part / name) != digests[name]:
                shutil.rmtree(part)
                raise IntegrityError(
                    f"{path} changed while it was packed", remedy="wait until it is written, then again"
                )
        index = {name: {"sha256": sha, "size": (part / name).stat().st_size} for name, sha in digests.items()}
        write_atomic(part / INDEX, _json(index))
        try:
            part.rename(folder)
        except OSError:  # another process was first, or someone took files out of the cache
            if not _whole(folder):
                folder.rename(part.with_name(f"{part.name}-damaged"))
                part.rename(folder)
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(part.with_name(f"{part.name}-damaged"), ignore_errors=True)
    return Bundle(digest, folder, _index(folder), packed=True)


def unpack(cache_dir: Path, digest: str) -> Bundle:
    """The bundle of this digest from the cache. Raises NotFoundError when the cache no longer has it."""
    folder = cache_dir / "bundles" / digest
    files = _whole(folder)
    if not files:
        remedy = "start the run again from its spec.yaml"
        raise NotFoundError(f"the bundle {digest[:12]} is not in the cache {cache_dir} any more", remedy=remedy)
    return Bundle(digest, folder, files, packed=False)


def _whole(folder: Path) -> tuple[InputFile, ...]:
    """The files, if each is there with its size. Digests are the worker's to check, and of each byte that travelled."""
    try:
        files = _index(folder)
        return files if all(file.source.stat().st_size == file.size for file in files) else ()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def _index(folder: Path) -> tuple[InputFile, ...]:
    index = json.loads((folder / INDEX).read_bytes())
    return tuple(InputFile(name, folder / name, meta["sha256"], meta["size"]) for name, meta in sorted(index.items()))


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
