"""Runs in the place of the training (`SAMERUN_PAYLOAD`): epochs that take milliseconds, with the worker's real code.

It reads in/job.json like the training, checks what came like the training, goes on from the newest checkpoint like
the training, and sets checkpoints aside, writes manifests and sends events through the very modules that the training
uses. What it leaves are small files instead of weights. Told what to do by `train.epochs` (default 3) and by options:
`stub: {epoch_s: 1}` in job.json, else SAMERUN_STUB_EPOCH_S in the environment.

    epoch_s      seconds an epoch takes (default 0.02)
    fail_epoch   raise in this epoch
    kill_epoch   kill this process in this epoch, the first time it gets there; `kill_always`: every time
    print        print this text in each epoch
    write        write these bytes (hexadecimal) to standard output, once, before the first epoch
    say          print, send as an event and fail with the value of this environment variable
    child_s      start a process that lives so many seconds, as data loaders do; `child_group`: in a group of its own
    data         check the dataset's files: those in/data.json lists, below `data_root` of in/attempt.json
    marks        leave a file in this folder each time it starts: attempt, restart, process, parent
    gate         after epoch `gate_epoch` (default 1), wait until this file is there or its folder is gone
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from typing import Any

GATE_LOOK_S = 0.01
GATE_LIMIT_S = 120.0


class Stub:
    """One start of the payload."""

    def __init__(self, root: str, worker: Any) -> None:
        self.worker = worker
        self.box = worker.Box(root)
        self.emit = worker.Emitter()
        self.job = self.box.job()
        self.attempt = self.box.attempt()
        self.epochs = int(self.job["train"].get("epochs", 3))
        self.hours = self.box.max_hours()
        begun = os.path.getmtime(self.box.started) if os.path.exists(self.box.started) else time.time()
        self.deadline = begun + self.hours * 3600 if self.hours else float("inf")

    def option(self, name: str, default: str = "") -> str:
        """An option's text."""
        held = self.job.get("stub", {}).get(name)
        return str(held) if held is not None else os.environ.get(f"SAMERUN_STUB_{name.upper()}", default)

    def run(self) -> int:
        """Run the epochs that are missing; returns 0, or the code of a training that left for lack of time."""
        self.emit("preparing", what="nothing: this is a stub")
        self._mark(os.environ.get("SAMERUN_RESTART", "0"))
        self._have_child()
        self._check_inputs()
        sys.stdout.buffer.write(bytes.fromhex(self.option("write")))
        sys.stdout.flush()
        resume = self.worker.training.checkpoint.newest(self.box) or self.worker.training.checkpoint.adopt(self.box)
        self._begin(resume)
        for epoch in range(resume.epoch + 1 if resume else 1, self.epochs + 1):
            self._misbehave(epoch)
            self._epoch(epoch)
            if time.time() > self.deadline:
                self.emit("error", reason=f"max_hours ({self.hours}) is over")
                return int(self.worker.EXIT_EXPIRED)
            self._wait_at_gate(epoch)
        return 0

    def _mark(self, what: str) -> None:
        folder = self.option("marks")
        if folder and os.path.isdir(folder):
            name = f"{self.attempt['attempt']}.{what}.{os.getpid()}.{os.getppid()}"
            os.close(os.open(os.path.join(folder, name), os.O_CREAT | os.O_EXCL))

    def _have_child(self) -> None:
        if (seconds := float(self.option("child_s", "0"))) and os.fork() == 0:
            if self.option("child_group"):
                os.setpgid(0, 0)
            self._mark("-1")
            time.sleep(seconds)
            os._exit(0)

    def _check_inputs(self) -> None:
        """Every file that was sent is there with its bytes, like the training's own check; the dataset when told."""
        for path, digest in self.attempt.get("files", {}).items():
            if self.worker.manifest.entry(self.box.inbox, path)["sha256"] != digest:
                raise ValueError(f"in/{path} is not what was sent: its sha256 differs")
        if self.attempt.get("data_root") and not os.path.exists(os.path.join(self.box.inbox, "data.json")):
            from samerun_worker.data import listing as attached  # type: ignore[import-not-found]

            attached.ensure(self.box, self.emit)  # what is attached is read, as by the training
        if self.option("data"):
            listing = self.worker.box.read_json(os.path.join(self.box.inbox, "data.json"))
            for file in listing["files"]:
                if self.worker.manifest.entry(self.attempt["data_root"], file["path"])["sha256"] != file["sha256"]:
                    raise ValueError(f"{file['path']} of the dataset is not what was sent: its sha256 differs")

    def _begin(self, resume: Any) -> None:
        os.makedirs(os.path.join(self.box.train, "weights"), exist_ok=True)
        if resume is not None:
            self.worker.training.checkpoint.restore(self.box, resume)
            self.emit("resumed", epoch=resume.epoch)
        else:
            self._write("results.csv", b"epoch,time,metrics/mAP50(B)\n")
        # Like the training, which names the checkpoint that it goes on from in it: other bytes at each start.
        self._write("args.yaml", f"epochs: {self.epochs}\nstart: {os.getpid()} {time.time_ns()}\n".encode())
        self.emit("started", device="cpu", arguments={}, versions={})
        if name := self.option("say"):
            print(f"the secret is {os.environ[name]}", flush=True)
            self.emit("warning", code="said", text=os.environ[name])
            raise RuntimeError(f"cannot log in with {os.environ[name]}")

    def _misbehave(self, epoch: int) -> None:
        """What an epoch does instead of training."""
        if text := self.option("print"):
            print(text, flush=True)
        time.sleep(float(self.option("epoch_s", "0.02")))
        if self.option("fail_epoch") == str(epoch):
            raise RuntimeError(f"told to fail in epoch {epoch}")
        again = self.option("kill_always") or os.environ.get("SAMERUN_RESTART", "0") == "0"
        if self.option("kill_epoch") == str(epoch) and again:
            os.kill(os.getpid(), signal.SIGKILL)

    def _epoch(self, epoch: int) -> None:
        """What an epoch leaves, in the order in which the training leaves it."""
        share = epoch / self.epochs
        self._write("results.csv", f"{epoch},{epoch * 0.1},{share}\n".encode(), "ab")
        for name in ("last.pt", "best.pt"):
            self._write(os.path.join("weights", name), f"weights of epoch {epoch}\n".encode() * 100)
        kept = self.worker.training.checkpoint.set_aside(self.box, epoch, epoch == self.epochs, True)
        self.worker.training.checkpoint.announce(self.box, kept)
        metrics = {"metrics/mAP50(B)": share}
        self.emit("epoch", epoch=epoch, epochs=self.epochs, metrics=metrics, losses={}, seconds=0.0)
        self.emit("checkpoint", epoch=epoch)

    def _wait_at_gate(self, epoch: int) -> None:
        gate = self.option("gate")
        until = time.monotonic() + GATE_LIMIT_S
        if gate and epoch == int(self.option("gate_epoch", "1")):
            while os.path.isdir(os.path.dirname(gate)) and not os.path.exists(gate) and time.monotonic() < until:
                time.sleep(GATE_LOOK_S)

    def _write(self, name: str, data: bytes, mode: str = "wb") -> None:
        with open(os.path.join(self.box.train, name), mode) as stream:
            stream.write(data)


def main(root: str) -> int:
    """Returns 0 when done, 75 when out of time, 1 when it failed."""
    sys.path.insert(0, os.path.join(root, "in", "worker.pyz"))
    import samerun_worker.box  # type: ignore[import-not-found]
    import samerun_worker.events  # type: ignore[import-not-found]
    import samerun_worker.manifest  # type: ignore[import-not-found]
    import samerun_worker.training.checkpoint  # type: ignore[import-not-found]

    worker = samerun_worker
    worker.Box, worker.EXIT_EXPIRED = worker.box.Box, worker.box.EXIT_EXPIRED
    worker.Emitter = worker.events.Emitter
    worker.events.hold_lifeline()
    try:
        return Stub(root, worker).run()
    except Exception as error:  # noqa: BLE001  the last place that can say why
        traceback.print_exc()
        worker.Emitter()("error", type=type(error).__name__, reason=f"{type(error).__name__}: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
