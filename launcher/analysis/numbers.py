"""Metrics and losses beside their references: best epochs, changes, intervals, spreads, losses per unit of their gain.

Which epoch is best: that of the highest fitness, as Ultralytics chooses best.pt; of equals the first. Fitness is
mAP50-95 alone in the version that this was read in (8.4.190: utils/metrics.py, Metric.fitness). It was 0.1 mAP50 +
0.9 mAP50-95 before; in which version that changed was not found, so where the two choose different epochs and the
version is not known, that is said.

Sources: Wilson's interval for a share (Wilson 1927, J. Am. Stat. Assoc. 22); the prediction interval of one more run,
mean ± t(n-1, 0.975) s sqrt(1 + 1/n); Student's t from the usual table.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from launcher.analysis.model import (
    LABELS,
    LOSSES,
    MAP50,
    MAP5095,
    METRICS,
    PRECISION,
    RECALL,
    Change,
    Interval,
    LossRow,
    MetricRow,
    Results,
    RunView,
    Series,
    Spread,
)

BEST_BY = "highest mAP50-95, as Ultralytics chooses best.pt"
Z = 1.959964  # 0.975 quantile of the normal distribution
BOXES_LIMIT = 1e9  # predicted boxes; a precision so small that it asks for more was not counted
T975: tuple[float, ...] = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""0.975 quantiles of Student's t for 1 to 30 degrees of freedom."""


def figure(value: float | None, digits: int = 3) -> str:
    """A metric or loss for people: `0.154`; `?` where it is not known."""
    return "?" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """A difference for people: `+0.012`, `−0.072`."""
    return f"{value:+.{digits}f}".replace("-", "−")


def percent(share: float) -> str:
    """A share for people, without its sign: `11 %`."""
    return f"{abs(share) * 100:.0f} %"


def duration(seconds: float | None) -> str:
    """Seconds for people: `95.2 s`, `12.3 min`, `10.65 h`."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"


def fitness(results: Results) -> Series:
    """mAP50-95 by epoch; NaN where it is missing."""
    return results.column(MAP5095)


def fitness_before(results: Results) -> Series:
    """As older versions had it."""
    pairs = zip(results.column(MAP50), results.column(MAP5095), strict=True)
    return tuple(0.1 * map50 + 0.9 * map5095 for map50, map5095 in pairs)


def highest(epochs: tuple[int, ...], series: Series) -> int | None:
    """The first epoch of the highest value; None where there is no value."""
    known = [(value, -epoch) for epoch, value in zip(epochs, series, strict=True) if math.isfinite(value)]
    return -max(known)[1] if known else None


def lowest(epochs: tuple[int, ...], series: Series) -> int | None:
    """The first epoch of the lowest value; None where there is no value."""
    known = [(value, epoch) for epoch, value in zip(epochs, series, strict=True) if math.isfinite(value)]
    return min(known)[1] if known else None


def best_epoch(results: Results) -> int | None:
    """The best epoch; None where no epoch has the metric."""
    return highest(results.epochs, fitness(results))


def change(before: float | None, after: float | None) -> Change | None:
    """From one value to the other; None where either is missing."""
    if before is None or after is None:
        return None
    relative = (after - before) / abs(before) if before else math.inf
    return Change(before, after, after - before, relative if math.isfinite(relative) else None)


def wilson(share: float, count: int) -> Interval:
    """Where the true share may lie, at 95 %, when this one was counted on `count` things (at least 1)."""
    hits = share * count
    middle = (hits + Z * Z / 2) / (count + Z * Z)
    half = Z / (count + Z * Z) * math.sqrt(hits * (count - hits) / count + Z * Z / 4)
    return Interval(max(0.0, middle - half), min(1.0, middle + half), count)


def apart(one: Interval, share_one: float, other: Interval, share_other: float) -> bool:
    """Whether the 95 % interval of the difference leaves out 0 (Newcombe 1998, method 10: of two Wilson intervals)."""
    if share_one < share_other:
        one, share_one, other, share_other = other, share_other, one, share_one
    return share_one - share_other > math.hypot(share_one - one.low, other.high - share_other)


def interval(name: str, precision: float | None, recall: float | None, positives: int | None) -> Interval | None:
    """Of precision or recall, where the labelled boxes are counted; None for other metrics and unknown counts.

    Recall is a share of the labelled boxes. Precision is one of the predicted boxes, whose count follows:
    recall * positives / precision.
    """
    if not positives or precision is None or recall is None or not (0 <= precision <= 1 and 0 <= recall <= 1):
        return None
    if name == RECALL:
        return wilson(recall, positives)
    if name == PRECISION and recall > 0 and recall * positives < BOXES_LIMIT * precision:
        return wilson(precision, max(1, round(recall * positives / precision)))
    return None


def metric_rows(run: RunView, reference: RunView | None) -> tuple[MetricRow, ...]:
    """Each metric that the run or its reference has."""
    names = [name for name in METRICS if any(name in one.results.columns for one in (run, reference) if one)]
    return tuple(_metric(name, run, reference) for name in names)


def _metric(name: str, run: RunView, reference: RunView | None) -> MetricRow:
    results = run.results
    epoch, peak = best_epoch(results), highest(results.epochs, results.column(name))
    final, at_best = results.last(name), results.at(name, epoch) if epoch else None
    old = reference.results if reference is not None else None
    old_epoch = best_epoch(old) if old is not None else None
    old_final = old.last(name) if old is not None else None
    old_best = old.at(name, old_epoch) if old is not None and old_epoch else None
    return MetricRow(
        name=name,
        label=LABELS[name],
        final=final,
        best=at_best,
        peak=results.at(name, peak) if peak else None,
        peak_epoch=peak,
        interval=interval(name, results.last(PRECISION), results.last(RECALL), run.positives),
        reference_final=old_final,
        reference_best=old_best,
        final_change=change(old_final, final),
        best_change=change(old_best, at_best),
    )


def loss_rows(run: RunView, reference: RunView | None) -> tuple[LossRow, ...]:
    """Each loss that the run has, the training's first."""
    names = [(split, loss) for split in ("train", "val") for loss in LOSSES]
    return tuple(_loss(*name, run, reference) for name in names if f"{name[0]}/{name[1]}_loss" in run.results.columns)


def _loss(split: str, loss: str, run: RunView, reference: RunView | None) -> LossRow:
    name, results = f"{split}/{loss}_loss", run.results
    series, gain = results.column(name), run.config.number(loss)
    low = lowest(results.epochs, series)
    last = results.last(name)
    old = reference.results.last(name) if reference is not None else None
    old_gain = reference.config.number(loss) if reference is not None else None
    per, old_per = _divided(last, gain), _divided(old, old_gain)
    return LossRow(
        name=name,
        label=LABELS[name],
        loss=loss,
        split=split,
        gain=gain,
        first=results.at(name, results.epochs[0]) if results.epochs else None,
        last=last,
        lowest=results.at(name, low) if low else None,
        lowest_epoch=low,
        per_gain=per,
        reference_last=old,
        reference_gain=old_gain,
        reference_per_gain=old_per,
        raw_change=change(old, last),
        per_gain_change=change(old_per, per),
        comparable=gain is not None and gain == old_gain,
    )


def _divided(value: float | None, gain: float | None) -> float | None:
    return value / gain if value is not None and gain else None


def per_gain(run: RunView) -> Mapping[str, tuple[float, ...]]:
    """Each loss by epoch, divided by its gain; only those whose gain is known and not 0."""
    found = {}
    for split in ("train", "val"):
        for loss in LOSSES:
            name, gain = f"{split}/{loss}_loss", run.config.number(loss)
            if gain and name in run.results.columns:
                found[name] = tuple(value / gain for value in run.results.column(name))
    return found


def spread(group: int, runs: Sequence[RunView], metric: str) -> Spread | None:
    """The metric of the best epochs over the runs of one configuration; None where no run has it."""
    values = [value for run in runs if (value := at_best(run, metric)) is not None]
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    needed = None if deviation is None else t975(len(values) - 1) * deviation * math.sqrt(1 + 1 / len(values))
    names = tuple(run.id for run in runs)
    return Spread(group, names, metric, statistics.fmean(values), deviation, min(values), max(values), needed)


def at_best(run: RunView, metric: str) -> float | None:
    """A metric in the run's best epoch."""
    epoch = best_epoch(run.results)
    return run.results.at(metric, epoch) if epoch else None


def t975(freedom: int) -> float:
    """Student's t, 0.975 quantile; the normal one's above 30 degrees of freedom (4 % too small at most)."""
    return T975[freedom - 1] if freedom <= len(T975) else Z


def largest_noise(difference: float) -> float:
    """The seed-to-seed deviation below which a difference of two single runs is outside 95 % of chance: d / (z √2)."""
    return abs(difference) / (Z * math.sqrt(2))
