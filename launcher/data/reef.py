"""The built-in dataset: a small reef with crown-of-thorns starfish, drawn as videos, so that a run needs no download.

Promises: the same options give the same tree on every machine: the same pixels, the same labels and the same file
bytes. Pixels and labels because `scene` uses only arithmetic that IEEE 754 defines to the last bit; bytes because the
PNG files hold their pixels uncompressed (deflate's "stored" blocks), which leaves an encoder nothing to decide; JPEG
encoders and zlib builds differ. Noise hardly compresses, so this costs little. Modification times are not promised.

`train` and `val` never share a video. Importing this module does not import numpy; `generate` does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import DataError, Problem, StorageError

if TYPE_CHECKING:
    from launcher.data.scene import Frame, Scene

GENERATOR_VERSION = 1
"""Part of every key: raised whenever the same options would give other pixels or labels."""
CLASS_NAME = "starfish"
STORED_BLOCK = 65535
"""Bytes in one stored deflate block, the most that RFC 1951 allows."""
LEFTOVER_S = 3600.0
"""A half-made tree untouched for this long belongs to a process that was killed."""

Progress = Callable[[int, int], None]

_LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**63 - 1),
    "train_videos": (1, 1000),
    "val_videos": (1, 1000),
    "frames": (1, 10_000),
    "width": (48, 1920),
    "height": (48, 1920),
    "stars": (0, 60),
    "empty": (0, 1),
}


@dataclass(frozen=True)
class ReefOptions:
    """How large and how hard the reef is. The defaults are the smoke set: 256 frames to train on, 64 to validate."""

    seed: int = 0
    train_videos: int = 8
    val_videos: int = 2
    frames: int = 32
    """In each video."""
    width: int = 128
    """Pixels, 48 to 1920."""
    height: int = 96
    """Pixels, 48 to 1920."""
    stars: int = 10
    """Starfish in a video, 0 to 60; fewer where so many find no room. A frame shows about a third."""
    empty: float = 0.15
    """Share of a video's frames, at its start or end, that show no starfish: 0 to 1."""

    def problems(self) -> list[str]:
        """What is out of range, each as `field: what is wrong`; empty when `generate` accepts these options."""
        found = []
        for field, value in asdict(self).items():
            low, high = _LIMITS[field]
            whole = field != "empty"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                found.append(f"{field}: must be {'a whole number' if whole else 'a number'}, is {value!r}")
            elif not low <= value <= high:
                found.append(f"{field}: must be {low:g} to {high:g}, is {value}")
        return found

    def key(self) -> str:
        """16 hex digits that name these options and the generator's version."""
        values = {**asdict(self), "empty": float(self.empty), "generator": GENERATOR_VERSION}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def scenes(options: ReefOptions) -> list[tuple[str, Scene]]:
    """What each video shows, as (split, scene), in the order in which `generate` writes them."""
    from launcher.data.scene import Scene

    found = []
    for split, count in (("train", options.train_videos), ("val", options.val_videos)):
        for number in range(count):
            # Numbers go on from train to val, so that no two videos of a reef have one name.
            name = f"video_{number if split == 'train' else options.train_videos + number}"
            size = (options.frames, options.width, options.height)
            found.append((split, Scene(options.seed, name, *size, stars=options.stars, empty=options.empty)))
    return found


def generate(options: ReefOptions, to: Path, progress: Progress | None = None) -> Path:
    """Write the dataset into the folder `to`, which must be empty or missing, and return its data.yaml.

    The tree is `images/<split>/video_<n>/frame_<nnnnn>.png` with `labels/` beside it; a frame without starfish has an
    empty label file. `progress(done, all)` is called after every frame. Raises DataError for options out of range or
    a folder that holds something, StorageError when it cannot be written.
    """
    from launcher.data.scene import draw

    wrong = options.problems()
    if wrong:
        raise DataError(
            [Problem(text.partition(": ")[2], field=f"data.reef.{text.partition(':')[0]}") for text in wrong]
        )
    try:
        if to.exists() and any(to.iterdir()):
            raise DataError([Problem("the folder is not empty", file=str(to), remedy="name a new folder")])
        done, total = 0, (options.train_videos + options.val_videos) * options.frames
        for split, scene in scenes(options):
            images, labels = (to / kind / split / scene.name for kind in ("images", "labels"))
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            for number, frame in enumerate(draw(scene), start=1):
                pixels = frame.pixels.tobytes()
                (images / f"frame_{number:05d}.png").write_bytes(png(pixels, options.width, options.height))
                (labels / f"frame_{number:05d}.txt").write_bytes(label_rows(frame).encode())
                done += 1
                if progress is not None:
                    progress(done, total)
        # No `path:` here: Ultralytics takes a relative one from the current folder, and none from data.yaml's.
        text = f"train: images/train\nval: images/val\nnames:\n  0: {CLASS_NAME}\n"
        (to / "data.yaml").write_bytes(text.encode())
    except OSError as error:
        raise StorageError(
            f"{to}: the reef cannot be written: {error}", remedy="free space, or set cache_dir"
        ) from error
    return to / "data.yaml"


def ensure(options: ReefOptions, cache_dir: Path, progress: Progress | None = None) -> Path:
    """The data.yaml of this reef in `cache_dir/reef/<key>/`, generated when it is not there yet.

    The tree appears under its name whole or not at all: processes that make it at once do not disturb each other, and
    what a killed one left is removed by a later call. Raises as `generate` does.
    """
    home = cache_dir / "reef"
    final = home / options.key()
    if (final / "data.yaml").is_file():
        return final / "data.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(home)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=home))
    except OSError as error:
        raise StorageError(f"{home}: cannot be written: {error}", remedy="free space, or set cache_dir") from error
    try:
        generate(options, part, progress)
        part.chmod(0o755)  # mkdtemp's 0700 would lock out the user of a container
        try:
            part.rename(final)
        except OSError as error:
            if not (final / "data.yaml").is_file():  # not another process's, finished meanwhile: the same bytes
                raise StorageError(f"{final}: cannot be put in place: {error}", remedy=f"remove {final}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final / "data.yaml"


def label_rows(frame: Frame) -> str:
    """The frame's label file: `class x y width height` a row, middle and size as shares of the picture, 6 decimals."""
    height, width, _ = frame.pixels.shape
    rows = []
    for view in frame.views:
        middle = (view.left + view.right) / 2 / width, (view.top + view.bottom) / 2 / height
        size = (view.right - view.left) / width, (view.bottom - view.top) / height
        rows.append(f"0 {middle[0]:.6f} {middle[1]:.6f} {size[0]:.6f} {size[1]:.6f}\n")
    return "".join(rows)


def png(pixels: bytes, width: int, height: int) -> bytes:
    """A PNG file of 8-bit RGB `pixels` (height * width * 3 bytes), stored: its bytes depend on the pixels alone."""
    row = width * 3
    lines = b"".join(b"\0" + pixels[start : start + row] for start in range(0, height * row, row))
    body = bytearray(b"\x78\x01")
    for start in range(0, len(lines), STORED_BLOCK):
        block = lines[start : start + STORED_BLOCK]
        last = start + STORED_BLOCK >= len(lines)
        body += struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block
    body += struct.pack(">I", zlib.adler32(lines))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", bytes(body)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _remove_leftovers(home: Path) -> None:
    with os.scandir(home) as entries:
        old = []
        for entry in entries:
            with contextlib.suppress(OSError):  # gone meanwhile
                if entry.name.startswith(".part-") and time.time() - _newest(entry.path) > LEFTOVER_S:
                    old.append(entry.path)
    for path in old:
        shutil.rmtree(path, ignore_errors=True)


def _newest(folder: str) -> float:
    """The latest modification time of the folders of a half-made tree: a running process makes new files in them."""
    return max(Path(path).stat().st_mtime for path, _, _ in os.walk(folder))
