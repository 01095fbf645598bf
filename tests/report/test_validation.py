"""The numbers behind the pictures: laid over each other where both runs have them, and never trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from launcher.analysis.model import FileRow, Phase, RunView
from launcher.report import page
from launcher.report.validation import POINTS, TITLES, _File, curve_charts, read
from tests.report import made

XS = [at / 1000 for at in range(1001)]
WHOLE: dict[str, Any] = {
    "version": 1,
    "classes": ["<i>starfish"],
    "curves": {"precision-recall": {"x": XS, "y": [[1 - x for x in XS], [1 - x * x for x in XS]]}},
    "confusion": [[41, 3], [9, 0]],
    "recall_by_size": {"small": {"found": 31, "of": 60}, "large": {"found": 5, "of": 5}},
}


def run(folder: Path, content: Any, name: str = "one") -> RunView:
    """A run with that file."""
    folder.mkdir(exist_ok=True)
    (folder / "validation.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return made.view(name, name, where=folder, train=folder)


def test_curves_of_two_runs_are_laid_over_each_other(tmp_path: Path) -> None:
    numbers = [read(name, run(tmp_path / name, WHOLE, name)) for name in ("a", "b")]
    (chart,) = curve_charts(numbers)
    assert (chart.x_title, chart.y_title) == ("recall (0 to 1)", "precision (0 to 1)")
    assert [line.name for line in chart.lines] == ["a", "b"]
    line = chart.lines[0]
    assert len(line.x) <= POINTS + 1
    assert (line.x[0], line.x[-1]) == (0, 1)
    assert dict(zip(line.x, line.y, strict=True))[0.3] == pytest.approx((0.7 + 0.91) / 2)


def test_the_page_shows_curves_matrix_and_recall_by_size(tmp_path: Path) -> None:
    said = made.analysis()
    both = [run(tmp_path / name, WHOLE, name) for name in ("a", "b")]
    text = page(replace(said, run=both[0], references=(both[1],)))
    assert 'data-chart="precision-recall"' in text
    assert "Confusion matrix of a: a column is a true class" in text
    assert '41 <span class="small">(82 %)</span>' in text  # of 41 + 9
    assert "Recall by size of object, with its interval (Wilson; 95 %, as if boxes were independent" in text
    assert "The interval is of the last value (Wilson; 95 %, as if boxes were independent" in text
    assert "&lt;i&gt;starfish" in text
    assert "<i>starfish" not in text
    assert "0.393 to 0.638" in text  # Wilson, 31 of 60, computed by hand
    assert "Recall by size of object is not shown" not in text


def pictured(folder: Path, content: Any, name: str) -> RunView:
    """A run with that file, a picture of its matrix, and one of a curve."""
    view = run(folder, content, name)
    files = ("confusion_matrix.png", "BoxPR_curve.png")
    for file in files:
        Image.new("RGB", (40, 30), (200, 0, 0)).save(folder / file)
    return replace(view, files=tuple(FileRow(file, Phase.FINAL, "a picture", present=True) for file in files))


def test_a_matrix_is_a_picture_only_where_there_are_no_numbers_of_it(tmp_path: Path) -> None:
    one, other = pictured(tmp_path / "one", WHOLE, "one"), pictured(tmp_path / "two", {"version": 1}, "two")
    alone, both = (
        page(replace(made.analysis(), run=one, references=against, reference_progressions=(made.progression(10),)))
        for against in ((one,), (other,))
    )
    assert "a picture that Ultralytics drew" in alone, "of the curves, because not all have numbers"
    assert "confusion matrix, counts" not in alone
    assert "confusion matrix, counts: two" in both
    assert "confusion matrix, counts: one" not in both


def test_a_matrix_too_large_for_a_table_stays_a_picture(tmp_path: Path) -> None:
    large = {**WHOLE, "classes": [f"c{at}" for at in range(80)], "confusion": [[1] * 81] * 81}
    text = page(replace(made.analysis(references=0), run=pictured(tmp_path / "one", large, "one")))
    assert "Confusion matrix of one" not in text
    assert "confusion matrix, counts" in text


def test_curves_are_no_pictures_where_all_are_drawn_from_numbers(tmp_path: Path) -> None:
    curve = WHOLE["curves"]["precision-recall"]
    every = {**WHOLE, "curves": dict.fromkeys(TITLES, curve)}
    text = page(replace(made.analysis(references=0), run=pictured(tmp_path / "one", every, "one")))
    assert "a picture that Ultralytics drew" not in text


def test_without_numbers_the_page_says_what_it_does_not_show(tmp_path: Path) -> None:
    assert read("one", made.view(where=tmp_path, train=tmp_path)).trouble == ""
    bad = replace(made.analysis(), run=run(tmp_path, "{"))
    assert "validation.json" in page(bad)


@pytest.mark.parametrize(
    "spoilt",
    [
        "",
        "[]",
        '{"version": 2}',
        {**WHOLE, "confusion": [[1, 2], [3]]},
        {**WHOLE, "confusion": [[-1]]},
        {**WHOLE, "curves": {"precision-recall": {"x": [0, 1], "y": [[1]]}}},
        {**WHOLE, "curves": {"precision-recall": {"x": [0, 1], "y": [[1, 7]]}}},
        {**WHOLE, "recall_by_size": {"small": {"found": 9, "of": 8}}},
        {**WHOLE, "recall_by_size": {"small": {"found": 0, "of": 0}}},
    ],
)
def test_a_file_that_cannot_be_right_is_not_used_and_said(tmp_path: Path, spoilt: Any) -> None:
    numbers = read("one", run(tmp_path, spoilt))
    assert numbers.trouble.startswith("validation.json")
    assert not numbers.curves
    assert not numbers.sizes


@settings(max_examples=50, deadline=None)
@given(
    content=st.recursive(
        st.none() | st.floats() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.sampled_from(list(_File.model_fields)), one),
    )
)
def test_no_content_of_the_file_stops_a_report(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    folder = tmp_path_factory.mktemp("run")
    numbers = read("one", run(folder, {"version": 1, **content} if isinstance(content, dict) else json.dumps(content)))
    curve_charts([numbers])


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.report.validation.MAX_BYTES", 100)
    assert "larger than" in read("one", run(tmp_path, WHOLE)).trouble
