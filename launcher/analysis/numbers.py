"""Metrics and losses beside their references: best epochs, changes, intervals of shares, losses per unit of their gain.

Which epoch is best: that of the highest fitness, as Ultralytics chooses best.pt. Of equals it is the last: best.pt is
written whenever an epoch's fitness equals the best so far (engine/trainer.py, save_model), and fitness is rounded to
five digits as results.csv is. Fitness is mAP50-95 alone in the version that this was read in (8.4.190:
utils/metrics.py, Metric.fitness), of masks or poses added to that of boxes, and the mean of both accuracies for
classification. It was 0.1 mAP50 + 0.9 mAP50-95 before; in which version that changed was not found, so where the two
choose different epochs and the version is not known to be 8.4, that is said.

Source: Wilson's interval for a share (Wilson 1927, J. Am. Stat. Assoc. 22).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from launcher.analysis.model import (
    ACCURACIES,
    GAIN_OF,
    LABELS,
    MAP50,
    MAP5095,
    METRICS,
    MORE_METRICS,
    PRECISION,
    RECALL,
    RTDETR_GAINS,
    Change,
    Interval,
    LossRow,
    MetricRow,
    Results,
    RunView,
    Series,
)

BEST_BY = "highest mAP50-95, as Ultralytics chooses best.pt"
BEST_BY_SUM = "highest sum of all mAP50-95 (boxes and masks or poses), as Ultralytics chooses best.pt"
BEST_BY_V5 = "highest 0.1 mAP50 + 0.9 mAP50-95, as YOLOv5 chooses best.pt"
BEST_BY_ACCURACY = "highest mean of top-1 and top-5 accuracy, as Ultralytics chooses best.pt"
FITTING = (MAP5095, *(name for name in MORE_METRICS if "mAP50-95" in name))
"""Whose sum is the fitness."""
SMALL = 0.00095  # what rounds to 0.001 or less
Z = 1.959964  # 0.975 quantile of the normal distribution
BOXES_LIMIT = 1e9  # predicted boxes; a precision so small that it asks for more was not counted


def figure(value: float | None, digits: int = 3) -> str:
    """A metric or loss for people: `0.154`; `?` where it is not known.

    What would show one digit or none (0.00081 as 0.001) has two that count.
    """
    if value is None or not math.isfinite(value):
        return "?"
    return f"{value:.1e}" if 0 < abs(value) < 1e-5 else f"{value:.{max(digits, _places(value))}f}"


def _places(value: float) -> int:
    """Decimal places that show two digits of a value below 0.01; 0 for others."""
    return 1 - math.floor(math.log10(abs(value))) if 0 < abs(value) < SMALL else 0


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
    """What the best epoch is chosen by (see above), by epoch; NaN where it is missing."""
    columns = results.columns
    if _of_yolov5(results):
        return fitness_before(results)
    if MAP5095 not in columns and all(name in columns for name in ACCURACIES):
        return tuple(sum(pair) / 2 for pair in zip(*(columns[name] for name in ACCURACIES), strict=True))
    found = [columns[name] for name in FITTING if name in columns]
    return tuple(math.fsum(row) for row in zip(*found, strict=True)) if found else results.column(MAP5095)


def best_by(results: Results) -> str:
    """The same in words."""
    if _of_yolov5(results):
        return BEST_BY_V5
    if MAP5095 not in results.columns and all(name in results.columns for name in ACCURACIES):
        return BEST_BY_ACCURACY
    return BEST_BY_SUM if sum(name in results.columns for name in FITTING) > 1 else BEST_BY


def _of_yolov5(results: Results) -> bool:
    return any(repair.code == "other-names" for repair in results.repairs)


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
    """The best epoch, of equals the last; None where no epoch has the metric."""
    pairs = zip(fitness(results), results.epochs, strict=True)
    return max(((value, epoch) for value, epoch in pairs if math.isfinite(value)), default=(0.0, None))[1]


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
    return tuple(_metric(name, run, reference) for name in metric_names(run, reference))


def metric_names(*runs: RunView | None) -> tuple[str, ...]:
    """The metrics that any of the runs has, in the usual order."""
    names = (*METRICS, *MORE_METRICS)
    return tuple(name for name in names if any(name in one.results.columns for one in runs if one is not None))


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
    names = [(split, loss) for split in ("train", "val") for loss in GAIN_OF]
    return tuple(_loss(*name, run, reference) for name in names if f"{name[0]}/{name[1]}_loss" in run.results.columns)


def gain(run: RunView, loss: str) -> float | None:
    """What that loss was multiplied by; None where it is not known."""
    if any(f"{split}/giou_loss" in run.results.columns for split in ("train", "val")):
        return RTDETR_GAINS.get(loss)
    argument = GAIN_OF.get(loss)
    return run.config.number(argument) if argument else None


def _loss(split: str, loss: str, run: RunView, reference: RunView | None) -> LossRow:
    name, results = f"{split}/{loss}_loss", run.results
    series, ours = results.column(name), gain(run, loss)
    low = lowest(results.epochs, series)
    last = results.last(name)
    old = reference.results.last(name) if reference is not None else None
    old_gain = gain(reference, loss) if reference is not None else None
    per, old_per = _divided(last, ours), _divided(old, old_gain)
    return LossRow(
        name=name,
        label=LABELS[name],
        loss=loss,
        split=split,
        gain=ours,
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
        comparable=ours is not None and ours == old_gain,
    )


def _divided(value: float | None, gain: float | None) -> float | None:
    return value / gain if value is not None and gain else None


def per_gain(run: RunView) -> Mapping[str, tuple[float, ...]]:
    """Each loss by epoch, divided by its gain; only those whose gain is known and not 0."""
    found = {}
    for split in ("train", "val"):
        for loss in GAIN_OF:
            name, ours = f"{split}/{loss}_loss", gain(run, loss)
            if ours and name in run.results.columns:
                found[name] = tuple(value / ours for value in run.results.column(name))
    return found


def at_best(run: RunView, metric: str) -> float | None:
    """A metric in the run's best epoch."""
    epoch = best_epoch(run.results)
    return run.results.at(metric, epoch) if epoch else None
