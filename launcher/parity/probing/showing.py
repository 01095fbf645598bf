"""A comparison of two probes as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = {
    "first_values": "first layer",
    "head_values": "head",
    "assigned": "assigned",
    "box_loss": "box",
    "cls_loss": "cls",
    "dfl_loss": "dfl",
    "gradient_values": "gradient",
    "weights_values": "weights",
}


def table(found: Mapping[str, Any]) -> list[str]:
    """Relative differences by step (0: equal to the bit), then what the loader says."""
    kernel, loader = found["kernel"], found["loader"]
    lines = []
    if steps := kernel.get("steps"):
        names = [name for name in COLUMNS if name in steps[0]]
        lines.append("step  " + "  ".join(f"{COLUMNS[name]:>11}" for name in names))
        lines += [
            f"{number:>4}  " + "  ".join(f"{_cell(step.get(name)):>11}" for name in names)
            for number, step in enumerate(steps)
        ]
    lines.append(f"kernels: {kernel['verdict']}: {kernel['reason']}")
    lines.append(f"loader: {loader['verdict']}: {loader['reason']}")
    return lines


def _cell(value: object) -> str:
    if not isinstance(value, (int, float)):
        return "-"
    return "0" if value == 0 else f"{value:.1e}"
