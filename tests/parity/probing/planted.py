"""Answers one probe again and again in one process, each time with something else broken on purpose.

`python -m tests.parity.probing.planted BOX OUT`: BOX is laid out with a probe in in/probe, OUT gets a JSON object of
the records by the names of the faults. One process, because importing torch takes longer than a probe.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

Fault = Callable[[], AbstractContextManager[Any]]


def main(root: str, out: str) -> None:
    """Compute the records."""
    from launcher.worker.box import Box
    from launcher.worker.events import Emitter
    from launcher.worker.probing.probe import Probe

    job_file = Path(root, "in/job.json")
    job = job_file.read_text()
    records: dict[str, Any] = {}
    for name, (fault, train) in faults().items():
        job_file.write_text(json.dumps({**json.loads(job), "train": {**json.loads(job)["train"], **train}}))
        try:
            with fault(), contextlib.redirect_stdout(io.StringIO()):
                records[name] = Probe(Box(root), Emitter()).run()
        except Exception as error:  # noqa: BLE001  the test that wants this record fails with it
            traceback.print_exc()
            records[name] = {"error": f"{type(error).__name__}: {error}"}
        job_file.write_text(job)
    records["the training itself"] = {"pixels": _first_batch(root)}
    Path(out).write_text(json.dumps(records))


def _first_batch(root: str) -> list[str]:
    """Digests of the images that a training of the job, as it is, computes on first."""
    import hashlib

    from ultralytics import YOLO
    from ultralytics.models.yolo.detect import DetectionTrainer

    found: list[str] = []

    class Seeing(DetectionTrainer):  # type: ignore[misc]
        def preprocess_batch(self, batch: Any) -> Any:
            found.extend(hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in batch["img"])
            raise EOFError

    job = json.loads(Path(root, "in/job.json").read_text())
    with contextlib.suppress(EOFError), contextlib.redirect_stdout(io.StringIO()):
        YOLO(job["model"]).train(
            trainer=Seeing, **job["train"], data=f"{root}/work/data/data.yaml", save_dir=f"{root}/work/t", device="cpu"
        )
    return found


def faults() -> dict[str, tuple[Fault, dict[str, Any]]]:
    """By name: what is patched, and what of the training's arguments is another."""
    nothing = contextlib.nullcontext
    plain: dict[str, Fault] = {
        "again": nothing,
        "two threads": _two_threads,
        "no onednn": _no_onednn,
        "assigner drops 10 %": _assigner_drops,
        "box loss zero": lambda: _box_loss_times(0.0),
        "box loss times 2/3": lambda: _box_loss_times(2 / 3),
        "nan": _nan,
        "half precision": _half,
        "gradient noise 1e-2": _gradient_noise,
        "update doubled": lambda: mock.patch("launcher.worker.probing.kernel.RATE", 4e-4),
        "other decoder": lambda: _images(_by_a_level),
        "jpeg re-encoded": lambda: _images(_jpeg),
        "channels swapped": lambda: _images(lambda image: image[..., ::-1].copy()),
        "without sent weights": lambda: mock.patch("launcher.worker.probing.probe.WEIGHTS", "probe/none.npz"),
    }
    found: dict[str, tuple[Fault, dict[str, Any]]] = {name: (fault, {}) for name, fault in plain.items()}
    for size in (1e-7, 1e-5, 1e-3):
        found[f"noise {size:g}"] = (_noise_of(size), {})
    found["box gain"] = (nothing, {"box": 5.0})
    found["other seed"] = (nothing, {"seed": 1})
    found["other seed, weights not sent"] = (plain["without sent weights"], {"seed": 1})
    found["colours not shifted"] = (nothing, {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0})
    found["never flipped"] = (nothing, {"fliplr": 0.0})
    return found


@contextmanager
def _two_threads() -> Iterator[None]:
    import torch

    original = torch.set_num_threads
    with mock.patch("torch.set_num_threads", side_effect=lambda _: original(2)):
        yield
    original(1)


@contextmanager
def _no_onednn() -> Iterator[None]:
    import torch

    with torch.backends.mkldnn.flags(enabled=False):
        yield


def _noise_of(size: float) -> Fault:
    return lambda: _noise(size)


def _noise(size: float) -> AbstractContextManager[Any]:
    """Each convolution's output is off by so much, at random."""
    import torch
    from ultralytics.nn.modules.conv import Conv

    forward, generator = Conv.forward, torch.Generator().manual_seed(0)

    def noisy(self: Any, x: Any) -> Any:
        made = forward(self, x)
        return made * (1 + size * torch.randn(made.shape, generator=generator))

    return mock.patch.object(Conv, "forward", noisy)


def _half() -> AbstractContextManager[Any]:
    """Each convolution's input has the 10 bits of TF32."""
    import torch
    from ultralytics.nn.modules.conv import Conv

    forward = Conv.forward

    def rounded(self: Any, x: Any) -> Any:
        bits = (x.detach().contiguous().view(torch.int32) + 0x1000) & ~0x1FFF
        return forward(self, x + (bits.view(torch.float32) - x.detach()))

    return mock.patch.object(Conv, "forward", rounded)


def _gradient_noise() -> AbstractContextManager[Any]:
    """The backward pass alone is off."""
    import torch
    from ultralytics.nn.modules.conv import Conv

    forward, generator = Conv.forward, torch.Generator().manual_seed(0)

    def hooked(self: Any, x: Any) -> Any:
        made = forward(self, x)
        if made.requires_grad:
            made.register_hook(lambda grad: grad * (1 + 0.01 * torch.randn(grad.shape, generator=generator)))
        return made

    return mock.patch.object(Conv, "forward", hooked)


def _assigner_drops() -> AbstractContextManager[Any]:
    """As on MPS: a selection by a mask returns fewer elements than the mask has."""
    from ultralytics.utils.tal import TaskAlignedAssigner

    assign = TaskAlignedAssigner._forward

    def dropping(self: Any, *args: Any, **more: Any) -> Any:
        labels, boxes, scores, mask, index = assign(self, *args, **more)
        chosen = mask.nonzero()[::10]
        mask[chosen[:, 0], chosen[:, 1]] = False
        scores[chosen[:, 0], chosen[:, 1]] = 0
        return labels, boxes, scores, mask, index

    return mock.patch.object(TaskAlignedAssigner, "_forward", dropping)


def _box_loss_times(factor: float) -> AbstractContextManager[Any]:
    from ultralytics.utils.loss import BboxLoss

    forward = BboxLoss.forward

    def scaled(self: Any, *args: Any, **more: Any) -> Any:
        box, dfl = forward(self, *args, **more)
        return box * factor, dfl

    return mock.patch.object(BboxLoss, "forward", scaled)


def _nan() -> AbstractContextManager[Any]:
    from ultralytics.utils.loss import BboxLoss

    forward = BboxLoss.forward

    def broken(self: Any, *args: Any, **more: Any) -> Any:
        box, dfl = forward(self, *args, **more)
        return box, dfl * float("nan")

    return mock.patch.object(BboxLoss, "forward", broken)


def _images(change: Callable[[Any], Any]) -> AbstractContextManager[Any]:
    """Every image that is read is changed."""
    import ultralytics.data.base as base

    read = base.imread
    return mock.patch.object(base, "imread", lambda *args, **more: change(read(*args, **more)))


def _by_a_level(image: Any) -> Any:
    """What another decoder does: some pixels one level off."""
    import numpy

    noise = numpy.random.default_rng(0).integers(-1, 2, image.shape)
    return (image.astype(int) + noise).clip(0, 255).astype("uint8")


def _jpeg(image: Any) -> Any:
    import cv2

    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


if __name__ == "__main__":
    main(*sys.argv[1:])
