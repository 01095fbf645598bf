"""The two runs that began this project: the report says what the hand-written one did, and what it got wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.analysis import analyse, compare, load_run, markdown
from launcher.analysis.model import MAP50, MAP5095, PRECISION, RECALL, Analysis, Status
from launcher.finding import Finding, Severity
from tests.analysis.published import published


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """Phase 2 against the reference."""
    runs = published(tmp_path_factory.mktemp("published"))
    return analyse(load_run(runs.phase2), load_run(runs.baseline))


def finding(said: Analysis, code: str) -> Finding:
    """The one finding of that code."""
    (found,) = [one for one in said.findings if one.code == code]
    return found


@pytest.mark.parametrize(
    ("metric", "percent"), [(MAP50, "−47 %"), (MAP5095, "−49 %"), (PRECISION, "−19 %"), (RECALL, "−43 %")]
)
def test_the_metrics_fell_by_as_much_as_was_published(said: Analysis, metric: str, percent: str) -> None:
    (row,) = [row for row in said.metrics if row.name == metric]
    assert row.final_change is not None
    assert row.final_change.percent == percent
    assert percent in finding(said, f"change.{row.label}").message


def test_epoch_12_is_the_best_one_and_epoch_9_the_references(said: Analysis) -> None:
    assert said.summary.best_epoch == 12
    assert said.summary.best[MAP5095] == 0.045
    assert "best epoch 12 of 15" in finding(said, "best-epoch").message
    assert said.reference_progressions[0].best_epoch == 9
    assert "epoch 9 of 10" in finding(said, "final-and-best").evidence


def test_box_loss_fell_12_percent_per_unit_of_gain_and_not_41(said: Analysis) -> None:
    row = next(row for row in said.losses if row.name == "train/box_loss")
    assert row.per_gain == pytest.approx(0.206)
    assert row.reference_per_gain == pytest.approx(0.23413, abs=1e-5)
    assert not row.comparable
    assert finding(said, "loss.train.box").message == "box loss (train) fell 12 % per unit of gain, not 41 %"
    assert "−48 %" in finding(said, "loss.train.cls").message


def test_the_classification_overfits_and_the_boxes_do_not(said: Analysis) -> None:
    sign = finding(said, "overfit-cls")
    assert "5.139 against 0.929" in sign.message
    assert not [one for one in said.findings if one.code in ("overfit-box", "overfit-dfl")]


def test_one_gap_of_10_6_hours_explains_the_time(said: Analysis) -> None:
    gap = finding(said, "time-gap")
    assert "one gap of 10.65 h in epoch 6 explains the time" in gap.message
    assert "38,343 s" in gap.evidence
    assert said.summary.timing.gaps == {6: 38343.0}
    assert said.summary.timing.usual == pytest.approx(509.5, abs=0.1)
    assert said.summary.timing.total == 43908.0


def test_several_things_changed_at_once_and_are_listed(said: Analysis) -> None:
    confounded = finding(said, "confounded")
    assert "6 things" in confounded.message
    for change in ("box 7.5 → 5", "optimizer auto → AdamW", "epochs 10 → 15", "hsv_s 0.7 → 0"):
        assert change in confounded.evidence
    assert not [one for one in said.findings if one.code == "one-change"]


def test_the_run_had_finished_training(said: Analysis) -> None:
    assert said.run.status is Status.FINISHED
    assert finding(said, "status.finished").message == "the training had finished"
    assert "results.png" in said.run.status_text
    assert finding(said, "files-complete").severity is Severity.INFO


def test_one_run_against_one_is_called_an_anecdote_with_the_spread_it_would_need(said: Analysis) -> None:
    # 0.072 / (1.96 * sqrt 2)
    assert "below 0.026" in finding(said, "one-seed").evidence


def test_mosaic_was_on_for_five_epochs_here_and_for_none_there(said: Analysis) -> None:
    assert "none → 1 to 5" in finding(said, "mosaic-phases").message


def test_the_key_findings_hold_what_a_hurried_reader_needs_and_the_status_first(said: Analysis) -> None:
    codes = [one.code for one in said.key]
    assert codes[0] == "status.finished"
    needed = {"change.mAP50", "confounded", "one-seed", "loss.train.box", "overfit-cls", "time-gap", "best-epoch"}
    assert needed <= set(codes)
    assert set(said.key) <= set(said.findings)


def test_each_lesson_has_its_evidence(said: Analysis) -> None:
    messages = {one.message for one in said.findings}
    lessons = said.section("lessons").findings
    assert {one.code for one in lessons} >= {"lesson.confounded", "lesson.loss-gain", "lesson.time-gap"}
    assert all(one.evidence in messages for one in lessons)


def test_the_same_statements_are_in_markdown_and_in_json(said: Analysis) -> None:
    text, plain = markdown(said), json.dumps(said.as_json(), allow_nan=False, ensure_ascii=False)
    for words in ("−47 %", "−49 %", "−19 %", "−43 %", "fell 12 % per unit of gain, not 41 %", "10.65 h"):
        assert words in text
        assert words in plain


def test_alone_the_run_is_told_without_any_change(said: Analysis) -> None:
    alone = analyse(said.run)
    assert (alone.differences, alone.references) == ((), ())
    assert not [one for one in alone.findings if one.code.startswith(("change.", "loss.", "confounded"))]
    assert all(row.final_change is None for row in alone.metrics)


def test_side_by_side_the_changes_go_from_the_first_run_to_the_second(said: Analysis) -> None:
    both = compare([said.references[0], said.run])
    assert both.rows[1].final_changes[MAP50].percent == "−47 %"
    assert both.rows[0].final_changes == {}
    assert "epochs 15" in both.rows[1].changes
    codes = {one.code: one for one in both.findings}
    assert "box 7.5 → 5" in codes["confounded"].evidence
    assert {"one-seed", "loss-gains-differ", "time-gaps", "epochs-differ"} <= codes.keys()
    assert [row.group for row in both.rows] == [1, 2]


def test_nothing_breaks_where_everything_is_missing(said: Analysis, tmp_path: Path) -> None:
    """No epoch, no configuration, no files; as the run and as the reference."""
    (tmp_path / "results.csv").write_text("epoch,time\n")
    empty = load_run(tmp_path / "results.csv")
    nameless = replace(said.run, config=empty.config)
    for run, reference in ((empty, said.run), (said.run, empty), (empty, empty), (nameless, said.run), (empty, None)):
        told = analyse(run, reference)
        json.dumps(told.as_json(), allow_nan=False)
        assert markdown(told)
    json.dumps(compare([empty, said.run, nameless]).as_json(), allow_nan=False)
