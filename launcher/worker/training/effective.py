"""What a trainer really has: args.yaml is the request, not the evidence."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..box import Json

VERSIONS = ("ultralytics", "torch", "torchvision", "numpy", "opencv-python", "pillow")


def effective(trainer: Any) -> Json:
    """The arguments, device, precision, loader, optimizer and versions that the trainer really has."""
    import torch

    group = trainer.optimizer.param_groups[0]
    gpu = torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else ""
    weights = hashlib.sha256()
    for name, value in sorted(trainer.model.state_dict().items()):
        weights.update(name.encode())
        weights.update(value.detach().cpu().contiguous().numpy().tobytes())
    return {
        "arguments": json.loads(json.dumps(vars(trainer.args), default=str)),
        "device": trainer.device.type,
        "device_name": gpu or platform.processor() or platform.machine(),
        "amp": bool(trainer.amp),
        "batch": trainer.batch_size,
        "accumulate": trainer.accumulate,
        "workers": trainer.train_loader.num_workers,
        "threads": torch.get_num_threads(),
        "world_size": trainer.world_size,
        "channels_last": _channels_last(trainer.model),
        "kernels": _kernels(torch, trainer.device.type),
        "optimizer": type(trainer.optimizer).__name__,
        "lr0": group.get("initial_lr", group["lr"]),
        "momentum": group.get("momentum", (group.get("betas") or [None])[0]),
        "images": {"train": len(trainer.train_loader.dataset), "val": len(trainer.test_loader.dataset)},
        "initial_weights": weights.hexdigest(),
        "versions": versions(),
        "platform": platform.platform(),
    }


def _channels_last(model: Any) -> bool:
    """Whether the weights lie in memory as the trainer turns them to on CUDA: channels last."""
    weights = (value for value in model.parameters() if value.dim() == 4 and value.shape[1] > 1 and value.shape[3] > 1)
    return any(value.stride()[1] == 1 for value in weights)


def _kernels(torch: Any, device: str) -> str:
    """What computes: torch's build, and the instructions or libraries that its kernels use here."""
    if device == "cuda":
        tf32 = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
        return f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}, TF32 {'on' if tf32 else 'off'}"
    return f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def versions() -> Json:
    from importlib import metadata

    found = {"python": sys.version.split()[0]}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
