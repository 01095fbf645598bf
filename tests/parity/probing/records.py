"""Records of a probe as a machine leaves them, small: two steps, two images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


def record(change: Callable[[Json], object] = lambda _: None) -> Json:
    """A record, changed."""
    made = copy.deepcopy(_PLAIN)
    change(made)
    return made


def scaled(name: str, factor: float, step: int | None = None) -> Callable[[Json], None]:
    """Multiply a quantity, a loss by its name, at a step or at all."""

    def change(made: Json) -> None:
        for number, found in enumerate(made["kernel"]["steps"]):
            if step is None or step == number:
                place = found["losses"] if name in found["losses"] else found
                value = place[name]
                place[name] = [one * factor for one in value] if isinstance(value, list) else value * factor

    return change


def _step(number: int) -> Json:
    return {
        "first": 185.7 + number, "first_values": [0.1, -0.4, 0.9], "head": 900.0, "head_values": [2.1, 1.9, 2.6],
        "assigned": 400 + number, "assigned_score": 1.8, "gradient": 106.6, "gradient_values": [0.01, -0.2],
        "losses": {"box_loss": 1.3, "cls_loss": 0.8, "dfl_loss": 0.7}, "weights": 105.8, "weights_values": [0.02, 0.3],
    }  # fmt: skip


def _image(number: int) -> Json:
    return {
        "file": f"images/train/{number}.jpg", "pixels": f"p{number}", "targets": f"t{number}", "shape": [3, 96, 96],
        "mean": 90.0, "std": 30.0, "boxes": 2, "classes_sum": 0.0, "boxes_sum": [1.0, 1.0, 0.2, 0.2],
        "fields": [60.0] * 16 + [90.0] * 16 + [120.0] * 16, "sample": [60, 70, 90, 100, 120, 130],
    }  # fmt: skip


_PLAIN: Json = {
    "version": 1,
    "key": "k",
    "batches": {"images": 2, "side": 96, "batches": 2, "steps": 2, "digest": "b"},
    "weights": {"digest": "w", "mine": "w", "own": "o", "taken": "own"},
    "gains": {"box": 7.5, "cls": 0.5, "dfl": 1.5},
    "machine": {"device": "cpu"},
    "kernel": {"steps": [_step(0), _step(1)], "weights_digest": "after"},
    "loader": {"images": [_image(0), _image(1)], "losses": {"box_loss": 1.3}},
}
