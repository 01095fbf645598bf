"""A chart as a still picture, by matplotlib: SVG for papers and print, PNG for where only pixels are taken."""

from __future__ import annotations

import io
import warnings
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from launcher.report.chart import Chart, Line, words
from launcher.report.figure import FEW_POINTS, SYMBOLS_SHOWN
from launcher.report.style import DASHES, LIGHT, MARKERS, colour, symbol

SIZE = (7.0, 4.0)
"""Inches."""
LEGEND = 12
"""Lines that a legend in the picture has room for; more are told in the text only."""
PLAIN: Any = {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "samerun"}
"""A `$` in a name is a `$`; text stays text; the same chart gives the same bytes."""


def draw(chart: Chart, kind: Literal["svg", "png"], dpi: int = 150) -> bytes:
    """The picture."""
    with mpl.rc_context(PLAIN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name may be in any script
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _fill(axes, chart)
        to = io.BytesIO()
        about = {"Title": words(chart.title), "Description": chart.alt}
        figure.savefig(to, format=kind, dpi=dpi, metadata={**about, "Date": None} if kind == "svg" else about)
    return to.getvalue()


def _fill(axes: Axes, chart: Chart) -> None:
    drawn = [_line(axes, line.per_gain() if chart.divided else line) for line in chart.lines if line.y]
    for mark in chart.marks:
        axes.axvline(mark.epoch, color="#59636e", linewidth=0.8, linestyle=":")
        label = words(mark.code.replace("-", " "))
        axes.text(mark.epoch, 1.0, label, transform=axes.get_xaxis_transform(), fontsize=7, rotation=30, va="bottom")
    unit = " per unit of gain" if chart.divided else ""
    axes.set(xlabel=chart.x_title, ylabel=f"{chart.y_title}{unit}", yscale="log" if chart.log else "linear")
    axes.set_title(words(chart.title), loc="left", fontweight="bold", pad=30 if chart.marks else 8)
    if chart.x_title == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, color="#d8dee4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if 1 < len(drawn) <= LEGEND:
        axes.legend(drawn, [_label(line) for line in chart.lines if line.y], fontsize=8, frameon=False)


def _line(axes: Axes, line: Line) -> Artist:
    paint = colour(line.run, LIGHT)
    if line.low:
        axes.fill_between(line.x, line.low, line.high, color=paint, alpha=0.2, linewidth=0)
    every = 1 if len(line.x) <= FEW_POINTS else max(1, len(line.x) // SYMBOLS_SHOWN)
    shape: dict[str, Any] = {"marker": symbol(line.run, MARKERS), "markersize": 4, "markevery": every}
    return axes.plot(line.x, line.y, color=paint, linewidth=1.5, linestyle=DASHES[line.dash], **shape)[0]


def _label(line: Line) -> str:
    """The line's name; matplotlib would leave out one that begins with an underscore."""
    return f"\N{WORD JOINER}{line.label}" if line.label.startswith("_") else line.label
