"""The inputs layer: what a difference does, what is not known, and what a user may vouch for."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from launcher.parity.inputs import table
from launcher.parity.inputs.checkpoint import facts, state_digest
from launcher.parity.inputs.evidence import Evidence
from launcher.parity.inputs.layer import GROUPS, PHRASES, inputs_layer
from launcher.parity.model import Kind, Verdict
from tests.parity.made import known, lacking, weights

MUST, STREAM, NOISE, HARMLESS = Kind


def kinds(run: Evidence, reference: Evidence) -> dict[str, Kind]:
    return {one.what: one.kind for one in inputs_layer(run, reference).differences}


def test_equal_inputs_are_identical() -> None:
    said = inputs_layer(known("run"), known("base"))
    assert (said.verdict, said.differences, said.not_checked) == (Verdict.IDENTICAL, (), ())


@pytest.mark.parametrize(
    ("field", "value", "kind", "verdict"),
    [
        ("train__box", 5.0, MUST, Verdict.DIFFERENT),
        ("train__epochs", 7, MUST, Verdict.DIFFERENT),
        ("train__batch", 8, MUST, Verdict.DIFFERENT),
        ("train__iou", 0.3, MUST, Verdict.DIFFERENT),
        ("train__imgsz", 32, MUST, Verdict.DIFFERENT),
        ("data__labels", "x" * 64, MUST, Verdict.DIFFERENT),
        ("data__splits", "x" * 64, MUST, Verdict.DIFFERENT),
        ("had__optimizer", "SGD", MUST, Verdict.DIFFERENT),
        ("had__lr0", 0.004, MUST, Verdict.DIFFERENT),
        ("had__images", {"train": 7, "val": 8}, MUST, Verdict.DIFFERENT),
        ("initial weights", "x" * 64, MUST, Verdict.DIFFERENT),
        ("model", "yolo11s.yaml", MUST, Verdict.DIFFERENT),
        ("version__ultralytics", "8.4.100", MUST, Verdict.DIFFERENT),
        ("file__train/results.csv", "changed since", MUST, Verdict.DIFFERENT),
        ("train__seed", 1, STREAM, Verdict.CONSISTENT),
        ("had__workers", 2, STREAM, Verdict.CONSISTENT),
        ("had__batch", 8, STREAM, Verdict.CONSISTENT),
        ("had__world_size", 2, STREAM, Verdict.CONSISTENT),
        ("train__cache", "ram", STREAM, Verdict.CONSISTENT),
        ("resumed at epochs", [4], STREAM, Verdict.CONSISTENT),
        ("ended", "early, by patience 3", STREAM, Verdict.CONSISTENT),
        ("batch by epoch", [16, 8], STREAM, Verdict.CONSISTENT),
        ("had__threads", 1, NOISE, Verdict.CONSISTENT),
        ("had__amp", True, NOISE, Verdict.CONSISTENT),
        ("had__device", "cuda", NOISE, Verdict.CONSISTENT),
        ("version__torch", "2.14.0", NOISE, Verdict.CONSISTENT),
        ("worker", "x" * 64, HARMLESS, Verdict.IDENTICAL),
        ("bundle", "x" * 64, HARMLESS, Verdict.IDENTICAL),
        ("version__python", "3.12.1", HARMLESS, Verdict.IDENTICAL),
        ("train__device", "0", HARMLESS, Verdict.IDENTICAL),
        ("train__opset", 12, HARMLESS, Verdict.IDENTICAL),
    ],
)
def test_each_difference_is_what_the_table_says(field: str, value: Any, kind: Kind, verdict: Verdict) -> None:
    said = inputs_layer(known("run", **{field: value}), known("base"))
    assert [(one.what, one.kind) for one in said.differences] == [(field.replace("__", "."), kind)]
    assert said.verdict is verdict
    assert said.differences[0].why
    if kind is not HARMLESS:
        assert said.differences[0].source


def test_an_argument_that_is_not_known_here_is_not_waved_through() -> None:
    assert inputs_layer(known("run", train__new=1), known("base", train__new=2)).verdict is Verdict.DIFFERENT
    assert inputs_layer(known("run", train__new=1), known("base")).verdict is Verdict.INCONCLUSIVE


def test_a_file_that_changed_on_both_sides_is_not_equal() -> None:
    both = {"file.train/results.csv": "changed since"}
    assert inputs_layer(known("run", **both), known("base", **both)).verdict is Verdict.DIFFERENT


def test_another_wish_is_harmless_where_the_trainer_had_the_same() -> None:
    run = known("run", train__optimizer="AdamW", train__workers=3)
    assert kinds(run, known("base")) == {"train.optimizer": HARMLESS, "train.workers": HARMLESS}
    assert kinds(lacking(run, "had.optimizer", "had.workers"), known("base")) == {
        "train.optimizer": MUST,
        "train.workers": STREAM,
    }


def test_other_initial_weights_are_expected_of_another_seed_only() -> None:
    run = known("run", **{"initial weights": "x" * 64, "train.seed": 3})
    assert kinds(run, known("base"))["initial weights"] is STREAM
    assert inputs_layer(lacking(run, "train.seed"), known("base")).verdict is Verdict.DIFFERENT


def test_what_cannot_be_told_is_told_to_be_comparable_by_curves_only() -> None:
    said = inputs_layer(known("run", **{"resumed at epochs": [4]}), known("base"))
    assert "comparable by its curves only" in said.decided
    assert said.evidence["curves_only"] == ["resumed at epochs"]


def test_differences_are_sorted_by_how_much_they_matter() -> None:
    run = known("run", worker="x" * 64, had__threads=1, train__seed=2, data__labels="x" * 64, train__box=5.0)
    found = [one.what for one in inputs_layer(run, known("base")).differences]
    assert found == ["data.labels", "train.box", "train.seed", "had.threads", "worker"]


@pytest.mark.parametrize("field", table.expected(known(), known()))
def test_without_what_must_be_known_nothing_is_claimed(field: str) -> None:
    for run, reference in ((lacking(known(), field), known()), (known(), lacking(known(), field))):
        assert inputs_layer(run, reference).verdict is Verdict.INCONCLUSIVE
    assert inputs_layer(lacking(known(), field), lacking(known(), field)).verdict is Verdict.INCONCLUSIVE


def test_what_must_be_known_is_more_than_what_must_be_equal() -> None:
    must = set(table.expected(known(), known()))
    assert {"train.seed", "version.torch", "initial weights", "data.labels", "had.images", "train.box"} <= must
    assert not must & {"had.threads", "train.workers", "worker", "train.opset", "bundle"}


def test_a_user_can_vouch_for_what_is_not_known_and_never_for_what_differs() -> None:
    run = lacking(known(), "data.images", "data.labels", "data.splits")
    said = inputs_layer(run, known(), ["data"])
    assert said.verdict is Verdict.CONSISTENT
    assert said.evidence["assumed"] == ["data"]
    assert "which was assumed" in said.not_checked[0]
    assert inputs_layer(known("run", data__labels="x" * 64), known(), GROUPS).verdict is Verdict.DIFFERENT
    assert set(GROUPS) == set(PHRASES)


def test_nothing_known_is_not_reached() -> None:
    assert inputs_layer(Evidence("run"), known()).verdict is None


def test_the_same_weights_have_one_digest_whatever_lies_beside_them(tmp_path: Path) -> None:
    for name, data in {
        "a": weights([b"one", b"two"], "monday"),
        "b": weights([b"one", b"two"], "tuesday", {"save_dir": "/else/where"}),
        "c": weights([b"one", b"twO"], "monday"),
        "d": weights([b"onet", b"wo"], "monday"),
        "e": weights([], "monday"),
        "f": b"<html>not a checkpoint</html>",
    }.items():
        (tmp_path / name).write_bytes(data)
    found = {name: state_digest(tmp_path / name) for name in "abcdefg"}
    assert found["a"] == found["b"] is not None
    assert len({found["a"], found["c"], found["d"]}) == 3
    assert found["e"] is found["f"] is found["g"] is None


def test_tensors_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(weights([bytes([number]) for number in range(12)]))
    with zipfile.ZipFile(tmp_path / "b", "w") as archive:
        for number in reversed(range(12)):
            archive.writestr(f"last/data/{number}", bytes([number]))
    assert state_digest(tmp_path / "a") == state_digest(tmp_path / "b")


def test_arguments_are_read_from_a_checkpoint_and_nothing_in_it_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    held = {"epoch": -1, "model": Evil(), "train_args": {"optimizer": "SGD", "lr0": 0.01}, "version": "8.4.1"}
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        archive.writestr("bad/data.pkl", pickle.dumps(held, protocol=2))
    assert facts(tmp_path / "bad.pt") == {"train_args": {"optimizer": "SGD", "lr0": 0.01}, "version": "8.4.1"}
    assert not (tmp_path / "ran").exists()
    (tmp_path / "cut.pt").write_bytes((tmp_path / "bad.pt").read_bytes()[:60])
    assert facts(tmp_path / "cut.pt") == facts(tmp_path / "none.pt") == {}
