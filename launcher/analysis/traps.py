"""What may be said of a run against its reference, and what not: the traps of comparing two trainings.

- several things changed at once: the comparison is confounded, and they are listed;
- one run against one run is an anecdote: how little seeds alone must move a metric for it to be more is said;
- other numbers of epochs, other phases of mosaic, other validation settings, data that may be another;
- losses under other gains: compared per unit of gain;
- precision and recall are taken where F1 is highest, at a confidence that moves; few positives make them coarse;
- a best epoch is the highest of many, so best is compared with best and final with final.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from launcher.analysis.changes import causes, mosaic_epochs, phrase, show
from launcher.analysis.model import (
    LABELS,
    MAP50,
    MAP5095,
    PRECISION,
    RECALL,
    Change,
    Difference,
    Interval,
    LossRow,
    MetricRow,
    RunView,
    Spread,
)
from launcher.analysis.numbers import apart, best_epoch, figure, interval, largest_noise, percent, signed, t975
from launcher.finding import Finding, Severity

PULL_26226 = "https://github.com/ultralytics/ultralytics/pull/26226"
AT_BEST_F1 = "ultralytics/utils/metrics.py, ap_per_class"
GAINS = "ultralytics/utils/loss.py, v8DetectionLoss"
BOX_LOWEST = 1.0  # the least gain that Ultralytics' own tuner tries: engine/tuner.py
AUGMENTATIONS = frozenset(
    {"hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr"}
    | {"mosaic", "mixup", "cutmix", "copy_paste", "close_mosaic", "multi_scale", "epochs with mosaic"}
)
"""Arguments that make training pictures harder or easier, and the training losses with them."""
STAYED, ROUNDED = "did not move", 0.005  # the share that rounds to 0 %
COARSE = 0.2  # half width of an interval over its value, above which a metric is called coarse


def configuration(found: Sequence[Difference], known: bool) -> list[Finding]:
    """What the differences of two or more runs mean for comparing them. `known`: all configurations are."""
    if not known:
        message = "what differs between the runs is not known: a configuration is missing"
        remedy = "keep args.yaml beside results.csv"
        return [Finding("config-unknown", Severity.WARNING, message, "no args.yaml", remedy)]
    told = [*_confounding(found), *_schedule(found), *_validation(found)]
    machine = [one for one in found if one.group == "machine"]
    if machine:
        message = "the runs had other machines or versions: the same settings then give another run"
        evidence = "; ".join(phrase(one) for one in machine)
        told.append(Finding("machine-differs", Severity.INFO, message, evidence))
    return told


def _confounding(found: Sequence[Difference]) -> Iterable[Finding]:
    changed = causes(found)
    listed = "; ".join(phrase(one) for one in changed)
    if len(changed) > 1:
        message = (
            f"{len(changed)} things changed at once: the comparison is confounded, none of them can be called the cause"
        )
        remedy = "change one at a time; the next runs do"
        yield Finding("confounded", Severity.WARNING, message, listed, remedy)
    elif changed:
        message = f"one thing changed: {listed}"
        yield Finding("one-change", Severity.INFO, message, changed[0].note)
    else:
        yield Finding("same-configuration", Severity.INFO, "nothing that acts on the training differs")
    if any(one.name == "optimizer" and "auto" in (str(value).lower() for value in one.values) for one in found):
        message = "optimizer auto on one side chooses optimizer and rate itself; its lr0 and momentum have no effect"
        remedy = "pin optimizer, lr0 and momentum"
        yield Finding("optimizer-auto", Severity.WARNING, message, _of(found, "optimizer", "lr0", "momentum"), remedy)


def _schedule(found: Sequence[Difference]) -> Iterable[Finding]:
    names = {one.name: one for one in found}
    if "epochs" in names:
        values = " and ".join(dict.fromkeys(show(value) for value in reversed(names["epochs"].values)))
        message = (
            f"{values} epochs: the learning rate takes another course, so no epoch of one matches one of the other"
        )
        evidence = "final is compared with final and best with best; a longer run also has more tries at a best epoch"
        yield Finding("epochs-differ", Severity.WARNING, message, evidence)
    if "epochs with mosaic" in names:
        message = (
            f"mosaic was on in other epochs: {phrase(names['epochs with mosaic']).removeprefix('epochs with mosaic ')}"
        )
        evidence = _of(found, "epochs", "close_mosaic", "mosaic")
        evidence = f"{evidence}; as 8.4.190 has it, other versions may differ below close_mosaic epochs"
        yield Finding("mosaic-phases", Severity.WARNING, message, evidence, source=PULL_26226)


def _validation(found: Sequence[Difference]) -> Iterable[Finding]:
    changed = [one for one in found if one.group == "validation" or one.note == "the validation changes with it"]
    if changed:
        message = "the runs were validated otherwise: their metrics are not of one scale"
        evidence = "; ".join(phrase(one) for one in changed)
        remedy = "validate both best.pt with the same settings"
        yield Finding("validation-differs", Severity.WARNING, message, evidence, remedy)
    data = [one for one in found if one.name in ("data", "fraction")]
    if data:
        message = "the data is, or may be, another: metrics of other pictures do not compare"
        evidence = "; ".join(f"{phrase(one)} ({one.note})" if one.note else phrase(one) for one in data)
        yield Finding("data-differs", Severity.WARNING, message, evidence)


def alone(run: RunView) -> list[Finding]:
    """What the configuration of one run says by itself."""
    told = []
    phase, config = mosaic_epochs(run.config), run.config
    epochs, close, box = config.number("epochs"), config.number("close_mosaic"), config.number("box")
    if phase == (0, 0) and epochs and close and close >= epochs and config.number("mosaic"):
        message = f"mosaic was off in all {epochs:g} epochs: close_mosaic covers the last {close:g}"
        told.append(
            Finding("mosaic-never", Severity.INFO, message, f"mosaic {show(config.get('mosaic'))}", "", PULL_26226)
        )
    elif phase and phase[1] and close and epochs:
        message = f"mosaic was on in epochs {phase[0]} to {phase[1]} of {epochs:g}"
        told.append(Finding("mosaic-part", Severity.INFO, message, f"close_mosaic {close:g}"))
    if box is not None and 0 <= box < BOX_LOWEST:
        message = f"box {box:g} is on YOLOv5's scale: the box loss had almost no weight (the default here is 7.5)"
        told.append(Finding("box-gain-yolov5-scale", Severity.WARNING, message, "", "set train.box=7.5"))
    asked, had = config.values, config.effective
    names = ("batch", "workers", "optimizer", "amp", "lr0", "momentum")
    pairs = [(name, asked[name], had[name]) for name in names if name in asked and name in had]
    other = [f"{name} {show(one)} → {show(two)}" for name, one, two in pairs if one != two]
    if other:
        message = "the trainer had other values than args.yaml asks for"
        told.append(Finding("asked-not-had", Severity.INFO, message, "; ".join(other)))
    return told


def metrics(run: RunView, reference: RunView, seeds: Sequence[RunView], rows: Sequence[MetricRow]) -> list[Finding]:
    """Changes, and how far they can be trusted. `seeds`: runs of the reference's configuration, itself among them."""
    told = [_changed(row, reference) for row in rows if row.final_change is not None]
    told += _beyond_seeds(run, seeds)
    told += _best_against_final(run, reference, rows)
    both = [row for row in rows if row.name in (PRECISION, RECALL) and row.final_change is not None]
    if both:
        message = "precision and recall are read at a moving threshold: where F1 is highest, in each epoch another"
        evidence = "; ".join(f"{row.label} {figure(row.reference_final)} → {figure(row.final)}" for row in both)
        remedy = "compare mAP, or the precision-recall curves"
        told.append(Finding("moving-threshold", Severity.WARNING, message, evidence, remedy, AT_BEST_F1))
    told += _few(run, reference)
    return told


def _changed(row: MetricRow, reference: RunView) -> Finding:
    assert row.final_change is not None
    best = row.best_change
    of_best = f"; best epochs: {_values(best)}, {best.percent}" if best is not None else ""
    share = row.final_change.percent or signed(row.final_change.absolute)
    message = f"{row.label} {share}: {_values(row.final_change)}"
    evidence = f"{signed(row.final_change.absolute)}, last epochs, against {reference.name}{of_best}"
    return Finding(f"change.{row.label}", Severity.INFO, message, evidence)


def _values(change: Change) -> str:
    return f"{figure(change.before)} → {figure(change.after)}"


def _beyond_seeds(run: RunView, seeds: Sequence[RunView]) -> Iterable[Finding]:
    """Whether the difference in mAP50 is more than another seed could make."""
    values = [value for one in seeds if (value := one.results.last(MAP50)) is not None]
    mine = run.results.last(MAP50)
    if mine is None or not values:
        return
    if len(values) == 1:
        difference = mine - values[0]
        message = "one run against one run is an anecdote: how far seeds alone move the metrics was not measured"
        evidence = (
            f"mAP50 differs by {signed(difference)}: an effect only if the seed-to-seed standard deviation is below "
            f"{largest_noise(difference):.3f} (95 %)"
        )
        yield Finding("one-seed", Severity.WARNING, message, evidence, "repeat both with two or more other seeds")
        return
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    reach = t975(len(values) - 1) * deviation * math.sqrt(1 + 1 / len(values))
    outside = abs(mine - mean) > reach
    message = (
        f"mAP50 {figure(mine)} is {'outside' if outside else 'inside'} what another seed of the reference would give: "
        f"{figure(mean)} ± {figure(reach)}"
    )
    evidence = f"95 % prediction interval of {len(values)} runs, standard deviation {figure(deviation, 4)}"
    code, severity = ("beyond-seeds", Severity.INFO) if outside else ("within-seeds", Severity.WARNING)
    yield Finding(code, severity, message, evidence)


def between(first: Spread, other: Spread) -> Finding:
    """Whether the mAP50 of two configurations (best epochs) differs by more than seeds do.

    Both with several seeds: Welch's interval of the difference of means. One of them with a single run: the prediction
    interval of the other. Two single runs: an anecdote, with what would have to be known.
    """
    difference = other.mean - first.mean
    pair = f"{first.runs[0]} {figure(first.mean)}, {other.runs[0]} {figure(other.mean)}"
    if first.deviation is None and other.deviation is None:
        message = f"{first.runs[0]} against {other.runs[0]} is one run against one: an anecdote, not an effect"
        evidence = (
            f"mAP50 differs by {signed(difference)} ({pair}): an effect only if the seed-to-seed standard deviation "
            f"is below {figure(largest_noise(difference))} (95 %)"
        )
        return Finding("one-seed", Severity.WARNING, message, evidence, "repeat both with two or more other seeds")
    if first.deviation is None or other.deviation is None:
        reach, how = first.needed or other.needed or 0.0, "95 % prediction interval of one more run"
    else:
        reach, how = _welch(first, other), "95 %, Welch"
    more = abs(difference) > reach
    message = (
        f"mAP50 of {other.runs[0]} differs from {first.runs[0]} by {signed(difference)}, "
        f"{'more' if more else 'no more'} than seeds do (± {figure(reach)})"
    )
    evidence = f"{pair}; {len(first.runs)} and {len(other.runs)} runs, best epochs; {how}"
    code, severity = ("beyond-seeds", Severity.INFO) if more else ("within-seeds", Severity.WARNING)
    return Finding(code, severity, message, evidence)


def _welch(first: Spread, other: Spread) -> float:
    """Half the width of the 95 % interval of a difference of means (Welch 1947); degrees of freedom rounded down."""
    parts = [((one.deviation or 0.0) ** 2 / len(one.runs), len(one.runs) - 1) for one in (first, other)]
    whole = math.fsum(part for part, _ in parts)
    if not whole:
        return 0.0
    freedom = whole**2 / math.fsum(part**2 / count for part, count in parts)
    return t975(max(1, math.floor(freedom))) * math.sqrt(whole)


def _best_against_final(run: RunView, reference: RunView, rows: Sequence[MetricRow]) -> Iterable[Finding]:
    row = next((row for row in rows if row.name == MAP5095), None)
    if row is None or None in (row.final, row.best, row.reference_final, row.reference_best):
        return
    epoch, old = best_epoch(run.results), best_epoch(reference.results)
    message = "final is compared with final, and best with best: a best epoch is the highest of many"
    evidence = (
        f"mAP50-95 final {figure(row.reference_final)} → {figure(row.final)}; best {figure(row.reference_best)} "
        f"(epoch {old} of {len(reference.results.epochs)}) → {figure(row.best)} (epoch {epoch} of "
        f"{len(run.results.epochs)})"
    )
    yield Finding("final-and-best", Severity.INFO, message, evidence)


def _few(run: RunView, reference: RunView) -> Iterable[Finding]:
    """Whether precision and recall differ by more than counting does, where both counts are known."""
    for name in (PRECISION, RECALL):
        ours, theirs = coarse(run, name), coarse(reference, name)
        one, other = run.results.last(name), reference.results.last(name)
        if ours is None or theirs is None or one is None or other is None:
            continue
        if not apart(ours, one, theirs, other):
            message = f"{LABELS[name]} differs by no more than counting on so few boxes does"
            evidence = (
                f"{figure(one)} [{figure(ours.low)}, {figure(ours.high)}] of {ours.count}, {figure(other)} "
                f"[{figure(theirs.low)}, {figure(theirs.high)}] of {theirs.count}; 95 %, Wilson and Newcombe"
            )
            yield Finding(f"few-positives.{LABELS[name]}", Severity.WARNING, message, evidence)


def coarse(run: RunView, name: str) -> Interval | None:
    """The interval of the last epoch's precision or recall, where it can be had."""
    results = run.results
    return interval(name, results.last(PRECISION), results.last(RECALL), run.positives)


def losses(rows: Sequence[LossRow], found: Sequence[Difference]) -> list[Finding]:
    """Changes of losses, per unit of gain where the gains differ."""
    told = [_loss(row) for row in rows if row.raw_change is not None]
    harder = [one for one in found if one.name in AUGMENTATIONS]
    if harder and any(row.split == "train" and row.raw_change is not None for row in rows):
        message = "training losses are of differently augmented pictures: their fall is no progress by itself"
        evidence = "; ".join(phrase(one) for one in harder)
        told.append(Finding("loss-augmentation", Severity.WARNING, message, evidence, "compare validation losses"))
    return told


def _loss(row: LossRow) -> Finding:
    raw, per = row.raw_change, row.per_gain_change
    assert raw is not None
    code, name = f"loss.{row.split}.{row.loss}", f"{row.loss} loss ({row.split})"
    if row.comparable:
        return Finding(code, Severity.INFO, f"{name} {raw.percent}: {_values(raw)}", f"both at {row.loss} {row.gain:g}")
    if per is None or per.relative is None or raw.relative is None:
        message = f"{name} {_values(raw)}: not comparable, a gain is not known"
        return Finding(code, Severity.WARNING, message, "losses are multiplied by their gains", source=GAINS)
    alike = (per.relative < 0) == (raw.relative < 0) and _went(per.relative) != STAYED
    column = f"not {percent(raw.relative)}" if alike else f"where the column {_went(raw.relative)}"
    message = f"{name} {_went(per.relative)} per unit of gain, {column}"
    evidence = (
        f"{figure(raw.before)} / {row.reference_gain:g} = {figure(per.before)}, "
        f"{figure(raw.after)} / {row.gain:g} = {figure(per.after)}"
    )
    return Finding(code, Severity.WARNING, message, evidence, "divide losses by their gains", GAINS)


def _went(relative: float) -> str:
    if abs(relative) < ROUNDED:
        return STAYED
    return f"{'fell' if relative < 0 else 'rose'} {percent(relative)}"


def _of(found: Sequence[Difference], *names: str) -> str:
    return "; ".join(phrase(one) for one in found if one.name in names)
