"""The numbers of the final evaluation: gathered beside Ultralytics' own, and never instead of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from launcher.worker.training.validation import Numbers

torch = pytest.importorskip("torch")


class Validator:
    """As much of Ultralytics' DetectionValidator as is looked at: two images, scaled by two."""

    def __init__(self) -> None:
        self.training = False
        self.names = {0: "cots", 1: "fish"}
        confidence = np.linspace(0, 1, 1001)
        f1 = np.stack([np.where(confidence <= 0.5, confidence, 1 - confidence)] * 2)
        self.metrics = SimpleNamespace(
            box=SimpleNamespace(px=confidence, f1_curve=f1),
            curves_results=[[confidence, f1, "x", "y"] for _ in range(4)],
        )
        self.confusion_matrix = SimpleNamespace(matrix=np.array([[1.0, 0.0], [2.0, 0.0]]))
        self.args = SimpleNamespace(plots=True)
        self.updates = 0

    def update_metrics(self, predictions: list[Any], batch: Any) -> None:
        self.updates += len(predictions)

    def _prepare_batch(self, index: int, batch: Any) -> dict[str, Any]:
        boxes, classes = batch[index]
        return {"bboxes": boxes_of(boxes), "cls": torch.tensor(classes), "ratio_pad": ((2.0, 2.0), (0.0, 0.0))}


def boxes_of(sides: list[tuple[float, float]]) -> Any:
    """Square boxes by left edge and side."""
    return torch.tensor([[left, 0.0, left + side, side] for left, side in sides]).reshape(-1, 4)


def predicted(*found: tuple[float, float, float, float]) -> dict[str, Any]:
    """Predictions by left edge, side, confidence and class."""
    sides, confidence, classes = [each[:2] for each in found], [each[2] for each in found], [each[3] for each in found]
    return {"bboxes": boxes_of(sides), "conf": torch.tensor(confidence), "cls": torch.tensor(classes)}


def written(folder: Path, validator: Validator, *images: tuple[dict[str, Any], Any]) -> dict[str, Any]:
    numbers = Numbers()
    numbers.watch(validator)
    validator.update_metrics([found for found, _ in images], [truth for _, truth in images])
    numbers.write(validator, str(folder))
    value: dict[str, Any] = json.loads((folder / "validation.json").read_text())
    return value


def test_objects_are_found_by_size_in_the_original_image_at_the_best_confidence(tmp_path: Path) -> None:
    truth = ([(0.0, 20.0), (100.0, 20.0), (200.0, 80.0), (300.0, 20.0), (400.0, 20.0)], [0.0, 0.0, 0.0, 0.0, 0.0])
    found = predicted(
        (0.0, 20.0, 0.9, 0.0),  # on the first
        (100.0, 20.0, 0.4, 0.0),  # on the second, below the confidence of the best F1
        (200.0, 60.0, 0.9, 0.0),  # covers 9/16 of the third
        (300.0, 10.0, 0.9, 0.0),  # covers a quarter of the fourth
        (400.0, 20.0, 0.9, 1.0),  # of another class than the fifth
    )
    value = written(tmp_path, Validator(), (found, truth), (predicted(), ([(0.0, 400.0)], [1.0])))
    assert value["confidence"] == pytest.approx(0.5, abs=0.01)
    assert value["recall_by_size"] == {
        "tiny (below 16 px)": {"found": 1, "of": 4},
        "medium (32 to 96 px)": {"found": 1, "of": 1},
        "large (96 px and more)": {"found": 0, "of": 1},
    }
    assert value["classes"] == ["cots", "fish"]
    assert value["confusion"] == [[1.0, 0.0], [2.0, 0.0]]


def test_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    curves = written(tmp_path, Validator())["curves"]
    assert list(curves) == ["precision-recall", "f1-confidence", "precision-confidence", "recall-confidence"]
    for curve in curves.values():
        assert len(curve["x"]) == len(curve["y"][0]) == len(curve["y"][1]) <= 501
        assert (curve["x"][0], curve["x"][-1]) == (0.0, 1.0)


def test_the_trainings_own_evaluations_are_left_alone(tmp_path: Path) -> None:
    validator = Validator()
    validator.training = True
    before = validator.update_metrics
    Numbers().watch(validator)
    assert validator.update_metrics == before


def test_what_ultralytics_counts_is_counted_as_before(tmp_path: Path) -> None:
    validator = Validator()
    written(tmp_path, validator, (predicted(), ([], [])), (predicted(), ([], [])))
    assert validator.updates == 2


def test_a_model_that_found_nothing_has_no_curves(tmp_path: Path) -> None:
    validator = Validator()
    del validator.metrics.box.px
    value = written(tmp_path, validator, (predicted(), ([(0.0, 20.0)], [0.0])))
    assert value["curves"] == {}
    assert value["recall_by_size"] == {"tiny (below 16 px)": {"found": 0, "of": 1}}
