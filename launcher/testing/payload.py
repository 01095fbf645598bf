"""Runs in the place of the training (`SAMERUN_PAYLOAD`): epochs that take milliseconds, with the worker's real code.

It reads in/job.json like the training, goes on from the newest checkpoint like the training, and sets checkpoints
aside, writes manifests and sends events through the very modules that the training uses. What it leaves are small
files instead of weights. Driven by `train` arguments of the spec and by environment variables:

    train.epochs                how many epochs (default 3)
    SAMERUN_STUB_EPOCH_S        seconds an epoch takes (default 0.02)
    SAMERUN_STUB_FAIL_EPOCH     raise in this epoch
    SAMERUN_STUB_KILL_EPOCH     kill this process in this epoch, the first time it gets there
    SAMERUN_STUB_PRINT          print this text in each epoch
"""

from __future__ import annotations

import os
import signal
import sys
import time


def main(root: str) -> int:
    """Run the epochs that are missing; returns 0, or 1 when told to fail."""
    sys.path.insert(0, os.path.join(root, "in", "worker.pyz"))
    from samerun_worker import checkpoint, manifest  # type: ignore[import-not-found]
    from samerun_worker.box import Box  # type: ignore[import-not-found]
    from samerun_worker.events import Emitter, hold_lifeline  # type: ignore[import-not-found]

    hold_lifeline()
    box, emit = Box(root), Emitter()
    epochs = int(box.job()["train"].get("epochs", 3))
    resume = checkpoint.newest(box) or checkpoint.adopt(box)
    weights = os.path.join(box.train, "weights")
    os.makedirs(weights, exist_ok=True)
    with open(os.path.join(box.train, "args.yaml"), "w", encoding="utf-8") as stream:
        stream.write(f"epochs: {epochs}\n")
    csv = os.path.join(box.train, "results.csv")
    if resume is not None:
        checkpoint.restore(box, resume)
        emit("resumed", epoch=resume.epoch)
    else:
        with open(csv, "w", encoding="utf-8") as stream:
            stream.write("epoch,time,metrics/mAP50(B)\n")
    emit("started", device="cpu", arguments={}, versions={})
    for epoch in range(resume.epoch + 1 if resume else 1, epochs + 1):
        _epoch(box, epoch)
        with open(csv, "a", encoding="utf-8") as stream:
            stream.write(f"{epoch},{epoch * 0.1},{epoch / epochs}\n")
        for name in ("last.pt", "best.pt"):
            with open(os.path.join(weights, name), "wb") as file:
                file.write(f"weights of epoch {epoch}\n".encode() * 100)
        kept = checkpoint.set_aside(box, epoch, epoch == epochs, True)
        manifest.write(box, "epoch", kept.files(), complete=False, epoch=epoch, stop=kept.stop)
        emit("epoch", epoch=epoch, epochs=epochs, metrics={"metrics/mAP50(B)": epoch / epochs}, losses={}, seconds=0.0)
        emit("checkpoint", epoch=epoch)
    return 0


def _epoch(box: object, epoch: int) -> None:
    """What an epoch does instead of training."""
    text = os.environ.get("SAMERUN_STUB_PRINT")
    if text:
        print(text, flush=True)
    time.sleep(float(os.environ.get("SAMERUN_STUB_EPOCH_S", "0.02")))
    if os.environ.get("SAMERUN_STUB_FAIL_EPOCH") == str(epoch):
        raise RuntimeError(f"told to fail in epoch {epoch}")
    if os.environ.get("SAMERUN_STUB_KILL_EPOCH") == str(epoch) and os.environ.get("SAMERUN_RESTART") == "0":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
