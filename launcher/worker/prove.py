"""Proof of the device: something is computed on it before data is read or money is spent.

That a driver lists a GPU says little: `torch.cuda.is_available()` is true for a card that the installed torch has no
kernels for, and the first operation fails. A convolution with its gradient is what a detector does most.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from .box import Box
from .events import Emitter, hold_lifeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .box import Json

WRONG = "wrong-device"
LIMIT_S = 600.0
"""Longest that it may take, with the import of torch from a cold disk: an assumption. A driver that hangs would
otherwise use up the whole session."""
TOLERANCE = 1e-2
"""Largest relative difference from the CPU's result: a float32 convolution differs by 1e-6, with TF32 (10 bits of
mantissa) by up to 1e-3. More than this is not noise."""


def prove(root: str) -> int:
    """Compute on the device that in/attempt.json asks for. Returns 0 when it can train there, else 1.

    `cpu` needs no proof. `auto` is whatever torch finds. The `device` event says what it is. A device that does not
    answer ends this process.
    """
    emit = Emitter()
    hold_lifeline()
    asked = str(Box(root).attempt().get("device") or "auto")
    if asked == "cpu":
        return 0
    begun = time.monotonic()
    watchdog = threading.Timer(LIMIT_S, _hangs, (emit, asked))
    watchdog.daemon = True
    watchdog.start()
    signal.setitimer(signal.ITIMER_REAL, 1.1 * LIMIT_S)  # for a call into the driver that lets no thread run
    try:
        import torch

        found = _found(torch, asked)
        if found is None:
            emit("error", type="WrongDeviceError", code=WRONG, **_refusal(torch, asked))
            return 1
        difference = _convolve(torch, found)
        if not difference < TOLERANCE:
            raise RuntimeError(f"a convolution differs from the CPU's by {difference:.1e}")
    except Exception as error:  # noqa: BLE001  whatever it is, nothing can be trained here
        reason = f"{asked} is there and does not compute: {type(error).__name__}: {error}"[:2000]
        remedy = "take another accelerator, or a torch that was built for this one"
        emit("error", type="WrongDeviceError", code=WRONG, reason=reason, remedy=remedy)
        return 1
    finally:
        watchdog.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)
    emit("device", device=found, **_about(torch, found), difference=difference, seconds=time.monotonic() - begun)
    return 0


def _hangs(emit: Emitter, asked: str) -> None:
    reason = f"{asked} does not answer: nothing was computed on it in {LIMIT_S:g} s"
    emit("error", type="WrongDeviceError", code=WRONG, reason=reason, remedy="launch again: take another machine")
    os._exit(1)


def _found(torch: Any, asked: str) -> str | None:
    """The device, if torch has it."""
    has = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    wanted = ("cuda", "mps", "cpu") if asked == "auto" else (asked,)
    return next((device for device in wanted if device in has and has[device]()), None)


def _refusal(torch: Any, asked: str) -> Json:
    built = torch.version.cuda or "no CUDA"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    told = f", CUDA_VISIBLE_DEVICES is {hidden!r}" if hidden is not None else ""
    reason = f"the run asks for {asked}, and this machine has none (torch {torch.__version__}, built for {built}{told})"
    return {"reason": reason, "remedy": "take a machine with one, or set resources.device to cpu"}


def _convolve(torch: Any, device: str) -> float:
    """One convolution, forward and backward, here and on the CPU; returns the largest relative difference."""
    if device == "cpu":
        return 0.0
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 32, 32, generator=generator)
    weight = torch.rand(8, 3, 3, 3, generator=generator)

    def gradient(where: str) -> Any:
        at = weight.detach().to(where).requires_grad_()
        torch.nn.functional.conv2d(image.to(where), at, padding=1).square().mean().backward()
        return at.grad.detach().to("cpu")

    here, there = gradient("cpu"), gradient(device)
    return float((here - there).abs().max() / here.abs().max())


def _about(torch: Any, device: str) -> Json:
    """What the device is: name, compute capability, memory in bytes, versions."""
    versions = {"torch": torch.__version__, "python": sys.version.split()[0]}
    if device != "cuda":
        return {"versions": versions}
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "count": torch.cuda.device_count(),
        "capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory,
        "versions": {**versions, "cuda": torch.version.cuda},
    }
