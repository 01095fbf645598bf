"""What is watched while training, because Ultralytics goes on silently: each check has a case it was made for.

- Another device than asked for: `device=mps` off a Mac trains on the CPU and says mps in args.yaml.
- Other versions than the run was packed with: the same settings may mean something else.
- A loss that is not finite in a process's first epoch: later ones are recovered by Ultralytics, the first is not, and
  the checkpoint that it leaves is of no use.
- Box loss of exactly 0 for a whole epoch; box and dfl loss for two: the signature of broken MPS kernels.
- A machine that slept: wall time runs on, the monotonic clock does not.
- Images that Ultralytics drops, with one line of log, because they or their labels are corrupt.
- A batch size that Ultralytics halved for lack of memory: args.yaml keeps the old one.
"""

from __future__ import annotations

import math
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..box import Json

PINNED = ("ultralytics", "torch")
DEAD_EPOCHS = 2  # epochs in a row without any box and dfl loss after which mps is not believed
SLEPT_S = 60.0  # wall time ahead of the monotonic clock that is called sleep


class GuardError(Exception):
    """The training computes something else than what was asked for; going on would waste time and money."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy


class Guard:
    """Fed by the training's callbacks; calls `warn(code, **evidence)` or raises GuardError."""

    def __init__(self, warn, wall=time.time, monotonic=time.monotonic) -> None:  # type: ignore[no-untyped-def]
        self.warn = warn
        self._wall = wall
        self._monotonic = monotonic
        self._ahead = wall() - monotonic()
        self._batch = 0
        self._dead = 0  # epochs in a row without box and dfl loss

    def versions(self, pins: Json, strict: bool) -> None:
        """Compare what is installed with what the run was packed with; a difference raises when `strict`."""
        from importlib import metadata

        for name in PINNED:
            if not (pinned := pins.get(name)):
                continue
            try:
                found = metadata.version(name)
            except metadata.PackageNotFoundError:
                found = "none"
            if _base(found) == _base(str(pinned)):
                continue
            if strict:
                message = f"the run was packed for {name} {pinned}; installed here: {found}"
                remedy = f"install {name}=={_base(str(pinned))} where it trains, or set environment.{name} in the spec"
                raise GuardError("wrong-version", message, remedy)
            self.warn("wrong-version", name=name, pinned=str(pinned), installed=found)

    def device(self, asked: str, got: str) -> None:
        """Raise unless the trainer's device is of the kind that was asked for (`auto` takes any)."""
        if asked != "auto" and asked != got:
            raise GuardError("wrong-device", f"asked for {asked}, the trainer is on {got}", "see `launch doctor`")

    def images(self, listed: Json, used: Json) -> None:
        """Compare how many images each split has with how many Ultralytics loaded: it drops corrupt ones silently."""
        for split, count in used.items():
            if split in listed and count != len(listed[split]):
                self.warn("images-dropped", split=split, listed=len(listed[split]), used=count)

    def batch(self, first_epoch: bool, losses: Json, batch_size: int) -> None:
        """After each batch."""
        if first_epoch:
            for name, value in losses.items():
                if not math.isfinite(value):
                    advice = "lower train.lr0, or set train.amp: false"
                    raise GuardError("loss-not-finite", f"{name} is {value} in the first epoch after the start", advice)
        if self._batch and batch_size != self._batch:
            self.warn("batch-changed", before=self._batch, now=batch_size)
        self._batch = batch_size
        ahead = self._wall() - self._monotonic()
        if ahead - self._ahead > SLEPT_S:
            self.warn("machine-slept", seconds=round(ahead - self._ahead, 1))
        self._ahead = ahead

    def epoch(self, device: str, losses: Json, box_gain: float) -> None:
        """After each epoch, with the mean training losses (not rounded) and the weight of box_loss among them."""
        if losses.get("box_loss") != 0 or box_gain == 0:
            self._dead = 0
            return
        self._dead = self._dead + 1 if losses.get("dfl_loss") == 0 else 0
        if device == "mps" and self._dead >= DEAD_EPOCHS:
            message = f"box_loss and dfl_loss are exactly 0 for {self._dead} epochs on mps: its kernels are broken"
            raise GuardError("box-loss-zero", message, "use cpu or cuda")
        self.warn("box-loss-zero", evidence="box_loss is exactly 0 for a whole epoch")


def _base(version: str) -> str:
    """A version without what says how it was built: 2.15.0+cu132 is 2.15.0."""
    return version.split("+", 1)[0]
