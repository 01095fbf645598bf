"""Which charts a report has: curves of metrics, losses, time, memory and learning rate, for one run or many.

Runs of one configuration, which differ in seed and machine at most, are shown as one curve, their mean, in a band from
the lowest to the highest; each of them can be shown as well. A run that did not end, and one that is another again,
number for number, is in no band. The run that the report is about always has a curve of its own.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from launcher.analysis.model import (
    GAIN_OF,
    MAP50,
    MAP5095,
    PRECISION,
    RECALL,
    Analysis,
    Comparison,
    Mark,
    Progression,
    RunView,
    Series,
)
from launcher.analysis.model import LABELS as COLUMNS
from launcher.analysis.numbers import metric_names
from launcher.analysis.seeds import independent
from launcher.report.chart import DASH, SOLID, Chart, Line
from launcher.report.figure import spread

STALL = 8.0
"""Where the slowest epoch takes so many times the usual one, the time's axis is logarithmic. A choice for the eye."""
MARKS = 14
"""More marks than this over a chart could not be read; the ones that matter most are kept."""
FIRST = (MAP5095, MAP50, PRECISION, RECALL)
"""Metrics of boxes in the order of their charts; those of masks, poses and classes follow."""
RANK = ("best", "mosaic-closed", "gap", "restart")
BAND = (
    "A band reaches from the lowest to the highest of runs that differ in seed and machine at most. "
    "Runs that did not end, or are another one again, are not in it."
)
Get = Callable[[RunView, Progression], Series]


@dataclass(frozen=True)
class Curve:
    """What is shown as one curve: a run, or several of one configuration. `number` gives its looks.

    `shown`: visible when the page opens. Runs that are in a band are not.
    """

    number: int
    name: str
    members: tuple[tuple[RunView, Progression], ...]
    shown: bool = True

    @property
    def band(self) -> bool:
        """Whether it stands for several runs."""
        return len(self.members) > 1


@dataclass(frozen=True)
class Panel:
    """Charts that belong together, and the curves that they share."""

    code: str
    charts: tuple[Chart, ...]
    curves: tuple[Curve, ...]

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """What of a run there is, and its dash; empty where the charts show one thing of each."""
        found = {(line.part, line.dash): None for chart in self.charts for line in chart.lines if line.part}
        return tuple(found)

    @property
    def note(self) -> str:
        """What a reader must know of all its charts."""
        bands = any(curve.band for curve in self.curves)
        return BAND if bands else ""

    @property
    def switch(self) -> bool:
        """Whether there is something to divide by gains."""
        return any(chart.per_gain for chart in self.charts)

    @property
    def divided(self) -> bool:
        """Whether the losses are divided by their gains when the page opens."""
        return any(chart.divided for chart in self.charts)


def charts(said: Analysis | Comparison) -> tuple[Chart, ...]:
    """All charts, for use outside a page."""
    return tuple(chart for panel in panels(said) for chart in panel.charts)


def panels(said: Analysis | Comparison) -> tuple[Panel, ...]:
    """The charts by the section of the report that they belong to: progression, losses, technical."""
    found = curves(said)
    views, progressions = _runs(said)
    metrics = dict.fromkeys((*FIRST, *metric_names(*views)))
    losses = {name.split("/")[-1].removesuffix("_loss") for made in progressions for name in made.losses}
    marks = _marks(said.progression.marks if isinstance(said, Analysis) else ())
    made = {
        "progression": [_metric(found, name, marks) for name in metrics],
        "losses": [_loss(found, loss, marks) for loss in GAIN_OF if loss in losses],
        "technical": [_seconds(found, marks), _memory(found), _rates(found)],
    }
    drawn = {code: tuple(chart for chart in group if chart.drawable) for code, group in made.items()}
    return tuple(Panel(code, group, found) for code, group in drawn.items() if group)


def curves(said: Analysis | Comparison) -> tuple[Curve, ...]:
    """The curves, each with its own number: the run or first run is 0, bands come before their members."""
    views, progressions = _runs(said)
    groups = _groups(said, views)
    names = unique(views)
    pairs = list(zip(views, progressions, strict=True))
    alone = {0} if isinstance(said, Analysis) else set()
    banded = _banded(views, groups, alone)
    sets: dict[int, list[int]] = {}
    for at, group in enumerate(groups):
        sets.setdefault(group if at in banded else -1 - at, []).append(at)
    units: list[tuple[str, list[int], bool]] = []
    for members in sets.values():
        if len(members) > 1:
            units.append((f"mean of {names[members[0]]} and {len(members) - 1} more", members, True))
        else:
            units.append((names[members[0]], members, True))
    units += [(names[at], [at], False) for members in sets.values() if len(members) > 1 for at in members]
    return tuple(
        Curve(number, name, tuple(pairs[at] for at in members), shown)
        for number, (name, members, shown) in enumerate(units)
    )


def _banded(views: Sequence[RunView], groups: Sequence[int], alone: set[int]) -> set[int]:
    """Places of the runs that may be in a band with others of their group: as `Spread` counts them."""
    found: set[int] = set()
    for group in set(groups):
        members = {id(views[at]): at for at in range(len(views)) if groups[at] == group and at not in alone}
        found |= {members[id(view)] for view in independent([views[at] for at in members.values()])}
    return found


def unique(views: Sequence[RunView]) -> list[str]:
    """A name for each run that no other has: its name, else its id, else with the folder around it, else a number.

    Folders of one name come told apart already (`launcher.analysis`); a run of ours that was copied does not.
    """
    ways: tuple[Callable[[RunView], str], ...] = (
        lambda view: view.name,
        lambda view: view.id if view.id.startswith(view.name) else f"{view.name} {view.id}",
        lambda view: f"{view.where.parent.name}/{view.where.name}",
    )
    found = [view.name for view in views]
    for way in ways:
        often = Counter(found)
        found = [way(view) if often[name] > 1 else name for view, name in zip(views, found, strict=True)]
    often, seen = Counter(found), Counter[str]()
    for at, name in enumerate(found):
        seen[name] += 1
        found[at] = f"{name} ({seen[name]})" if often[name] > 1 else name
    return found


def _runs(said: Analysis | Comparison) -> tuple[list[RunView], list[Progression]]:
    """All runs, and what they did by epoch."""
    if isinstance(said, Comparison):
        return list(said.runs), list(said.progressions)
    return [said.run, *said.references], [said.progression, *said.reference_progressions]


def _groups(said: Analysis | Comparison, views: Sequence[RunView]) -> list[int]:
    """The number of the configuration of each run; of a report's few runs none has another's."""
    if isinstance(said, Comparison):
        return [row.group for row in said.rows]
    if len(views) < 3:
        return list(range(len(views)))
    from launcher.analysis.compare import compare

    return [row.group for row in compare(views).rows]


def _column(kind: str, name: str) -> Get:
    """What a run has by epoch under that name: of its metrics, losses or rates."""

    def get(_: RunView, made: Progression) -> Series:
        found: Series = getattr(made, kind).get(name, ())
        return found

    return get


def _line(curve: Curve, get: Get, part: str = "", dash: str = SOLID, gain: float | None = None) -> Line:
    """One line of a curve; of a band, the mean and its edges."""
    each = [(tuple(map(float, progression.epochs)), get(view, progression)) for view, progression in curve.members]
    each = [(epochs, values) for epochs, values in each if len(epochs) == len(values)]
    if not curve.band:
        epochs, values = each[0] if each else ((), ())
        return Line(curve.number, curve.name, epochs, values, part, dash, gain)
    epochs, mean, low, high = spread(each)
    return Line(curve.number, curve.name, epochs, mean, part, dash, gain, low, high)


def _metric(found: tuple[Curve, ...], name: str, marks: tuple[Mark, ...]) -> Chart:
    label = COLUMNS[name]
    lines = tuple(_line(curve, _column("metrics", name)) for curve in found)
    return Chart(label, label, f"{label} (0 to 1)", lines, marks=marks, zero=True)


def _loss(found: tuple[Curve, ...], loss: str, marks: tuple[Mark, ...]) -> Chart:
    lines = []
    for curve in found:
        for split, part, dash in (("train", "training", SOLID), ("val", "validation", DASH)):
            column = f"{split}/{loss}_loss"
            lines.append(_line(curve, _column("losses", column), part, dash, _gain(curve, column)))
    gains = {line.gain for line in lines if line.y}
    return Chart(
        f"{loss}-loss",
        f"{loss} loss",
        f"{loss} loss",
        tuple(lines),
        marks=marks,
        per_gain=any(gains),
        divided=len(gains) > 1 and None not in gains,
    )


def _gain(curve: Curve, column: str) -> float | None:
    """What the analysis divided the column by; None where it did not, or not the same for all of a band."""
    gains = set()
    for _, made in curve.members:
        pairs = zip(made.losses.get(column, ()), made.per_gain.get(column, ()), strict=False)
        ratios = (raw / unit for raw, unit in pairs if math.isfinite(raw) and math.isfinite(unit) and unit)
        gains.add(next((float(f"{ratio:.6g}") for ratio in ratios), None))
    return gains.pop() if len(gains) == 1 else None


def _seconds(found: tuple[Curve, ...], marks: tuple[Mark, ...]) -> Chart:
    lines = tuple(_line(curve, lambda _, made: made.seconds) for curve in found)
    known = [y for line in lines for y in line.y if math.isfinite(y) and y > 0]
    slow = bool(known) and max(known) > STALL * statistics.median(known)
    note = "The axis is logarithmic, so that a stall does not flatten the rest." if slow else ""
    said = tuple(mark for mark in marks if mark.code != "best")
    return Chart(
        "seconds",
        "epoch time",
        "time (s)",
        lines,
        marks=said,
        note=note,
        log=slow,
        zero=True,
    )


def _memory(found: tuple[Curve, ...]) -> Chart:
    lines = tuple(_line(curve, lambda view, _: view.memory_gb) for curve in found)
    return Chart("memory", "memory", "memory (GB)", lines, zero=True)


def _rates(found: tuple[Curve, ...]) -> Chart:
    """The learning rates: all that differ for a run or two, the first parameter group for more."""
    lines = []
    for curve in found:
        rates = dict(curve.members[0][1].rates)
        distinct = list({values: name for name, values in reversed(rates.items())}.values())[::-1]
        for name, dash in zip(distinct[:2] if len(found) <= 2 else distinct[:1], (SOLID, DASH), strict=False):
            part = name.removeprefix("lr/") if len(distinct) > 1 and len(found) <= 2 else ""
            lines.append(_line(curve, _column("rates", name), part, dash))
    note = "The first group of parameters (lr/pg0)." if len(found) > 2 else ""
    return Chart("rate", "learning rate", "learning rate", tuple(lines), note=note, zero=True)


def _marks(marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """The marks that fit, those that matter most first."""
    order = {code: at for at, code in enumerate(RANK)}
    return tuple(sorted(marks, key=lambda mark: (order.get(mark.code, len(RANK)), mark.epoch))[:MARKS])
