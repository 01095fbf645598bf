"""What the course of a run says: its time, its stability, its overfitting; and what it does not say of a calm one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from launcher.analysis import analyse
from launcher.analysis.course import timing
from launcher.analysis.model import MAP50, MAP5095, Moment, Repair, RunView
from launcher.analysis.numbers import best_epoch
from launcher.analysis.reading.results import read_results
from launcher.finding import Finding, Severity
from tests.analysis.views import view

CALM = {
    **{f"train/{loss}_loss": [3.0, 2.0, 1.6, 1.4, 1.3, 1.25, 1.22, 1.2] for loss in ("box", "cls", "dfl")},
    **{f"val/{loss}_loss": [3.2, 2.2, 1.8, 1.6, 1.5, 1.48, 1.47, 1.46] for loss in ("box", "cls", "dfl")},
    MAP50: [0.1, 0.3, 0.4, 0.45, 0.48, 0.49, 0.5, 0.49],
    MAP5095: [0.05, 0.15, 0.2, 0.22, 0.24, 0.245, 0.25, 0.245],
}


def said(run: RunView) -> dict[str, Finding]:
    return {one.code: one for one in analyse(run).findings}


def test_a_calm_run_has_no_warning_but_what_is_not_known() -> None:
    told = analyse(view("calm", CALM, seconds=[30, 28, 27, 28, 27, 29, 28, 27], close_mosaic=0))
    assert [one.code for one in told.findings if one.severity is not Severity.INFO] == []
    assert [section.code for section in told.sections][:4] == ["configuration", "metrics", "progression", "losses"]


# Time


def test_one_long_epoch_is_a_gap_and_a_first_slow_one_is_not() -> None:
    assert timing(view("run", seconds=[100, 30, 31, 30]).results).gaps == {}
    times = timing(view("run", seconds=[30, 31, 38_000, 30]).results)
    assert times.gaps == {3: 38_000}
    assert (times.usual, times.total, times.without_gaps) == (30.0, 38_091.0, 121.0)


def test_short_epochs_that_stumble_are_no_gap() -> None:
    assert timing(view("run", seconds=[0.1, 0.1, 30.0, 0.1]).results).gaps == {}


def test_a_machine_that_slept_is_named_where_the_worker_measured_it() -> None:
    run = view("run", CALM, seconds=[30, 30, 30, 4000, 30, 30, 30, 30])
    assert "look alike" in said(run)["time-gap"].evidence
    slept = Moment("warning", 0.0, "a1", 4, {"code": "machine-slept", "seconds": 3960.0})
    told = said(replace(run, moments=(slept,)))
    assert "measured 66.0 min in which the machine slept" in told["time-gap"].evidence
    assert "guard.machine-slept" in told


def test_epochs_that_become_slower_are_told_from_a_gap() -> None:
    told = said(view("run", CALM, seconds=[30, 31, 32, 40, 50, 70, 80, 90]))
    assert "time-gap" not in told
    assert "30.5 s at first, 85.0 s at the end" in told["pace-changed"].message


def test_times_that_are_not_known_give_no_sum() -> None:
    times = timing(view("run", seconds=[math.nan, math.nan]).results)
    assert (times.total, times.usual, times.gaps) == (None, None, {})


def test_epochs_without_a_row_are_in_the_sum_and_each_process_counts_from_its_own_start() -> None:
    results = read_results(b"epoch,time\n1,10\n4,40\n5,50\n6,8\n7,16\n")
    assert timing(results).total == 66.0


def test_a_gap_is_not_explained_by_what_was_not_measured() -> None:
    told = said(view("run", CALM, seconds=[30, 30, 30, 4000, 30, 30, 30, 30]))["time-gap"]
    assert "all others together took 3.5 min" in told.message
    assert "slept, swapped or was shared" in told.remedy
    assert "by assumption" in told.evidence


# Stability


def test_a_loss_of_exactly_0_is_an_error_with_its_epochs() -> None:
    told = said(view("run", {**CALM, "train/box_loss": [0.0] * 8}))["loss-zero"]
    assert told.severity is Severity.ERROR
    assert told.message == "box loss, train is exactly 0 in epochs 1, 2, 3, 4, 5 and 3 more"


def test_a_loss_that_is_no_number_is_an_error_and_a_missing_one_a_warning() -> None:
    run = view("run", {**CALM, "train/cls_loss": [1.0, math.nan, *[1.0] * 6]})
    assert said(run)["loss-not-finite"].severity is Severity.WARNING
    written = replace(run, results=replace(run.results, repairs=(Repair("not-finite", ""),)))
    assert said(written)["loss-not-finite"].severity is Severity.ERROR
    assert "epoch 2" in said(written)["loss-not-finite"].message


def test_a_loss_that_jumps_after_the_warm_up_is_told_and_before_it_is_not() -> None:
    late = said(view("run", {**CALM, "train/box_loss": [3.0, 2.0, 1.6, 1.4, 1.3, 2.6, 1.2, 1.2]}))
    assert "epoch 6" in late["loss-spike"].message
    assert "loss-spike" not in said(view("run", {**CALM, "train/box_loss": [1.0, 3.0, 2.0, 1.4, 1.3, 1.2, 1.2, 1.2]}))


def test_a_metric_that_collapses_is_told_and_one_that_starts_low_is_not() -> None:
    told = said(view("run", {**CALM, MAP5095: [0.05, 0.15, 0.2, 0.22, 0.09, 0.2, 0.24, 0.24]}))
    assert "epoch 5" in told["metric-collapse"].message
    assert "metric-collapse" not in said(view("run", {**CALM, MAP5095: [0.1, 0.01, 0.2, 0.22, 0.2, 0.2, 0.24, 0.24]}))


def test_a_loss_whose_gain_is_0_is_switched_off_and_not_broken() -> None:
    told = said(view("run", {**CALM, "train/dfl_loss": [0.0] * 8}, dfl=0.0))
    assert told["loss-off"].severity is Severity.INFO
    assert "loss-zero" not in told


def test_apples_gpu_is_only_named_where_it_was_used() -> None:
    zero = {**CALM, "train/box_loss": [0.0] * 8}
    elsewhere, there = (said(view("run", zero, device=device))["loss-zero"] for device in ("0", "mps"))
    assert "Apple" not in elsewhere.evidence + elsewhere.remedy + elsewhere.source
    assert "Apple" in there.evidence


# Overfitting


def test_validation_loss_that_rises_while_training_loss_falls_is_a_sign() -> None:
    told = said(view("run", {**CALM, "val/cls_loss": [3.2, 2.2, 1.8, 1.6, 1.7, 1.8, 1.9, 2.0]}))["overfit-cls"]
    assert "rose from 1.600 (epoch 4) to 2.000" in told.message
    assert "fell from 1.400 to 1.200" in told.message


def test_validation_loss_that_rises_with_training_loss_is_none() -> None:
    rising = [3.0, 2.0, 1.6, 1.4, 1.5, 1.6, 1.7, 1.8]
    assert "overfit-cls" not in said(view("run", {**CALM, "val/cls_loss": rising, "train/cls_loss": rising}))


@pytest.mark.parametrize(("last", "is_sign"), [(2.3, False), (2.6, True)])
def test_one_loss_far_above_its_training_value_is_a_sign_only_where_the_others_are_not(
    last: float, is_sign: bool
) -> None:
    apart = {**CALM, "val/cls_loss": [*[4.0] * 7, last * 1.2]}
    assert ("overfit-cls" in said(view("run", apart))) == is_sign
    all_apart = {**apart, **{f"val/{loss}_loss": [*[4.0] * 7, 3.0] for loss in ("box", "dfl")}}
    assert "overfit-cls" not in said(view("run", all_apart))


def test_a_best_epoch_long_before_the_end_is_told_with_what_was_lost() -> None:
    told = said(view("run", {**CALM, MAP5095: [0.05, 0.15, 0.2, 0.25, 0.24, 0.23, 0.22, 0.2]}))["fell-after-best"]
    assert told.message.startswith("the last epoch is 20 % below the best one, epoch 4")
    assert "the training losses still fell" in told.evidence


def test_a_metric_below_0_that_no_training_writes_breaks_nothing() -> None:
    assert "fell-after-best" not in said(view("run", {MAP5095: [0.0, -1.0]}))


def test_without_training_losses_none_is_said_to_fall() -> None:
    told = said(view("run", {MAP5095: [0.05, 0.15, 0.2, 0.25, 0.24, 0.23, 0.22, 0.2]}))["fell-after-best"]
    assert "training losses" not in told.evidence


def test_one_last_epoch_that_sticks_out_is_no_rise() -> None:
    assert "overfit-cls" not in said(view("run", {**CALM, "val/cls_loss": [3.2, 2.2, 1.8, 1.6, 1.6, 1.6, 1.6, 1.9]}))


def test_a_last_epoch_that_is_best_by_chance_shows_no_rise() -> None:
    flat = [0.1, 0.3, 0.5, 0.49, 0.51, 0.5, 0.49, 0.51, 0.5, 0.505, 0.49, 0.52]
    told = analyse(view("run", {MAP5095: flat}, optimizer="SGD"))
    codes = {one.code for one in told.findings}
    assert "best-is-last" in codes
    assert "still-rising" not in codes
    assert not [one for one in told.next_runs if "epochs" in one.change]
    assert "too few to tell" in said(view("run", {MAP5095: [0.1, 0.2, 0.3]}))["still-rising"].message


def test_of_equal_epochs_the_last_is_the_best_as_best_pt_is_written_again() -> None:
    assert best_epoch(view("run", {MAP5095: [0.1, 0.3, 0.2, 0.3, 0.1]}).results) == 4


def test_masks_count_for_the_best_epoch_as_boxes_do() -> None:
    columns = {MAP5095: [0.30, 0.29], "metrics/mAP50-95(M)": [0.20, 0.25]}
    told = analyse(view("run", columns))
    assert told.summary.best_epoch == 2
    assert "sum" in told.summary.best_by
    assert "mAP50-95(M)" in {row.label for row in told.metrics}


def test_a_classifier_is_told_by_its_accuracies() -> None:
    columns = {"metrics/accuracy_top1": [0.4, 0.6, 0.5], "metrics/accuracy_top5": [0.9, 0.9, 0.95]}
    told = analyse(view("run", columns))
    assert told.summary.best_epoch == 2
    assert "no-metrics" not in {one.code for one in told.findings}
    assert told.summary.best["metrics/accuracy_top1"] == 0.6


def test_yolov5s_best_epoch_is_by_its_own_fitness() -> None:
    run = replace(
        view("run"), results=read_results(b"epoch,metrics/mAP_0.5,metrics/mAP_0.5:0.95\n0,0.9,0.3\n1,0.5,0.31\n")
    )
    assert analyse(run).summary.best_epoch == 1
    assert "YOLOv5" in analyse(run).summary.best_by


def test_a_run_that_was_best_at_its_end_had_not_levelled_off() -> None:
    assert "still-rising" in said(view("run", {**CALM, MAP5095: [0.1 * step for step in range(1, 9)]}))
    assert "still-rising" not in said(view("run", CALM))


def test_a_run_without_validation_says_that_there_is_no_metric() -> None:
    assert "no-metrics" in said(view("run", {"train/box_loss": [1.0, 0.9]}))


def test_where_older_versions_would_choose_another_best_epoch_both_are_named() -> None:
    columns = {MAP50: [0.60, 0.40], MAP5095: [0.200, 0.201]}
    assert "epoch 1" in said(view("run", columns))["best-by-version"].message
    known, older = (replace(view("run", columns), versions={"ultralytics": one}) for one in ("8.4.190", "8.2.0"))
    assert "best-by-version" not in said(known)
    assert "best-by-version" in said(older)
    assert "best-by-version" not in said(view("run", CALM))


@pytest.mark.parametrize(("final", "severity"), [(0.246, Severity.INFO), (0.1, Severity.WARNING)])
def test_a_final_evaluation_far_off_is_not_laid_to_half_precision(final: float, severity: Severity) -> None:
    run = replace(view("run", CALM), final_eval={MAP5095: final})
    assert said(run)["final-eval-differs"].severity is severity


def test_memory_that_grows_is_told() -> None:
    run = view("run", CALM)
    grown = replace(run, memory_gb=(4.0, 8.0, 9.0, 10.0, 12.0, 14.0, 16.0, 18.0))
    assert "8.0 GB to 18.0 GB" in said(grown)["memory-grew"].message
    assert "memory-grew" not in said(replace(run, memory_gb=(4.0, 8.0, 8.1, 8.0, 8.2, 8.1, 8.1, 8.2)))


def test_marks_stand_at_their_epochs() -> None:
    run = view("run", CALM, seconds=[30, 30, 30, 4000, 30, 30, 30, 30], close_mosaic=3)
    marks = {mark.code: mark.epoch for mark in analyse(run).progression.marks}
    assert marks == {"best": 7, "mosaic-closed": 6, "gap": 4}
