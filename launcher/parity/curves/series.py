"""The numbers of a results.csv that are compared, and which of them have to be there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.analysis.model import ACCURACIES, LABELS, MAP5095, METRICS, MORE_METRICS, RunView, Series
from launcher.analysis.numbers import fitness, per_gain

WEIGHED = ("metrics/", "train/", "val/")
FITNESS = "fitness"
DETECTION = ("train/box_loss", "train/cls_loss", "train/dfl_loss")
FIRST_EPOCH = 2  # of losses: the first is mostly warm-up
ROWS = ("line-twice", "epoch-again", "went-back", "out-of-order")
"""Repairs of the reader that are of rows."""
ROUNDED = 1e-9  # relative: a number of the file, read twice


@dataclass(frozen=True)
class Table:
    """A run's table: epochs, columns as written, train losses divided by their gains where these are known."""

    run: str
    epochs: tuple[int, ...]
    columns: Mapping[str, Series]
    per_gain: Mapping[str, Series]
    fitness: Series
    asked: int | None
    """Epochs that were asked for."""
    by_patience: bool
    """Ended before them by itself, which the table bears out."""
    repairs: tuple[str, ...] = ()
    """What of its rows had to be mended to read it."""
    restarts: tuple[int, ...] = ()
    """Epochs that were the first of a new process."""

    @property
    def whole(self) -> bool:
        """Whether it has every epoch that this training had."""
        through = self.epochs == tuple(range(1, len(self.epochs) + 1)) and bool(self.epochs)
        return through and (self.by_patience or (self.asked is not None and self.epochs[-1] == self.asked))

    def last(self, column: str, epochs: Sequence[int]) -> float | None:
        """Mean of the values at these epochs; None where one of them is missing."""
        values = self._at(self.columns.get(column, ()), epochs)
        return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else None

    def best(self, epochs: Sequence[int]) -> float | None:
        """The highest fitness of these epochs."""
        return max(filter(math.isfinite, self._at(self.fitness, epochs)), default=None)

    def loss(self, column: str, epochs: Sequence[int], *, divided: bool) -> Series:
        """A loss at these epochs, as written or divided by its gain; empty where there is no such column."""
        values = (self.per_gain if divided else self.columns).get(column, ())
        return self._at(values, epochs) if values else ()

    def _at(self, values: Sequence[float], epochs: Sequence[int]) -> Series:
        known = dict(zip(self.epochs, values, strict=False))
        return tuple(known.get(epoch, math.nan) for epoch in epochs)


def table(run: RunView, ended: str = "") -> Table:
    """The table of a run. `ended` is how its training ended, as the inputs have it."""
    asked = run.config.number("epochs")
    results = run.results
    return Table(
        run=run.id,
        epochs=results.epochs,
        columns={name: values for name, values in results.columns.items() if name.startswith((*WEIGHED, "lr/"))},
        per_gain={name: tuple(values) for name, values in per_gain(run).items()},
        fitness=fitness(results),
        asked=int(asked) if asked else None,
        by_patience=ended.startswith("early, by patience"),
        repairs=tuple(repair.text for repair in results.repairs if repair.code in ROWS),
        restarts=results.restarts,
    )


def common(tables: Sequence[Table]) -> tuple[int, ...]:
    """The epochs that all of them have: a row that one has lost must not move its later rows beside others' earlier."""
    return tuple(sorted(set[int].intersection(*(set(one.epochs) for one in tables))))


def needed(tables: Sequence[Table]) -> tuple[str, ...]:
    """Columns without which nothing is claimed: those of the task, and whatever else any of the tables has."""
    either = {name for one in tables for name in one.columns if name.startswith(WEIGHED)}
    if MAP5095 not in either and any(name in either for name in ACCURACIES):
        return tuple(sorted(either | set(ACCURACIES) | {"train/loss"}))
    others = any(name.endswith(("giou_loss", "obj_loss")) for name in either)  # of RT-DETR and YOLOv5
    trained = {name for name in either if name.startswith("train/")} if others else set(DETECTION)
    validated = {name.replace("train/", "val/", 1) for name in trained}
    return tuple(sorted(either | set(METRICS) | trained | validated))


def metrics(columns: Sequence[str]) -> tuple[str, ...]:
    """Of these columns the metrics, in the usual order."""
    return tuple(name for name in (*METRICS, *MORE_METRICS) if name in columns)


def losses(columns: Sequence[str]) -> tuple[str, ...]:
    """Of these columns the training losses."""
    return tuple(name for name in columns if name.startswith("train/"))


def divided(tables: Sequence[Table], column: str) -> bool | None:
    """Whether a loss is compared per unit of its gain: where every table's gain is known. As written where none is;
    None, not at all, where some are."""
    known = [column in one.per_gain for one in tables if column in one.columns]
    return all(known) if len(set(known)) < 2 else None


def label(column: str) -> str:
    """A column for people."""
    return LABELS.get(column, column)


def gaps(one: Table, columns: Sequence[str]) -> tuple[str, ...]:
    """What of these columns the table has not, each as a phrase."""
    found = []
    for name in columns:
        values = one.columns.get(name)
        if values is None:
            found.append(f"{label(name)}: {one.run} has no such column")
        elif lacking := sum(not math.isfinite(value) for value in values):
            found.append(f"{label(name)}: {lacking} of {len(values)} epochs of {one.run} have no value")
    return tuple(found)


def first_other(one: Table, other: Table, columns: Sequence[str]) -> str:
    """The first number of these columns that is another, in words; empty where none is, or an epoch is missing."""
    theirs = {epoch: at for at, epoch in enumerate(other.epochs)}
    for name in columns:
        mine, its = one.columns.get(name, ()), other.columns.get(name, ())
        for epoch, value in zip(one.epochs, mine, strict=False):
            there = its[theirs[epoch]] if epoch in theirs and its else math.nan
            if math.isfinite(value) and math.isfinite(there) and value != there:
                return f"{label(name)} of epoch {epoch} is {value:g}, {there:g} in the reference"
    return ""


def equal(one: Table, other: Table, columns: Sequence[str]) -> bool:
    """Whether both have these columns whole, and the same numbers in them."""
    if one.epochs != other.epochs or not one.epochs or gaps(one, columns) or gaps(other, columns):
        return False
    return all(tuple(one.columns[name]) == tuple(other.columns[name]) for name in columns)
