"""How far apart two computations of the same probe are: `python -m benchmarks.probe_noise BOX...`.

Each BOX is a folder in which `worker.pyz probe` has made a probe (out/probe/, out/probe.json). Its steps are taken
again here with other numbers of threads, without oneDNN, in another memory format, with float64, and with noise put on
purpose; printed are the largest relative differences by step from the plain computation. It is what the numbers in
launcher/worker/probing/tolerances.py were measured with.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def main(folders: list[str]) -> None:
    """Measure and print, a table a box."""
    import torch

    for folder in folders:
        box = Path(folder)
        steps = json.loads((box / "out/probe.json").read_bytes())["batches"]["steps"]
        torch.set_num_threads(1)
        plain = _compute(box, steps)
        print(f"## {box.name}")
        for name, change in _changes(torch).items():
            torch.set_num_threads(1)
            with change():
                found = _compute(box, steps, double=name == "float64", last=name == "channels last")
            for step in range(steps):
                row = _differences(found["steps"][step], plain["steps"][step])
                print(f"{name:>22} {step} " + "  ".join(f"{key} {value:.1e}" for key, value in row.items()), flush=True)


def _compute(box: Path, steps: int, *, double: bool = False, last: bool = False) -> Any:
    import torch
    from ultralytics import YOLO

    from launcher.worker.probing import kernel, tensors
    from launcher.worker.probing.probe import TARGETS, _on

    came = tensors.read(str(box / "out/probe/batches.npz"))
    weights = tensors.read(str(box / "out/probe/weights.npz"))
    model = _model(YOLO, box, weights)
    state = model.state_dict()
    model.load_state_dict({name: torch.from_numpy(weights[name]).to(state[name].dtype) for name in state})
    kinds = ("img", *TARGETS)
    batches = [_on({k: came[f"{i}.{k}"] for k in kinds}, torch.device("cpu")) for i in range(int(came["batches"]))]
    if double:
        model = model.double()
        batches = [{**batch, "img": batch["img"].double()} for batch in batches]
    if last:
        model = model.to(memory_format=torch.channels_last)
    return kernel.run(model, batches, steps)


def _model(yolo: Any, box: Path, weights: dict[str, Any]) -> Any:
    from types import SimpleNamespace

    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    job = json.loads((box / "in/job.json").read_bytes())
    names = [name for name in weights if ".cv3.0.2.bias" in name]
    model = DetectionModel(yolo(job["model"]).model.yaml, nc=len(weights[names[0]]), verbose=False)
    arguments = vars(get_cfg())
    model.args = SimpleNamespace(**{**arguments, **{k: v for k, v in job["train"].items() if k in arguments}})
    for name, value in model.named_parameters():
        value.requires_grad = ".dfl" not in name
    return model


def _changes(torch: Any) -> dict[str, Callable[[], Any]]:
    @contextmanager
    def nothing() -> Iterator[None]:
        yield

    @contextmanager
    def threads() -> Iterator[None]:
        torch.set_num_threads(2)
        yield

    @contextmanager
    def no_mkldnn() -> Iterator[None]:
        with torch.backends.mkldnn.flags(enabled=False):
            yield

    def noise(size: float) -> Callable[[], Any]:
        @contextmanager
        def put() -> Iterator[None]:
            from ultralytics.nn.modules.conv import Conv

            forward, generator = Conv.forward, torch.Generator().manual_seed(0)

            def noisy(self: Any, x: Any) -> Any:
                made = forward(self, x)
                return made * (1 + size * torch.randn(made.shape, generator=generator, dtype=made.dtype))

            Conv.forward = noisy
            yield
            Conv.forward = forward

        return put

    found: dict[str, Callable[[], Any]] = {
        "again": nothing, "2 threads": threads, "no mkldnn": no_mkldnn, "channels last": nothing, "float64": nothing,
    }  # fmt: skip
    if os.environ.get("QUICK"):
        return found
    return {**found, **{f"noise {size:g}": noise(size) for size in (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)}}


def _differences(ours: Any, reference: Any) -> dict[str, float]:
    from launcher.worker.probing.compare import differences

    found = differences(ours, reference)
    losses = max(value for name, value in found.items() if name.endswith("_loss"))
    kept = {name: value for name, value in found.items() if not name.endswith("_loss")}
    return {**kept, "losses": losses}


if __name__ == "__main__":
    main(sys.argv[1:])
