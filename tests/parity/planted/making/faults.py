"""Machines that train otherwise than they were asked to: what is patched in the process of a training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from tests.parity.probing import planted as of_probe

Fault = Callable[[], AbstractContextManager[Any]]
MPS_FACTOR = 2.6  # https://github.com/ultralytics/ultralytics/issues/24399


def fault(name: str) -> AbstractContextManager[Any]:
    """The patches of a fault: one of these, or one of the probe's. An empty name is a sound machine."""
    if not name:
        return contextlib.nullcontext()
    if name in OWN:
        return OWN[name]()
    return of_probe.faults()[name][0]()


def _out_of_memory() -> AbstractContextManager[Any]:
    """The third batch does not fit: Ultralytics halves the batch and says so in its log alone."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    prepare, calls = DetectionTrainer.preprocess_batch, [0]

    def short(self: Any, batch: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise RuntimeError("out of memory")
        return prepare(self, batch)

    return mock.patch.object(DetectionTrainer, "preprocess_batch", short)


def _no_ema() -> AbstractContextManager[Any]:
    from ultralytics.utils.torch_utils import ModelEMA

    update = ModelEMA.update

    def copied(self: Any, model: Any) -> None:
        update(self, model)
        self.ema.load_state_dict(model.state_dict())

    return mock.patch.object(ModelEMA, "update", copied)


def _two_workers() -> AbstractContextManager[Any]:
    import ultralytics.models.yolo.detect.train as train

    build = train.build_dataloader
    return mock.patch.object(train, "build_dataloader", lambda *a, **more: build(*a, **{**more, "workers": 2}))


def _other_nms(iou: float) -> AbstractContextManager[Any]:
    from ultralytics.models.yolo.detect import DetectionValidator

    postprocess = DetectionValidator.postprocess

    def suppressed(self: Any, preds: Any) -> Any:
        self.args.iou = iou
        return postprocess(self, preds)

    return mock.patch.object(DetectionValidator, "postprocess", suppressed)


def _no_rect() -> AbstractContextManager[Any]:
    """Validation images are padded to squares."""
    from ultralytics.models.yolo.detect import train

    build = train.build_yolo_dataset
    return mock.patch.object(train, "build_yolo_dataset", lambda *a, **more: build(*a, **{**more, "rect": False}))


def _no_letterbox() -> AbstractContextManager[Any]:
    """Images are stretched instead of padded."""
    from ultralytics.data.augment import LetterBox

    make = LetterBox.__init__

    def stretched(self: Any, *args: Any, **more: Any) -> None:
        make(self, *args, **more)
        self.scale_fill = True

    return mock.patch.object(LetterBox, "__init__", stretched)


def _mps_metrics() -> AbstractContextManager[Any]:
    """Every validation on the machine is wrong by one factor, the final one too."""
    from ultralytics.models.yolo.detect import DetectionValidator

    stats = DetectionValidator.get_stats

    def wrong(self: Any) -> Any:
        return {name: float(value) / MPS_FACTOR for name, value in stats(self).items()}

    return mock.patch.object(DetectionValidator, "get_stats", wrong)


def _stops(epoch: int) -> AbstractContextManager[Any]:
    """The training ends by itself after an epoch, whatever its patience."""
    from ultralytics.utils.torch_utils import EarlyStopping

    return mock.patch.object(EarlyStopping, "__call__", lambda self, at, *_: at >= epoch)


@contextmanager
def _mixed_precision() -> Iterator[None]:
    """Automatic mixed precision, which Ultralytics has on CUDA alone."""
    import torch
    import ultralytics.engine.trainer as trainer

    def half(*_: Any, **__: Any) -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    sound = mock.patch.object(trainer, "check_amp", return_value=True)
    with mock.patch.object(trainer, "autocast", half), sound:
        yield


@contextmanager
def _updates_doubled() -> Iterator[None]:
    """The optimizer takes steps of twice the rate that it says it has."""
    import torch

    step = torch.optim.AdamW.step

    def doubled(self: Any, *args: Any, **more: Any) -> Any:
        for group in self.param_groups:
            group["lr"] *= 2
        try:
            return step(self, *args, **more)
        finally:
            for group in self.param_groups:
                group["lr"] /= 2

    with mock.patch.object(torch.optim.AdamW, "step", doubled):
        yield


OWN: dict[str, Fault] = {
    "out of memory": _out_of_memory,
    "no ema": _no_ema,
    "two workers": _two_workers,
    "nms at 0.3": lambda: _other_nms(0.3),
    "no rect": _no_rect,
    "no letterbox": _no_letterbox,
    "mps metrics": _mps_metrics,
    "stops after 3": lambda: _stops(3),
    "bfloat16": _mixed_precision,
    "updates doubled": _updates_doubled,
}
