"""The numbers behind the pictures of a validation, where a run has them: curves, confusion matrix, recall by size.

Ultralytics draws these and throws the numbers away. The worker keeps them in `validation.json` beside results.csv
(`launcher.worker.training.validation`); runs of others may have such a file too:

    {"version": 1, "classes": ["starfish"],
     "curves": {"precision-recall": {"x": [0, ...], "y": [[1, ...]]}, "f1-confidence": ..., "precision-confidence": ...,
                "recall-confidence": ...},
     "confusion": [[41, 3], [9, 0]],
     "recall_by_size": {"small": {"found": 31, "of": 60}, ...}}

`y` has a row a class, each as long as `x`; a chart shows their mean, as Ultralytics' picture does. `confusion` has a
row for each predicted class and a column for each true one, in counts; background is last in both (as the `matrix` of
ConfusionMatrix in ultralytics/utils/metrics.py). Sizes are named by whoever counted. Every part may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from launcher.analysis.model import Interval, RunView
from launcher.analysis.numbers import wilson
from launcher.report.chart import Chart, Line

NAME = "validation.json"
MAX_BYTES = 8_000_000
"""A larger file is left out: four curves of 1,000 points for 80 classes are 3 MB."""
POINTS = 500
"""Points of a curve that a chart shows: Ultralytics has 1,000, more than a chart has pixels."""
SIDE = 21
"""Classes, background among them, of a confusion matrix that is a table: the pages of two such runs grow by 0.1 MB.
A larger one is shown as Ultralytics drew it."""
TITLES = {
    "precision-recall": ("recall", "precision"),
    "f1-confidence": ("confidence", "F1"),
    "precision-confidence": ("confidence", "precision"),
    "recall-confidence": ("confidence", "recall"),
}
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[float, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class _Curve(_Strict):
    x: list[Share] = Field(min_length=2, max_length=10_000)
    y: list[list[Share]] = Field(min_length=1, max_length=2_000)

    @model_validator(mode="after")
    def _as_long(self) -> _Curve:
        if any(len(row) != len(self.x) for row in self.y):
            raise ValueError("a row of y is not as long as x")
        return self


class _Found(_Strict):
    found: int = Field(ge=0)
    of: int = Field(gt=0)

    @model_validator(mode="after")
    def _no_more(self) -> _Found:
        if self.found > self.of:
            raise ValueError("more found than there are")
        return self


class _File(_Strict):
    version: int = Field(ge=1, le=1)
    classes: list[str] = []
    curves: dict[str, _Curve] = {}
    confusion: list[list[Count]] = []
    recall_by_size: dict[str, _Found] = {}

    @model_validator(mode="after")
    def _square(self) -> _File:
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("the confusion matrix is not square")
        return self


@dataclass(frozen=True)
class Size:
    """Of the objects of a size, those that were found; a Wilson interval of 95 %."""

    name: str
    found: int
    of: int
    interval: Interval


@dataclass(frozen=True)
class Numbers:
    """What one run has. `confusion`: a row a predicted class, a column a true one, named by `classes`."""

    name: str
    curves: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[float, ...], ...] = ()
    sizes: tuple[Size, ...] = ()
    trouble: str = ""
    """Why the file could not be used; empty where it could, and where there is none."""

    @property
    def tabled(self) -> bool:
        """Whether there is a confusion matrix, and a table has room for it."""
        return 0 < len(self.confusion) <= SIDE

    def of_class(self, column: int, count: float) -> float:
        """What share a count is of a true class, 0 to 1; 0 for a class without any."""
        whole = math.fsum(row[column] for row in self.confusion)
        return count / whole if whole else 0.0


def read(name: str, run: RunView) -> Numbers:
    """The numbers of a run; without any where it has no such file, or one that cannot be used. Never raises."""
    folder = run.train or (run.where.parent if run.where.suffix else run.where)
    try:
        with (folder / NAME).open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            return Numbers(name, trouble=f"{NAME} is larger than {MAX_BYTES // 1_000_000} MB")
        file = _File.model_validate_json(data)
    except FileNotFoundError:
        return Numbers(name)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return Numbers(name, trouble=f"{NAME}: {f'{place}: ' if place else ''}{first['msg']}")
    except OSError as error:
        return Numbers(name, trouble=f"{NAME}: {error.strerror}")
    side = len(file.confusion)
    named = [*file.classes[: side - 1], *(f"class {at}" for at in range(len(file.classes), side - 1)), "background"]
    return Numbers(
        name=name,
        curves={code: _thin(file.curves[code]) for code in TITLES if code in file.curves},
        classes=tuple(named) if side else (),
        confusion=tuple(tuple(row) for row in file.confusion),
        sizes=tuple(Size(at, one.found, one.of, wilson(one.found / one.of, one.of)) for at, one in _sizes(file)),
    )


def curve_charts(numbers: Sequence[Numbers]) -> tuple[Chart, ...]:
    """A chart for each kind of curve that any run has, all runs in it; a run's place in the order gives its looks."""
    made = []
    for code, (x_title, y_title) in TITLES.items():
        lines = tuple(Line(at, one.name, *one.curves[code]) for at, one in enumerate(numbers) if code in one.curves)
        if lines:
            title = f"{y_title} against {x_title}"
            made.append(Chart(code, title, f"{y_title} (0 to 1)", lines, x_title=f"{x_title} (0 to 1)", zero=True))
    return tuple(made)


def _thin(curve: _Curve) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean over the classes, at no more points than a chart shows; the last one stays."""
    step = max(1, math.ceil(len(curve.x) / POINTS))
    kept = sorted({*range(0, len(curve.x), step), len(curve.x) - 1})
    mean = tuple(round(math.fsum(row[at] for row in curve.y) / len(curve.y), 5) for at in kept)
    return tuple(curve.x[at] for at in kept), mean


def _sizes(file: _File) -> list[tuple[str, _Found]]:
    return list(file.recall_by_size.items())[:20]
