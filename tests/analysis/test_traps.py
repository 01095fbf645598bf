"""The traps of comparing trainings, each with numbers: what is said, and what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.analysis import analyse
from launcher.analysis.changes import causes, differences, mosaic_epochs
from launcher.analysis.model import MAP50, MAP5095, PRECISION, RECALL, Config, RunView, Status
from launcher.analysis.numbers import apart, interval, wilson
from launcher.finding import Severity
from tests.analysis.views import compared, said, scored, view

# Losses and gains


def test_a_loss_under_half_the_gain_that_halves_has_not_moved() -> None:
    one = view("one", {"train/box_loss": [3.0, 2.0]}, box=7.5)
    other = view("other", {"train/box_loss": [1.5, 1.0]}, box=3.75)
    message = said(other, one)["loss.train.box"].message
    assert message == "box loss (train) did not move per unit of gain, where the column fell 50 %"


def test_under_equal_gains_the_column_is_the_change() -> None:
    told = said(view("b", {"val/cls_loss": [1.0]}), view("a", {"val/cls_loss": [2.0]}))["loss.val.cls"]
    assert (told.message, told.evidence) == ("cls loss (val) −50 %: 2.000 → 1.000", "both at cls 0.5")


def test_without_its_gain_a_loss_is_not_compared() -> None:
    unknown = replace(view("a", {"train/box_loss": [2.0]}), config=Config())
    assert "not comparable" in said(view("b", {"train/box_loss": [1.0]}), unknown)["loss.train.box"].message


def test_training_losses_of_other_augmentations_are_no_progress() -> None:
    one, other = view("a", {"train/box_loss": [2.0]}), view("b", {"train/box_loss": [1.0]}, hsv_s=0.0)
    assert "hsv_s 0.7 → 0" in said(other, one)["loss-augmentation"].evidence
    assert "loss-augmentation" not in said(one, one)


def test_rtdetrs_losses_are_not_divided_by_gains_that_it_does_not_have() -> None:
    run = view("a", {"train/giou_loss": [1.0], "train/cls_loss": [0.5], "train/l1_loss": [2.5]}, cls=0.25)
    rows = {row.name: (row.gain, row.per_gain) for row in analyse(run).losses}
    assert rows == {"train/giou_loss": (2.0, 0.5), "train/cls_loss": (1.0, 0.5), "train/l1_loss": (5.0, 0.5)}


def test_the_loss_of_masks_has_the_gain_of_boxes() -> None:
    (row,) = analyse(view("a", {"val/seg_loss": [3.0]}, box=7.5)).losses
    assert (row.gain, row.per_gain) == (7.5, 0.4)


@pytest.mark.parametrize("change", [{"model": "yolo11s.pt"}, {"imgsz": 1280}, {"data": "/other/b.yaml"}])
def test_losses_of_another_scale_are_named_even_under_one_gain(change: dict[str, Any]) -> None:
    one, other = view("a", {"val/cls_loss": [2.0]}), view("b", {"val/cls_loss": [1.0]}, **change)
    assert "loss-other-scale" in said(other, one)
    assert "loss-other-scale" not in said(view("b", {"val/cls_loss": [1.0]}, lr0=0.1), one)


def test_mosaic_that_was_closed_in_both_does_not_excuse_the_last_losses() -> None:
    losses = {"train/box_loss": [2.0] * 20}
    one, other = view("a", losses, close_mosaic=5), view("b", losses, close_mosaic=10)
    assert "loss-augmentation" not in said(other, one)
    assert "loss-augmentation" in said(view("b", losses, close_mosaic=0), one)


def test_a_gain_on_yolov5s_scale_is_named_and_its_default_proposed() -> None:
    told = analyse(scored("a", 0.3, box=0.2))
    assert "box-gain-yolov5-scale" in {one.code for one in told.key}
    assert "a-box-7-5" in {one.name for one in told.next_runs}
    assert "box-gain-yolov5-scale" not in said(scored("a", 0.3, box=5.0))


# Several changes, and none


def test_several_changes_are_confounded_one_is_not_and_none_is_said() -> None:
    base = scored("a", 0.3)
    assert "confounded" in said(scored("b", 0.3, degrees=5.0, box=5.0), base)
    told = said(scored("b", 0.3, box=5.0), base)
    assert told["one-change"].message == "one thing changed: box 7.5 → 5"
    assert "confounded" not in told
    assert "same-configuration" in said(scored("b", 0.3, seed=5, workers=2), base)


def test_a_series_of_single_changes_is_not_confounded() -> None:
    base = scored("base", 0.3)
    told = compared(base, scored("box", 0.31, box=5.0), scored("degrees", 0.32, degrees=5.0))
    assert "confounded" not in told
    assert told["one-change"].evidence == "box: box 7.5 → 5; degrees: degrees 0 → 5"
    told = compared(base, scored("both", 0.31, box=5.0, degrees=5.0), scored("degrees", 0.32, degrees=5.0))
    assert told["confounded"].message.startswith("1 of 2 runs differ from base in several things")
    assert told["confounded"].evidence == "both: box 7.5 → 5, degrees 0 → 5"


def test_a_path_that_differs_may_be_no_change_and_another_ultralytics_is_one() -> None:
    base = scored("a", 0.3)
    told = said(scored("b", 0.3, box=5.0, data="/kaggle/data.yaml", model="/kaggle/yolo11n.pt"), base)
    assert told["one-change"].message == "one thing changed, and perhaps the model and the data: box 7.5 → 5"
    assert "model yolo11n.pt → yolo11s.pt" in said(scored("b", 0.3, model="yolo11s.pt"), base)["one-change"].message
    versions = [replace(scored(v, 0.3), versions={"ultralytics": v}) for v in ("8.3.0", "8.4.190")]
    assert told["one-change"].severity is Severity.WARNING
    assert "ultralytics version 8.3.0 → 8.4.190" in said(versions[1], versions[0])["one-change"].message


def test_one_change_with_another_seed_is_said_with_it() -> None:
    assert said(scored("b", 0.3, box=5.0, seed=3), scored("a", 0.3))["one-change"].evidence == "besides: seed 0 → 3"


def test_optimizer_auto_chooses_by_the_number_of_steps() -> None:
    def auto(name: str, rates: int, epochs: int) -> RunView:
        columns = {MAP50: [0.3], **{f"lr/pg{index}": [0.1] for index in range(rates)}}
        return view(name, columns, optimizer="auto", epochs=epochs)

    few, same, many = auto("few", 3, 10), auto("same", 3, 20), auto("many", 8, 100)
    assert "and chose another" in said(many, few)["optimizer-auto"].message
    assert "may have chosen" in said(same, few)["optimizer-auto"].message
    assert "optimizer-auto" not in said(few, few)


def test_metrics_of_apples_gpu_are_not_trusted() -> None:
    told = analyse(scored("b", 0.3, device="mps"), scored("a", 0.3))
    (one,) = [one for one in told.key if one.code == "mps-metrics"]
    assert "cpu or cuda" in one.remedy
    assert "mps-metrics" in said(scored("b", 0.3), scored("a", 0.3, device="mps"))
    assert "mps-metrics" not in said(scored("b", 0.3), scored("a", 0.3))


def test_a_learning_rate_that_optimizer_auto_ignores_is_no_cause() -> None:
    told = said(scored("b", 0.3, lr0=0.1), scored("a", 0.3))
    assert "same-configuration" in told
    assert "one-change" in said(scored("b", 0.3, lr0=0.1, optimizer="SGD"), scored("a", 0.3, optimizer="SGD"))


def test_five_and_five_point_zero_are_one_value_and_true_and_one_are_not() -> None:
    assert differences([scored("a", 0.3, box=5), scored("b", 0.3, box=5.0)]) == ()
    assert differences([scored("a", 0.3, amp=True), scored("b", 0.3, amp=1)]) != ()


def test_pinning_the_optimizer_is_one_change_with_its_learning_rate() -> None:
    base = scored("a", 0.3, optimizer="auto", lr0=0.01)
    found = differences([scored("b", 0.3, optimizer="AdamW", lr0=0.002, momentum=0.9), base])
    assert [one.name for one in causes(found)] == ["optimizer"]
    assert {one.name for one in found} == {"optimizer", "lr0", "momentum"}


def test_differences_name_ultralytics_default_and_who_is_at_it() -> None:
    (one,) = differences([scored("b", 0.3, degrees=10.0), scored("a", 0.3)])
    assert (one.name, one.values, one.default, one.at_default) == ("degrees", (10.0, 0.0), 0.0, (False, True))


def test_folders_plots_and_how_things_look_are_no_differences() -> None:
    quiet = {"project": "p", "save_dir": "n", "plots": False, "save_period": 5, "exist_ok": True, "line_width": 3}
    assert differences([scored("a", 0.3), scored("b", 0.3, **quiet)]) == ()


def test_what_the_trainer_had_is_compared_where_both_know_it() -> None:
    one, other = scored("a", 0.3, workers=8), scored("b", 0.3, workers=8)
    had = [
        replace(run, config=replace(run.config, effective={**run.config.values, "workers": 0})) for run in (one, other)
    ]
    assert differences(had) == ()
    (found,) = differences([had[0], replace(other, config=replace(other.config, effective={**other.config.values}))])
    assert (found.name, found.values) == ("workers", (0, 8))


def test_where_only_one_knows_what_its_trainer_had_the_requests_are_compared() -> None:
    one, other = scored("a", 0.3, workers=8), scored("b", 0.3, workers=8)
    one = replace(one, config=replace(one.config, effective={**one.config.values, "workers": 0}))
    assert differences([one, other]) == ()


def test_an_argument_that_one_version_lacks_counts_only_where_it_was_set() -> None:
    older = scored("a", 0.3)
    older = replace(
        older, config=replace(older.config, values={k: v for k, v in older.config.values.items() if k != "cls_pw"})
    )
    assert differences([older, scored("b", 0.3)]) == ()
    assert [one.name for one in differences([older, scored("b", 0.3, cls_pw=0.5)])] == ["cls_pw"]


# Epochs, schedules, mosaic, validation


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"epochs": 10}, (0, 0)),
        ({"epochs": 15}, (1, 5)),
        ({"epochs": 15, "close_mosaic": 0}, (1, 15)),
        ({"epochs": 8}, (0, 0)),
        ({"epochs": 30, "mosaic": 0.0}, (0, 0)),
        ({"epochs": 30, "mosaic": 0.0, "mixup": 0.1}, (1, 20)),
        ({"epochs": 30, "rect": True}, (0, 0)),
    ],
)
def test_mosaic_is_on_in_the_epochs_before_it_is_closed(arguments: dict[str, Any], expected: tuple[int, int]) -> None:
    assert mosaic_epochs(view("run", **arguments).config) == expected


def test_below_close_mosaic_epochs_older_versions_had_mosaic_and_that_is_said() -> None:
    assert "versions before" in said(view("run", {MAP50: [0.1]}, epochs=8))["mosaic-never"].evidence
    assert "versions before" not in said(view("run", {MAP50: [0.1]}, epochs=10))["mosaic-never"].evidence


def test_other_numbers_of_epochs_are_another_schedule_and_another_phase_of_mosaic() -> None:
    told = said(scored("b", 0.3, epochs=15), scored("a", 0.3, epochs=10))
    assert told["epochs-differ"].message.startswith("10 and 15 epochs")
    assert "none → 1 to 5" in told["mosaic-phases"].message
    assert told["one-change"].message == "one thing changed: epochs 10 → 15"  # the phase follows from it


@pytest.mark.parametrize("change", [{"iou": 0.3}, {"conf": 0.25}, {"imgsz": 1280}, {"split": "test"}, {"rect": True}])
def test_other_validation_settings_are_another_scale(change: dict[str, Any]) -> None:
    assert "validation-differs" in said(scored("b", 0.3, **change), scored("a", 0.3))
    assert "validation-differs" not in said(scored("b", 0.3, lr0=0.1), scored("a", 0.3))


def test_other_data_is_told_by_fingerprint_and_else_by_path_with_a_caveat() -> None:
    one, other = scored("a", 0.3), scored("b", 0.3, data="/elsewhere/data.yaml")
    assert "whether the data is the same is not known" in said(other, one)["data-differs"].evidence
    prints = [replace(run, data={**run.data, "fingerprint": "same"}) for run in (one, other)]
    assert "data-differs" not in said(prints[0], prints[1])
    another = replace(one, data={"fingerprint": "another"})
    assert "data-differs" in said(prints[0], another)


def test_final_is_compared_with_final_and_best_with_best() -> None:
    one = view("a", {MAP50: [0.2, 0.4, 0.3], MAP5095: [0.1, 0.2, 0.15]})
    other = view("b", {MAP50: [0.2, 0.3, 0.4], MAP5095: [0.1, 0.15, 0.2]})
    row = next(row for row in analyse(other, one).metrics if row.name == MAP5095)
    assert row.final_change is not None
    assert row.best_change is not None
    assert (row.final_change.percent, row.best_change.percent) == ("+33 %", "±0 %")


def test_the_run_that_ends_highest_need_not_be_the_one_with_the_highest_epoch() -> None:
    one = view("lucky", {MAP5095: [0.1, 0.3, 0.1]})
    other = view("steady", {MAP5095: [0.1, 0.2, 0.2]})
    message = compared(one, other)["highest"].message
    assert message == "highest mAP50-95: lucky by best epoch (0.300), steady by last epoch (0.200)"


def test_a_reference_that_was_cut_short_is_said_and_so_are_other_numbers_of_epochs_done() -> None:
    cut = replace(view("a", {MAP50: [0.1, 0.2]}, epochs=10), status=Status.CRASHED)
    told = analyse(view("b", {MAP50: [0.1] * 10}, epochs=10), cut)
    assert {"unfinished", "epochs-done-differ"} <= {one.code for one in told.key}
    stopped = replace(cut, status=Status.STOPPED)
    assert "unfinished" not in said(view("b", {MAP50: [0.1] * 10}, epochs=10), stopped)


# Few positives, and a threshold that moves


def test_precision_is_said_to_be_read_at_a_moving_threshold() -> None:
    told = said(scored("b", 0.4), scored("a", 0.3))["moving-threshold"]
    assert "F1" in told.message


def test_wilsons_interval_is_that_of_the_literature() -> None:
    # Newcombe 1998, table I: 81 of 263 and 0 of 20
    one, none = wilson(81 / 263, 263), wilson(0.0, 20)
    assert (round(one.low, 4), round(one.high, 4)) == (0.2553, 0.3662)
    assert (round(none.low, 4), round(none.high, 4)) == (0.0, 0.1611)


def test_precision_is_counted_on_the_predicted_boxes_and_recall_on_the_labelled() -> None:
    # 40 labelled, a quarter of them found: 10 right, which are half of 20 predicted
    found = [interval(name, 0.5, 0.25, 40) for name in (RECALL, PRECISION)]
    assert [one.count for one in found if one is not None] == [40, 20]
    assert interval(MAP50, 0.5, 0.25, 40) is None
    assert interval(RECALL, 0.5, 0.25, None) is None


def test_a_recall_on_few_boxes_has_a_wide_interval_and_on_many_a_narrow_one() -> None:
    columns = {PRECISION: [0.5], RECALL: [0.25], MAP5095: [0.1]}
    assert "coarse.recall" in said(view("run", columns, positives=20))
    assert "coarse.recall" not in said(view("run", columns, positives=20_000))
    assert "positives-unknown" in said(view("run", columns))


def test_newcombes_interval_leaves_0_out_or_not_as_his_method_10_does() -> None:
    """9 of 10 against 3 of 10 is 0.1705 to 0.8090 in Newcombe 1998, table II; against 5 of 10 it reaches below 0."""
    assert apart(wilson(0.9, 10), 0.9, wilson(0.3, 10), 0.3)
    assert not apart(wilson(0.9, 10), 0.9, wilson(0.5, 10), 0.5)
    assert not apart(wilson(0.5, 10), 0.5, wilson(0.9, 10), 0.9)


def test_counts_are_said_to_be_taken_as_independent() -> None:
    columns = {PRECISION: [0.5], RECALL: [0.25], MAP5095: [0.1]}
    assert "one video" in said(view("run", columns, positives=20))["coarse.recall"].evidence


def test_a_difference_within_counting_is_told_as_such() -> None:
    few = [
        view(name, {PRECISION: [0.5], RECALL: [recall]}, positives=40) for name, recall in (("a", 0.25), ("b", 0.35))
    ]
    many = [replace(run, positives=4000) for run in few]
    assert "few-positives.recall" in said(few[1], few[0])
    assert "few-positives.recall" not in said(many[1], many[0])


def test_runs_that_did_not_end_are_named() -> None:
    crashed = replace(scored("b", 0.3), status=Status.CRASHED)
    assert "b: crashed during training" in compared(scored("a", 0.3), crashed)["unfinished"].evidence
