"""The pictures that Ultralytics drew, scaled down and carried inside the page, those of two runs side by side.

Pictures come from a machine that is not trusted more than its other files: they are decoded, within limits, and
written anew as JPEG, so nothing but pixels reaches the page. One that cannot be read is said, and left out.
"""

from __future__ import annotations

import base64
import io
import math
import os
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from launcher.analysis.model import RunView

LARGEST, SMALLEST = 900, 400
"""Pixels of a picture's longer side: as large as there is room for, between these."""
TRIES = 3
"""How often the pictures are made smaller to fit; each time comes closer, and takes a third of a second."""
QUALITY = 74
"""Of a JPEG: text in plots stays readable; a choice for the eye."""
MAX_PIXELS = 60_000_000
"""A larger picture is left out: Ultralytics' largest have 7 million."""
WHITE = (255, 255, 255)

MATRICES = {
    "confusion_matrix_normalized.png": "confusion matrix, share of each true class",
    "confusion_matrix.png": "confusion matrix, counts",
}
CURVES = {
    ("BoxPR_curve.png", "PR_curve.png"): "precision against recall",
    ("BoxF1_curve.png", "F1_curve.png"): "F1 against confidence",
    ("BoxP_curve.png", "P_curve.png"): "precision against confidence",
    ("BoxR_curve.png", "R_curve.png"): "recall against confidence",
}
"""Each by its names: those of today, and those of Ultralytics before the task was put in front."""
MOSAICS = re.compile(r"val_batch(\d+)_labels\.jpe?g")
DATA = {"labels.jpg": "boxes of the training set: classes, places, sizes", "train_batch0.jpg": "a training batch"}


@dataclass(frozen=True)
class Picture:
    """One picture: `uri` has its JPEG, `caption` says whose it is and what, `alt` is for those who do not see it."""

    caption: str
    alt: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Row:
    """Pictures that belong side by side."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Album:
    """What the page shows, by kind, and the files that could not be shown, with why."""

    matrices: tuple[Row, ...] = ()
    curves: tuple[Row, ...] = ()
    mosaics: tuple[Row, ...] = ()
    data: tuple[Row, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Wanted:
    kind: str
    title: str
    caption: str
    file: Path


class Reading:
    """Pictures that are being read, in threads, while the rest of the page is made."""

    def __init__(
        self, runs: Sequence[tuple[str, RunView]], without: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """`without`: by kind (matrices, curves) the names of runs whose pictures of it are left out."""
        self._several = len(runs) > 1
        self._wanted = [*_plots(runs, without or {}), *_mosaics(runs), *_data(runs[:1])]
        self._pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) if self._wanted else None
        self._read = [self._pool.submit(_read, one.file) for one in self._wanted] if self._pool else []

    def album(self, room: int) -> Album:
        """The pictures, in at most `room` bytes of the page; ends the threads. Never raises for a picture."""
        if self._pool is None:
            return Album()
        with self._pool as pool:
            read = [one.result() for one in self._read]
            side = LARGEST
            done = list(pool.map(_jpeg, read, [side] * len(read)))
            for _ in range(TRIES):
                size = sum(map(len, done)) * 4 / 3
                if size <= room or side == SMALLEST:
                    break
                side = max(SMALLEST, int(side * math.sqrt(max(room, 1) / size) * 0.95))  # bytes go with the area, about
                done = list(pool.map(_jpeg, read, [side] * len(read)))
        return _album(list(zip(self._wanted, read, done, strict=True)), room, self._several)


def album(runs: Sequence[tuple[str, RunView]], room: int) -> Album:
    """The pictures of the given (name, run), in at most `room` bytes of the page. Never raises for a picture."""
    return Reading(runs).album(room)


def _album(found: Sequence[tuple[_Wanted, Image.Image | str, bytes]], room: int, several: bool) -> Album:
    left = [f"{one.caption}, {one.file.name}: {why}" for one, why, _ in found if isinstance(why, str)]
    kept, spent = [], 0.0
    for one, image, data in found:
        if isinstance(image, str):
            continue
        if spent + len(data) * 4 / 3 > room:
            left.append(f"{one.caption}, {one.file.name}: no room left on the page")
            continue
        spent += len(data) * 4 / 3
        kept.append((one, data))
    rows = {kind: _rows(kept, kind, several) for kind in ("matrices", "curves", "mosaics", "data")}
    return Album(**rows, left_out=tuple(left))


def _plots(runs: Iterable[tuple[str, RunView]], without: Mapping[str, Collection[str]]) -> Iterable[_Wanted]:
    every: list[tuple[str, tuple[str, ...], str]] = [("matrices", (name,), title) for name, title in MATRICES.items()]
    every += [("curves", names, title) for names, title in CURVES.items()]
    for kind, names, title in every:
        for whose, view in runs:
            if whose in without.get(kind, ()):
                continue
            if file := next((found[name] for name in names if name in (found := _files(view))), None):
                yield _Wanted(kind, title, whose, file)


def _mosaics(runs: Sequence[tuple[str, RunView]]) -> Iterable[_Wanted]:
    """For each batch the labels, of the first run that has them, then each run's predictions."""
    each = [(name, _files(view)) for name, view in runs]
    batches = sorted({int(match[1]) for _, files in each for file in files if (match := MOSAICS.fullmatch(file))})
    for batch in batches:
        title = f"validation batch {batch}"
        labels = [file for _, files in each if (file := files.get(f"val_batch{batch}_labels.jpg"))]
        yield from (_Wanted("mosaics", title, "labels", file) for file in labels[:1])
        for name, files in each:
            if file := files.get(f"val_batch{batch}_pred.jpg"):
                yield _Wanted("mosaics", title, f"predictions of {name}", file)


def _data(runs: Iterable[tuple[str, RunView]]) -> Iterable[_Wanted]:
    for whose, view in runs:
        files = _files(view)
        yield from (_Wanted("data", title, whose, files[name]) for name, title in DATA.items() if name in files)


def _files(view: RunView) -> dict[str, Path]:
    return {path.name: path for path in view.pictures}


def _rows(kept: Sequence[tuple[_Wanted, bytes]], kind: str, several: bool) -> tuple[Row, ...]:
    """By title; where each title has one picture only, all in one row, named by titles and by what else tells."""
    rows: dict[str, list[Picture]] = {}
    for one, data in kept:
        if one.kind == kind:
            rows.setdefault(one.title, []).append(_picture(one, data))
    if all(len(pictures) == 1 for pictures in rows.values()):
        named = several or kind == "mosaics"
        alone = tuple(
            replace(one, caption=f"{title}: {one.caption}" if named else title) for title, (one,) in rows.items()
        )
        return (Row("", alone),) if alone else ()
    return tuple(Row(title, tuple(pictures)) for title, pictures in rows.items())


def _picture(one: _Wanted, data: bytes) -> Picture:
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    uri = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return Picture(one.caption, f"{one.title}: {one.caption}; a picture that Ultralytics drew", uri, width, height)


def _read(file: Path) -> Image.Image | str:
    """The picture, no larger than it can be shown; or why not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > MAX_PIXELS:
                    return f"larger than {MAX_PIXELS // 1_000_000} million pixels"
                scale = LARGEST / max(image.size)
                image.draft("RGB", (round(image.width * scale), round(image.height * scale)))  # a JPEG is read smaller
                flat = _flat(image)
        factor = max(flat.size) // LARGEST
        return flat.reduce(factor) if factor > 1 else flat
    except ImportError:  # Ultralytics, where it is imported too, has Pillow look for another decoder
        return "cannot be read"
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"cannot be read ({type(error).__name__})"


def _flat(image: Image.Image) -> Image.Image:
    """Without transparency, which a JPEG has not: what was transparent is white."""
    if image.mode not in ("RGBA", "LA", "P", "PA"):
        return image.convert("RGB")
    over = image.convert("RGBA")
    if over.getchannel("A").getextrema() == (255, 255):
        return over.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", over.size, (*WHITE, 255)), over).convert("RGB")


def _jpeg(image: Image.Image | str, side: int) -> bytes:
    """No larger than that; nothing of a picture that could not be read."""
    if isinstance(image, str):
        return b""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    to = io.BytesIO()
    small.save(to, "JPEG", quality=QUALITY)
    return to.getvalue()
