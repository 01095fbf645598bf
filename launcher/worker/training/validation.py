"""The numbers behind the pictures of the final evaluation: Ultralytics draws them and throws them away.

`train/validation.json` has the four curves, the confusion matrix, and how many objects of each size were found:

    {"version": 1, "classes": [...], "curves": {"precision-recall": {"x": [...], "y": [[...], ...]}, ...},
     "confusion": [[...], ...], "confidence": 0.31, "recall_by_size": {"tiny (below 16 px)": {"found": 3, "of": 9}}}

`y` has a row a class; the matrix a row for each predicted and a column for each true class, background last. An object
counts as found when a prediction of its class, at the confidence where F1 is highest, covers it with an IoU of 0.5 or
more; unlike in Ultralytics' own matching, one prediction may cover two objects. It only looks: the evaluation's own
numbers are what they would be without it.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ..box import write_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..box import Json

NAME = "validation.json"
CURVES = ("precision-recall", "f1-confidence", "precision-confidence", "recall-confidence")
"""In the order of `DetMetrics.curves_results`, ultralytics 8.4.190, utils/metrics.py."""
POINTS = 500  # of a curve; Ultralytics computes 1,000, more than a picture shows
DIGITS = 5
IOU = 0.5
SMOOTHING = 0.1  # the same place, ap_per_class
SIZES = (
    ("tiny (below 16 px)", 16.0),
    ("small (16 to 32 px)", 32.0),
    ("medium (32 to 96 px)", 96.0),
    ("large (96 px and more)", float("inf")),
)
"""By the square root of a box's area in the original image: 32 and 96 are COCO's, 16 is AI-TOD's."""


class Numbers:
    """Gathers while the final evaluation runs: `watch` is its on_val_start, `write` comes after it."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []  # an object's side in pixels; the confidence that found it, or -1

    def watch(self, validator: Any) -> None:
        """Look at each batch of an evaluation that is not one of the training's own."""
        if validator.training:
            return
        self._seen = []
        update = validator.update_metrics

        def looked_at(predictions: list[Json], batch: Json) -> None:
            update(predictions, batch)
            for index, found in enumerate(predictions):
                self._look(validator._prepare_batch(index, batch), found)

        validator.update_metrics = looked_at

    def write(self, validator: Any, folder: str) -> None:
        """Write what the evaluation found. Raises whatever a version of Ultralytics makes of it."""
        curves = _curves(validator.metrics)
        confidence = _best_confidence(validator.metrics)
        value: Json = {
            "version": 1,
            "classes": [str(name) for name in validator.names.values()],
            "curves": curves,
            "confusion": validator.confusion_matrix.matrix.tolist() if validator.args.plots else [],
            "confidence": confidence,
            "recall_by_size": self._by_size(confidence),
        }
        write_bytes(os.path.join(folder, NAME), json.dumps(value, separators=(",", ":"), allow_nan=False).encode())

    def _look(self, truth: Json, found: Json) -> None:
        """Each true box of an image: how large it is, and the confidence of the best prediction that covers it."""
        from ultralytics.utils.metrics import box_iou

        boxes, classes = truth["bboxes"], truth["cls"]
        if not len(classes):
            return
        gain = float(truth["ratio_pad"][0][0])  # the image was scaled by it
        sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt() / gain
        best = [-1.0] * len(classes)
        if len(found["cls"]):
            covers = (box_iou(boxes, found["bboxes"]) >= IOU) & (classes[:, None] == found["cls"][None, :])
            best = (covers * (found["conf"][None, :] + 1)).amax(1).sub(1).tolist()
        self._seen += zip(sides.tolist(), best, strict=True)

    def _by_size(self, confidence: float) -> Json:
        """Of the objects of each size, those that are found at this confidence; sizes without any are left out."""
        counts: Json = {}
        low = 0.0
        for name, high in SIZES:
            best = [score for side, score in self._seen if low <= side < high]
            low = high
            if best:
                counts[name] = {"found": sum(score >= confidence for score in best), "of": len(best)}
        return counts


def _curves(metrics: Any) -> Json:
    """All four; none for a model that found nothing: Ultralytics has no curves then."""
    if not hasattr(metrics.box, "px"):
        return {}
    named = zip(CURVES, metrics.curves_results, strict=False)
    return {name: {"x": _rounded(x), "y": [_rounded(row) for row in y]} for name, (x, y, *_) in named}


def _rounded(values: Any) -> list[float]:
    """At most POINTS of them, the last one among them."""
    step = -(-len(values) // POINTS)
    kept = sorted({*range(0, len(values), step), len(values) - 1})
    return [round(float(values[index]), DIGITS) for index in kept]


def _best_confidence(metrics: Any) -> float:
    """Where the smoothed mean F1 of the classes is highest, as in `ap_per_class`; 0 for a model that found nothing."""
    from ultralytics.utils.metrics import smooth

    if not hasattr(metrics.box, "px"):
        return 0.0
    return round(float(metrics.box.px[smooth(metrics.box.f1_curve.mean(0), SMOOTHING).argmax()]), DIGITS)
