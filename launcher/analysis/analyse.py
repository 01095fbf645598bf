"""Everything that one run's numbers say, alone or against references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from launcher.analysis import course, traps
from launcher.analysis import seeds as seeds_of
from launcher.analysis.changes import causes, differences
from launcher.analysis.compare import told_apart
from launcher.analysis.model import (
    LABELS,
    MAP50,
    MAP5095,
    METRICS,
    PRECISION,
    RECALL,
    Analysis,
    Difference,
    Kind,
    LossRow,
    MetricRow,
    Moment,
    RunView,
    Section,
    Status,
    Summary,
)
from launcher.analysis.numbers import (
    BEST_BY,
    best_by,
    best_epoch,
    figure,
    fitness_before,
    highest,
    loss_rows,
    metric_names,
    metric_rows,
)
from launcher.analysis.proposals import lessons, next_runs
from launcher.finding import Finding, Severity

TITLES = {
    "configuration": "Configuration",
    "metrics": "Metrics",
    "progression": "Progression",
    "losses": "Losses",
    "technical": "Technical issues",
    "stability": "Stability",
    "overfitting": "Signs of overfitting",
    "files": "Files",
    "lessons": "Lessons",
}
KEY = (
    "status.",
    "reproduced",
    "change.mAP50",
    "change.mAP50-95",
    "change.precision",
    "change.recall",
    "best-epoch",
    "unfinished",
    "epochs-done-differ",
    "mps-metrics",
    "validation-differs",
    "data-differs",
    "confounded",
    "one-seed",
    "within-seeds",
    "beyond-seeds",
    "loss.train.box",
    "overfit-",
    "time-gap",
    "fell-after-best",
    "metric-collapse",
    "box-gain-yolov5-scale",
    "files-missing",
)
"""What a hurried reader needs, in this order; after it every error that is not among them."""
BARELY = 0.0005  # of mAP50-95: results.csv has five decimals, best.pt is evaluated again in half precision
MUCH = 0.005  # assumption: more than half precision makes; measured was 0.00015 (8.4.190, a small reef)
FEW = 8  # epochs below which a last epoch that is the best one says little of whether the metrics had levelled off
SEVERITY = {
    Status.FINISHED: Severity.INFO,
    Status.STOPPED: Severity.INFO,
    Status.RUNNING: Severity.INFO,
    Status.UNKNOWN: Severity.WARNING,
    Status.NO_FINAL: Severity.WARNING,
    Status.CANCELLED: Severity.WARNING,
    Status.CRASHED: Severity.ERROR,
    Status.NOT_STARTED: Severity.ERROR,
}
SAID = {
    Status.FINISHED: "the training had finished",
    Status.STOPPED: "the training ended before its last epoch, by itself",
    Status.RUNNING: "the run is, or may be, still at work",
    Status.UNKNOWN: "how far the training came is not known",
    Status.NO_FINAL: "the training had finished; its final evaluation had not",
    Status.CANCELLED: "the training was cancelled",
    Status.CRASHED: "the training was cut short",
    Status.NOT_STARTED: "no epoch was finished",
}


def analyse(run: RunView, against: Sequence[RunView] | RunView | None = None) -> Analysis:
    """The analysis of a run; `against` are references, of which the first is the one that changes are measured from.

    Further references count as more seeds of the first where their configuration is the same. Never raises for what
    a file holds: a run without any epoch gives an analysis that says so.
    """
    run, *rest = told_apart((run, *((against,) if isinstance(against, RunView) else against or ())))
    references = tuple(rest)
    reference = references[0] if references else None
    rows, losses = metric_rows(run, reference), loss_rows(run, reference)
    found = differences((run, reference)) if reference is not None else ()
    parts = {
        "configuration": _configuration(run, reference, found),
        "metrics": _metrics(run, references, rows),
        "progression": _progression(run),
        "losses": _losses(run, reference, losses, found),
        "technical": [*_technical(run), *course.time_findings(run), *course.memory_findings(run)],
        "stability": course.stability(run),
        "overfitting": course.overfitting(run, losses),
        "files": _files(run),
    }
    said = [finding for part in parts.values() for finding in part]
    parts["lessons"] = lessons(said)
    return Analysis(
        run=run,
        references=references,
        summary=_summary(run),
        key=_key(said),
        differences=differences((run, *references)),
        metrics=rows,
        losses=losses,
        progression=course.progression(run),
        reference_progressions=tuple(course.progression(one) for one in references),
        files=run.files,
        sections=tuple(Section(code, title, tuple(parts[code])) for code, title in TITLES.items()),
        next_runs=next_runs(run, reference, found, said),
    )


def _configuration(run: RunView, reference: RunView | None, found: Sequence[Difference]) -> list[Finding]:
    told = traps.alone(run)
    if reference is None:
        return [*told, *traps.on_mps([run])]
    return [*traps.configuration((run, reference), found), *told, *traps.on_mps([run, reference])]


def _metrics(run: RunView, references: Sequence[RunView], rows: Sequence[MetricRow]) -> list[Finding]:
    told = []
    if references:
        first = references[0]
        seeds = [first, *(one for one in references[1:] if not causes(differences((first, one))))]
        again = seeds_of.same(run, first) and not causes(differences((run, first)))
        compared = [seeds_of.reproduced(run, first)] if again else traps.metrics(run, first, seeds, rows)
        told += [*traps.ends((run, first)), *compared]
    told += _counts(run)
    epoch, before = best_epoch(run.results), highest(run.results.epochs, fitness_before(run.results))
    if before not in (None, epoch) and best_by(run.results) == BEST_BY and not _is_8_4(run):
        message = f"best epoch {epoch} is by mAP50-95; versions before 8.4 may have chosen epoch {before} for best.pt"
        version = run.versions.get("ultralytics") or "not known"
        evidence = f"their fitness was 0.1 mAP50 + 0.9 mAP50-95; the version of this run is {version}"
        told.append(Finding("best-by-version", Severity.INFO, message, evidence))
    row = run.results.at(MAP5095, epoch) if epoch else None
    final = run.final_eval.get(MAP5095)
    if row is not None and final is not None and abs(row - final) > BARELY:
        message = f"the final evaluation of best.pt gave mAP50-95 {figure(final, 4)}, its epoch's row {figure(row, 4)}"
        far = abs(row - final) > MUCH
        evidence = "best.pt is evaluated again in half precision, with its layers fused"
        evidence += "; that alone moved it by 0.0002 where it was measured" if far else ""
        severity = Severity.WARNING if far else Severity.INFO
        remedy = "validate best.pt once more, elsewhere" if far else ""
        told.append(Finding("final-eval-differs", severity, message, evidence, remedy))
    return told


def _is_8_4(run: RunView) -> bool:
    """Whether it is known to have trained with Ultralytics 8.4 or later."""
    parts = run.versions.get("ultralytics", "").split(".")
    return len(parts) > 1 and all(part.isdigit() for part in parts[:2]) and (int(parts[0]), int(parts[1])) >= (8, 4)


def _counts(run: RunView) -> Iterable[Finding]:
    """How coarse precision and recall are, where the boxes are counted; else that it is not known."""
    for name in (RECALL, PRECISION):
        value, within = run.results.last(name), traps.coarse(run, name)
        if value and within is not None and (within.high - within.low) / 2 > traps.COARSE * value:
            message = f"{LABELS[name]} {figure(value)} is coarse: {figure(within.low)} to {figure(within.high)}"
            evidence = f"Wilson interval, counted on {within.count} boxes, {traps.INDEPENDENT}"
            yield Finding(f"coarse.{LABELS[name]}", Severity.WARNING, message, evidence)
    if run.positives is None and run.results.last(RECALL) is not None:
        message = "how many labelled boxes the metrics rest on is not known, so they have no interval"
        yield Finding("positives-unknown", Severity.INFO, message, "", "give the number of labelled validation boxes")


def _progression(run: RunView) -> list[Finding]:
    results, epoch = run.results, best_epoch(run.results)
    if epoch is None:
        message = "no epoch has a mAP50-95: validation was off, or the table has no such column"
        return [Finding("no-metrics", Severity.WARNING, message)] if results.epochs else []
    of = results.epochs[-1]
    names = [name for name in (*course.MAIN, MAP50) if name in results.columns]
    values = ", ".join(f"{LABELS[name]} {figure(results.at(name, epoch))}" for name in names)
    told = [Finding("best-epoch", Severity.INFO, f"best epoch {epoch} of {of}: {values}", best_by(results))]
    if epoch != of or len(results.epochs) < course.STEADY:
        return told
    message, code = "the last epoch is the best one", "still-rising"
    if len(results.epochs) < FEW:
        message += f", of {len(results.epochs)}: too few to tell whether the metrics had levelled off"
    elif course.is_rising(results):
        message += ", and the epochs before it were rising: the metrics had not levelled off"
    else:
        message, code = f"{message}, by no more than epochs scatter: it shows no rise", "best-is-last"
    told.append(Finding(code, Severity.INFO, message, values, "train longer" if code == "still-rising" else ""))
    return told


def _losses(
    run: RunView, reference: RunView | None, rows: Sequence[LossRow], found: Sequence[Difference]
) -> list[Finding]:
    if reference is not None:
        return traps.losses(run, reference, rows, found)
    if rows and any(row.gain is None for row in rows):
        message = "losses are multiplied by gains that are not known here: compare them with no other run's"
        return [Finding("gain-unknown", Severity.INFO, message, "no args.yaml", source=traps.GAINS)]
    return []


def _technical(run: RunView) -> list[Finding]:
    """What was odd in the table, and what the worker told."""
    results = run.results
    told = [
        Finding(f"table.{one.code}", Severity.INFO, one.text, f"results.csv, {one.count} x") for one in results.repairs
    ]
    if results.restarts:
        listed = ", ".join(map(str, results.restarts))
        message = f"training was resumed at epoch {listed}: the run is not the uninterrupted one"
        evidence = "a resumed process goes on from rounded averaged weights, and shuffles and augments anew"
        told.append(Finding("restarts", Severity.WARNING, message, evidence))
    return [*told, *_told_by_worker(run.moments)]


def _told_by_worker(moments: Sequence[Moment]) -> Iterable[Finding]:
    """Warnings and failures, each code once, with how often and its first case."""
    cases: dict[tuple[str, str], list[Moment]] = {}
    for moment in moments:
        if moment.name in ("warning", "failed", "error"):
            code = str(moment.fields.get("code") or moment.name)[:100]
            cases.setdefault((moment.name, code), []).append(moment)
    for (name, code), of_code in cases.items():
        first = of_code[0]
        where = f" in epoch {first.epoch}" if first.epoch else ""
        often = f", {len(of_code)} times" if len(of_code) > 1 else ""
        if name == "warning":
            evidence = ", ".join(f"{key} {value}" for key, value in first.fields.items() if key != "code")[:500]
            message = f"the guard warned{where}: {code}{often}"
            yield Finding(f"guard.{code}", Severity.WARNING, message, evidence)
        else:
            reason = str(first.fields.get("reason") or "no reason given")[:500]
            remedy = str(first.fields.get("remedy") or "")[:500]
            yield Finding(f"worker.{code}", Severity.ERROR, f"the worker failed{where}: {reason}{often}", "", remedy)


def _files(run: RunView) -> list[Finding]:
    told = [Finding(f"status.{run.status.name.lower()}", SEVERITY[run.status], SAID[run.status], run.status_text)]
    if run.kind is Kind.TABLE:
        return told
    missing = [row.path for row in run.files if row.expected and not row.present]
    if missing:
        ended = run.status in (Status.FINISHED, Status.STOPPED)
        message = f"{len(missing)} of the files that a complete run has are missing"
        severity = Severity.WARNING if ended else Severity.INFO
        told.append(Finding("files-missing", severity, message, ", ".join(missing)))
    else:
        count = sum(row.expected for row in run.files)
        told.append(Finding("files-complete", Severity.INFO, f"all {count} files of a complete run are there"))
    if wrong := [row.path for row in run.files if row.verified is False]:
        message = "files are not those that came back: their size is another than the manifest's"
        told.append(Finding("files-changed", Severity.ERROR, message, ", ".join(wrong)))
    timeless = all(row.written is None for row in run.files)
    if run.kind is Kind.FOLDER and timeless and any(row.present for row in run.files):
        message = "the files' times are those of a copy: when each was written is not known"
        told.append(Finding("files-copied", Severity.INFO, message))
    return told


def _summary(run: RunView) -> Summary:
    results, epoch = run.results, best_epoch(run.results)
    asked = run.config.number("epochs")
    names = tuple(dict.fromkeys((*METRICS, *metric_names(run))))
    machine = ("machine", "device", "device_name", "device asked for")
    data = run.data.get("root") or run.data.get("yaml") or ""
    return Summary(
        name=run.name,
        status=run.status,
        status_text=run.status_text,
        epochs_done=results.epochs[-1] if results.epochs else 0,
        epochs_asked=int(asked) if asked else None,
        best_epoch=epoch,
        best_by=best_by(results),
        final={name: results.last(name) for name in names},
        best={name: results.at(name, epoch) if epoch else None for name in names},
        timing=course.timing(results),
        model=run.model,
        data=str(data),
        hardware=", ".join(f"{name} {run.hardware[name]}" for name in machine if run.hardware.get(name)),
        versions=", ".join(f"{name} {version}" for name, version in run.versions.items()),
    )


def _key(said: Sequence[Finding]) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for code in KEY:
        found += [one for one in said if one.code == code or (code[-1] in ".-" and one.code.startswith(code))]
    found += [one for one in said if one.severity is Severity.ERROR and one not in found]
    return tuple(found)
