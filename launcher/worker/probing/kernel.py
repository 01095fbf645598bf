"""The steps: forward, loss, backward, update on fixed batches from fixed weights, and what is written down of each.

The optimizer is plain SGD with a fixed rate behind Ultralytics' own clipping, whatever the run's is: its update is
linear in the gradient, so what it adds to a difference is that difference. AdamW's first update is the gradient's sign:
it makes noise in a gradient near zero as large as any other, and `optimizer: auto` would choose by the length of the
run. (An optimizer that is broken on a device is not seen by this.)

Beside norms a sample of values is kept, always the same elements: noise without direction changes the norm of n values
by its own size over the square root of n, and is plain to see in the values.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..box import Json

RATE = 2e-4
"""Such that noise does not grow from step to step (measured, see `tolerances`): each step is as sharp a test as the
first, and the update is still some 200 times the rounding of the weights."""
CLIP = 10.0
"""Largest gradient norm, as in Ultralytics' `optimizer_step`."""
SAMPLE = 64
"""Values kept of each quantity that is a field of numbers."""


class Watch:
    """Keeps what passes by in a forward pass: the first layer's output, the head's, and the assigner's choice."""

    def __init__(self, model: Any) -> None:
        from ultralytics.utils.tal import TaskAlignedAssigner

        self.first: Any = None
        self.head: Any = None
        self.assigned: list[int] = []
        self.scores: list[float] = []
        layers = model.model
        self._hooks = [layers[0].register_forward_hook(self._first), layers[-1].register_forward_hook(self._head)]
        self._class, self._forward = TaskAlignedAssigner, TaskAlignedAssigner.forward
        watch = self

        def forward(assigner: Any, *args: Any, **more: Any) -> Any:
            found = watch._forward(assigner, *args, **more)
            watch.assigned.append(int(found[3].sum()))
            watch.scores.append(float(found[2].detach().cpu().double().sum()))
            return found

        TaskAlignedAssigner.forward = forward

    def close(self) -> None:
        """Leave everything as it was."""
        for hook in self._hooks:
            hook.remove()
        self._class.forward = self._forward

    def begin(self) -> None:
        """Forget the former pass."""
        self.assigned, self.scores = [], []

    def _first(self, module: Any, given: Any, output: Any) -> None:
        self.first = output.detach()

    def _head(self, module: Any, given: Any, output: Any) -> None:
        self.head = output


def run(model: Any, batches: list[dict[str, Any]], steps: int) -> Json:
    """Take the steps, batch after batch in turn; the model is changed. Returns what was computed, as JSON values.

    A batch: `img`, float32 (n, 3, h, w) in 0..1, and its targets `cls`, `bboxes`, `batch_idx`, all on the device.
    """
    import torch

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    model.train()
    watch = Watch(model)
    try:
        done = [_step(model, optimizer, parameters, batches[step % len(batches)], watch) for step in range(steps)]
    finally:
        watch.close()
    return {"steps": done, "weights_digest": state_digest(model)}


def losses(model: Any, batch: dict[str, Any]) -> Json:
    """The loss components of one batch, by Ultralytics' names; nothing is learned from it."""
    import torch

    model.train()
    with torch.no_grad():
        return _components(model(dict(batch))[1])


def state_digest(model: Any) -> str:
    """SHA-256 of the state dict, as in the training's `started` event."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _step(model: Any, optimizer: Any, parameters: list[Any], batch: dict[str, Any], watch: Watch) -> Json:
    import torch

    optimizer.zero_grad()
    watch.begin()
    loss, items = model(dict(batch))
    loss.sum().backward()
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    found = {
        "first": number(_norm([watch.first])),
        "first_values": _sample([watch.first]),
        "head": number(_norm(_tensors(watch.head))),
        "head_values": _sample(_tensors(watch.head)),
        "assigned": sum(watch.assigned),
        "assigned_score": number(sum(watch.scores)),
        "losses": _components(items),
        "gradient": number(_norm(gradients)),
        "gradient_values": _one_of_each(gradients),
    }
    torch.nn.utils.clip_grad_norm_(parameters, max_norm=CLIP)
    optimizer.step()
    return {**found, "weights": number(_norm(parameters)), "weights_values": _one_of_each(parameters)}


def _components(items: Any) -> Json:
    """Loss components as Ultralytics names them; older versions give a tensor without names."""
    if isinstance(items, dict):
        return {name: number(float(value)) for name, value in items.items()}
    names = ("box_loss", "cls_loss", "dfl_loss")
    return {name: number(float(value)) for name, value in zip(names, items, strict=True)}


def number(value: float) -> float | None:
    """JSON has no word for what is no number."""
    return value if math.isfinite(value) else None


def _norm(tensors: list[Any]) -> float:
    """Added up in float64, on the CPU: Apple's GPU has no such numbers."""
    return math.sqrt(sum(float(tensor.detach().cpu().double().square().sum()) for tensor in tensors))


def _tensors(value: Any) -> list[Any]:
    """Every tensor in what a head gives: a dict, a list, or lists in dicts; in order of names."""
    if isinstance(value, dict):
        return [tensor for name in sorted(value) for tensor in _tensors(value[name])]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value] if hasattr(value, "detach") else []


def _sample(tensors: list[Any]) -> list[float | None]:
    """SAMPLE values at even distances in logical order, whatever the memory format, some of each tensor."""
    each = max(1, SAMPLE // max(1, len(tensors)))
    found: list[float | None] = []
    for tensor in tensors[:SAMPLE]:
        flat = tensor.detach().cpu().reshape(-1).double()
        pace = max(1, len(flat) // each)
        found += [number(float(value)) for value in flat[pace // 2 :: pace][:each]]
    return found


def _one_of_each(tensors: list[Any]) -> list[float | None]:
    """The middle value of SAMPLE tensors at even distances."""
    pace = max(1, len(tensors) // SAMPLE)
    flat = [tensor.detach().reshape(-1) for tensor in tensors[pace // 2 :: pace][:SAMPLE]]
    return [number(float(values[len(values) // 2])) for values in flat]
