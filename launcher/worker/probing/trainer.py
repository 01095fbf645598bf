"""Ultralytics' own trainer, taken as far as its first batch: model, loss, loader and random numbers as the run's own.

What differs from the training is said here and nowhere else: loaders without workers, float32, deterministic kernels,
no pictures, nothing compiled or cached.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from ..box import Box

PINNED = {"workers": 0, "amp": False, "deterministic": True, "plots": False, "compile": False, "cache": False}
DEFAULT_BATCH = 16
"""Where the run leaves its batch size to the memory that it finds (`batch: -1`): Ultralytics' own default."""


class TakenError(Exception):
    """Leaves Ultralytics' `train` once the trainer is ready: what follows there wants a checkpoint."""


def ready(box: Box, model: str, data: str, device: str) -> Any:
    """The trainer after its set-up. Raises what Ultralytics raises, ValueError for a task without a probe."""
    from ultralytics import YOLO

    arguments = {**box.job()["train"], **PINNED, "exist_ok": True}
    for name in ("time", "resume", "save_period"):
        arguments.pop(name, None)
    if not _is_positive(arguments.get("batch", DEFAULT_BATCH)):
        arguments["batch"] = DEFAULT_BATCH
    folder = os.path.join(box.work, "probe")
    shutil.rmtree(folder, ignore_errors=True)
    found = YOLO(model)
    if found.task != "detect":
        raise ValueError(f"there is a probe for detection alone; this model is for {found.task!r}")
    kept: list[Any] = []
    trainer = _stopping(found._smart_load("trainer"), kept)
    try:
        found.train(trainer=trainer, **arguments, data=data, save_dir=folder, device=device)
    except TakenError:
        pass
    return kept[0]


def batches(trainer: Any, images: int) -> list[dict[str, Any]]:
    """The first batches that the training would get with `workers: 0`, until there are this many images."""
    loader = trainer.train_loader
    if trainer.args.close_mosaic and trainer.epochs <= trainer.args.close_mosaic:
        trainer._close_dataloader_mosaic()
        loader.reset()
    found, count = [], 0
    for batch in loader:
        found.append(batch)
        count += len(batch["img"])
        if count >= images:
            break
    return found


def _is_positive(batch: object) -> bool:
    return isinstance(batch, int) and batch >= 1


def _stopping(base: Any, kept: list[Any]) -> Any:
    """A trainer that goes no further than its set-up.

    The validation set is set up too: Ultralytics picks some of its files at random to see how fast they are read, from
    the very numbers that augmentation draws from.
    """

    class Stopping(base):  # type: ignore[misc]
        def _do_train(self) -> None:
            self._setup_train()
            kept.append(self)
            raise TakenError

    return Stopping
