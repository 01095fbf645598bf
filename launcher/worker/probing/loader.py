"""What is written down of the images and targets that the run's own loader gives on a machine.

Of each image: which file, digests of pixels and targets, and enough in numbers to tell pixels that differ a little
(another JPEG decoder) from others (another image, other augmentation, channels in another order).
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..box import Json

GRID = 4
"""An image is kept as the means of GRID x GRID fields of each channel, in levels of 0 to 255."""
PIXELS = 48
"""Pixels kept of an image, at even distances through all channels."""
KEPT = 16  # images of which this is written down


def describe(batches: list[dict[str, Any]], root: str) -> list[Json]:
    """Of the first KEPT images, in the order in which the loader gave them; files are named relative to `root`."""
    found: list[Json] = []
    for batch in batches:
        for index in range(len(batch["img"])):
            if len(found) < KEPT:
                found.append(_image(batch, index, root))
    return found


def _image(batch: dict[str, Any], index: int, root: str) -> Json:
    pixels = batch["img"][index].numpy()
    mine = batch["batch_idx"].reshape(-1) == index
    classes, boxes = batch["cls"][mine].numpy().reshape(-1), batch["bboxes"][mine].numpy().reshape(-1, 4)
    targets = hashlib.sha256(classes.astype("<f4").tobytes() + boxes.astype("<f4").tobytes()).hexdigest()
    return {
        "file": os.path.relpath(str(batch["im_file"][index]), root).replace(os.sep, "/"),
        "pixels": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "targets": targets,
        "shape": list(pixels.shape),
        "mean": round(float(pixels.mean(dtype="float64")), 6),
        "std": round(float(pixels.std(dtype="float64")), 6),
        "boxes": len(boxes),
        "classes_sum": float(classes.sum(dtype="float64")),
        "boxes_sum": [round(float(value), 9) for value in boxes.sum(0, dtype="float64")],
        "fields": _fields(pixels),
        "sample": [int(value) for value in pixels.reshape(-1)[:: max(1, pixels.size // PIXELS)][:PIXELS]],
    }


def _fields(pixels: Any) -> list[float]:
    """The means of GRID x GRID fields of each channel, channel after channel, row after row."""
    _, height, width = pixels.shape
    rows = [height * part // GRID for part in range(GRID + 1)]
    columns = [width * part // GRID for part in range(GRID + 1)]
    return [
        round(float(channel[rows[r] : rows[r + 1], columns[c] : columns[c + 1]].mean(dtype="float64")), 3)
        for channel in pixels
        for r in range(GRID)
        for c in range(GRID)
    ]
