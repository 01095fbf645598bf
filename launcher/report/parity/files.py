"""A verdict as files: `parity.json`, and a picture for each metric and loss with both curves over the band of seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from launcher.files import storage, write_atomic
from launcher.parity.model import Band, Parity
from launcher.report.chart import DASH, DOT, Chart, Line

FILE, FOLDER = "parity.json", "parity"
PREFIX = "parity-"
"""Of pictures: whatever else lies in a folder of that name is somebody's."""
LONGEST = 100  # characters of a picture's name: columns of others' tables can be as long as they like
NOTE = "The band is the 95 % prediction interval of one more seed, each epoch by itself."


def write(said: Parity, folder: Path, kind: Literal["svg", "png"] = "svg") -> list[Path]:
    """Write parity.json and the pictures, which are those of this verdict alone. Raises StorageError."""
    folder = folder.absolute()
    written = [folder / FILE]
    with storage("writing the parity verdict", folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        text = json.dumps(said.as_json(), indent=1, allow_nan=False)
        write_atomic(written[0], text.encode("utf-8", "replace"))
        for old in (*(folder / FOLDER).glob(f"{PREFIX}*.svg"), *(folder / FOLDER).glob(f"{PREFIX}*.png")):
            old.unlink()
        for chart in charts(said.bands, said.run, said.reference):
            written.append(folder / FOLDER / f"{chart.code}.{kind}")
            write_atomic(written[-1], chart.svg().encode() if kind == "svg" else chart.png())
    return written


def charts(bands: Sequence[Band], run: str, reference: str) -> tuple[Chart, ...]:
    """A chart for each column: the run and its reference as lines, the seeds as a band around their mean."""
    made = (_chart(band, run, reference) for band in bands)
    return tuple(chart for chart in made if chart.drawable)


def _chart(band: Band, run: str, reference: str) -> Chart:
    epochs = tuple(map(float, band.epochs))
    lines = [
        Line(0, run, epochs, band.run, part="the run"),
        Line(1, reference, epochs, band.reference, "reference", DASH),
    ]
    if any(map(math.isfinite, band.mean)):
        lines.append(Line(1, "its seeds", epochs, band.mean, "mean", DOT, low=band.low, high=band.high))
    unit = " per unit of gain" if band.per_gain else ""
    code = PREFIX + "".join(one if one.isalnum() else "-" for one in band.column[:LONGEST]).strip("-").lower()
    note = NOTE if band.mean else ""
    return Chart(code, f"{band.label}: run and reference", f"{band.label}{unit}", tuple(lines), note=note)
