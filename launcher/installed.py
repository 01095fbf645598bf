"""What is installed beside us: backends' entry points and package versions, without importing any of it.

`importlib.metadata` takes 50 ms to import and more to read 140 packages, which every command would pay. So the answer
is kept in the cache folder, under a key made of the import path's folders and their modification times: installing or
removing a package changes the key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.settings import Settings

GROUP = "launcher.backends"
VERSIONED = ("samerun", "ultralytics", "torch", "torchvision", "numpy", "opencv-python", "pillow")


@dataclass(frozen=True)
class Installed:
    """`backends`: name → "module:attribute". `versions`: distribution → version, for those that are installed."""

    backends: Mapping[str, str]
    versions: Mapping[str, str]


def installed(settings: Settings) -> Installed:
    """Read the cache, or look and fill it. A cache that cannot be read or written is only slower."""
    folders = [(folder, Path(folder).stat().st_mtime_ns) for folder in sys.path if folder and Path(folder).is_dir()]
    key = hashlib.sha256(repr((sys.version, folders, VERSIONED)).encode()).hexdigest()[:24]
    file = settings.cache_dir / "installed" / f"{key}.json"
    try:
        held = json.loads(file.read_bytes())
        return Installed(held["backends"], held["versions"])
    except (OSError, ValueError, KeyError, TypeError):
        found = _look()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".part-{os.getpid()}")
        part.write_text(json.dumps({"backends": found.backends, "versions": found.versions}), encoding="utf-8")
        part.replace(file)
    return found


def _look() -> Installed:
    from importlib import metadata

    versions = {}
    for name in VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return Installed({point.name: point.value for point in metadata.entry_points(group=GROUP)}, versions)
