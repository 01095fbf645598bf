"""What other seeds do to a metric, and whether a difference is more than that.

One run against one is an anecdote: said with the seed-to-seed deviation below which its difference would be an effect.
Only runs that ended count, and a run that is another one again, number for number (the same seed on the same machine),
is no second one. The metric is mAP50, the one that the published reports speak of.

Sources: the prediction interval of one more run, mean ± t(n-1, 0.975) s sqrt(1 + 1/n); Welch 1947 for two means;
Student's t from the usual table. All take the metric as normally distributed over seeds: an assumption.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from launcher.analysis.model import MAP50, METRICS, RunView, Spread, Status
from launcher.analysis.numbers import Z, at_best, figure, signed
from launcher.finding import Finding, Severity

T975: tuple[float, ...] = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""0.975 quantiles of Student's t for 1 to 30 degrees of freedom."""
WEIGHED = ("metrics/", "train/", "val/")
"""Columns of metrics and losses; times differ from run to run."""
CUT_SHORT = frozenset({Status.CRASHED, Status.CANCELLED, Status.RUNNING, Status.NOT_STARTED})
"""Their last epoch is no result."""


def t975(freedom: int) -> float:
    """Student's t, 0.975 quantile, for at least 1 degree of freedom; above 30 by the first terms of Cornish and
    Fisher (within 0.0002)."""
    if freedom <= len(T975):
        return T975[freedom - 1]
    return Z + (Z**3 + Z) / (4 * freedom) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)


def largest_noise(difference: float) -> float:
    """The seed-to-seed deviation below which a difference of two single runs is outside 95 % of chance: d / (z √2)."""
    return abs(difference) / (Z * math.sqrt(2))


def independent(runs: Sequence[RunView]) -> list[RunView]:
    """The runs that ended, without those that are one of them again, number for number."""
    found: dict[object, RunView] = {}
    for run in runs:
        if run.status not in CUT_SHORT:
            series = tuple(run.results.columns.get(name, ()) for name in METRICS)
            found.setdefault(series if any(series) else id(run), run)
    return list(found.values())


def same(run: RunView, other: RunView) -> bool:
    """Whether two runs have the same metrics and losses in every epoch, number for number."""
    mine, its = (
        {name: values for name, values in sorted(one.results.columns.items()) if name.startswith(WEIGHED)}
        for one in (run, other)
    )
    return bool(mine) and repr(mine) == repr(its)  # by their texts: a missing value is no number, and equals itself


def reproduced(run: RunView, reference: RunView) -> Finding:
    """What to say of a run that is another one again: no difference is left to be weighed."""
    message = f"every metric and loss of every epoch is that of {reference.id}, to the digit: the same run again"
    epochs = len(run.results.epochs)
    evidence = f"{epochs} epoch{'s' * (epochs != 1)}; the numbers of results.csv, not the weights"
    return Finding("reproduced", Severity.INFO, message, evidence)


def spread(group: int, runs: Sequence[RunView], metric: str) -> Spread | None:
    """The metric of the best epochs over the runs of one configuration; None where no run has it."""
    counted = [(run.id, value) for run in runs if (value := at_best(run, metric)) is not None]
    if not counted:
        return None
    values = [value for _, value in counted]
    deviation = statistics.stdev(values) if len(values) > 1 else None
    needed = None if deviation is None else t975(len(values) - 1) * deviation * math.sqrt(1 + 1 / len(values))
    names = tuple(name for name, _ in counted)
    return Spread(group, names, metric, statistics.fmean(values), deviation, min(values), max(values), needed)


def beyond(run: RunView, seeds: Sequence[RunView]) -> Iterable[Finding]:
    """Whether the difference in mAP50 (last epochs) is more than another seed could make. `seeds`: runs of the
    reference's configuration, the reference first."""
    values = [value for one in independent(seeds) or seeds[:1] if (value := one.results.last(MAP50)) is not None]
    mine = run.results.last(MAP50)
    if mine is None or not values:
        return
    if len(values) == 1:
        message = "one run against one run is an anecdote: how far seeds alone move the metrics was not measured"
        evidence = _needed(mine - values[0], "")
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


def _needed(difference: float, pair: str) -> str:
    """What would have to be known to call the difference of two single runs an effect."""
    if not difference:
        return f"mAP50 is the same{pair}: that shows no effect, and does not rule one out"
    return (
        f"mAP50 differs by {signed(difference)}{pair}: an effect only if the seed-to-seed standard deviation is below "
        f"{figure(largest_noise(difference))} (95 %)"
    )


def between(first: Spread, other: Spread) -> Finding:
    """Whether the mAP50 of two configurations (best epochs) differs by more than seeds do.

    Both with several seeds: Welch's interval of the difference of means. One of them with a single run: the prediction
    interval of the other. Two single runs: an anecdote, with what would have to be known.
    """
    difference = other.mean - first.mean
    pair = f"{first.runs[0]} {figure(first.mean)}, {other.runs[0]} {figure(other.mean)}"
    if first.deviation is None and other.deviation is None:
        message = f"{first.runs[0]} against {other.runs[0]} is one run against one: an anecdote, not an effect"
        return Finding(
            "one-seed",
            Severity.WARNING,
            message,
            _needed(difference, f" ({pair})"),
            "repeat both with two or more other seeds",
        )
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
