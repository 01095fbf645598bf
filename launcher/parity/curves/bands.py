"""The curves for a picture: the run, its reference, and where one more seed would lie, epoch by epoch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from launcher.analysis.model import Series
from launcher.parity.curves import series, spread
from launcher.parity.curves.series import Table
from launcher.parity.model import Band


def bands(run: Table, reference: Table, seeds: Sequence[Table] = ()) -> tuple[Band, ...]:
    """One for each metric and training loss that both have."""
    columns = series.needed((run, reference))
    wanted = (*series.metrics(columns), *series.losses(columns))
    return tuple(
        _band(name, run, reference, seeds) for name in wanted if name in run.columns and name in reference.columns
    )


def _band(column: str, run: Table, reference: Table, seeds: Sequence[Table]) -> Band:
    epochs = tuple(sorted({*run.epochs, *reference.epochs}))
    divided = bool(series.divided((run, reference, *seeds), column)) and column in run.per_gain
    rows = [_at(one, column, epochs, divided=divided) for one in (reference, *seeds)]
    mean, low, high = [], [], []
    for values in zip(*rows, strict=True):
        known = [value for value in values if math.isfinite(value)]
        enough = len(known) > 1
        middle = statistics.fmean(known) if enough else math.nan
        half = spread.reach(statistics.stdev(known), len(known)) if enough else math.nan
        mean.append(middle)
        low.append(middle - half)
        high.append(middle + half)
    series_of = (tuple(mean), tuple(low), tuple(high)) if seeds else ((), (), ())
    own = _at(run, column, epochs, divided=divided)
    return Band(column, series.label(column), epochs, own, rows[0], *series_of, per_gain=divided)


def _at(one: Table, column: str, epochs: Sequence[int], *, divided: bool) -> Series:
    values = (one.per_gain if divided else one.columns).get(column, ())
    known = dict(zip(one.epochs, values, strict=False))
    return tuple(known.get(epoch, math.nan) for epoch in epochs)
