"""The trainings that the suite is made of: one sound run, its seeds, and runs with one thing planted."""

from __future__ import annotations

from typing import Any

from tests.parity.planted.making.lab import Recipe

REFERENCE = "seed 0"
SEEDS = tuple(f"seed {number}" for number in range(1, 8))
"""More runs of the reference's configuration: what the curves are held against."""
OTHERS = tuple(f"seed {number}" for number in range(8, 11))
"""Seeds that are no part of that set."""


def recipes() -> dict[str, Recipe]:
    """By name, those first that most depends on."""
    seeds = [Recipe(f"seed {number}", {"seed": number}) for number in range(11)]
    return {recipe.name: recipe for recipe in (*seeds, *_same(), *_data(), *_machines(), *_arguments())}


def _same() -> list[Recipe]:
    """The reference's own training once more, under other circumstances."""
    return [
        Recipe("again"),
        Recipe("moved", data="copy"),
        Recipe("quiet", {"save_period": 2, "verbose": False}),
        Recipe("resumed", killed=(3,)),
        Recipe("resumed thrice", killed=(2, 3, 4)),
        Recipe("resumed thrice again", killed=(2, 3, 4)),
        Recipe("stopped early", fault="stops after 3"),
        Recipe("truncated", killed=(3,), lost=True),
    ]


def _data() -> list[Recipe]:
    """Another dataset: told by the record, or read by the machine unseen."""
    told = ("one label", "labels dropped", "swapped", "overlap", "class order", "colours", "jpeg", "one pixel", "fewer")
    unseen = {"stale val labels": "stale val labels", "val is train": "val is train", "stale train label": "one label"}
    return [
        *(Recipe(f"data {name}", data=name) for name in told),
        *(Recipe(f"read {name}", had=name_of) for name, name_of in unseen.items()),
    ]


def _machines() -> list[Recipe]:
    """Machines that do something else than they were asked to."""
    faults = (
        "mps metrics", "nms at 0.3", "no rect", "out of memory", "no ema", "two workers", "two threads", "no letterbox",
        "bfloat16", "updates doubled", "assigner drops 10 %", "box loss zero", "box loss times 2/3", "noise 1e-07",
        "noise 1e-05", "noise 0.001", "half precision", "other decoder", "jpeg re-encoded", "channels swapped",
        "no onednn",
    )  # fmt: skip
    return [Recipe(f"machine {name}", fault=name) for name in faults]


def _arguments() -> list[Recipe]:
    """Another spec."""
    changed: dict[str, dict[str, Any]] = {
        "box gain": {"box": 5.0},
        "lr twice": {"lr0": 0.002},
        "optimizer": {"optimizer": "SGD"},
        "imgsz": {"imgsz": 64},
        "never flipped": {"fliplr": 0.0},
        "colours not shifted": {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0},
        "mosaic": {"mosaic": 1.0, "close_mosaic": 0},
        "nms iou": {"iou": 0.3},
        "two images fewer a batch": {"batch": 6},
    }
    return [
        Recipe("spec other weights", start="elsewhere"),
        *(Recipe(f"spec {name}", train) for name, train in changed.items()),
    ]
