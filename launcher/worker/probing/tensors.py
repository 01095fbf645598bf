"""The probe's fixed inputs: how many images at which size, how they are packed, and their digests.

Promises: digests are of contents (names, types, shapes, bytes), never of a file; packing is numpy's npz without pickle,
and so is reading. All fits SIZE_LIMIT, or the weights stay behind: they are then built on each machine from the seed,
and must have the digest.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

from ..box import write_bytes

SIZE_LIMIT = 19_500_000
"""Bytes of batches and weights together: the bundle of a probe stays under 20 MB."""
WEIGHTS_LIMIT = 19_000_000
IMAGES_LIMIT = 6_000_000
STEPS = 4
"""Optimiser steps: each with a batch of its own where there is room for as many."""
PER_STEP = 4  # images of a step where they fit; two are the fewest that batch normalisation makes sense of
FEWEST = 2
COST_LIMIT = 3.2e13
"""Parameters x pixels x passes that a probe may take. Measured 2026-11-22 on two cores, everything but the making of
the dataset: yolo11n at 640 pixels 14 s, at 1280 19 s, yolo11s 10 s, yolo11m 25 s, yolo11x 31 s."""
SIDES = (640, 480, 320, 256, 192, 160, 128, 96)  # smaller ones that are tried; below, the coarsest map tells nothing
STRIDE = 32


@dataclass(frozen=True)
class Size:
    """`batches` different ones of `images`, the longer side `side` pixels; `steps` go through the batches in turn."""

    images: int
    side: int
    batches: int
    steps: int = STEPS


def plan(imgsz: int, parameters: int, available: int) -> Size:
    """How large the probe of such a run is, by the run alone: every machine has the same answer.

    `imgsz`: the longer side of the loader's images; `available`: how many it has given. As large as the limits let it
    be, fewer images before smaller ones. Raises ValueError for fewer than FEWEST images.
    """
    if available < FEWEST:
        raise ValueError(f"the training set gives {available} image; a probe takes {FEWEST} or more")
    weights = 2 * parameters if 2 * parameters <= WEIGHTS_LIMIT else 0
    room = min(IMAGES_LIMIT, SIZE_LIMIT - weights)
    chosen = Size(FEWEST, min(imgsz, SIDES[-1]), 1)
    for side in (imgsz, *(side for side in SIDES if side < imgsz)):
        pixels = side * side
        images = min(PER_STEP, available, int(COST_LIMIT / (parameters * pixels * (STEPS + 1))), room // (3 * pixels))
        if images >= FEWEST:
            return Size(images, side, max(1, min(STEPS, available // images, room // (3 * pixels * images))))
    return chosen


def thinned(images: Any, side: int) -> Any:
    """Images (n, 3, h, w) with the longer side `side`, both sides multiples of STRIDE: every so many a pixel is kept.

    No kernel and no library decides what a pixel is. Targets are relative to the image and stay as they are.
    """
    import numpy

    longer = max(images.shape[2:])
    if longer == side:
        return images
    kept = []
    for length in images.shape[2:]:
        wanted = max(STRIDE, round(length * side / longer / STRIDE) * STRIDE)
        kept.append(numpy.arange(wanted) * length // wanted)
    return numpy.ascontiguousarray(images[:, :, kept[0]][:, :, :, kept[1]])


def rounded(state: dict[str, Any]) -> dict[str, Any]:
    """A model's state as numpy arrays, floating point numbers as float16: what a probe starts from, and can be sent."""
    found = {}
    for name, value in state.items():
        array = value.detach().cpu().numpy()
        found[name] = array.astype("float16") if array.dtype.kind == "f" else array
    return found


def digest(arrays: dict[str, Any]) -> str:
    """SHA-256 of named arrays, by sorted names."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def write(path: str, arrays: dict[str, Any]) -> None:
    """Write named arrays, whole or not at all."""
    import numpy

    buffer = io.BytesIO()
    numpy.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def read(path: str) -> dict[str, Any]:
    """Read named arrays. Raises OSError, ValueError (pickled objects among them)."""
    import numpy

    with numpy.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
