"""What may be said of a run against its reference, and what not: the traps of comparing two trainings.

- several things changed at once: the comparison is confounded, and they are listed;
- one run against one run is an anecdote (`seeds`);
- other numbers of epochs, other phases of mosaic, other validation settings, data that may be another;
- losses under other gains: compared per unit of gain;
- precision and recall are taken where F1 is highest, at a confidence that moves; few positives make them coarse;
- a best epoch is the highest of many, so best is compared with best and final with final.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from launcher.analysis.changes import MIXING, PERHAPS, VERSION, causes, differences, mosaic_epochs, phrase, show
from launcher.analysis.model import (
    LABELS,
    MAP5095,
    PRECISION,
    RECALL,
    Change,
    Difference,
    Interval,
    LossRow,
    MetricRow,
    RunView,
)
from launcher.analysis.numbers import apart, best_epoch, figure, interval, percent, signed
from launcher.analysis.seeds import CUT_SHORT, beyond
from launcher.finding import Finding, Severity

PULL_26226 = "https://github.com/ultralytics/ultralytics/pull/26226"
AT_BEST_F1 = "ultralytics/utils/metrics.py, ap_per_class"
GAINS = "ultralytics/utils/loss.py, v8DetectionLoss"
MPS_METRICS = "https://github.com/ultralytics/ultralytics/issues/24399"
AUTO = "ultralytics/engine/trainer.py, build_optimizer"
BOX_LOWEST = 1.0  # the least gain that Ultralytics' own tuner tries: engine/tuner.py
AUGMENTATIONS = frozenset(
    {"hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr"}
    | {"erasing", "auto_augment", "copy_paste_mode", "multi_scale", *MIXING, "close_mosaic", "epochs with mosaic"}
)
"""Arguments that make training pictures harder or easier, and the training losses with them."""
CLOSED = frozenset({*MIXING, "copy_paste_mode", "close_mosaic", "epochs with mosaic"})
"""Those of them that act in no epoch after mosaic is closed."""
STAYED, ROUNDED = "did not move", 0.005  # the share that rounds to 0 %
OTHER_LOSS = frozenset({"imgsz", "rect", "cls_pw", "single_cls", "multi_scale", f"ultralytics {VERSION}"})
"""With these, and another model or other data, a loss is of another scale, whatever its gain."""
INDEPENDENT = "95 %, as if boxes were independent; those of one video are not, so it is wider in truth"
COARSE = 0.2  # half width of an interval over its value, above which a metric is called coarse


def configuration(runs: Sequence[RunView], found: Sequence[Difference]) -> list[Finding]:
    """What the differences `found` between runs mean for comparing them; the one compared with is the last."""
    if not all(run.config.values or run.config.effective for run in runs):
        message = "what differs between the runs is not known: a configuration is missing"
        remedy = "keep args.yaml beside results.csv"
        return [Finding("config-unknown", Severity.WARNING, message, "no args.yaml", remedy)]
    confounding = _confounding(found) if len(runs) == 2 else _one_by_one(runs)
    told = [*confounding, *_optimizer(runs, found), *_schedule(found), *_validation(found)]
    machine = [one for one in found if one.group == "machine"]
    if machine:
        message = "the runs had other machines or versions: the same settings then give another run"
        evidence = "; ".join(phrase(one) for one in machine)
        told.append(Finding("machine-differs", Severity.INFO, message, evidence))
    return told


def _confounding(found: Sequence[Difference]) -> Iterable[Finding]:
    """Two runs: whether what differs could be told apart. A path that differs may mean the same file elsewhere."""
    changed = [one for one in causes(found) if one.note not in PERHAPS]
    unsure = [one.name for one in causes(found) if one.note in PERHAPS]
    listed = "; ".join(phrase(one) for one in changed)
    perhaps = f", and perhaps the {' and the '.join(unsure)}" if unsure else ""
    if len(changed) > 1:
        message = f"{len(changed)} things changed at once{perhaps}: the comparison is confounded, none of them can be"
        remedy = "change one at a time; the next runs do"
        yield Finding("confounded", Severity.WARNING, f"{message} called the cause", listed, remedy)
    elif changed:
        severity = Severity.WARNING if unsure else Severity.INFO
        noise = [phrase(one) for one in found if one.group in ("seed", "machine")]
        evidence = "; ".join([*filter(None, [changed[0].note]), *([f"besides: {', '.join(noise)}"] if noise else [])])
        yield Finding("one-change", severity, f"one thing changed{perhaps}: {listed}", evidence)
    else:
        but = f" but perhaps the {' and the '.join(unsure)}" if unsure else ""
        yield Finding("same-configuration", Severity.INFO, f"nothing that acts on the training differs{but}")


def _one_by_one(runs: Sequence[RunView]) -> Iterable[Finding]:
    """Several runs against one: each comparison by itself, because a series of single changes is not confounded."""
    reference, others = runs[-1], runs[:-1][::-1]
    told: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for run in others:
        changed = causes(differences((run, reference)))
        told[min(2, len(changed))].append(f"{run.id}: {', '.join(phrase(one) for one in changed)}")
    if many := told[2]:
        message = f"{len(many)} of {len(others)} runs differ from {reference.id} in several things at once: these"
        message += " comparisons are confounded, none of the changes can be called the cause"
        yield Finding("confounded", Severity.WARNING, message, "; ".join(many), "change one at a time")
    if single := told[1]:
        message = f"{len(single)} of {len(others)} runs differ from {reference.id} in one thing"
        yield Finding("one-change", Severity.INFO, message, "; ".join(single))
    if not many and not single:
        yield Finding("same-configuration", Severity.INFO, "nothing that acts on the training differs")


def _optimizer(runs: Sequence[RunView], found: Sequence[Difference]) -> Iterable[Finding]:
    """`auto` on some sides only, or on all with other numbers of steps, by which it chooses."""
    names = {one.name for one in found}
    autos = [str(run.config.get("optimizer")).lower() == "auto" for run in runs]
    if "optimizer" in names and any(autos):
        message = "optimizer auto on one side chooses optimizer and rate itself; its lr0 and momentum have no effect"
        remedy = "pin optimizer, lr0 and momentum"
        evidence = _of(found, "optimizer", "lr0", "momentum")
        yield Finding("optimizer-auto", Severity.WARNING, message, evidence, remedy, AUTO)
    elif all(autos) and names & {"epochs", "batch", "nbs", "data", "fraction"}:
        rates = [sum(name.startswith("lr/") for name in run.results.columns) for run in runs]
        other = len({count for count in rates if count}) > 1
        message = f"optimizer auto chooses by the number of steps, and {'chose' if other else 'may have chosen'}"
        evidence = f"AdamW up to 10,000 steps, MuSGD above; learning rates in the tables: {', '.join(map(str, rates))}"
        severity = Severity.WARNING if other else Severity.INFO
        yield Finding(
            "optimizer-auto", severity, f"{message} another for each", evidence, "pin optimizer and lr0", AUTO
        )


def _schedule(found: Sequence[Difference]) -> Iterable[Finding]:
    names = {one.name: one for one in found}
    if "epochs" in names:
        values = ", ".join(dict.fromkeys(show(value) for value in reversed(names["epochs"].values)))
        values = " and ".join(values.rsplit(", ", 1))
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


def ends(runs: Sequence[RunView]) -> Iterable[Finding]:
    """Runs that did not end, and those that ended after other numbers of epochs than they were asked for alike."""
    cut = [run for run in runs if run.status in CUT_SHORT]
    if cut:
        message = f"{len(cut)} of {len(runs)} runs did not end: their last epoch is no result"
        evidence = "; ".join(f"{run.id}: {run.status}" for run in cut)
        yield Finding("unfinished", Severity.WARNING, message, evidence)
    done = [run.results.epochs[-1] if run.results.epochs else 0 for run in runs]
    if len(set(done)) > 1 and len({run.config.number("epochs") for run in runs}) == 1:
        message = f"{', '.join(map(str, dict.fromkeys(done)))} epochs were done: the last ones do not match"
        evidence = "; ".join(f"{run.id}: {count} epochs, {run.status}" for run, count in zip(runs, done, strict=True))
        yield Finding("epochs-done-differ", Severity.WARNING, message, evidence)


def on_mps(runs: Sequence[RunView]) -> Iterable[Finding]:
    """Metrics that Apple's GPU measured."""
    names = [run.id for run in runs if str(run.config.get("device") or "").lower().startswith("mps")]
    if names:
        message = "metrics were measured on Apple's GPU (mps), which in a reported case gave 2.6 times others than a"
        message += " validation of the same best.pt elsewhere"
        evidence = f"device mps: {', '.join(names)}; whether it is so here is not known"
        remedy = "validate best.pt on cpu or cuda before the numbers are trusted"
        yield Finding("mps-metrics", Severity.WARNING, message, evidence, remedy, MPS_METRICS)


def alone(run: RunView) -> list[Finding]:
    """What the configuration of one run says by itself."""
    told: list[Finding] = []
    phase, config = mosaic_epochs(run.config), run.config
    epochs, close, box = config.number("epochs"), config.number("close_mosaic"), config.number("box")
    if phase == (0, 0) and epochs and close and close >= epochs and config.number("mosaic"):
        message = f"mosaic was off in all {epochs:g} epochs: close_mosaic covers the last {close:g}"
        sure = close == epochs or run.versions.get("ultralytics") == "8.4.190"
        older = "" if sure else "; this is what 8.4.190 does, versions before 18 September 2026 left mosaic on here"
        evidence = f"mosaic {show(config.get('mosaic'))}{older}"
        told.append(Finding("mosaic-never", Severity.INFO, message, evidence, "", PULL_26226))
    elif phase and phase[1] and close and epochs:
        message = f"mosaic was on in epochs {phase[0]} to {phase[1]} of {epochs:g}"
        told.append(Finding("mosaic-part", Severity.INFO, message, f"close_mosaic {close:g}"))
    if box is not None and 0 <= box < BOX_LOWEST:
        less = f"{7.5 / box:.0f} times less weight than by default" if box else "no weight"
        message = f"box {box:g} looks like YOLOv5's scale (0.05 there, 7.5 here): the box loss had {less}"
        told.append(Finding("box-gain-yolov5-scale", Severity.WARNING, message, "", "set train.box=7.5"))
    if config.get("resume") and not run.model and run.train is not None:
        message = "args.yaml is that of a resumed process: its model is last.pt, and what it began from is not in it"
        told.append(Finding("resumed-arguments", Severity.INFO, message, f"resume {show(config.get('resume'))}"))
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
    told += beyond(run, seeds)
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
    evidence = f"{signed(row.final_change.absolute)}, last epochs, against {reference.id}{of_best}"
    return Finding(f"change.{row.label}", Severity.INFO, message, evidence)


def _values(change: Change) -> str:
    return f"{figure(change.before)} → {figure(change.after)}"


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
                f"[{figure(theirs.low)}, {figure(theirs.high)}] of {theirs.count}; Wilson and Newcombe (unpaired), "
                f"{INDEPENDENT}"
            )
            yield Finding(f"few-positives.{LABELS[name]}", Severity.WARNING, message, evidence)


def coarse(run: RunView, name: str) -> Interval | None:
    """The interval of the last epoch's precision or recall, where it can be had."""
    results = run.results
    return interval(name, results.last(PRECISION), results.last(RECALL), run.positives)


def losses(run: RunView, reference: RunView, rows: Sequence[LossRow], found: Sequence[Difference]) -> list[Finding]:
    """Changes of losses, per unit of gain where the gains differ, and what they do not show."""
    told = [_loss(row) for row in rows if row.raw_change is not None]
    if not told:
        return []
    other = [one for one in found if one.group in ("model", "data") or one.name in OTHER_LOSS]
    if other:
        message = (
            "losses are, or may be, of another scale: another model, other pictures, other sizes or another version"
        )
        evidence = "; ".join(phrase(one) for one in other)
        told.append(Finding("loss-other-scale", Severity.WARNING, message, evidence, "compare metrics"))
    without = CLOSED if all(map(_is_closed, (run, reference))) else frozenset()
    harder = [one for one in found if one.name in AUGMENTATIONS - without]
    if harder and any(row.split == "train" and row.raw_change is not None for row in rows):
        message = "training losses are of differently augmented pictures: their change is no progress by itself"
        evidence = "; ".join(phrase(one) for one in harder)
        remedy = "" if other else "compare validation losses"
        told.append(Finding("loss-augmentation", Severity.WARNING, message, evidence, remedy))
    return told


def _is_closed(run: RunView) -> bool:
    """Whether mosaic and what goes with it was off in the last epoch."""
    phase, epochs = mosaic_epochs(run.config), run.results.epochs
    return phase is not None and bool(epochs) and epochs[-1] > phase[1]


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
