"""A parity.json as the report shows it: what is in the file is checked before it is drawn, not trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from launcher.analysis.reading.results import EPOCH_LIMIT
from launcher.parity.model import Band
from launcher.report.charts import Panel
from launcher.report.parity.files import charts

MOST = 20_000
"""Epochs, rows or characters that a page takes from a file."""
Text = Annotated[str, Field(max_length=MOST)]
Values = Annotated[list[float | None], Field(max_length=MOST)]


class _Shown(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Difference(_Shown):
    what: Text
    run: Any = None
    reference: Any = None
    kind: Text
    why: Text = ""
    source: Text = ""


class _Layer(_Shown):
    layer: Text
    verdict: Text | None = None
    decided: Text = ""


class _Band(_Shown):
    column: Text
    label: Text
    epochs: Annotated[list[Annotated[int, Field(ge=0, le=EPOCH_LIMIT)]], Field(max_length=MOST)]
    run: Values
    reference: Values
    mean: Values = []
    low: Values = []
    high: Values = []
    per_gain: bool = False


class Shown(_Shown):
    """What the report takes from a parity.json; unknown fields are left out."""

    verdict: Text
    layer: Text | None = None
    reason: Text = ""
    run: Text = ""
    reference: Text = ""
    layers: Annotated[list[_Layer], Field(max_length=10)] = []
    references: Annotated[list[Text], Field(max_length=MOST)] = []
    differences: Annotated[list[_Difference], Field(max_length=MOST)] = []
    not_checked: Annotated[list[Text], Field(max_length=MOST)] = []
    bands: Annotated[list[_Band], Field(max_length=100)] = []


def read(found: Mapping[str, Any] | None) -> Shown | None:
    """A parity.json for the page; None where there is none, or where it is not one."""
    if not found:
        return None
    try:
        return Shown.model_validate(dict(found))
    except ValidationError:
        return None


def panel(shown: Shown | None) -> Panel | None:
    """The pictures for the page."""
    if shown is None:
        return None
    drawn = charts([made for band in shown.bands if (made := _whole(band)) is not None], shown.run, shown.reference)
    return Panel("parity", drawn, ()) if drawn else None


def _whole(band: _Band) -> Band | None:
    """The band, where all its series are as long as its epochs."""
    series = {
        name: tuple(math.nan if value is None else value for value in getattr(band, name))
        for name in ("run", "reference", "mean", "low", "high")
    }
    count = len(band.epochs)
    if any(len(values) != count for name, values in series.items() if values or name in ("run", "reference")):
        return None
    return Band(band.column, band.label, tuple(band.epochs), **series, per_gain=band.per_gain)
