"""What the course of a run says: where its time went, how steady it was, and signs of overfitting.

Every threshold here is an assumption, made so that the runs at hand (the published ones, the reef's) are told as a
careful reader would tell them; each finding carries the numbers, so that a reader can judge otherwise.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

from launcher.analysis.changes import mosaic_epochs
from launcher.analysis.model import (
    ACCURACIES,
    LABELS,
    LOSSES,
    MAP5095,
    METRICS,
    MORE_METRICS,
    LossRow,
    Mark,
    Progression,
    Results,
    RunView,
    Series,
    Timing,
)
from launcher.analysis.numbers import best_epoch, duration, figure, fitness, gain, lowest, per_gain, percent
from launcher.finding import Finding, Severity

MAIN = tuple(name for name in (*METRICS, *MORE_METRICS) if "mAP50-95" in name or name in ACCURACIES)
GAP_RATIO, GAP_S = 5.0, 60.0  # an epoch this many times the usual one, and longer by this, is a gap
PACE = 1.5  # the last third's epochs, over the first third's, from which on a run became slower
SPIKE = 1.5  # a training loss over the median of the three epochs before it
WARM_UP = 3  # epochs, Ultralytics' default, in which losses may jump
FALL = 0.5  # of the best mAP50-95 so far that is left after a collapse
FELL = 0.10  # the share of the best mAP50-95 that is lost at the end, from which on it is worth a word
RISE = 0.05  # of a validation loss above its lowest, while the training loss fell
APART = 2.0  # validation over training loss, and over the other losses' same ratio
MEMORY = 1.3  # the last epoch's memory over the second's
STEADY = 3  # epochs at least for a statement on course
MPS = "https://github.com/ultralytics/yolov5/issues/7554"


def timing(results: Results) -> Timing:
    """Where the time went, from the differences of the cumulative column; `total` counts epochs without a row, too."""
    known = {epoch: s for epoch, s in zip(results.epochs, results.seconds, strict=True) if math.isfinite(s) and s >= 0}
    if not known:
        return Timing(None, None, {}, None)
    middle = statistics.median(known.values())
    gaps = {epoch: s for epoch, s in known.items() if s > max(GAP_RATIO * middle, middle + GAP_S)}
    usual = statistics.median(s for epoch, s in known.items() if epoch not in gaps)
    total = max(math.fsum(known.values()), _written(results))
    return Timing(total, usual, gaps, total - math.fsum(gaps.values()) + usual * len(gaps))


def _written(results: Results) -> float:
    """The last time that each process wrote, together."""
    found, last = 0.0, 0.0
    for epoch, time in zip(results.epochs, results.column("time"), strict=True):
        if epoch in results.restarts:
            found, last = found + last, 0.0
        last = max(last, time) if math.isfinite(time) else last
    return found + last


def is_rising(results: Results) -> bool:
    """Whether the last quarter of the epochs lies above the quarter before it by more than epochs scatter (medians)."""
    series = [value for value in fitness(results) if math.isfinite(value)]
    quarter, half = len(series) // 4, series[len(series) // 2 :]
    if not quarter:
        return False
    rise = statistics.median(series[-quarter:]) - statistics.median(series[-2 * quarter : -quarter])
    return rise > statistics.median(abs(b - a) for a, b in itertools.pairwise(half))


def progression(run: RunView) -> Progression:
    """The run by epoch, with what happened at which."""
    results = run.results
    columns = results.columns
    top = best_epoch(results)
    return Progression(
        epochs=results.epochs,
        metrics={name: series for name, series in columns.items() if name in METRICS or name in MORE_METRICS},
        losses={name: series for name, series in columns.items() if name in LABELS and name.endswith("_loss")},
        per_gain=per_gain(run),
        rates={name: series for name, series in columns.items() if name.startswith("lr/")},
        seconds=results.seconds,
        fitness=fitness(results),
        best_epoch=top,
        marks=tuple(_marks(run, top)),
    )


def _marks(run: RunView, top: int | None) -> Iterable[Mark]:
    results = run.results
    if top is not None:
        yield Mark(top, "best", f"best epoch: mAP50-95 {figure(results.at(MAP5095, top))}")
    phase = mosaic_epochs(run.config)
    if phase is not None and phase[1] and results.epochs and phase[1] < results.epochs[-1]:
        yield Mark(phase[1] + 1, "mosaic-closed", f"mosaic is off from epoch {phase[1] + 1} on (close_mosaic)")
    for epoch in results.restarts:
        yield Mark(epoch, "restart", f"epoch {epoch} began a new process")
    for epoch, seconds in timing(results).gaps.items():
        yield Mark(epoch, "gap", f"epoch {epoch} took {duration(seconds)}")
    for moment in run.moments:
        if moment.name == "warning" and moment.epoch is not None:
            yield Mark(moment.epoch, "warning", str(moment.fields.get("code") or "warning"))


def time_findings(run: RunView) -> list[Finding]:
    """Gaps, and a pace that changed."""
    found, times = [], timing(run.results)
    slept = math.fsum(
        float(moment.fields.get("seconds") or 0)
        for moment in run.moments
        if moment.fields.get("code") == "machine-slept" and isinstance(moment.fields.get("seconds"), (int, float))
    )
    if times.gaps and times.total and times.usual:
        found.append(_gaps(times, slept))
    calm = [s for epoch, s in zip(run.results.epochs, run.results.seconds, strict=True) if epoch not in times.gaps]
    calm = [s for s in calm if math.isfinite(s)]
    third = len(calm) // 3
    if third >= 2:
        first, last = statistics.median(calm[:third]), statistics.median(calm[-third:])
        if first > 0 and last > PACE * first:
            message = f"epochs became slower: {duration(first)} at first, {duration(last)} at the end"
            evidence = f"medians of the first and last {third} epochs, gaps left out"
            found.append(Finding("pace-changed", Severity.INFO, message, evidence))
    return found


def _gaps(times: Timing, slept: float) -> Finding:
    """One word on where the wall time went: a gap is not a slow epoch."""
    total, usual = times.total or 0.0, times.usual or 0.0
    listed = ", ".join(f"epoch {epoch} took {seconds:,.0f} s" for epoch, seconds in list(times.gaps.items())[:5])
    rest = total - math.fsum(times.gaps.values())
    gap = math.fsum(times.gaps.values())
    share = f"{listed}; the usual epoch took {usual:,.0f} s; {duration(total)} in all, {duration(rest)} without"
    share += "; a gap, by assumption, is 5 times the usual epoch and a minute longer"
    if len(times.gaps) == 1:
        epoch = next(iter(times.gaps))
        explains = "explains the time" if gap > total / 2 else "is in the time"
        others = f", all others together took {duration(rest)}" if gap > total / 2 else ""
        message = f"one gap of {duration(gap)} in epoch {epoch} {explains}{others}"
    else:
        message = f"{len(times.gaps)} gaps of {duration(gap)} together: epochs {', '.join(map(str, times.gaps))}"
    if slept:
        why = f"; the worker measured {duration(slept)} in which the machine slept"
    else:
        why = "; the column time is cumulative wall time, in which sleep and swapping look alike"
    return Finding(
        "time-gap", Severity.WARNING, message, share + why, "look whether the machine slept, swapped or was shared then"
    )


def stability(run: RunView) -> list[Finding]:
    """Losses that are no numbers, 0 or jump; metrics that collapse; how far the last epochs scatter."""
    found = [*_broken(run), *_spikes(run.results)]
    results = run.results
    series = results.column(MAP5095)
    top, collapsed = 0.0, []
    for index, (epoch, value) in enumerate(zip(results.epochs, series, strict=True)):
        if index >= max(STEADY, len(series) // 3) and value < FALL * top:
            collapsed.append(epoch)
        top = max(top, value) if math.isfinite(value) else top
    if collapsed:
        message = f"mAP50-95 fell below half of its best so far in {_epochs(collapsed)}"
        evidence = f"best so far {figure(top)}, e.g. epoch {collapsed[0]}: {figure(results.at(MAP5095, collapsed[0]))}"
        found.append(Finding("metric-collapse", Severity.WARNING, message, evidence))
    tail = [value for value in series[len(series) // 2 :] if math.isfinite(value)]
    steps = [abs(b - a) for a, b in itertools.pairwise(tail)]
    if len(steps) >= STEADY and statistics.fmean(tail) > 0:
        step, level = statistics.median(steps), statistics.fmean(tail)
        message = (
            f"from one epoch to the next mAP50-95 moves by {figure(step, 4)} ({percent(step / level)} of its level)"
        )
        evidence = f"median of {len(steps)} steps in the second half"
        found.append(Finding("metric-step", Severity.INFO, message, evidence))
    return found


def _broken(run: RunView) -> Iterable[Finding]:
    results = run.results
    repairs = {repair.code for repair in results.repairs}
    written = "not-finite" in repairs
    splits = ("train",) if "not-validated" in repairs else ("train", "val")
    for name, loss in ((f"{split}/{loss}_loss", loss) for split in splits for loss in LOSSES):
        if name not in results.columns:
            continue
        pairs = list(zip(results.epochs, results.columns[name], strict=True))
        if bad := [epoch for epoch, value in pairs if math.isnan(value)]:
            message = f"{LABELS[name]} is missing or no number in {_epochs(bad)}"
            severity = Severity.ERROR if written else Severity.WARNING
            yield Finding("loss-not-finite", severity, message, f"{len(bad)} of {len(pairs)} epochs")
        if zero := [epoch for epoch, value in pairs if value == 0]:
            message = f"{LABELS[name]} is exactly 0 in {_epochs(zero)}"
            evidence = f"{len(zero)} of {len(pairs)} epochs"
            if gain(run, loss) == 0:
                yield Finding("loss-off", Severity.INFO, message, f"{evidence}; its gain is 0: it is switched off")
                continue
            on_mps = str(run.config.get("device") or "").startswith("mps")
            remedy = "train on cpu or cuda" if on_mps else "look whether there are labels, and whether they fit"
            source = MPS if on_mps else ""
            evidence += "; on Apple's GPU (mps) broken kernels have been seen to do this" if on_mps else ""
            yield Finding("loss-zero", Severity.ERROR, message, evidence, remedy, source)


def _spikes(results: Results) -> Iterable[Finding]:
    for loss in LOSSES:
        name = f"train/{loss}_loss"
        series = results.column(name)
        jumps = []
        for index in range(WARM_UP, len(series)):
            before = sorted(series[index - 3 : index])[1]
            if before > 0 and series[index] > SPIKE * before:
                jumps.append((results.epochs[index], before, series[index]))
        if jumps:
            message = f"{LABELS[name]} jumps in {_epochs([epoch for epoch, _, _ in jumps])}"
            epoch, before, value = jumps[0]
            evidence = f"epoch {epoch}: {figure(value)}, the three before it {figure(before)}"
            yield Finding("loss-spike", Severity.WARNING, message, evidence)


def overfitting(run: RunView, rows: Sequence[LossRow]) -> list[Finding]:
    """Signs in the losses and in the metrics; each says what else could look like it."""
    found = [finding for loss in LOSSES if (finding := _overfit(run.results, loss, rows)) is not None]
    results = run.results
    top = best_epoch(results)
    highest, last = results.at(MAP5095, top) if top else None, results.last(MAP5095)
    if top is None or highest is None or last is None or top == results.epochs[-1]:
        return found
    if highest > 0 and last < (1 - FELL) * highest:
        train = [results.column(f"train/{loss}_loss") for loss in LOSSES]
        index = results.epochs.index(top)
        ends = [(series[index], series[-1]) for series in train if math.isfinite(series[-1])]
        falls = bool(ends) and all(after < before for before, after in ends)
        message = f"the last epoch is {percent(1 - last / highest)} below the best one, epoch {top}, by mAP50-95"
        evidence = f"{figure(highest)} in epoch {top}, {figure(last)} in epoch {results.epochs[-1]}"
        evidence += "; the training losses still fell" if falls else ""
        found.append(Finding("fell-after-best", Severity.WARNING, message, evidence, "use best.pt, not last.pt"))
    return found


def _overfit(results: Results, loss: str, rows: Sequence[LossRow]) -> Finding | None:
    """Validation loss rising while training loss falls; or far above it, where the other losses are not."""
    train, val = results.column(f"train/{loss}_loss"), results.column(f"val/{loss}_loss")
    signs = [sign for sign in (_rise(results.epochs, train, val), _apart(loss, rows)) if sign]
    if not signs:
        return None
    word = {"cls": "classification", "box": "box regression", "dfl": "box edges (dfl)"}[loss]
    message = f"signs that the {word} overfits: {signs[0]}"
    other = "a validation set that looks otherwise, or boxes that fit loosely, can do the same"
    return Finding(f"overfit-{loss}", Severity.WARNING, message, "; ".join([*signs[1:], other]))


def _rise(epochs: Sequence[int], train: Series, val: Series) -> str:
    low = lowest(tuple(epochs), val)
    if low is None or len(epochs) < STEADY or low == epochs[-1]:
        return ""
    index = list(epochs).index(low)
    level = min(val[-1], statistics.median(val[-STEADY:]))  # not one epoch that sticks out
    if not (level > (1 + RISE) * val[index] and train[-1] < train[index]):
        return ""
    return (
        f"validation loss rose from {figure(val[index])} (epoch {low}) to {figure(val[-1])}, "
        f"while training loss fell from {figure(train[index])} to {figure(train[-1])}"
    )


def _apart(loss: str, rows: Sequence[LossRow]) -> str:
    last = {(row.split, row.loss): row.last for row in rows}
    ratios = {}
    for name in LOSSES:
        train, val = last.get(("train", name)), last.get(("val", name))
        if train and val is not None:
            ratios[name] = val / train
    others = [ratio for name, ratio in ratios.items() if name != loss]
    if loss not in ratios or not others or ratios[loss] < APART or ratios[loss] < APART * max(others):
        return ""
    rest = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items() if name != loss)
    pair = f"{figure(last['val', loss])} against {figure(last['train', loss])}"
    return f"validation loss is {ratios[loss]:.1f} times the training loss at the end ({pair}; {rest})"


def memory_findings(run: RunView) -> list[Finding]:
    """Memory that grew, by the worker's measure."""
    series = [value for value in run.memory_gb if math.isfinite(value)]
    if len(series) <= STEADY or series[-1] <= MEMORY * series[1]:
        return []
    message = f"memory grew from {series[1]:.1f} GB to {series[-1]:.1f} GB"
    return [Finding("memory-grew", Severity.WARNING, message, "epoch 2 against the last; the worker's measure")]


def _epochs(epochs: Sequence[int], most: int = 5) -> str:
    shown = ", ".join(map(str, epochs[:most])) + (f" and {len(epochs) - most} more" if len(epochs) > most else "")
    return f"epoch {shown}" if len(epochs) == 1 else f"epochs {shown}"
