"""What charts say: bands for seeds, gains, marks, names; and that Plotly and an SVG reader take them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import plotly.graph_objects as go
import pytest

from launcher.analysis.model import MAP5095, Mark, Status
from launcher.report import Chart, Line, charts
from launcher.report.charts import MARKS, curves, panels, unique
from launcher.report.figure import spread
from launcher.report.style import DARK, GLYPHS, LIGHT, MARKERS, SYMBOLS
from tests.report import made

PAGES = {"light": (LIGHT, ("#f7f8f9", "#ffffff")), "dark": (DARK, ("#0e1318", "#161d24"))}


def by_code(every: tuple[Chart, ...]) -> dict[str, Chart]:
    """Charts by their code."""
    return {chart.code: chart for chart in every}


def test_plotly_takes_every_figure_and_json_every_value() -> None:
    for chart in charts(made.analysis(references=3)):
        figure = chart.figure()
        go.Figure(figure)
        json.dumps(figure, allow_nan=False)


def test_seeds_are_a_band_and_each_run_can_still_be_shown() -> None:
    said = made.comparison(runs=4)
    band, *each = curves(said)
    assert band.band
    assert band.shown
    assert [(one.band, one.shown) for one in each] == [(False, False)] * 4
    assert len({one.number for one in (band, *each)}) == 5
    line = by_code(charts(said))["mAP50-95"].lines[0]
    values = [one.metrics[MAP5095][-1] for one in said.progressions]
    assert (line.low[-1], line.high[-1]) == (min(values), max(values))
    assert line.y[-1] == pytest.approx(sum(values) / 4)


def test_the_run_reported_on_is_never_hidden_in_a_band() -> None:
    first, *others = curves(made.analysis(references=3))
    assert (first.number, first.band, first.shown) == (0, False, True)
    assert sum(one.band for one in others) == 1, "its three references differ in nothing but the seed"


@pytest.mark.parametrize("status", [Status.CRASHED, Status.CANCELLED, Status.RUNNING])
def test_a_run_that_did_not_end_is_in_no_band(status: Status) -> None:
    said = made.comparison(runs=4)
    said = replace(said, runs=(*said.runs[:3], replace(said.runs[3], status=status)))
    band, *others = curves(said)
    assert [view.id for view, _ in band.members] == ["run-0", "run-1", "run-2"]
    assert [one.name for one in others if one.shown] == ["run 3"]


def test_a_run_that_is_another_again_is_in_no_band() -> None:
    said = made.comparison(runs=3)
    said = replace(said, runs=(*said.runs[:2], replace(said.runs[2], results=said.runs[0].results)))
    band, *others = curves(said)
    assert [view.id for view, _ in band.members] == ["run-0", "run-1"]
    assert [one.name for one in others if one.shown] == ["run 2"]


def test_a_band_is_said_to_be_of_runs_that_differ_in_seed_and_machine() -> None:
    notes = {panel.note for panel in panels(made.comparison())}
    assert len(notes) == 1
    assert "differ in seed and machine at most" in notes.pop()


def test_metrics_and_losses_of_masks_have_their_charts() -> None:
    said = made.analysis()
    masks, losses = {"metrics/mAP50-95(M)": (0.1,) * 15}, {"train/seg_loss": (2.0,) * 15, "val/seg_loss": (2.1,) * 15}
    course = said.progression
    course = replace(course, metrics={**course.metrics, **masks}, losses={**course.losses, **losses})
    results = replace(said.run.results, columns={**said.run.results.columns, **masks, **losses})
    found = by_code(charts(replace(said, run=replace(said.run, results=results), progression=course)))
    assert found["mAP50-95(M)"].lines[0].y == masks["metrics/mAP50-95(M)"]
    assert [line.part for line in found["seg-loss"].lines if line.y] == ["training", "validation"]


def test_a_band_holds_what_is_known_at_each_epoch() -> None:
    epochs, mean, low, high = spread([((1, 2, 3), (1.0, math.nan, 3.0)), ((1, 2), (3.0, 4.0))])
    assert (epochs, mean, low, high) == ((1, 2, 3), (2.0, 4.0, 3.0), (1.0, 4.0, 3.0), (3.0, 4.0, 3.0))
    assert all(math.isnan(one[0]) for one in spread([((1,), (math.nan,))])[1:])


def test_losses_of_different_gains_are_first_shown_divided() -> None:
    box = by_code(charts(made.analysis()))["box-loss"]
    assert box.divided
    assert [line.gain for line in box.lines] == [5.0, 5.0, 7.5, 7.5]
    assert box.lines[0].per_gain().y[0] == pytest.approx(box.lines[0].y[0] / 5.0)
    cls = by_code(charts(made.analysis()))["cls-loss"]
    assert cls.per_gain
    assert not cls.divided, "the same gain on both sides needs no division"


def test_a_loss_whose_gain_is_not_known_is_never_divided() -> None:
    said = made.analysis()
    said = replace(said, reference_progressions=tuple(replace(one, per_gain={}) for one in said.reference_progressions))
    box = by_code(charts(said))["box-loss"]
    assert not box.divided
    assert [line.gain for line in box.lines] == [5.0, 5.0, None, None]


def test_a_stall_makes_the_axis_of_time_logarithmic_and_says_so() -> None:
    slow = by_code(charts(made.analysis()))["seconds"]
    assert slow.log
    assert "logarithmic" in slow.note
    said = made.analysis(references=0)
    calm = replace(said, progression=replace(said.progression, seconds=(500.0,) * 15))
    assert not by_code(charts(calm))["seconds"].log


def test_what_is_not_a_number_is_a_gap_in_the_line() -> None:
    chart = Chart("x", "x", "y", (Line(0, "a", (1, 2, 3), (1.0, math.nan, math.inf)),))
    assert chart.figure()["data"][-1]["y"] == [1.0, None, None]
    assert "from 1 to 1" in chart.alt


def test_a_run_without_epochs_has_no_charts() -> None:
    assert panels(made.analysis(references=0, epochs=0)) == ()


def test_the_words_of_a_chart_tell_its_values() -> None:
    line = Line(0, "a", (1, 2, 3), (0.5, 0.25, 0.75))
    alt = Chart("x", "mAP50", "mAP50 (0 to 1)", (line,)).alt
    assert "over epoch 1 to 3" in alt
    assert "from 0.5 to 0.75, lowest 0.25 at epoch 2, highest 0.75 at 3" in alt


def test_marks_at_neighbouring_epochs_are_written_in_rows_apart() -> None:
    marks = tuple(Mark(epoch, "mosaic-closed", "") for epoch in (5, 6, 7))
    line = Line(0, "a", tuple(range(1, 101)), (1.0,) * 100)
    labels = Chart("x", "x", "y", (line,), marks=marks).figure()["layout"]["annotations"]
    assert len({label["yshift"] for label in labels}) == 3


def test_of_many_marks_those_that_matter_most_are_kept() -> None:
    many = (*(Mark(epoch, "warning", "") for epoch in range(1, 15)), Mark(15, "best", ""))
    said = made.analysis()
    chart = charts(replace(said, progression=replace(said.progression, marks=many)))[0]
    assert len(chart.marks) == MARKS
    assert chart.marks[0].code == "best"


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("a", "1", "/a"), ("b", "2", "/b")], ["a", "b"]),
        ([("smoke", "smoke-x", "/x"), ("smoke", "smoke-y", "/y")], ["smoke-x", "smoke-y"]),
        ([("train", "train", "/one/train"), ("train", "train", "/two/train")], ["one/train", "two/train"]),
        ([("a", "1", "/x/a"), ("a", "1", "/x/a"), ("b", "b", "/b")], ["x/a (1)", "x/a (2)", "b"]),
    ],
)
def test_every_run_has_a_name_of_its_own(runs: list[tuple[str, str, str]], expected: list[str]) -> None:
    assert unique([made.view(name, id_, where=Path(where)) for name, id_, where in runs]) == expected


@pytest.mark.parametrize("name", ["$x^", "_hidden", "<b>&amp;</b>", "a\x00b\x1b[31m", "魚 🐟", "x" * 500])
def test_a_still_picture_is_well_formed_whatever_the_name(name: str) -> None:
    lines = (Line(0, name, (1, 2), (0.1, 0.2)), Line(1, f"{name} 2", (1, 2), (0.2, 0.3)))
    chart = Chart("x", name, "y", lines, marks=(Mark(1, name, name),))
    drawn = ElementTree.fromstring(chart.svg())
    text = "".join(drawn.itertext())
    assert lines[0].label in text.replace("\N{WORD JOINER}", "")


def test_the_same_chart_is_the_same_picture() -> None:
    chart = charts(made.analysis(references=2))[0]
    assert chart.svg() == chart.svg()
    assert chart.png(60).startswith(b"\x89PNG")


@pytest.mark.parametrize("theme", PAGES)
def test_every_colour_stands_out_from_the_page(theme: str) -> None:
    colours, grounds = PAGES[theme]
    assert min(contrast(one, ground) for one in colours for ground in grounds) >= 3


def test_forty_runs_differ_in_colour_or_symbol() -> None:
    assert len(SYMBOLS) == len(MARKERS) == len(GLYPHS) == 10
    assert len({(LIGHT[run % 8], SYMBOLS[run % 10]) for run in range(40)}) == 40


def contrast(one: str, other: str) -> float:
    """The contrast of two colours (WCAG 2.2, "contrast ratio")."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return sum(share * one for share, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
