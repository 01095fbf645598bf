"""A spec, a machine and a dataset as one value: what Ultralytics will really use, worked out before it runs.

Promises: nothing is looked up and nothing imported but what comes in; a number that cannot be known is None. The
arithmetic is that of the installed Ultralytics, 8.4.190; each function names the place it follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.backend import Offer
from launcher.data.check import DatasetFacts
from launcher.spec.arguments import Arguments
from launcher.spec.model import JobSpec

CHANNELS = 3  # bytes of a pixel, as Ultralytics caches it
NO_ACCELERATOR = frozenset({"cpu", "mps"})
"""Devices on which Ultralytics switches loader workers, AMP and AutoBatch off."""
AUTO_STEPS = 10_000  # engine/trainer.py, build_optimizer: more optimizer steps than this take MuSGD
MUSGD_LR = 0.01  # the same


@dataclass(frozen=True)
class Room:
    """Bytes that are free on the machine; None where that is not known."""

    memory: int | None = None
    disk: int | None = None

    @classmethod
    def of(cls, offer: Offer) -> Room:
        """What the offer says of it."""
        return cls(offer.free_memory, offer.free_disk)


@dataclass(frozen=True)
class Auto:
    """What `optimizer: auto` comes to. `last_adamw` is the highest number of epochs at which it is still AdamW."""

    steps_per_epoch: int
    steps: int
    optimizer: str
    lr0: float
    adamw_lr0: float
    last_adamw: int


@dataclass(frozen=True)
class Case:
    """All that a rule may look at. `versions` are those of the environment that will train, where it is known."""

    spec: JobSpec
    offer: Offer
    facts: DatasetFacts | None
    versions: Mapping[str, str]
    arguments: Arguments
    room: Room = field(default_factory=Room)

    def value(self, name: str) -> Any:
        """The user's value of a train argument, else Ultralytics' default."""
        return self.spec.train[name] if name in self.spec.train else self.arguments.default(name)

    def given(self, name: str) -> bool:
        """Whether the user set it to something else than null."""
        return self.spec.train.get(name) is not None

    def said(self, name: str) -> str:
        """`name value`, and whether that is only the default: how evidence quotes an argument."""
        value = self.value(name)
        shown = str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
        return f"{name} {shown}" + ("" if name in self.spec.train else " (the default)")

    @property
    def device(self) -> str:
        """The device the offer names: cpu, cuda or mps."""
        return self.offer.device

    @property
    def cuda(self) -> bool:
        """Whether it has what Ultralytics calls an accelerator."""
        return self.device not in NO_ACCELERATOR

    @property
    def epochs(self) -> int:
        """As set, or as by default. With `time` it holds for the first epoch only."""
        return int(self.value("epochs"))

    @property
    def batch(self) -> int | None:
        """Images in a batch; None where AutoBatch chooses on a GPU. Elsewhere it gives up and takes the default."""
        batch = self.value("batch")
        if batch >= 1:
            return int(batch)
        return None if self.cuda else int(self.arguments.default("batch"))

    @property
    def train_images(self) -> int | None:
        """Images of an epoch after `fraction`."""
        return None if self.facts is None else _share(self.facts.n_train, self.value("fraction"), 0)

    @property
    def val_images(self) -> int | None:
        """Images of the split that is validated on. A single `fraction` leaves them whole."""
        if self.facts is None:
            return None
        split = self.value("split")
        counts = {"train": self.facts.n_train, "val": self.facts.n_val, "test": self.facts.n_test}
        place = {"train": 0, "val": 1, "test": 2}[split]
        return _share(counts[split], self.value("fraction"), place)

    @property
    def auto(self) -> Auto | None:
        """The choice of `optimizer: auto`; None without a dataset. Follows build_optimizer and its caller."""
        if self.facts is None or self.train_images is None:
            return None
        picture = max(self.batch or 0, int(self.value("nbs")))
        per_epoch = max(math.ceil(self.train_images / picture), 1)
        steps = per_epoch * self.epochs
        classes = 1 if self.value("single_cls") else self.facts.classes
        adamw = round(0.002 * 5 / (4 + classes), 6)
        name, rate = ("MuSGD", MUSGD_LR) if steps > AUTO_STEPS else ("AdamW", adamw)
        return Auto(per_epoch, steps, name, rate, adamw, AUTO_STEPS // per_epoch)

    @property
    def optimizer(self) -> str | None:
        """The optimizer that will run, by Ultralytics' name; None where `auto` chooses and the dataset is not known."""
        name = str(self.value("optimizer"))
        if name.lower() != "auto":
            return name
        return self.auto.optimizer if self.auto is not None else None

    def cached(self, where: str) -> int | None:
        """Bytes of the images cached in `ram` (scaled to imgsz) or on `disk` (as they are). Follows data/base.py.

        Every image is taken to have the most common size.
        """
        facts, train, val = self.facts, self.train_images, self.val_images
        if facts is None or train is None or val is None or not facts.width or not facts.height:
            return None
        wide, high = facts.width, facts.height
        if where == "ram":
            imgsz = int(self.value("imgsz"))
            scale = imgsz / max(wide, high)
            wide, high = min(math.ceil(wide * scale), imgsz), min(math.ceil(high * scale), imgsz)
        return (train + val) * wide * high * CHANNELS

    @property
    def cache(self) -> str | None:
        """`ram`, `disk` or None, as Ultralytics reads the argument."""
        value = self.value("cache")
        if isinstance(value, str):
            return value.lower()
        return "ram" if value else None

    @property
    def ultralytics(self) -> str | None:
        """The version that will train: the pin, else the one that is known to be there."""
        return self.spec.environment.ultralytics or self.versions.get("ultralytics")


def _share(count: int, fraction: Any, place: int) -> int:
    """Images that `fraction` leaves of a split: data/base.py, get_img_files, and data/utils.py, get_split_fraction."""
    if isinstance(fraction, list):
        fraction = fraction[place] if place < len(fraction) else 1.0
    elif place != 0:
        fraction = 1.0  # a single one is the training split's
    if isinstance(fraction, int) and not isinstance(fraction, bool) and fraction > 1:
        return min(count, fraction)
    return min(count, max(1, round(count * float(fraction)))) if count else 0


def numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version, for comparing: 8.4.190 -> (8, 4, 190)."""
    parts = []
    for part in version.split("+")[0].split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def count(number: int) -> str:
    """A whole number with commas."""
    return f"{number:,}"


def size(number: float) -> str:
    """Bytes in words."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number:.0f} bytes"
