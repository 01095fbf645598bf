"""Several runs side by side: one table, what differs, what seeds alone do, and what may not be concluded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from launcher.analysis import course, traps
from launcher.analysis.changes import causes, differences, show
from launcher.analysis.model import (
    MAP50,
    MAP5095,
    METRICS,
    MORE_METRICS,
    Change,
    Comparison,
    ComparisonRow,
    Difference,
    Kind,
    RunView,
    Spread,
)
from launcher.analysis.numbers import at_best, best_epoch, change, figure, metric_names
from launcher.analysis.seeds import between, independent, spread
from launcher.finding import Finding, Severity

MANY = 5  # comparisons from which on one that looks like an effect by chance alone is likely enough to be said


def compare(runs: Sequence[RunView]) -> Comparison:
    """The runs side by side, in the order given; changes are measured from the first. Raises ValueError for none."""
    if not runs:
        raise ValueError("no run to compare")
    runs = told_apart(runs)
    found = differences(runs)
    groups = _groups(runs)
    spreads = _spreads(runs, groups)
    return Comparison(
        runs=tuple(runs),
        rows=tuple(_row(run, runs[0], groups[i], _changes(found, i)) for i, run in enumerate(runs)),
        differences=found,
        spreads=spreads,
        # Told as from a reference, which is the last there, to the others.
        findings=tuple(_findings(runs, groups, differences(runs[::-1]), spreads)),
        progressions=tuple(course.progression(run) for run in runs),
    )


def told_apart(runs: Sequence[RunView]) -> tuple[RunView, ...]:
    """The runs, folders of one name (`train`) with that of the folder around them in their id and name."""
    places: dict[str, set[Path]] = {}
    for run in runs:
        places.setdefault(run.id, set()).add(run.where)

    def apart(run: RunView) -> RunView:
        if len(places[run.id]) == 1 or run.kind is Kind.RUN:
            return run
        around = (run.where.parent if run.where.name == "results.csv" else run.where).parent.name
        return replace(run, id=f"{around}/{run.id}", name=f"{around}/{run.name}")

    return tuple(map(apart, runs))


def _groups(runs: Sequence[RunView]) -> list[int]:
    """Numbers from 1: runs whose configurations differ in seed and machine at most have the same.

    A run whose configuration is not known is a group of its own.
    """
    firsts: list[RunView] = []
    groups = []
    for run in runs:
        known = bool(run.config.values or run.config.effective)
        for number, first in enumerate(firsts, 1):
            comparable = known and bool(first.config.values or first.config.effective)
            if comparable and not causes(differences((first, run))):
                groups.append(number)
                break
        else:
            firsts.append(run)
            groups.append(len(firsts))
    return groups


def _spreads(runs: Sequence[RunView], groups: Sequence[int]) -> tuple[Spread, ...]:
    found = []
    for group in sorted(set(groups)):
        members = independent([run for run, number in zip(runs, groups, strict=True) if number == group])
        found += [one for name in METRICS if (one := spread(group, members, name)) is not None]
    return tuple(found)


def _changes(found: Sequence[Difference], index: int) -> tuple[str, ...]:
    """What this run has otherwise than the first."""
    changed = [one for one in found if one.values[index] != one.values[0] and not one.follows]
    return tuple(f"{one.name} {show(one.values[index])}" for one in changed) if index else ()


def _row(run: RunView, first: RunView, group: int, changes: tuple[str, ...]) -> ComparisonRow:
    results, epoch = run.results, best_epoch(run.results)
    asked, seed = run.config.number("epochs"), run.config.number("seed")
    final = {
        name: results.last(name) for name in (*METRICS, *MORE_METRICS) if name in results.columns or name in METRICS
    }
    moved: dict[str, Change] = {}
    names = tuple(dict.fromkeys((*METRICS, *metric_names(run, first))))
    for name in names:
        one = change(first.results.last(name), results.last(name)) if run is not first else None
        if one is not None:
            moved[name] = one
    return ComparisonRow(
        id=run.id,
        name=run.name,
        status=run.status,
        epochs_done=results.epochs[-1] if results.epochs else 0,
        epochs_asked=int(asked) if asked else None,
        best_epoch=epoch,
        final=final,
        best={name: results.at(name, epoch) if epoch else None for name in final},
        final_changes=moved,
        seconds=course.timing(results).total,
        seed=None if seed is None else int(seed),
        changes=changes,
        group=group,
    )


def _findings(
    runs: Sequence[RunView], groups: Sequence[int], found: Sequence[Difference], spreads: Sequence[Spread]
) -> list[Finding]:
    told = [*_ranking(runs), *traps.on_mps(runs)]
    if len(runs) > 1:
        told += traps.configuration(runs[::-1], found)
        told += [*traps.ends(runs), *_seeds(groups, spreads)]
    gains = [one for one in found if one.name in ("box", "cls", "dfl")]
    if gains:
        message = "losses are multiplied by other gains: only per unit of gain do they compare"
        evidence = "; ".join(f"{one.name} {', '.join(show(value) for value in reversed(one.values))}" for one in gains)
        told.append(Finding("loss-gains-differ", Severity.WARNING, message, evidence, source=traps.GAINS))
    told += _gaps(runs)
    return told


def _ranking(runs: Sequence[RunView]) -> list[Finding]:
    """Which has the highest metric, final and best: they need not agree."""
    finals = [(value, run.id) for run in runs if (value := run.results.last(MAP5095)) is not None]
    bests = [(value, run.id) for run in runs if (value := at_best(run, MAP5095)) is not None]
    if len(finals) < 2 or len(bests) < 2:
        return []
    final, best = max(finals), max(bests)
    if sum(value == best[0] for value, _ in bests) > 1 and sum(value == final[0] for value, _ in finals) > 1:
        return []  # nobody is ahead
    message = f"highest mAP50-95: {best[1]} by best epoch ({figure(best[0])})"
    message += f", {final[1]} by last epoch ({figure(final[0])})" if final[1] != best[1] else ", and by last epoch"
    evidence = f"{len(bests)} runs; a best epoch is the highest of many, so it flatters, and long runs more"
    return [Finding("highest", Severity.INFO, message, evidence)]


def _seeds(groups: Sequence[int], spreads: Sequence[Spread]) -> list[Finding]:
    """Whether groups differ by more than seeds do; for single runs, what would have to be known."""
    spread_of = {one.group: one for one in spreads if one.metric == MAP50}
    first = spread_of.get(groups[0])
    told = []
    repeated = [one for one in spread_of.values() if one.deviation is not None]
    for one in repeated:
        message = (
            f"seeds alone move mAP50 by {figure(one.deviation)} (standard deviation) in {len(one.runs)} runs like "
            f"{one.runs[0]}: another single run is an effect from {figure(one.needed)} off their mean"
        )
        evidence = f"{figure(one.low)} to {figure(one.high)}, mean {figure(one.mean)}; best epochs, 95 % prediction"
        told.append(Finding("seed-spread", Severity.INFO, message, evidence))
    others = [one for one in spread_of.values() if one is not first]
    if first is None or not others:
        return told
    found = [between(first, one) for one in others]
    anecdotes = [one for one in found if one.code == "one-seed"]
    if len(anecdotes) > 1:
        message = f"{len(anecdotes)} of these runs stand alone against {first.runs[0]} alone: anecdotes, not effects"
        evidence = "; ".join(one.evidence for one in anecdotes[:MANY])
        evidence += f"; and {len(anecdotes) - MANY} more" if len(anecdotes) > MANY else ""
        merged = Finding("one-seed", Severity.WARNING, message, evidence, anecdotes[0].remedy)
        found = [merged, *(one for one in found if one.code != "one-seed")]
    told += found
    if len(others) >= MANY:
        message = f"{len(others)} comparisons with one run: at 95 % each, some look like effects by chance alone"
        evidence = f"of {len(others)} without any effect about {0.05 * len(others):.1f} would be outside"
        told.append(Finding("many-comparisons", Severity.WARNING, message, evidence, "repeat the one that won"))
    return told


def _gaps(runs: Sequence[RunView]) -> list[Finding]:
    gaps = {run.id: times for run in runs if (times := course.timing(run.results)).gaps}
    if not gaps:
        return []
    message = "wall times do not compare: some runs stood still in between"
    evidence = "; ".join(f"{name} in epoch {', '.join(map(str, times.gaps))}" for name, times in gaps.items())
    return [Finding("time-gaps", Severity.WARNING, message, evidence)]
