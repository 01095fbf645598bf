"""How long a run will take, what it will cost and how much it writes, as ranges with the basis of each in words.

Promises: no number without a basis. Where runs like this one were recorded, the range spans what they say; where none
were, a table of measurements stands in and is called an assumption; where there is neither, the answer is None, which
means not known. More images or more epochs never give a shorter time.

The range is no confidence interval. Its ends are the ends of what scaling cannot tell: whether a validation image
costs nothing or as much as a training image, and whether time follows the pixels in full or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from launcher.backend import Offer
from launcher.data.check import DatasetFacts
from launcher.plan.case import Case, Room
from launcher.spec.arguments import Arguments
from launcher.spec.model import JobSpec

HOUR_S = 3600.0


@dataclass(frozen=True)
class Past:
    """One recorded epoch, or the mean of several that were alike. `images` are those trained on."""

    model: str
    imgsz: int
    batch: int
    device: str
    images: int
    seconds_per_epoch: float
    machine: str
    val_images: int = 0
    run: str = ""
    memory_gb: float | None = None
    start_up_seconds: float | None = None
    """Of its run: from the worker's start to that of the training."""


MEASURED_ON = "2 shared AMD cores, 1 torch thread"
MEASURED = (
    # 10 epochs in about 105 s: the facts that this project began with.
    Past("yolo11n", 96, 16, "cpu", 320, 10.5, MEASURED_ON, 96),
    # Second and third epoch of a training of its own at each size, 1280 x 720 JPEG, no plots, no other load of ours.
    Past("yolo11n", 96, 16, "cpu", 64, 1.49, MEASURED_ON, 16),
    Past("yolo11n", 96, 16, "cpu", 64, 1.38, MEASURED_ON, 16),
    Past("yolo11n", 320, 16, "cpu", 64, 9.34, MEASURED_ON, 16),
    Past("yolo11n", 320, 16, "cpu", 64, 10.5, MEASURED_ON, 16),
    Past("yolo11n", 640, 16, "cpu", 64, 34.4, MEASURED_ON, 16),
    Past("yolo11n", 640, 16, "cpu", 64, 48.7, MEASURED_ON, 16),
)
"""Epoch times measured with Ultralytics 8.4.190 and torch 2.15.0 on a CPU. Nothing was measured on CUDA or MPS."""

PARAMETERS = {"n": 2_624_080, "s": 9_458_752, "m": 20_114_688, "l": 25_372_160, "x": 56_966_176}
"""Of yolo11, by size: the summaries in ultralytics/cfg/models/11/yolo11.yaml."""
STRIPPED = 5.4e6  # bytes of a finished checkpoint of yolo11n, measured
RESUMABLE = {"SGD": 10.7e6, "MuSGD": 15.9e6, "AdamW": 26.4e6}
"""Bytes of a checkpoint of yolo11n that can be gone on from, by optimizer, measured."""
COPIES = 3  # of last.pt and best.pt on the machine: the trainer's, and the two sets that the worker keeps


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, and what that rests on."""

    low: float
    high: float
    basis: str

    def times(self, low: float, high: float, basis: str = "") -> Range:
        """Each end multiplied, the basis kept or replaced."""
        return Range(self.low * low, self.high * high, basis or self.basis)


@dataclass(frozen=True)
class Estimate:
    """What can be told of a run's cost. None: not known."""

    epoch_seconds: Range | None
    total_seconds: Range | None
    cost_dollars: Range | None
    most_dollars: float | None
    """What the run can cost at most: by resources.max_cost, or by the hours that its attempts may take."""
    memory_gb: Range | None
    """Of the device; on a CPU of the training process."""
    weights_bytes: Range | None
    """Checkpoints that come back in the end."""
    start_up_seconds: Range | None
    """Before the first epoch, on this machine: it is not in the total."""
    scratch_bytes: Range | None
    """Checkpoints and cached images on the machine while it trains."""

    def as_json(self) -> dict[str, Any]:
        """Plain values; null is not known."""
        return asdict(self)


def estimate(
    spec: JobSpec, offer: Offer, facts: DatasetFacts | None, history: Sequence[Past], arguments: Arguments
) -> Estimate:
    """What the run will take. `history` holds recorded epochs of any model and machine; what does not fit is left."""
    return of(Case(spec, offer, facts, {}, arguments, room=Room.of(offer)), history)


def of(case: Case, history: Sequence[Past]) -> Estimate:
    """The same for a case that is made already."""
    epoch = _epoch(case, history)
    total = _total(case, epoch)
    price = case.offer.price_per_hour
    cost = None
    if total is not None and price is not None:
        rate, extra = price / HOUR_S, case.offer.extra_hours
        told = f" ({case.offer.price_basis})" if case.offer.price_basis else ""
        beside = f" and {60 * extra:.0f} min of start and end" if extra else ""
        told = f"${price:.4g} an hour{told} for the time above{beside}; storage and transfers not counted"
        cost = Range(total.low * rate, total.high * rate + price * extra, told)
    return Estimate(
        epoch_seconds=epoch,
        total_seconds=total,
        cost_dollars=cost,
        most_dollars=_most(case),
        memory_gb=_memory(case, history),
        weights_bytes=_weights(case),
        start_up_seconds=_start_up(case, history),
        scratch_bytes=_scratch(case),
    )


def _most(case: Case) -> float | None:
    """The longest that all attempts may take, at the machine's price, or the spec's own limit."""
    resources, price = case.spec.resources, case.offer.price_per_hour
    if price is None:
        return None
    hours = min((limit for limit in (resources.max_hours, case.offer.max_hours) if limit is not None), default=None)
    limits = [] if hours is None else [price * (hours + case.offer.extra_hours) * case.spec.resume.attempts]
    limits += [] if resources.max_cost is None else [resources.max_cost]
    return 0.0 if price == 0 else min(limits, default=None)


def _stem(model: str) -> str:
    """yolo11n for yolo11n.pt, yolo11n.yaml and /some/where/yolo11n.pt."""
    return model.rsplit("/", 1)[-1].removesuffix(".pt").removesuffix(".yaml")


def _alike(case: Case, past: Sequence[Past]) -> list[Past]:
    """Of this model on this kind of device, and of the image size that is nearest to this one."""
    same = [
        one
        for one in past
        if (_stem(one.model), one.device) == (_stem(case.spec.model), case.device)
        and min(one.images, one.imgsz) > 0
        and one.seconds_per_epoch > 0
    ]
    imgsz = int(case.value("imgsz"))
    nearest = min((abs(math.log(one.imgsz / imgsz)) for one in same), default=0.0)
    return [one for one in same if abs(math.log(one.imgsz / imgsz)) <= nearest + 1e-9]


def _epoch(case: Case, history: Sequence[Past]) -> Range | None:
    """From this machine's past, else another's, else the table; None without a dataset or a basis."""
    here = _alike(case, [one for one in history if one.machine == case.offer.machine])
    elsewhere = _alike(case, [one for one in history if one.machine != case.offer.machine])
    if case.facts is None or not case.train_images:
        return None
    if here:
        return _scaled(case, here, _whence(here) + " on this machine")
    if elsewhere:
        machines = " and ".join(sorted({one.machine for one in elsewhere}))
        whence = f"assumption: this machine is as fast as {machines}: {_whence(elsewhere)} there"
        return _scaled(case, elsewhere, whence)
    if table := _alike(case, MEASURED):
        return _scaled(case, table, f"assumption: this machine is as fast as {MEASURED_ON}, where samerun measured it")
    return None


def _whence(past: Sequence[Past]) -> str:
    runs = sorted({one.run for one in past if one.run})
    named = f" of run{'s' * (len(runs) > 1)} {', '.join(runs[:3])}" if runs else ""
    more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
    return f"{len(past)} epoch{'s' * (len(past) > 1)}{named}{more}"


def _scaled(case: Case, past: Sequence[Past], whence: str) -> Range:
    train, val, imgsz = case.train_images or 0, case.val_images or 0, int(case.value("imgsz"))
    lows, highs = [], []
    for one in past:
        images = (train / one.images, (train + val) / (one.images + one.val_images))
        pixels = (imgsz / one.imgsz) ** 2
        lows.append(one.seconds_per_epoch * min(images) * min(1.0, pixels))
        highs.append(one.seconds_per_epoch * max(images) * max(1.0, pixels))
    sizes, batches = {one.imgsz for one in past}, {one.batch for one in past}
    basis = f"{whence}, scaled by images"
    if sizes != {imgsz}:
        basis += f" and from imgsz {', '.join(map(str, sorted(sizes)))} to {imgsz} (not at all, or by pixels)"
    if batches != {case.batch}:
        basis += f"; their batch was {', '.join(map(str, sorted(batches)))}"
    return Range(min(lows), max(highs), basis)


def _total(case: Case, epoch: Range | None) -> Range | None:
    """All epochs; from the first at which it may stop early. Start and transfers are not in it."""
    if case.given("time"):
        seconds = float(case.value("time")) * HOUR_S
        return Range(seconds, seconds, "train.time says so; epochs are planned to fill it")
    if epoch is None:
        return None
    patience = int(case.value("patience"))
    least = min(case.epochs, patience + 1) if patience and case.value("val") else case.epochs
    epochs = f"{case.epochs} epoch{'s' * (case.epochs != 1)}"
    if least != case.epochs:
        epochs = f"{least} (early stop) to {epochs}"
    return epoch.times(least, case.epochs, f"{epochs}, training and validation only; {epoch.basis}")


def _start_up(case: Case, history: Sequence[Past]) -> Range | None:
    """What past runs on this machine needed before their training began; None where none was recorded."""
    here = [one for one in history if (one.machine, one.device) == (case.offer.machine, case.device)]
    runs = {one.run: one.start_up_seconds for one in here if one.start_up_seconds is not None}
    if not runs:
        return None
    basis = f"{len(runs)} run{'s' * (len(runs) != 1)} on this machine, from the worker's start to the training's"
    return Range(min(runs.values()), max(runs.values()), basis)


def _memory(case: Case, history: Sequence[Past]) -> Range | None:
    """What recorded epochs of the same model, image size, batch and device held."""
    asked = (_stem(case.spec.model), case.device, int(case.value("imgsz")), case.batch)
    same = [
        one
        for one in history
        if one.memory_gb is not None and (_stem(one.model), one.device, one.imgsz, one.batch) == asked
    ]
    held = [one.memory_gb for one in same if one.memory_gb is not None]
    return Range(min(held), max(held), f"{_whence(same)} with the same model, imgsz and batch") if held else None


def _checkpoint(case: Case) -> tuple[Range, Range] | None:
    """Bytes of a resumable and of a finished checkpoint; None for a model whose size is not known."""
    stem = _stem(case.spec.model)
    parameters = PARAMETERS.get(stem.removeprefix("yolo11")) if stem.startswith("yolo11") else None
    if parameters is None:
        return None
    factor = parameters / PARAMETERS["n"]
    name = case.optimizer
    known = RESUMABLE.get(name) if name is not None else None
    low, high = (known, known) if known is not None else (min(RESUMABLE.values()), max(RESUMABLE.values()))
    scaled = "" if factor == 1 else f", scaled by parameters to {stem}"
    by = f"with {name}" if known is not None else f"with {', '.join(RESUMABLE)}; which one it is here is not known"
    basis = f"measured for yolo11n {by}{scaled}"
    finished = Range(STRIPPED, STRIPPED, f"measured for yolo11n{scaled}").times(factor, factor)
    return Range(low, high, basis).times(factor, factor), finished


def _kept(case: Case) -> int:
    """epochN.pt files of save_period: engine/trainer.py writes one for epoch 0 and each period after it."""
    period = int(case.value("save_period"))
    return math.ceil(case.epochs / period) if period > 0 else 0


def _weights(case: Case) -> Range | None:
    sizes = _checkpoint(case)
    if sizes is None:
        return None
    resumable, finished = sizes
    kept = _kept(case)
    low, high = 2 * finished.low + kept * resumable.low, 2 * finished.high + kept * resumable.high
    more = f", and {kept} of save_period; {resumable.basis}" if kept else f"; {finished.basis}"
    return Range(low, high, f"best.pt and last.pt without optimizer{more}; pictures not counted")


def _scratch(case: Case) -> Range | None:
    sizes = _checkpoint(case)
    if sizes is None:
        return None
    each = 2 * COPIES + _kept(case)
    cached = case.cached("disk") if case.cache == "disk" else 0
    if cached is None:
        return None
    more = ", and every image uncompressed" if cached else ""
    resumable = sizes[0]
    basis = f"up to {each} checkpoints{more}; {resumable.basis}; the dataset and the environment not counted"
    return Range(each * resumable.low + cached, each * resumable.high + cached, basis)
