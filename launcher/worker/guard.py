"""What is watched while training, because Ultralytics goes on silently: each check has a case it was made for.

- Another device than asked for: `device=mps` off a Mac trains on the CPU and says mps in args.yaml.
- A loss that is not finite in the first epoch: later ones are recovered by Ultralytics, the first is not.
- Box loss of exactly 0 for a whole epoch: the signature of broken MPS kernels.
- A machine that slept: wall time runs on, the monotonic clock does not.
- A batch size that Ultralytics halved for lack of memory: args.yaml keeps the old one.
"""

from __future__ import annotations

import math
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .box import Json

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
        self._warn = warn
        self._wall = wall
        self._monotonic = monotonic
        self._ahead = wall() - monotonic()
        self._batch = 0

    def device(self, asked: str, got: str) -> None:
        """Raise unless the trainer's device is of the kind that was asked for (`auto` takes any)."""
        if asked != "auto" and asked != got:
            raise GuardError("wrong-device", f"asked for {asked}, the trainer is on {got}", "see `launch doctor`")

    def batch(self, first_epoch: bool, losses: Json, batch_size: int) -> None:
        """After each batch."""
        if first_epoch:
            for name, value in losses.items():
                if not math.isfinite(value):
                    advice = "lower train.lr0, or set train.amp: false"
                    raise GuardError("loss-not-finite", f"{name} is {value} in the first epoch", advice)
        if self._batch and batch_size != self._batch:
            self._warn("batch-changed", before=self._batch, now=batch_size)
        self._batch = batch_size
        ahead = self._wall() - self._monotonic()
        if ahead - self._ahead > SLEPT_S:
            self._warn("machine-slept", seconds=round(ahead - self._ahead, 1))
        self._ahead = ahead

    def epoch(self, device: str, losses: Json) -> None:
        """After each epoch, with the mean training losses."""
        if losses.get("box_loss") == 0:
            message = "box_loss is exactly 0 for a whole epoch"
            if device == "mps":
                raise GuardError("box-loss-zero", f"{message} on mps: its kernels are broken", "use cpu or cuda")
            self._warn("box-loss-zero", evidence=message)
