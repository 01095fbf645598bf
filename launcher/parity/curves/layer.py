"""The curve layer: are the tables the same, inside the spread of seeds, within a margin, or different?

Runs that ended at other epochs are compared to where the first of them ended, at the same epochs of all.

identical: every metric and loss of every epoch is the same number. different: a summary (mean of the last epochs, best
fitness, mean training loss) or a training loss of an epoch is outside what the reference's seeds give, all tests taken
together; or a loss is 0 where it cannot be. equivalent: each metric that has a margin is shown to be within it.
consistent: nothing was outside. Without two seeds, or with anything missing: inconclusive.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from launcher.analysis.model import ACCURACIES, MAP50, MAP5095, PRECISION, RECALL
from launcher.analysis.numbers import figure, signed
from launcher.parity.curves import series, spread
from launcher.parity.curves.series import FITNESS, Table
from launcher.parity.curves.spread import BY_EPOCH, SUMMARY, Equivalence, Test
from launcher.parity.model import Difference, Kind, Layer, LayerResult, Verdict

LAST_EPOCHS = 3
SHORT = {
    "precision": PRECISION,
    "recall": RECALL,
    "mAP50": MAP50,
    "mAP50-95": MAP5095,
    FITNESS: FITNESS,
    **{name.removeprefix("metrics/"): name for name in ACCURACIES},
}
"""How a margin names its metric."""
USUAL = {MAP5095: 0.016, FITNESS: 0.016, MAP50: 0.006, RECALL: 0.018}
"""Standard deviation over seeds, 8 of them, 10 epochs on a small reef (8.4.190): an assumption everywhere else."""
ZERO = "https://github.com/ultralytics/ultralytics/issues/7554"
STEADY = 0.1  # of the median: a training loss that never was below it does not become 0 by another seed (assumption)
REPLAYED = "training losses: a resumed run replays its first epoch's pictures, so they fall below any seed's"
"""Measured: box loss 2.15 in the fourth epoch of a run resumed before each, 2.43 to 2.61 of ten seeds (facts 1.6)."""
SAME_RATE = 1e-4  # relative: results.csv has six digits
Margin = float | Mapping[str, float]


def curves_layer(
    run: Table,
    reference: Table,
    seeds: Sequence[Table] = (),
    *,
    margin: Margin | None = None,
    last_epochs: int = LAST_EPOCHS,
) -> LayerResult:
    """What the tables say. `seeds`: more runs of the reference's configuration with other seeds. `margin`: absolute,
    one for all metrics or by metric. Raises ValueError for a margin of a metric that there is not."""
    if not run.epochs or not reference.epochs:
        nobody = run.run if not run.epochs else reference.run
        return LayerResult(Layer.CURVES, None, f"{nobody} has no epoch", not_checked=("metrics and losses by epoch",))
    columns = series.needed((run, reference))
    missing = _missing(run, reference, columns)
    usable = [one for one in seeds if one.whole and not _missing(one, reference, columns)]
    references = [reference, *usable]
    left_out = tuple(f"{one.run} as a seed: its table is not whole" for one in seeds if one not in usable)
    found = [*_zeros(run, reference, columns), *_rates(run, reference), *_holes(run, reference, columns)]
    numbers: dict[str, object] = {"references": len(references), "epochs": len(run.epochs), "level": spread.LEVEL}
    numbers["first_other"] = series.first_other(run, reference, columns)
    if any(one.kind is Kind.MUST_EQUAL for one in found):
        first = next(one for one in found if one.kind is Kind.MUST_EQUAL)
        decided = f"{first.what}: {first.why}"
        return LayerResult(Layer.CURVES, Verdict.DIFFERENT, decided, tuple(found), numbers, (*missing, *left_out))
    if not missing and series.equal(run, reference, columns):
        decided = f"every metric and loss of {len(run.epochs)} epochs is that of {reference.run}, to the digit"
        return LayerResult(Layer.CURVES, Verdict.IDENTICAL, decided, tuple(found), numbers, left_out)
    replayed = tuple(name for name in columns if name.startswith("train/")) if run.restarts else ()
    tested = [name for name in columns if name not in replayed]
    tests, untold = _tests(run, references, tested, last_epochs)
    outside = sorted((one for one in tests if one.outside), key=lambda one: one.adjusted)
    margins = _margins(margin, columns)
    shown = [spread.equivalence(one, margins[one.column]) for one in tests if _is_final(one) and one.column in margins]
    numbers |= {
        "tests": [one.as_json() for one in tests if one.family == SUMMARY],
        "outside": [one.as_json() for one in outside],
        "by_epoch": sum(one.family == BY_EPOCH for one in tests),
        "equivalence": [one.as_json() for one in shown],
    }
    found += [_outside(one) for one in outside]
    flat = [one.name for one in tests if one.family == SUMMARY and not one.deviation]
    nothing = (f"{', '.join(flat)}: one value in all seeds and the run, which says nothing",) if flat else ()
    told = (*missing, *untold, *nothing, *left_out, *((REPLAYED,) if replayed else ()))
    if outside:
        verdict, decided = Verdict.DIFFERENT, _said(outside)
    elif missing or untold:
        verdict, decided = Verdict.INCONCLUSIVE, f"not all could be compared: {(*missing, *untold)[0]}"
    elif len(references) < 2:
        decided, numbers["seeds_needed"] = _alone(run, reference, columns, last_epochs)
        verdict, told = Verdict.INCONCLUSIVE, (*told, "how far seeds alone move the metrics: one reference")
    else:
        verdict, decided = _inside(tests, shown, set(margins))
    return LayerResult(Layer.CURVES, verdict, decided, tuple(found), numbers, told)


def _missing(run: Table, reference: Table, columns: Sequence[str]) -> tuple[str, ...]:
    """What of both tables is not there."""
    cut = [f"{one.run}: {_cut(one)}" for one in (run, reference) if not one.whole]
    mixed = [
        f"{series.label(name)}: what it was multiplied by is known of one side only"
        for name in series.losses(columns)
        if series.divided((run, reference), name) is None
    ]
    return (*cut, *series.gaps(run, columns), *series.gaps(reference, columns), *mixed)


def _cut(one: Table) -> str:
    of = f" of {one.asked}" if one.asked is not None else ", and how many were asked for is not known"
    return f"its table has {len(one.epochs)} epochs, the last is {one.epochs[-1]}{of}"


def _zeros(run: Table, reference: Table, columns: Sequence[str]) -> list[Difference]:
    """Losses that are 0 in the run where the reference's are not: the assigner found nothing, as on Apple's GPU."""
    found = []
    for name in series.losses(columns):
        values = [value for value in reference.columns.get(name, ()) if math.isfinite(value)]
        if not values or min(values) < STEADY * statistics.median(values):
            continue  # a loss that comes near 0 by itself
        theirs = dict(zip(reference.epochs, reference.columns.get(name, ()), strict=False))
        own = zip(run.epochs, run.columns.get(name, ()), strict=False)
        epochs = [epoch for epoch, value in own if value == 0 and theirs.get(epoch, 0) > 0]
        if epochs:
            why = "a training loss of 0 in a whole epoch: no box was assigned to any target"
            what, value = f"{series.label(name)}, epoch {epochs[0]}", theirs[epochs[0]]
            found.append(Difference(what, 0.0, value, Kind.MUST_EQUAL, why, ZERO, 98))
    return found


def _rates(run: Table, reference: Table) -> list[Difference]:
    """Learning rates that took another course."""
    for name in sorted({*run.columns} & {*reference.columns}):
        if not name.startswith("lr/"):
            continue
        theirs = dict(zip(reference.epochs, reference.columns[name], strict=False))
        for epoch, value in zip(run.epochs, run.columns[name], strict=False):
            other = theirs.get(epoch, math.nan)
            if abs(value - other) > SAME_RATE * max(abs(value), abs(other)):
                why = "the learning rate took another course"
                return [Difference(f"{name}, epoch {epoch}", value, other, Kind.CHANGES_STREAM, why, "results.csv", 75)]
    return []


def _holes(run: Table, reference: Table, columns: Sequence[str]) -> list[Difference]:
    """Epochs and values that only one of them has."""
    found = []
    if run.epochs != reference.epochs:
        why = "the tables have other epochs: cut, early ended, or rows are gone"
        one, other = len(run.epochs), len(reference.epochs)
        found.append(Difference("epochs in the table", one, other, Kind.CHANGES_STREAM, why, "results.csv", 80))
    if run.repairs != reference.repairs:
        mended = [", ".join(table.repairs) or "none" for table in (run, reference)]
        why = "rows were mended to read the table; what counts is compared by itself"
        found.append(Difference("repairs of the table", mended[0], mended[1], Kind.HARMLESS, why, "results.csv", 0))
    theirs = set(series.gaps(reference, columns))
    if len(lost := [text for text in series.gaps(run, columns) if text.replace(run.run, reference.run) not in theirs]):
        why = f"{lost[0]}; {len(lost)} columns" if len(lost) > 1 else lost[0]
        found.append(Difference("values in the table", "missing", "there", Kind.CHANGES_STREAM, why, "results.csv", 90))
    return found


def _tests(
    run: Table, references: Sequence[Table], columns: Sequence[str], last_epochs: int
) -> tuple[tuple[Test, ...], tuple[str, ...]]:
    """All tests, corrected; and what could not be tested because every reference has the same value."""
    epochs = [epoch for epoch in series.common((run, *references)) if epoch >= series.FIRST_EPOCH]
    values = [
        (name, column, SUMMARY, *_of(run, references, column, last_epochs)) for name, column in _summaries(columns)
    ]
    for column in series.losses(columns):
        per_gain = series.divided((run, *references), column)
        if per_gain is None:
            continue  # said as missing
        rows = zip(*(one.loss(column, epochs, divided=per_gain) for one in (run, *references)), strict=False)
        for number, (own, *theirs) in zip(epochs, rows, strict=False):
            values.append((f"{series.label(column)}, epoch {number}", column, BY_EPOCH, own, theirs))
    tests: list[Test] = []
    untold: list[str] = []
    for name, column, family, value, others in values:
        if value is None or not math.isfinite(value) or any(one is None or not math.isfinite(one) for one in others):
            continue  # said as missing
        known = [one for one in others if one is not None]
        least = 0.0 if column.startswith("train/") else spread.LEAST
        made = spread.against(name, column, family, value, known, least=least)
        if made is not None:
            tests.append(made)
        elif len(others) > 1:
            untold.append(
                f"{name}: all {len(others)} references have {figure(others[0], 4)}, the run {figure(value, 4)}"
            )
    return spread.corrected(tests), tuple(untold)


def _summaries(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Name and column of each summary."""
    found = [(f"{series.label(name)}, last epochs", name) for name in series.metrics(columns)]
    means = [(f"{series.label(name)}, mean of epochs", name) for name in series.losses(columns)]
    return [*found, ("best fitness", FITNESS), *means]


def _of(
    run: Table, references: Sequence[Table], column: str, last_epochs: int
) -> tuple[float | None, list[float | None]]:
    def value(one: Table) -> float | None:
        if column == FITNESS:
            return one.best(epochs)
        if column.startswith("train/"):
            losses = one.loss(column, later, divided=bool(per_gain))
            return math.fsum(losses) / len(losses) if losses else None
        return one.last(column, epochs[-last_epochs:])

    epochs = series.common((run, *references))  # what ended early is compared where it ended
    later = [epoch for epoch in epochs if epoch >= series.FIRST_EPOCH]
    per_gain = series.divided((run, *references), column)
    if column.startswith("train/") and per_gain is None:
        return None, [None] * len(references)
    return value(run), [value(one) for one in references]


def _is_final(one: Test) -> bool:
    return one.family == SUMMARY and not one.column.startswith("train/")


def _margins(margin: Margin | None, columns: Sequence[str]) -> dict[str, float]:
    """Column to margin. Raises ValueError."""
    if margin is None:
        return {}
    for value in margin.values() if isinstance(margin, Mapping) else (margin,):
        if not 0 < value < float("inf"):
            raise ValueError(f"a margin is a number above 0, not {value}")
    if not isinstance(margin, Mapping):
        return {name: float(margin) for name in (*series.metrics(columns), FITNESS)}
    unknown = sorted(set(margin) - set(SHORT) - set(SHORT.values()))
    if unknown:
        raise ValueError(f"there is no metric {unknown[0]!r} to have a margin; known: {', '.join(SHORT)}")
    return {SHORT.get(name, name): float(value) for name, value in margin.items()}


def _inside(tests: Sequence[Test], shown: Sequence[Equivalence], wanted: set[str]) -> tuple[Verdict, str]:
    """Nothing is outside: equivalent where each margin is shown, else consistent."""
    count = tests[0].count if tests else 0
    failed = [one for one in shown if not one.shown]
    if wanted and not failed and {one.column for one in shown} == wanted:
        text = ", ".join(f"{one.name} within ±{one.margin:g}" for one in shown[:3])
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        return Verdict.EQUIVALENT, f"shown by two one-sided tests against {count} seeds: {text}{more}"
    widest = next((one for one in tests if one.column == MAP5095 and _is_final(one)), tests[0] if tests else None)
    text = f"inside what {count} seeds give, in {len(tests)} tests"
    if widest is not None and widest.deviation:
        seen = spread.limit(widest.deviation, count, sum(one.family == widest.family for one in tests))
        text += f"; of {widest.name}, no difference below ±{figure(seen)} could have been seen"
    if failed:
        one = failed[0]
        why = f"differs by {signed(one.low)} to {signed(one.high)} (90 %), the margin is ±{one.margin:g}"
        why = why if one.low < one.high else "has one value in all seeds, so how far seeds move it is not known"
        text += f". Equivalence is not shown: {one.name} {why}"
    return Verdict.CONSISTENT, text


def _alone(run: Table, reference: Table, columns: Sequence[str], last_epochs: int) -> tuple[str, dict[str, object]]:
    """With one reference nothing can be said: how many more would settle the difference that is seen."""
    moved = []
    for name, column in _summaries(columns):
        value, others = _of(run, [reference], column, last_epochs)
        if column in USUAL and value is not None and others[0] is not None:
            moved.append((abs(value - others[0]) / USUAL[column], name, value - others[0], USUAL[column]))
    head = "one reference: how far seeds alone move the metrics is not known"
    if not moved or max(moved)[0] == 0:
        return head, {}
    _, name, difference, deviation = max(moved)
    needed = spread.seeds_needed(difference, deviation, len(_summaries(columns)))
    held = f"{name} differs by {signed(difference, 4)}; if seeds scatter as on a small reef (s.d. {deviation}, assumed)"
    text = f"{needed - 1} more seed{'s' * (needed != 2)} of the reference would settle it" if needed else ""
    text = text or "no number of seeds of the reference alone would: the run has to be repeated, too"
    return f"{head}. {held}, {text}", {
        "metric": name,
        "difference": difference,
        "deviation": deviation,
        "seeds": needed,
    }


def _said(outside: Sequence[Test]) -> str:
    one = outside[0]
    text = f"{one.name} is {figure(one.value, 4)}, outside what {one.count} seeds give: {figure(one.mean, 4)} ± "
    text += f"{figure(one.high - one.mean, 4)} (p {one.adjusted:.1g} after Holm's correction)"
    return f"{text}, and {len(outside) - 1} more" if len(outside) > 1 else text


def _outside(one: Test) -> Difference:
    why = f"outside what {one.count} seeds give, at {spread.LEVEL:.0%} for all tests together (p {one.adjusted:.1g})"
    return Difference(one.name, one.value, one.mean, Kind.MUST_EQUAL, why, "prediction interval, Holm", 60)
