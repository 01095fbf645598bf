"""A chart as Plotly's figure: plain values, ready for JSON.

Colours here are those of the light page; `meta` says which run a trace belongs to, so that the page can colour it
anew, and its gain, so that the page can divide by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from launcher.analysis.model import Mark, Series
from launcher.report.chart import Chart, Line, quiet
from launcher.report.style import colour, symbol

HEIGHT = 300
"""Pixels of a chart."""
SYMBOLS_SHOWN = 9
"""Symbols along a line: enough to tell it, few enough to see the line."""
FEW_POINTS = 30
"""Up to here every epoch has its symbol."""
MANY_LINES = 9
"""From here on the pointer tells one line, not all of them: the list would hide the chart."""
LABEL_ROW = 15
LETTER = 1 / 75
"""Pixels of a row of labels over a chart, and the share of the chart's width that a letter takes there, about."""


def figure(chart: Chart) -> dict[str, Any]:
    """Data and layout of a chart."""
    shown = [line.per_gain() for line in chart.lines] if chart.divided else list(chart.lines)
    data = [trace for line, now in zip(chart.lines, shown, strict=True) for trace in _traces(chart, line, now)]
    rows, labels = _labels(chart)
    many = len(chart.lines) >= MANY_LINES
    low, high = chart.x_range
    layout: dict[str, Any] = {
        "height": HEIGHT + LABEL_ROW * rows,
        "margin": {"l": 58, "r": 12, "t": 12 + LABEL_ROW * rows, "b": 42},
        "hovermode": "closest" if many else "x unified",
        "hoverlabel": {"namelength": -1},
        "showlegend": False,
        "dragmode": "zoom",
        "xaxis": {"title": {"text": chart.x_title}, "zeroline": False, **_ticks(chart, low, high)},
        "yaxis": {
            "title": {"text": chart.y_title, "standoff": 8},
            "automargin": True,
            "zeroline": False,
            "type": "log" if chart.log else "linear",
            **({"minor": {"ticks": ""}, "dtick": 1} if chart.log else {"rangemode": "tozero"} if chart.zero else {}),
        },
        "shapes": [_upright(epoch) for epoch in sorted({mark.epoch for mark in chart.marks})],
        "annotations": labels,
    }
    return {"data": data, "layout": layout}


def numbers(values: Iterable[float]) -> list[float | None]:
    """Values for JSON, in the six digits that results.csv has; what is not a number is a gap in the line."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]


def _traces(chart: Chart, line: Line, shown: Line) -> list[dict[str, Any]]:
    meta = {"run": line.run, "key": line.name, "part": line.part, "gain": line.gain}
    paint = colour(line.run)
    x = _steps(line.x) or {"x": list(line.x)}
    found = []
    if line.low:
        edge = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, **x}
        found += [
            {**edge, "y": numbers(shown.low), "meta": {**meta, "band": True}},
            {**edge, "y": numbers(shown.high), "meta": {**meta, "band": True}, "fill": "tonexty"}
            | {"fillcolor": f"{paint}30"},
        ]
    few = len(line.x) <= FEW_POINTS
    found.append(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": quiet(line.label),
            **x,
            "y": numbers(shown.y),
            "line": {"color": paint, "width": 2 if line.run == 0 else 1.6, "dash": line.dash},
            "marker": {"symbol": symbol(line.run), "size": 6, "color": paint}
            | ({} if few else {"maxdisplayed": SYMBOLS_SHOWN}),
            "hovertemplate": "%{y:.4~g}" if len(chart.lines) < MANY_LINES else f"{chart.x_title} %{{x}}: %{{y:.4~g}}",
            "connectgaps": False,
            "meta": meta,
        }
    )
    return found


def _steps(x: tuple[float, ...]) -> dict[str, Any]:
    """Where the x are start and step (epochs mostly are), that is all that is sent."""
    whole = len(x) > 1 and x == tuple(range(int(x[0]), int(x[0]) + len(x)))
    return {"x0": x[0], "dx": 1} if whole else {}


def _ticks(chart: Chart, low: float, high: float) -> dict[str, Any]:
    """Whole epochs only; a margin beside the first and last, so that their symbols are whole."""
    if chart.x_title != "epoch":
        return {"range": [low, high]}
    margin = max(0.3, (high - low) * 0.02)
    step = {"dtick": 1 if high - low <= 8 else 2, "tick0": low} if high - low <= 16 else {"nticks": 8}
    return {"tickformat": "d", "tickangle": 0, "range": [low - margin, high + margin], **step}


def _upright(epoch: float) -> dict[str, Any]:
    line = {"color": "#59636e", "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": epoch, "x1": epoch, "y0": 0, "y1": 1, "line": line}


def _labels(chart: Chart) -> tuple[int, list[dict[str, Any]]]:
    """A word over each marked epoch, in as many rows as keep them apart; returns the rows, and Plotly's annotations."""
    low, high = chart.x_range
    width = (high - low) or 1
    ends: list[float] = []
    found = []
    for epoch, text in _by_epoch(chart.marks):
        middle, half = (epoch - low) / width, len(text) * LETTER / 2
        row = next((at for at, end in enumerate(ends) if end < middle - half), len(ends))
        ends[row : row + 1] = [middle + half]
        side = "left" if middle < half else "right" if middle > 1 - half else "center"
        found.append(
            {"x": epoch, "y": 1, "yref": "paper", "yshift": 1 + LABEL_ROW * row, "yanchor": "bottom", "xanchor": side}
            | {"text": text, "showarrow": False, "font": {"size": 11, "color": "#59636e"}}
        )
    return len(ends), found


def _by_epoch(marks: tuple[Mark, ...]) -> list[tuple[int, str]]:
    """Each marked epoch with its words, in order."""
    words: dict[int, list[str]] = {}
    for mark in sorted(marks, key=lambda one: one.epoch):
        said = quiet(mark.code.replace("-", " "))
        if said not in words.setdefault(mark.epoch, []):
            words[mark.epoch].append(said)
    return [(epoch, ", ".join(said)) for epoch, said in words.items()]


def spread(members: list[tuple[tuple[float, ...], Series]]) -> tuple[tuple[float, ...], Series, Series, Series]:
    """Several runs' curves as one: epochs, mean, lowest and highest of those that have a number there."""
    epochs = tuple(sorted(set().union(*(own for own, _ in members))))
    aligned = [values if own == epochs else _at(epochs, own, values) for own, values in members]
    each = [[value for value in row if math.isfinite(value)] or [math.nan] for row in zip(*aligned, strict=True)]
    return epochs, tuple(math.fsum(one) / len(one) for one in each), tuple(map(min, each)), tuple(map(max, each))


def _at(epochs: tuple[float, ...], own: tuple[float, ...], values: Series) -> Series:
    """The values at these epochs; NaN at those that the run has not."""
    known = dict(zip(own, values, strict=True))
    return tuple(known.get(epoch, math.nan) for epoch in epochs)
