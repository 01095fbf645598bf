"""Validates one checkpoint, in a process of its own: `python -m launcher.parity.weights.process BOX`.

BOX is laid out as for a training (in/data.json, in/attempt.json) and holds in/validation.json, the arguments. Promises:
the checkpoint is unpickled by Ultralytics' safe loader; the dataset is only looked at; nothing is asked of the network;
never on Apple's GPU, whose metrics were wrong (ultralytics issue 24399).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from launcher.worker.box import Box, read_json, write_json
from launcher.worker.data import view
from launcher.worker.training.train import environment

REQUEST, RESULT = "validation.json", "validation.json"


def main(root: str) -> int:
    """Validate; writes out/validation.json: metrics, device, number of true boxes, seconds, versions."""
    box = Box(root)
    box.make()
    request = read_json(str(Path(box.inbox, REQUEST)))
    environment(box)
    begun = time.monotonic()
    found = _validated(box, request)
    write_json(str(Path(box.out, RESULT)), {**found, "seconds": round(time.monotonic() - begun, 3)})
    return 0


def _validated(box: Box, request: dict[str, Any]) -> dict[str, Any]:
    import torch
    from ultralytics import YOLO

    device = "0" if torch.cuda.is_available() else "cpu"
    model = YOLO(str(request["weights"]))
    data = view.make(box)
    done = model.val(data=data, device=device, project=box.work, name="val", **request["arguments"])
    metrics = {name: float(value) for name, value in done.results_dict.items() if name.startswith("metrics/")}
    boxes = int(sum(done.nt_per_class)) if getattr(done, "nt_per_class", None) is not None else None
    return {
        "metrics": metrics,
        "device": "cuda" if device == "0" else "cpu",
        "boxes": boxes,
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
