"""The weights layer: a run whose numbers are not those of its weights is found, and nothing else is called so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from launcher.analysis import load_run
from launcher.analysis.model import MAP50, MAP5095, RunView
from launcher.errors import SamerunError
from launcher.parity import LayerResult, Verdict
from launcher.parity.curves.series import Table
from launcher.parity.weights import own, validating, weights_layer
from launcher.parity.weights.tolerances import FLOAT32, HALF, ROW, allowed
from launcher.settings import Settings
from tests.parity.made import changed, trained, written
from tests.parity.planted.evidence import checkpoint

Validate = Callable[[Any, Any, Any, Any], dict[str, Any]]
EPOCH = 5


class World:
    """Two folders of Ultralytics with one dataset; `gives` is what a validation of a folder's best.pt finds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.settings = replace(Settings.load({}), cache_dir=folder / "cache", runs_dir=folder / "runs")
        self.gives: dict[bytes, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []
        self.data = _dataset(folder / "data")
        monkeypatch.setattr(validating, "_run", self._run)

    def run(self, name: str, table: Table, state: str = "", *, inside: Table | None = None, **more: Any) -> RunView:
        """A folder with this table; its checkpoints hold `inside` (None: the same), and give the table's best row."""
        folder = written(self.folder / name, table, data=str(self.data), **more)
        for file in ("best.pt", "last.pt"):
            data = checkpoint(f"{state or name} {file}", _plain(inside or table, file))
            (folder / "weights" / file).write_bytes(data)
        epoch = max(table.epochs, key=lambda one: table.columns[MAP5095][table.epochs.index(one)])
        self.finds(name, {column: table.columns[column][table.epochs.index(epoch)] for column in (MAP5095, MAP50)})
        return load_run(str(folder), self.settings)

    def finds(self, name: str, metrics: dict[str, float]) -> None:
        """What a validation of this run's best.pt gives."""
        best = (self.folder / name / "weights" / "best.pt").read_bytes()
        self.gives[best] = {"metrics": metrics, "device": "cpu", "boxes": 4000}

    def layer(self, run: RunView, reference: RunView, *, validate: bool = True) -> LayerResult:
        """What the layer says."""
        return weights_layer(run, reference, validate=validate, settings=self.settings)

    def _run(self, box: Path, best: Path, data: Any, asked: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(asked)
        return self.gives[best.read_bytes()]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def _dataset(folder: Path) -> Path:
    from launcher.data.reef import ReefOptions, generate

    return generate(ReefOptions(train_videos=1, val_videos=1, frames=2, width=48, height=48), folder)


def _plain(table: Table, file: str) -> dict[str, Any]:
    """The table, and metrics of the epoch that the weights are of, as Ultralytics keeps them in a checkpoint."""
    values = table.columns[MAP5095]
    at = values.index(max(values)) if file == "best.pt" else len(values) - 1
    metrics = {name: round(column[at], 5) for name, column in table.columns.items() if name.startswith("metrics/")}
    results = {name: [float(f"{value:.6g}") for value in column] for name, column in table.columns.items()}
    return {"train_results": {"epoch": list(table.epochs), **results}, "train_metrics": metrics}


def test_weights_that_give_the_numbers_of_both_runs_are_equivalent(world: World) -> None:
    said = world.layer(world.run("a", trained(1)), world.run("b", trained(2)))
    assert said.verdict is Verdict.EQUIVALENT
    assert said.not_checked == ()
    assert len(world.asked) == 2


def test_metrics_that_are_2_6_times_off_are_different_where_the_other_run_vouches_for_the_dataset(world: World) -> None:
    run, reference = world.run("a", trained(1)), world.run("b", trained(2))
    world.finds("a", {MAP5095: 0.28, MAP50: 0.36})
    said = world.layer(run, reference)
    assert said.verdict is Verdict.DIFFERENT
    assert "best.pt is validated here" in said.decided
    assert {one.what for one in said.differences} == {
        f"{label} of a in row {_best(trained(1))} of results.csv" for label in ("mAP50", "mAP50-95")
    }


def _best(table: Table) -> int:
    values = table.columns[MAP5095]
    return table.epochs[values.index(max(values))]


def test_a_dataset_that_gives_neither_run_s_numbers_may_have_changed(world: World) -> None:
    run, reference = world.run("a", trained(1)), world.run("b", trained(2))
    for name in ("a", "b"):
        world.finds(name, {MAP5095: 0.28, MAP50: 0.36})
    said = world.layer(run, reference)
    assert said.verdict is Verdict.INCONCLUSIVE
    assert "no longer the one" in said.decided


def test_equal_weights_stay_identical_unless_the_numbers_are_not_theirs(world: World) -> None:
    run, reference = world.run("a", trained(1), "same"), world.run("b", trained(1), "same")
    assert world.layer(run, reference).verdict is Verdict.IDENTICAL
    table = changed(trained(1), MAP5095, _best(trained(1)), 0.99)
    edited = world.run("c", table, "same", inside=trained(1))
    assert world.layer(edited, reference).verdict is Verdict.DIFFERENT


@pytest.mark.parametrize("column", [MAP5095, "train/cls_loss", "val/box_loss"])
@pytest.mark.parametrize("factor", [1.01, 1.05, 0.0])
def test_an_edited_table_is_denied_by_the_checkpoints_without_any_validation(
    world: World, column: str, factor: float
) -> None:
    table = trained(1)
    value = table.columns[column][table.epochs.index(EPOCH)]
    run = world.run("a", changed(table, column, EPOCH, value * factor), inside=table)
    said = world.layer(run, world.run("b", trained(2)))
    assert said.verdict is Verdict.DIFFERENT
    assert f"epoch {EPOCH}" in said.decided
    assert world.asked == []


def test_best_and_last_swapped_are_found_by_the_metrics_inside(world: World) -> None:
    table = changed(trained(1), MAP5095, EPOCH, 0.9)
    run = world.run("a", table)
    folder = world.folder / "a" / "weights"
    best = (folder / "best.pt").read_bytes()
    (folder / "best.pt").write_bytes((folder / "last.pt").read_bytes())
    (folder / "last.pt").write_bytes(best)
    assert [one.run for one in own.contradictions(run)]
    assert world.layer(run, world.run("b", trained(2))).verdict is Verdict.DIFFERENT


def test_a_table_that_came_back_half_denies_nothing(world: World) -> None:
    table = trained(1)
    half = replace(table, epochs=table.epochs[:6], columns={n: v[:6] for n, v in table.columns.items()})
    assert own.contradictions(world.run("a", half, inside=table)) == []
    holed = {name: values[:3] + values[4:] for name, values in table.columns.items()}
    gone = replace(table, epochs=tuple(epoch for epoch in table.epochs if epoch != 4), columns=holed)
    assert own.contradictions(world.run("b", gone, inside=table)) == []


def test_two_epochs_of_one_fitness_do_not_deny_best_pt(world: World) -> None:
    table = changed(changed(trained(1), MAP5095, 4, 0.9), MAP5095, 7, 0.9)
    assert own.contradictions(world.run("a", table)) == []


def test_a_result_is_kept_and_taken_again_for_the_same_weights_dataset_and_arguments(world: World) -> None:
    run, reference = world.run("a", trained(1)), world.run("b", trained(2))
    world.layer(run, reference)
    assert world.layer(run, reference, validate=False).verdict is Verdict.EQUIVALENT
    assert len(world.asked) == 2
    label = next((world.folder / "data" / "labels").rglob("*.txt"))
    label.write_text("0 0.5 0.5 0.25 0.25\n")
    said = world.layer(run, reference, validate=False)
    assert said.verdict is None
    assert "not validated yet" in said.not_checked[0]
    world.layer(run, reference)
    assert len(world.asked) == 4
    other = world.folder / "a" / "weights" / "best.pt"
    world.gives[other.read_bytes() + b" "] = world.gives[other.read_bytes()]
    other.write_bytes(other.read_bytes() + b" ")
    world.layer(run, reference)
    assert len(world.asked) == 5


def test_nothing_is_started_unless_asked_for(world: World) -> None:
    said = world.layer(world.run("a", trained(1)), world.run("b", trained(2)), validate=False)
    assert said.verdict is None
    assert world.asked == []
    assert len(said.not_checked) == 2


def test_a_dataset_that_is_not_here_is_said(world: World) -> None:
    run, reference = world.run("a", trained(1)), world.run("b", trained(2))
    world.data.unlink()
    said = world.layer(run, reference)
    assert said.verdict is None
    assert "its dataset is not here" in said.not_checked[0]


def test_a_validation_that_fails_is_said_and_not_raised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> dict[str, Any]:
        raise SamerunError("the validation failed: no memory")

    monkeypatch.setattr(validating, "_run", fails)
    said = world.layer(world.run("a", trained(1)), world.run("b", trained(2)))
    assert said.verdict is None
    assert "no memory" in said.not_checked[0]


def test_only_detection_is_validated(world: World) -> None:
    said = world.layer(world.run("a", trained(1), task="segment"), world.run("b", trained(2)))
    assert "of segment" in said.not_checked[0]
    assert said.verdict is None
    assert len(world.asked) == 1


def test_it_is_validated_as_the_run_itself_was(world: World) -> None:
    run = world.run("a", trained(1), iou=0.6, max_det=50, imgsz=96, batch=6)
    world.layer(run, world.run("b", trained(2)))
    asked = world.asked[0]
    assert {name: asked[name] for name in ("iou", "max_det", "imgsz", "batch")} == {
        "iou": 0.6, "max_det": 50, "imgsz": 96, "batch": 12,
    }  # fmt: skip
    assert (asked["rect"], asked["augment"], asked["split"]) == (True, False, "val")


def test_what_is_allowed_grows_with_half_precision_rows_and_few_boxes() -> None:
    final: dict[str, Any] = {"row": False, "same": True, "boxes": 10}
    assert allowed(MAP5095, half=False, **final) == FLOAT32
    assert allowed(MAP5095, half=True, **final) == HALF
    assert allowed(MAP5095, half=False, row=True, same=True, boxes=10_000) == ROW[MAP5095]
    assert allowed(MAP50, half=False, row=False, same=False, boxes=20) == 1 / 20


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_columns = st.dictionaries(st.sampled_from(["epoch", " epoch", MAP50, MAP5095, "time", ""]), _values, max_size=4)


@hypothesis_settings(max_examples=60, deadline=None)
@given(_columns | _values, _columns | _values)
def test_whatever_lies_in_a_checkpoint_nothing_is_raised(
    tmp_path_factory: pytest.TempPathFactory, results: Any, metrics: Any
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    written(folder / "run", trained(1))
    for name in ("best.pt", "last.pt"):
        file = folder / "run" / "weights" / name
        file.write_bytes(checkpoint("x", {"train_results": results, "train_metrics": metrics}))
    own.contradictions(load_run(str(folder / "run"), replace(Settings.load({}), runs_dir=folder)))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"key": 1}', '{"metrics": 3, "fingerprint": "", "data": ""}', "\x00"]
)
def test_a_spoilt_file_of_earlier_results_is_no_result(world: World, text: str) -> None:
    run, reference = world.run("a", trained(1)), world.run("b", trained(2))
    world.layer(run, reference)
    for file in (world.folder / "cache" / "validations").iterdir():
        file.write_text(text)
    assert world.layer(run, reference, validate=False).verdict is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_checkpoint_is_validated_in_a_process_of_its_own(tmp_path: Path) -> None:
    from tests.parity.planted.making.lab import elsewhere
    from tests.parity.planted.making.recipes import REFERENCE, recipes

    lab = elsewhere(tmp_path, REFERENCE)
    folder = lab.run(recipes()[REFERENCE])
    kept = folder / validating.NAME
    before = json.loads(kept.read_text())
    kept.unlink()
    view = load_run(str(folder), lab.settings)
    found = validating.of([view], start=True, settings=lab.settings)[0]
    assert found.agrees, found
    assert found.greatest < 1e-6
    now = json.loads(kept.read_text())
    assert {**now, "seconds": 0} == {**before, "seconds": 0}
    assert now["fingerprint"] == view.data["fingerprint"]
