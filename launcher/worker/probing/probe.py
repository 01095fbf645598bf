"""The process of the probe: `worker.pyz probe BOX`, before the training and apart from it.

in/probe/ holds the fixed batches and weights, and the values to compare with (`reference.json`); where they are not
there, this makes them: the same program makes a probe and answers it. What was computed is left in out/probe.json,
and the comparison in it and in the `probe` event. Nothing of the training is touched: it has its own process, its own
random numbers, and the same view of the dataset, whose label cache this leaves behind for it.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import Any

from .. import manifest, scratch
from ..box import Box, read_json, write_json
from ..data import listing, view
from ..events import Emitter, hold_lifeline
from ..training.effective import versions
from ..training.train import ERROR_LIMIT, Training, environment
from . import kernel, loader, tensors
from .compare import DIFFERENT, VERSION, compare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..box import Json

BATCHES, WEIGHTS, REFERENCE = "probe/batches.npz", "probe/weights.npz", "probe/reference.json"
FAILED, IS_DIFFERENT = "probe-failed", "probe-different"
IMAGES = 16
"""Images that the loader is asked for at least."""
TARGETS = ("cls", "bboxes", "batch_idx")
GO_ON = "set parity.on_different: go-on to train all the same, or take another machine"


def probe(root: str) -> int:
    """Compute, compare, tell. Returns 0 when the training may begin, else 1; the `error` event says why."""
    emit = Emitter()
    box = Box(root)
    hold_lifeline(lambda: scratch.remove(box))
    asked = box.attempt().get("probe") or {}
    begun = time.monotonic()
    emit("preparing", what="the probe: a few steps from fixed weights on fixed batches")
    try:
        found = Probe(box, emit).run()
    except Exception as error:  # noqa: BLE001  whatever it is, the probe has no answer
        traceback.print_exc()
        reason = f"the probe could not be computed: {type(error).__name__}: {error}"[:ERROR_LIMIT]
        if not asked.get("required"):
            emit("warning", code=FAILED, reason=reason)
            return 0
        remedy = "its output in the log says more; parity.probe: auto trains without one"
        emit("error", type="ProbeError", code=FAILED, reason=reason, remedy=remedy)
        return 1
    found["seconds"] = round(time.monotonic() - begun, 3)
    write_json(box.probe, found)
    result = found.get("result")
    emit("probe", seconds=found["seconds"], device=found["machine"]["device"], **_told(result))
    if result is None or result["verdict"] != DIFFERENT or not result["stops"]:
        return 0
    if asked.get("on_different") == "go-on":
        emit("warning", code=IS_DIFFERENT, reason=result["reason"], kind=result["kind"])
        return 0
    emit("error", type="ProbeError", code=IS_DIFFERENT, reason=result["reason"], remedy=GO_ON)
    return 1


def _told(result: Json | None) -> Json:
    """What the event says of a comparison; nothing was compared where the probe was made here."""
    if result is None:
        return {"verdict": "made"}
    return {name: result[name] for name in ("verdict", "kind", "reason", "decided", "noise")}


class Probe:
    """One probe in one box."""

    def __init__(self, box: Box, emit: Emitter) -> None:
        self.box = box
        self.asked: Json = box.attempt().get("probe") or {}
        self.training = Training(box, emit)
        self.emit = emit
        self.sent = os.path.exists(os.path.join(box.inbox, BATCHES))

    def run(self) -> Json:
        """Everything that is computed, as the record that is left in out/probe.json."""
        self.training.check_versions()
        self.training.check_inputs()
        self._check_sent()
        environment(self.box)
        listing.ensure(self.box, self.emit)
        data = view.make(self.box)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, before the first product on CUDA
        from . import trainer as trainers

        trainer = trainers.ready(self.box, self.training.model(), data, self.training.device())
        precision = _plain_float32(trainer.device.type)
        model = trainer.model
        own = kernel.state_digest(model)
        images = trainers.batches(trainer, IMAGES)
        seen = loader.describe(images, os.path.dirname(data))
        fixed, size = self._batches(trainer, images)
        on_device = [_on(batch, trainer.device) for batch in fixed]
        losses = kernel.losses(model, _on(_first(images[0], tensors.FEWEST), trainer.device))
        weights = self._weights(model)
        computed = kernel.run(model, on_device, int(size["steps"]))
        record = {
            "version": VERSION,
            "key": self.asked.get("key", ""),
            "batches": {**size, "digest": tensors.digest(_named(fixed))},
            "weights": {**weights, "own": own},
            "gains": {name: float(getattr(trainer.args, name)) for name in ("box", "cls", "dfl")},
            "machine": _machine(trainer.device, precision),
            "kernel": computed,
            "loader": {"images": seen, "losses": losses},
        }
        reference = os.path.join(self.box.inbox, REFERENCE)
        if os.path.exists(reference):
            record["result"] = compare(record, read_json(reference))
        return record

    def _check_sent(self) -> None:
        """What came for the probe has the bytes that were sent. Raises ValueError."""
        for path, digest in (self.asked.get("files") or {}).items():
            if manifest.entry(self.box.inbox, path)["sha256"] != digest:
                raise ValueError(f"in/{path} is not what was sent: its sha256 differs")

    def _batches(self, trainer: Any, images: list[Json]) -> tuple[list[Json], Json]:
        """The fixed batches as numpy arrays, and their size: those that came, else made of what the loader gave."""
        if self.sent:
            came = tensors.read(os.path.join(self.box.inbox, BATCHES))
            count = int(came["batches"])
            fixed = [{name: came[f"{index}.{name}"] for name in ("img", *TARGETS)} for index in range(count)]
            size = {"images": len(fixed[0]["img"]), "side": max(fixed[0]["img"].shape[2:]), "steps": int(came["steps"])}
            return fixed, {**size, "batches": count}
        parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
        shape = images[0]["img"].shape[1:]
        images = [batch for batch in images if batch["img"].shape[1:] == shape]  # `rect: true` has several
        planned = tensors.plan(max(shape), parameters, sum(len(batch["img"]) for batch in images))
        fixed = _cut(images, planned)
        size = {name: getattr(planned, name) for name in ("images", "side", "batches", "steps")}
        numbers = {name: _array(size[name]) for name in ("batches", "steps")}
        os.makedirs(os.path.join(self.box.out, "probe"), exist_ok=True)
        tensors.write(os.path.join(self.box.out, BATCHES), {**_named(fixed), **numbers})
        return fixed, size

    def _weights(self, model: Any) -> Json:
        """Give the model the fixed weights: its own, rounded to float16, or those that came where they are others."""
        import torch

        mine = tensors.rounded(model.state_dict())
        digest = tensors.digest(mine)
        file = os.path.join(self.box.inbox, WEIGHTS)
        taken = "own"
        if self.sent and os.path.exists(file) and digest != self.asked.get("weights"):
            mine, taken = tensors.read(file), "sent"
        elif not self.sent and 2 * sum(array.size for array in mine.values()) <= tensors.WEIGHTS_LIMIT:
            tensors.write(os.path.join(self.box.out, WEIGHTS), mine)
        state = model.state_dict()
        if set(mine) != set(state):
            raise ValueError("the weights that were sent are another model's")
        model.load_state_dict({name: torch.from_numpy(mine[name]).to(state[name].dtype) for name in state})
        return {"digest": tensors.digest(mine), "mine": digest, "taken": taken}


def _cut(images: list[Json], size: tensors.Size) -> list[Json]:
    """Batches of the loader's images in their order, as numpy arrays; targets are relative to the image's size."""
    import numpy

    pixels = numpy.concatenate([batch["img"].numpy() for batch in images])
    offsets = numpy.cumsum([0, *(len(batch["img"]) for batch in images)])
    joined = {name: numpy.concatenate([batch[name].numpy() for batch in images]) for name in ("cls", "bboxes")}
    owners = numpy.concatenate([b["batch_idx"].numpy() + start for b, start in zip(images, offsets, strict=False)])
    fixed = []
    for number in range(size.batches):
        first, last = number * size.images, (number + 1) * size.images
        mine = (owners >= first) & (owners < last)
        fixed.append(
            {
                "img": tensors.thinned(pixels[first:last], size.side),
                "cls": joined["cls"][mine].astype("float32").reshape(-1, 1),
                "bboxes": joined["bboxes"][mine].astype("float32").reshape(-1, 4),
                "batch_idx": (owners[mine] - first).astype("float32"),
            }
        )
    return fixed


def _first(batch: Json, count: int) -> Json:
    """The first images of a batch, as numpy arrays."""
    mine = batch["batch_idx"] < count
    return {"img": batch["img"][:count].numpy(), **{name: batch[name][mine].numpy() for name in TARGETS}}


def _on(batch: Json, device: Any) -> Json:
    """Tensors on the device; images as the trainer hands them to the model, float32 in 0..1."""
    import torch

    found = {name: torch.from_numpy(batch[name]).to(device) for name in ("img", *TARGETS)}
    return {**found, "img": found["img"].float() / 255}


def _named(fixed: list[Json]) -> Json:
    return {f"{index}.{name}": array for index, batch in enumerate(fixed) for name, array in batch.items()}


def _array(value: int) -> Any:
    import numpy

    return numpy.array(value, dtype="<i8")


def _plain_float32(device: str) -> Json:
    """Set float32 without TF32 and kernels that repeat themselves; returns how it was before.

    Ultralytics sets the latter for as long as its own `train` lasts.
    """
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    if device != "cuda":
        return {"asked": "float32"}
    found = {
        "asked": "float32",
        "matmul_tf32_before": bool(torch.backends.cuda.matmul.allow_tf32),
        "cudnn_tf32_before": bool(torch.backends.cudnn.allow_tf32),
    }
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return found


def _machine(device: Any, precision: Json) -> Json:
    """What computed it."""
    import platform

    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    capability = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "")
    return {
        "device": device.type,
        "device_name": name,
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "threads": torch.get_num_threads(),
        "mkldnn": bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled),
        "cpu_capability": str(capability()),
        "deterministic": bool(torch.are_deterministic_algorithms_enabled()),
        "precision": precision,
        "versions": versions(),
    }
