"""One run against the spread of seeds: prediction intervals, corrected for their number, and tests of equivalence.

One more run of the reference lies, 95 times in 100, in mean ± t(n-1, 0.975) s sqrt(1 + 1/n) of its n seeds (Student;
the values are taken as normally distributed over seeds: an assumption). Of many such tests one fails by chance, so
their p-values are corrected by Holm's method (1979, Scand. J. Statist. 6), which holds for tests that depend on each
other, as epochs and metrics do, and never rejects less than Bonferroni's. LEVEL is that of all tests together.

A p-value that is large shows nothing. Equivalence is shown by two one-sided tests (Schuirmann 1987): the 90 % interval
of the difference lies within the margin. To claim it of several metrics each must pass by itself, which needs no
correction (an intersection-union test: Berger and Hsu 1996, Statist. Sci. 11).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from launcher.analysis.model import Plain

LEVEL = 0.01
"""How many runs that are one more seed are called different: at 0.05 two of the suite's pairs of other seeds were
(tests/parity/planted), and `different` is too strong a word to be wrong once in twenty runs."""
SUMMARY, BY_EPOCH = "summary", "by epoch"
SHARE = {SUMMARY: 0.8, BY_EPOCH: 0.2}
"""Of LEVEL for each family of tests: most for the few that say most, so that many epochs do not drown them."""
MOST_SEEDS = 100
LEAST = 0.002
"""Least standard deviation that a metric is taken to have over seeds: one box of 500 (assumption). A metric near 1 is
not normally distributed: of five seeds four may have 1 and one 0.9998, and a sound sixth 0.997. Without it 9 of 100
sound runs with such metrics were called different, and as small a spread shows any equivalence."""


@dataclass(frozen=True)
class Test(Plain):
    """One value of the run against those of n references. `low`, `high`: 95 % prediction interval of this value alone;
    `p` of it alone; `adjusted` for all tests of its family; `outside`: different at the level of all tests together."""

    __test__ = False  # no test of pytest's

    name: str
    column: str
    family: str
    value: float
    mean: float
    deviation: float
    count: int
    low: float
    high: float
    p: float
    adjusted: float = 1.0
    outside: bool = False


@dataclass(frozen=True)
class Equivalence(Plain):
    """Two one-sided tests of one metric: whether the 90 % interval of the difference lies within the margin."""

    name: str
    column: str
    difference: float
    low: float
    high: float
    margin: float
    shown: bool


def reach(deviation: float, count: int, quantile: float = 0.975) -> float:
    """Half the width of the prediction interval of one more value, from `count` >= 2 values."""
    from scipy import stats

    return float(stats.t.ppf(quantile, count - 1)) * deviation * math.sqrt(1 + 1 / count)


def limit(deviation: float, count: int, tests: int) -> float:
    """The smallest difference of one of `tests` summaries that can be called different, by Holm's first step."""
    return reach(deviation, count, 1 - SHARE[SUMMARY] * LEVEL / (2 * max(1, tests)))


def against(
    name: str, column: str, family: str, value: float, references: Sequence[float], *, least: float = 0.0
) -> Test | None:
    """The test of one value; None for fewer than two references, or where all of them are equal and it is not: then
    their spread is not known. `least`: a smaller deviation than this is not believed."""
    from scipy import stats

    count = len(references)
    if count < 2:
        return None
    mean, deviation = statistics.fmean(references), statistics.stdev(references)
    if deviation <= 1e-12 * abs(mean):
        if not math.isclose(value, mean, rel_tol=1e-9, abs_tol=1e-12):
            return None
        return Test(name, column, family, value, mean, 0.0, count, mean, mean, 1.0)
    deviation = max(deviation, least)
    half = reach(deviation, count)
    score = abs(value - mean) / (deviation * math.sqrt(1 + 1 / count))
    p = 2 * float(stats.t.sf(score, count - 1))
    return Test(name, column, family, value, mean, deviation, count, mean - half, mean + half, p)


def corrected(tests: Iterable[Test]) -> tuple[Test, ...]:
    """The same tests with Holm's correction in each family; `outside` at the family's share of LEVEL."""
    made: list[Test] = []
    tests = list(tests)
    for family, share in SHARE.items():
        of_family = sorted((one for one in tests if one.family == family), key=lambda one: one.p)
        greatest = 0.0
        for rank, one in enumerate(of_family):
            greatest = max(greatest, min(1.0, one.p * (len(of_family) - rank)))
            made.append(replace(one, adjusted=greatest, outside=greatest < share * LEVEL))
    return tuple(made)


def equivalence(test: Test, margin: float) -> Equivalence:
    """Whether the run's value is shown to be within `margin` of what the reference gives. Never where all references
    have one value, as a metric that is 0 throughout: then their spread is not known."""
    difference = test.value - test.mean
    half = reach(test.deviation, test.count, 0.95)
    low, high = difference - half, difference + half
    shown = test.deviation > 0 and -margin < low and high < margin
    return Equivalence(test.name, test.column, difference, low, high, margin, shown)


def seeds_needed(difference: float, deviation: float, tests: int = 1) -> int | None:
    """The fewest seeds of the reference with which a difference in one of `tests` summaries is called different; None
    where no number is enough."""
    for count in range(2, MOST_SEEDS + 1):
        if abs(difference) > limit(deviation, count, tests):
            return count
    return None
