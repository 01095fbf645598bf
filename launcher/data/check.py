"""Finds what Ultralytics would trip over, skip or rewrite in a dataset, and counts what `plan` wants to know.

Promises: each file is read once, for its digest and its check together, and an unchanged one not again. A Problem is
what Ultralytics 8.4.190 rejects: it would drop the image with one line of log and train on the rest, so that two
machines may train on different data unseen (ultralytics/data/utils.py, verify_image_label and check_image). A Finding
is what it changes or accepts silently. Pixels are decoded only where a file's end is missing.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launcher.data.dataset import IMAGE_SUFFIXES, SOURCE, Dataset, more
from launcher.data.fingerprint import Fingerprint, Kind, Progress, scan
from launcher.errors import Problem
from launcher.finding import Finding, Severity

INSPECTOR = "samerun-check-1"
"""Raised when a note would be another for the same bytes."""
SMALLEST_SIDE = 10
"""Pixels: Ultralytics 8.4.190 rejects smaller images."""
TOLERANCE = 0.01
"""How far outside 0..1 Ultralytics accepts a coordinate; it is clipped."""
SMALL_AREA = 32 * 32
"""Pixels of a box, in the image as it is on disk, below which COCO calls it small."""
NOTED = 5
"""Problems that are kept of one label file."""
EXIF_ORIENTATION, QUARTER_TURNS = 274, (5, 6, 7, 8)
JPEG_END, PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class DatasetFacts:
    """Counts over a dataset. `n_` counts images; boxes are counted over all splits, duplicates once."""

    n_train: int
    n_val: int
    n_test: int
    classes: int
    boxes: int
    train_boxes: int
    small: int
    """Boxes of less than 32 x 32 pixels in their image."""
    background: int
    """Images without a box: an empty label file, or none."""
    width: int
    """Pixels, of the most common image size."""
    height: int
    sizes: int
    """How many different image sizes there are."""
    bytes: int

    def as_json(self) -> dict[str, int]:
        """Plain values, for run.json."""
        return asdict(self)


@dataclass(frozen=True)
class Examination:
    """All that one pass over a dataset's bytes tells. `problems` lists at most 20 and how many more there are."""

    fingerprint: Fingerprint
    facts: DatasetFacts
    problems: tuple[Problem, ...]
    findings: tuple[Finding, ...]
    images_to_copy: tuple[str, ...]
    """Images, by path from the root, that Ultralytics rewrites (earlier versions through a link): give it copies."""


def check(
    dataset: Dataset, cache_file: Path | None = None, progress: Progress | None = None
) -> tuple[list[Problem], list[Finding]]:
    """What is wrong with the dataset, and what is odd. Raises DataError for files that cannot be read."""
    found = examine(dataset, cache_file, progress)
    return list(found.problems), list(found.findings)


def examine(dataset: Dataset, cache_file: Path | None = None, progress: Progress | None = None) -> Examination:
    """Fingerprint, check and count the dataset in one pass; `progress(done, all)` counts files.

    Raises DataError only for files that are gone or cannot be read; what is wrong inside them is in `problems`.
    """
    done = scan(dataset, cache_file, inspect=inspect, inspector=INSPECTOR, progress=progress)
    parsed = {note: json.loads(note) for note in set(done.notes.values())}  # most files have the same few notes
    notes: dict[str, dict[str, Any]] = {path: parsed[note] for path, note in done.notes.items()}
    problems: list[Problem] = []
    for file in done.fingerprint.files:
        where = str(dataset.root / file.path)
        problems += _problems(notes[file.path], where, file.kind, len(dataset.names))
    facts, empty = _facts(dataset, notes, done.fingerprint.bytes)
    problems += empty
    findings = [*dataset.findings, *_findings(dataset, notes), *_same_images(dataset, done.fingerprint)]
    copies = tuple(sorted(path for path, note in notes.items() if note.get("rewritten")))
    return Examination(done.fingerprint, facts, tuple(more(problems)), tuple(findings), copies)


# What is kept of one file


def inspect(kind: Kind, data: bytes) -> str:
    """A note on one file, as JSON: it depends on the bytes alone, so it can be cached with their digest."""
    note = inspect_image(data) if kind == "image" else inspect_label(data)
    return json.dumps(note, separators=(",", ":"))


def inspect_image(data: bytes) -> dict[str, Any]:
    """`size` in pixels, or `wrong`; `rewritten` for a JPEG that Ultralytics would save anew."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            form, size = image.format or "", image.size
            image.verify()  # what Ultralytics does: for PNG the checksums, for JPEG nothing
            rotated = form in ("JPEG", "MPO") and image.getexif().get(EXIF_ORIENTATION) in QUARTER_TURNS
    except (UnidentifiedImageError, ImportError):  # Ultralytics, where it is imported, makes Pillow look for pi_heif
        return {"wrong": "is not an image" if data else "is empty"}
    except Exception as error:  # noqa: BLE001  # Pillow's readers raise whatever their format makes them
        return {"wrong": f"is corrupt: {_first_line(error)}"}
    if form.lower() not in IMAGE_SUFFIXES | {"jpeg2000"}:
        return {"wrong": f"is of the format {form}, which Ultralytics does not read"}
    if min(size) < SMALLEST_SIDE:
        return {"wrong": f"is {size[0]} x {size[1]} pixels; Ultralytics wants at least {SMALLEST_SIDE} each way"}
    note: dict[str, Any] = {"size": [size[1], size[0]] if rotated else list(size)}
    rewritten = form == "JPEG" and not data.endswith(JPEG_END)
    if rewritten or (form == "PNG" and PNG_END not in data[-64:]):
        reason = _undecodable(data)
        if reason is not None:
            return {"wrong": f"is cut off: {reason}"}
    if rewritten:
        note["rewritten"] = True
    return note


def _undecodable(data: bytes) -> str | None:
    """Why the pixels cannot be decoded, or None when they can."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception as error:  # noqa: BLE001  # as above
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


@dataclass(frozen=True)
class Rows:
    """A label file, read as Ultralytics reads it. Areas are shares of the picture; lines count from 1."""

    areas: tuple[float, ...]
    """Of each box (of a polygon: the box around it), duplicates once."""
    classes: dict[int, int]
    """Class number to the first line that has it."""
    wrong: tuple[tuple[int, str], ...]
    """Line and what is wrong there."""
    duplicates: int
    outside: int
    """Rows that leave the picture by no more than 1 %."""
    flat: int
    """Boxes without width or height."""


def parse_rows(text: str) -> Rows:
    """Read the rows of a label file: `class x y width height`, or a class and a polygon of three points or more.

    Never raises: what is wrong is in the result, and a wrong row counts nowhere else.
    """
    rows = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    polygons = any(len(row) > 6 for _, row in rows)
    wrong: list[tuple[int, str]] = []
    seen: set[tuple[float, ...]] = set()
    areas: list[float] = []
    classes: dict[int, int] = {}
    duplicates = outside = flat = 0
    for number, row in rows:
        values = _numbers(row)
        fault = _fault(row, values, polygons)
        if fault is not None or values is None:
            wrong.append((number, fault or "is not a row of numbers"))
            continue
        classes.setdefault(int(values[0]), number)
        outside += any(not 0.0 <= value <= 1.0 for value in values[1:])
        key = tuple(values)
        if key in seen:
            duplicates += 1
            continue
        seen.add(key)
        wide, high = _extent(values)
        flat += wide <= 0.0 or high <= 0.0
        areas.append(wide * high)
    return Rows(tuple(areas), classes, tuple(wrong), duplicates, outside, flat)


def _numbers(row: list[str]) -> list[float] | None:
    """The row's numbers, or None. Python alone reads `1_0` as a number."""
    try:
        return None if any("_" in part for part in row) else [float(part) for part in row]
    except ValueError:
        return None


def _fault(row: list[str], values: list[float] | None, polygons: bool) -> str | None:
    """What is wrong with a row, or None."""
    shown = " ".join(row)[:60]
    if values is None or not all(math.isfinite(value) for value in values):
        return f"`{shown}` is not a row of finite numbers"
    if polygons and (len(row) < 7 or len(row) % 2 == 0):
        return f"has {len(row)} numbers among polygons: a class and at least three points, x and y each, are wanted"
    if not polygons and len(row) != 5:
        return f"has {len(row)} numbers: `class x y width height` is wanted"
    if values[0] < 0 or values[0] != int(values[0]):
        return f"the class {row[0]} is not a whole number from 0"
    if max(values[1:]) > 1.0 + TOLERANCE or min(values[1:]) < -TOLERANCE:
        return f"`{shown}` is not within 0..1: coordinates are shares of the image's width and height"
    if not polygons and min(values[3:]) < 0.0:
        return f"`{shown}` has a negative width or height"
    return None


def _extent(values: list[float]) -> tuple[float, float]:
    """Width and height of a row's box."""
    if len(values) == 5:
        return values[3], values[4]
    xs, ys = values[1::2], values[2::2]
    return max(xs) - min(xs), max(ys) - min(ys)


def inspect_label(data: bytes) -> dict[str, Any]:
    """The note on a label file: what `parse_rows` found, shortened; an empty file is a background image."""
    try:
        rows = parse_rows(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return {"rows": [[None, "is not a text file"]]}
    note: dict[str, Any] = {}
    if rows.areas:
        note["areas"] = [round(area, 7) for area in rows.areas]
        note["classes"] = [[number, line] for number, line in sorted(rows.classes.items())]
    if rows.wrong:
        note["rows"] = [list(pair) for pair in rows.wrong[:NOTED]]
        note["more"] = max(len(rows.wrong) - NOTED, 0)
    counts = {"duplicates": rows.duplicates, "outside": rows.outside, "flat": rows.flat}
    return note | {key: count for key, count in counts.items() if count}


# What the notes say together


def _problems(note: dict[str, Any], where: str, kind: Kind, n_classes: int) -> list[Problem]:
    """The problems of one file. Only here a class number meets the names: the note must not depend on them."""
    if kind == "image":
        remedy = "replace the image, or remove it and its label"
        return [Problem(note["wrong"], file=where, remedy=remedy)] if "wrong" in note else []
    remedy = "mend or delete this row"
    found = [Problem(message, file=where, line=line, remedy=remedy) for line, message in note.get("rows", ())]
    if note.get("more"):
        found.append(Problem(f"and {note['more']} more rows are wrong", file=where))
    for number, line in note.get("classes", ()):
        if number >= n_classes:
            text = f"the class {number} does not exist: `names` has 0 to {n_classes - 1}"
            found.append(Problem(text, file=where, line=line, remedy="add the name, or mend the row"))
    return found


def _facts(dataset: Dataset, notes: dict[str, dict[str, Any]], size: int) -> tuple[DatasetFacts, list[Problem]]:
    """The counts, and a problem for each split to train or judge on that has no box at all."""
    sizes: Counter[tuple[int, int]] = Counter()
    boxes: Counter[str] = Counter()
    small = background = 0
    for split, items in dataset.splits.items():
        for item in items:
            image = notes[item.image].get("size")
            areas = notes[item.label].get("areas", []) if item.label is not None else []
            boxes[split] += len(areas)
            background += not areas and not (item.label is not None and "rows" in notes[item.label])
            if image is not None:
                sizes[image[0], image[1]] += 1
                small += sum(area * image[0] * image[1] < SMALL_AREA for area in areas)
    # The larger of two sizes that are equally common: what has to fit into memory.
    width, height = max(sizes, key=lambda pair: (sizes[pair], pair), default=(0, 0))
    counts = {split: len(items) for split, items in dataset.splits.items()}
    facts = DatasetFacts(
        n_train=counts["train"], n_val=counts["val"], n_test=counts.get("test", 0), classes=len(dataset.names),
        boxes=boxes.total(), train_boxes=boxes["train"], small=small, background=background,
        width=width, height=height, sizes=len(sizes), bytes=size,
    )  # fmt: skip
    problems = []
    for split in ("train", "val"):
        if not boxes[split]:
            text = f"not one of the {counts[split]} images has a box"
            problems.append(Problem(text, file=str(dataset.yaml), field=split, remedy="add the missing labels"))
    return facts, problems


def _findings(dataset: Dataset, notes: dict[str, dict[str, Any]]) -> list[Finding]:
    """What Ultralytics changes or accepts without a word that anyone reads, each with how often and where first."""
    wanted = (
        ("rewritten", "data-jpeg-rewritten", "JPEG files do not end as they should, though they can be decoded",
         "Ultralytics would save them anew; the worker gives it copies. Better: save them anew yourself"),
        ("duplicates", "data-duplicate-rows", "label files have a row twice", "Ultralytics drops the second"),
        ("outside", "data-outside-a-little", "label files have boxes that leave the image by up to 1 %",
         "Ultralytics clips them"),
        ("flat", "data-flat-boxes", "label files have boxes without width or height", "delete these rows"),
    )  # fmt: skip
    found = []
    for key, code, message, remedy in wanted:
        paths = sorted(path for path, note in notes.items() if note.get(key))
        if paths:
            evidence = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
            found.append(Finding(code, Severity.WARNING, f"{len(paths)} {message}", evidence, remedy, SOURCE))
    return found


def _same_images(dataset: Dataset, mark: Fingerprint) -> list[Finding]:
    """Images whose bytes are in `train` and, under another name, in a split to judge on."""
    digests = {file.path: file.sha256 for file in mark.files if file.kind == "image"}
    trained = {digests[item.image]: item.image for item in reversed(dataset.splits["train"])}
    paths = {item.image for item in dataset.splits["train"]}  # the same path twice is data-split-overlap
    found = []
    for split in ("val", "test"):
        images = dict.fromkeys(item.image for item in dataset.splits.get(split, ()) if item.image not in paths)
        same = [(image, twin) for image in images if (twin := trained.get(digests[image])) is not None]
        if same:
            number = f"{len(same)} of {len(images)} images in `{split}`"
            verb = "have the bytes of ones" if len(same) > 1 else "has the bytes of one"
            message = f"{number} {verb} in `train`: the scores will be too good"
            evidence = ", ".join(f"{image} is {twin}" for image, twin in same[:2])
            evidence += f", and {len(same) - 2} more" if len(same) > 2 else ""
            code, remedy = "data-split-same-image", "keep each picture in one split; split by video"
            found.append(Finding(code, Severity.WARNING, message, evidence, remedy, SOURCE))
    return found
