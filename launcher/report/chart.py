"""A chart as a value: what is drawn, in what unit, and what it says in words.

One value is drawn three ways: by Plotly on the page (`figure`), and by matplotlib as SVG or PNG for a paper, a pull
request or a machine without a browser. In a notebook it shows itself.

A run is told by its colour *and* its symbol, what of the run by its dash, so that no line needs colour to be read.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, replace
from typing import Any

from launcher.analysis.model import Mark, Series

SOLID, DASH, DOT = "solid", "dash", "dot"
NAME_LIMIT = 48
"""Characters of a run's name that a chart shows; the table of runs has the whole."""


@dataclass(frozen=True)
class Line:
    """One curve. `run` gives colour and symbol, `part` (`train`, `validation`) and `dash` tell what of the run it is.

    `low` and `high` are a band around `y`, for several runs of one configuration; empty without one.
    `gain` is what Ultralytics multiplied the values by: None where it is not known, or where there is none.
    """

    run: int
    name: str
    x: tuple[float, ...]
    y: Series
    part: str = ""
    dash: str = SOLID
    gain: float | None = None
    low: Series = ()
    high: Series = ()

    @property
    def label(self) -> str:
        """The run, and what of it."""
        return words(f"{self.name}, {self.part}" if self.part else self.name)

    def per_gain(self) -> Line:
        """The same curve, divided by its gain; without a gain, as it is."""
        if not self.gain:
            return self
        y, low, high = (tuple(one / self.gain for one in values) for values in (self.y, self.low, self.high))
        return replace(self, gain=None, y=y, low=low, high=high)


@dataclass(frozen=True)
class Chart:
    """A chart of lines over epochs, or over another x. `marks` are upright lines at epochs, with a word each.

    `per_gain`: the values are losses that can be divided by their gains, and `divided` says that this is how they are
    shown first. `alt` is the chart in words, for those who do not see it.
    """

    code: str
    title: str
    y_title: str
    lines: tuple[Line, ...]
    x_title: str = "epoch"
    marks: tuple[Mark, ...] = ()
    note: str = ""
    per_gain: bool = False
    divided: bool = False
    log: bool = False
    zero: bool = False
    """The axis starts at 0, where it is not logarithmic."""

    @property
    def x_range(self) -> tuple[float, float]:
        """From the first to the last x of any line; 0 to 1 where there is none."""
        every = [x for line in self.lines for x in line.x[:1] + line.x[-1:]]
        return (min(every), max(every)) if every else (0, 1)

    @property
    def drawable(self) -> bool:
        """Whether any line has a point."""
        return any(math.isfinite(y) for line in self.lines for y in line.y)

    @property
    def alt(self) -> str:
        """The chart in words: each line's first, last, lowest and highest value."""
        first, last = self.x_range
        head = f"Line chart: {words(self.title)}, {self.y_title}, over {self.x_title} {first:g} to {last:g}."
        shown = [_in_words(line, self.x_title) for line in self.lines[:6]]
        more = len(self.lines) - len(shown)
        return " ".join([head, *shown, *([f"And {more} more lines."] if more else [])])

    def figure(self) -> dict[str, Any]:
        """The chart as Plotly takes it: `{"data": [...], "layout": {...}}`, in light colours."""
        from launcher.report.figure import figure

        return figure(self)

    def svg(self) -> str:
        """The chart as an SVG picture, by matplotlib."""
        from launcher.report.static import draw

        return draw(self, "svg").decode()

    def png(self, dpi: int = 150) -> bytes:
        """The chart as a PNG picture, by matplotlib."""
        from launcher.report.static import draw

        return draw(self, "png", dpi)

    def _repr_html_(self) -> str:
        """What a notebook shows: the interactive chart, in a frame of its own."""
        from launcher.report.document import chart_page, framed

        return framed(chart_page(self), height=460)


def words(text: str, limit: int = NAME_LIMIT) -> str:
    """A text from a file on one line, without control characters, and not longer than a chart can bear."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def quiet(text: str, limit: int = NAME_LIMIT) -> str:
    """The same for Plotly, which takes tags in a text for formatting."""
    return html.escape(words(text, limit), quote=False)


def _in_words(line: Line, x_title: str) -> str:
    known = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    if not known:
        return f"{line.label}: no values."
    low, high = min(known, key=lambda one: one[1]), max(known, key=lambda one: one[1])
    ends = f"from {known[0][1]:.3g} to {known[-1][1]:.3g}"
    return f"{line.label}: {ends}, lowest {low[1]:.3g} at {x_title} {low[0]:g}, highest {high[1]:.3g} at {high[0]:g}."
