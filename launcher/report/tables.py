"""What the page's tables show: values as text, a long training in few rows, the worker's events in words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from launcher.analysis.model import ACCURACIES, GAIN_OF, METRICS, Analysis, Difference, Moment, RunView, Series
from launcher.analysis.model import LABELS as COLUMNS
from launcher.analysis.numbers import FITTING, figure, metric_names

STEPS = 40
"""Rows of the table by epoch; of a longer training every so-manieth epoch is shown, and all that are marked."""
SIDE_BY_SIDE = 5
"""Runs that have a column each in the table of differences; of more, the values of the others are listed."""
MOMENTS = 40
"""Rows of the table of events."""
ROUTINE = ("heartbeat", "epoch", "checkpoint", "preparing")
"""Events that say nothing beyond the other tables."""
NONE = "–"


@dataclass(frozen=True)
class Step:
    """An epoch as a row of text."""

    epoch: int
    cells: tuple[str, ...]
    marks: str
    best: bool


@dataclass(frozen=True)
class Steps:
    """The table by epoch."""

    caption: str
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    """Titles over columns, and the columns; those without a title stand for themselves."""
    rows: tuple[Step, ...]


@dataclass(frozen=True)
class DifferenceRow:
    """An argument that differs, as text."""

    name: str
    cells: tuple[str, ...]
    default: str
    group: str
    note: str


@dataclass(frozen=True)
class Differences:
    """The table of what differs in configuration."""

    columns: tuple[str, ...]
    rows: tuple[DifferenceRow, ...]


@dataclass(frozen=True)
class MomentRow:
    """An event as a row."""

    time: float
    name: str
    epoch: int | None
    attempt: str
    text: str


@dataclass(frozen=True)
class Moments:
    """The table of events."""

    caption: str
    rows: tuple[MomentRow, ...]


def steps(said: Analysis) -> Steps:
    """The run by epoch."""
    made = said.progression
    marks: dict[int, list[str]] = {}
    for mark in made.marks:
        marks.setdefault(mark.epoch, []).append(mark.text or mark.code)
    every = max(1, math.ceil(len(made.epochs) / STEPS))
    ends = {*made.epochs[:1], *made.epochs[-1:], *sorted(marks)[:STEPS], made.best_epoch}
    kept = [at for at, epoch in enumerate(made.epochs) if at % every == 0 or epoch in ends]
    groups: dict[str, list[tuple[str, Series, Callable[[float], str]]]] = {
        "": [("seconds", made.seconds, seconds_text)]
    }
    groups[""] += [
        (COLUMNS[name], made.metrics[name], share) for name in metric_names(said.run) if name in made.metrics
    ]
    for split, word in (("train", "training loss"), ("val", "validation loss")):
        names = [(loss, f"{split}/{loss}_loss") for loss in GAIN_OF]
        groups[word] = [(loss, made.losses[name], loss_text) for loss, name in names if name in made.losses]
    columns = [column for group in groups.values() for column in group]
    rows = tuple(
        Step(
            made.epochs[at],
            tuple(shown(values[at]) for _, values, shown in columns),
            "; ".join(marks.get(made.epochs[at], [])),
            made.epochs[at] == made.best_epoch,
        )
        for at in kept
    )
    titles = tuple((title, tuple(name for name, _, _ in group)) for title, group in groups.items() if group)
    some = f"{len(kept)} of {len(made.epochs)} epochs: every {every}th, and those with a mark. " if every > 1 else ""
    return Steps(f"{some}Losses as written; the best epoch is set off.", titles, rows)


def differences(found: Sequence[Difference], names: Sequence[str]) -> Differences:
    """What differs; of more than SIDE_BY_SIDE runs the first two, and the values that the others have."""
    few = len(names) <= SIDE_BY_SIDE
    shown = len(names) if few else 2

    def cells(one: Difference) -> tuple[str, ...]:
        told = [
            f"({value_text(value)})" if default else value_text(value)
            for value, default in zip(one.values, one.at_default, strict=True)
        ]
        others = list(dict.fromkeys(told[shown:]))
        more = f", and {len(others) - SIDE_BY_SIDE} more" if len(others) > SIDE_BY_SIDE else ""
        return (*told[:shown], *([] if few else [", ".join(others[:SIDE_BY_SIDE]) + more]))

    rows = tuple(DifferenceRow(one.name, cells(one), value_text(one.default), one.group, one.note) for one in found)
    return Differences((*names[:shown], *([] if few else [f"{len(names) - 2} others"])), rows)


def moments(said: Analysis) -> Moments:
    """What the worker reported, but for the routine."""
    told = [one for one in said.run.moments if one.name not in ROUTINE]
    rows = tuple(MomentRow(one.time, one.name, one.epoch, one.attempt, _text(one)) for one in told[:MOMENTS])
    more = f" The first {MOMENTS} of {len(told)}." if len(told) > MOMENTS else ""
    return Moments(f"What the worker reported.{more}", rows)


def compared(runs: Sequence[RunView]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Metrics that a table of these runs shows of the last epoch, and of the best one: those that any run has; for the
    best epoch what it is chosen by. Runs without any have dashes under the metrics of boxes."""
    last = metric_names(*runs) or METRICS
    return last, tuple(name for name in last if name in FITTING) or tuple(name for name in last if name in ACCURACIES)


def share(value: float | None) -> str:
    """A metric: three decimals, of a small one two digits that count."""
    return figure(value) if known(value) else NONE


def difference_text(value: float) -> str:
    """A difference of metrics, with its sign, in as many digits as a metric."""
    return f"{'−' if value < 0 else '+'}{figure(abs(value))}" if known(value) else NONE


def loss_text(value: float | None) -> str:
    """A loss: four digits that count."""
    return f"{value:#.4g}" if known(value) else NONE


def seconds_text(value: float | None) -> str:
    """Seconds of an epoch."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def value_text(value: Any) -> str:
    """An argument's value."""
    if value is None:
        return NONE
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def moment_text(when: float) -> str:
    """Unix seconds as date and time, UTC; nothing where they make no date."""
    try:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return NONE


def known(value: float | None) -> bool:
    """Whether it is a number."""
    return value is not None and math.isfinite(value)


def is_link(text: str) -> bool:
    """Whether a source is an address that a reader may follow."""
    return bool(re.fullmatch(r"https?://[^\s<>\"']+", text))


def _text(one: Moment) -> str:
    """An event's fields in a line: the short ones, no digests."""
    plain: Mapping[str, Any] = {key: value for key, value in one.fields.items() if isinstance(value, (str, int, float))}
    text = ", ".join(f"{key} {value_text(value)}" for key, value in plain.items() if len(str(value)) < 64)
    return text if len(text) <= 240 else f"{text[:239]}…"
