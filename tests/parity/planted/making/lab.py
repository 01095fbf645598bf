"""Real small trainings, many in a few minutes: forked from one process that has imported torch, by our own worker.

A run folder that comes of it is what `launch` leaves, made by the same code but for the supervisor: the worker's
`Training` writes train/, checkpoints and events, here they are numbered and put beside a record as the driver would.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import yaml

from launcher.analysis import load_run
from launcher.bundle.pack import Bundle
from launcher.data.check import examine
from launcher.data.dataset import read_dataset
from launcher.parity.weights import process, validating
from launcher.registry import load
from launcher.runs import create
from launcher.runs import record as records
from launcher.runs.record import AttemptRecord
from launcher.runs.state import RunState
from launcher.settings import Settings
from launcher.spec.load import LoadedSpec, load_spec
from launcher.worker import manifest
from launcher.worker.box import Box
from tests.parity.planted.making import datasets
from tests.parity.planted.making.faults import fault

EPOCHS = 4
SIDE = 96
TRAIN = {
    "epochs": EPOCHS, "imgsz": SIDE, "batch": 8, "nbs": 8, "optimizer": "AdamW", "lr0": 0.001, "warmup_epochs": 1,
    "warmup_bias_lr": 0.0, "mosaic": 0.0, "workers": 0, "seed": 0, "plots": False,
}  # fmt: skip
"""warmup_bias_lr as `optimizer: auto` sets it for AdamW: with the default 0.1 one seed in nine fell out (mAP50-95 0.12,
the others 0.19 with a standard deviation of 0.006), and no interval from seeds that did not can hold one that does."""
BEFORE = {**TRAIN, "epochs": 14, "batch": 16, "nbs": 16, "lr0": 0.004, "val": False}
BEGUN = 1790000000.0
"""When every run began: a date would make each recording another one."""


@dataclass(frozen=True)
class Recipe:
    """How one run comes about. `data` is what its record says, `had` what its trainer really read (empty: the same).

    `killed`: epochs at whose beginning the process dies, and is started again unless `lost`.
    """

    name: str
    train: dict[str, Any] = field(default_factory=dict)
    data: str = "reef"
    had: str = ""
    fault: str = ""
    start: str = "before"
    killed: tuple[int, ...] = ()
    lost: bool = False


class Lab:
    """Datasets, initial weights and run folders below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = replace(Settings.load({}), cache_dir=folder / "cache", runs_dir=folder / "runs")
        self._backend = load("local", self.settings)
        self._datasets: dict[str, create.Data] = {}

    def prepare(self) -> None:
        """Import torch, draw the reef, train the weights that all runs begin from. Takes about a minute."""
        from launcher.worker.training.train import environment

        here = Path.cwd()
        environment(Box(str(self.folder / "parent")))
        os.chdir(here)
        import torch
        from ultralytics import YOLO  # noqa: F401  imported once, for all that are forked

        torch.set_num_threads(1)  # a pool of threads does not survive a fork
        for name, seed in (("before", 3), ("elsewhere", 4)):
            if not self.weights(name).is_file():
                forked(functools.partial(self._before, name, seed), self.folder / f"{name}.log")

    def weights(self, name: str) -> Path:
        """Weights that a training begins from."""
        return self.folder / "weights" / f"{name}.pt"

    def data(self, name: str) -> create.Data:
        """A dataset, drawn or changed when it is first asked for."""
        if name not in self._datasets:
            yaml_file = self.folder / "data" / name / "data.yaml"
            if not yaml_file.is_file():
                yaml_file.parent.parent.mkdir(parents=True, exist_ok=True)
                if name == "reef":
                    datasets.reef(yaml_file.parent, datasets.TRAIN)
                else:
                    self.data("reef")
                    datasets.variant(self.folder / "data" / "reef" / "data.yaml", yaml_file.parent, name)
            dataset = read_dataset(yaml_file)
            found = examine(dataset, self.settings.cache_dir / "digests.sqlite")
            assert not found.problems, found.problems
            self._datasets[name] = create.Data(dataset, found)
        return self._datasets[name]

    def spec(self, recipe: Recipe) -> LoadedSpec:
        """The spec that a user would write."""
        file = self.folder / "specs" / f"{slug(recipe.name)}.yaml"
        file.parent.mkdir(exist_ok=True)
        self.data(recipe.data)
        values = {
            "model": str(self.weights(recipe.start)),
            "data": str(self.folder / "data" / recipe.data / "data.yaml"),
            "train": {**TRAIN, **recipe.train},
        }
        file.write_text(yaml.safe_dump(values))
        return load_spec(file)

    def run(self, recipe: Recipe) -> Path:
        """Train by a recipe; returns the run folder, which is there already if it was made before."""
        folder = self.settings.runs_dir / slug(recipe.name)
        if folder.is_dir():
            return folder
        (self.folder / "logs").mkdir(exist_ok=True)
        loaded, data = self.spec(recipe), self.data(recipe.data)
        bundle = create.pack_bundle(self.settings, loaded, data)
        box = self.lay(folder.name, bundle, self.data(recipe.had or recipe.data))
        code = 1
        for at in (*recipe.killed, 0) if not recipe.lost else recipe.killed:
            code = forked(functools.partial(_train, box, recipe.fault, at), Path(box.root, "log.txt"))
        manifest.write_final(box, complete=code == 0)
        record = create.draft(self.settings, folder.name, loaded, data, bundle, self._backend)
        self._keep(box, folder, record, loaded, done=code == 0)
        shutil.copyfile(Path(box.root, "log.txt"), self.folder / "logs" / f"{folder.name}.txt")
        shutil.rmtree(box.root)
        return folder

    def lay(self, name: str, bundle: Bundle, data: create.Data) -> Box:
        """A box as the local backend lays it out; `data` is what the machine will read."""
        box = Box(str(self.folder / "boxes" / name))
        shutil.rmtree(box.root, ignore_errors=True)
        box.make()
        for file in bundle.files:
            target = Path(box.inbox, file.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.source, target)
        Path(box.inbox, "data.json").write_bytes(create.listing(data))
        files = {file.path: file.sha256 for file in bundle.files if file.path != "data.json"}
        attempt = {"version": 1, "attempt": f"{name}-a1", "device": "cpu", "data_root": str(data.dataset.root)}
        attempt |= {"verify_data": False, "files": files}
        Path(box.inbox, "attempt.json").write_text(json.dumps(attempt))
        return box

    def validated(self, folder: Path) -> validating.Validation:
        """Have best.pt validated, by the product's own code, forked: torch is not imported each time. It is kept."""
        forking = SimpleNamespace(
            run=lambda argv, **_: _Done(argv[-1]), DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
        )
        with mock.patch("launcher.parity.weights.validating.subprocess", forking):
            return validating.of([load_run(folder, self.settings)], start=True, settings=self.settings)[0]

    def _before(self, name: str, seed: int) -> None:
        from ultralytics import YOLO

        data = self.folder / "data" / "before"
        if not data.is_dir():
            datasets.reef(data, datasets.BEFORE)
        package = Path(sys.modules["ultralytics"].__file__ or "").parent
        text = yaml.safe_load((package / "cfg/models/11/yolo11.yaml").read_text())
        text["scales"] = {"n": [0.33, 0.125, 256]}
        model = self.folder / "yolo11n-narrow.yaml"
        model.write_text(yaml.safe_dump(text))
        place = self.folder / "trained" / name
        arguments = {**BEFORE, "seed": seed, "save_dir": str(place), "device": "cpu", "exist_ok": True, "amp": False}
        YOLO(str(model)).train(data=str(data / "data.yaml"), **arguments)
        self.weights(name).parent.mkdir(exist_ok=True)
        shutil.copyfile(place / "weights" / "last.pt", self.weights(name))

    def _keep(self, box: Box, folder: Path, record: records.RunRecord, loaded: LoadedSpec, *, done: bool) -> None:
        folder.mkdir(parents=True)
        shutil.copytree(box.train, folder / "train")
        shutil.copyfile(box.manifest, folder / "manifest.json")
        (folder / "spec.yaml").write_text(loaded.yaml_text())
        events = _numbered(Path(box.root, "events"), f"{folder.name}-a1")
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        started = [event for event in events if event["event"] == "started"]
        fields = {k: v for k, v in started[-1].items() if k not in ("attempt", "seq", "time", "event")}
        attempt = AttemptRecord(f"{folder.name}-a1", 1, "local", BEGUN, started=fields, exit_code=int(not done))
        state = RunState.VERIFIED if done else RunState.FAILED
        record = replace(record, attempts=(attempt,), state=state, created=BEGUN, updated=BEGUN, checked={"files": 1})
        records.write(folder, record)


class _Done:
    """What subprocess.run says of a forked validation."""

    def __init__(self, box: str) -> None:
        self.returncode = forked(lambda: process.main(box), Path(box, "log.txt"))
        log = Path(box, "log.txt")
        self.stderr = log.read_bytes() if log.is_file() else b""


def forked(work: Callable[[], Any], log: Path) -> int:
    """Do something in a forked process, its output in a file; returns its exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if not child:
        code = 1
        try:
            fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            code = int(work() or 0)
        except BaseException:  # noqa: BLE001  a forked process must not go on in its parent's code
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _train(box: Box, name: str, killed_at: int) -> int:
    """The training process. `killed_at`: the epoch at whose beginning it dies; 0 for never."""
    from launcher.worker.events import FD_VARIABLE, Emitter
    from launcher.worker.training.train import Training, temporary

    fd = os.open(Path(box.root, "events"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.environ[FD_VARIABLE] = str(fd)
    os.chdir(box.work)
    temporary(box)

    class Dying(Training):
        def on_train_batch_end(self, trainer: Any) -> None:
            super().on_train_batch_end(trainer)
            if trainer.epoch + 1 == killed_at:
                os._exit(9)

    with fault(name):
        training = Dying(box, Emitter())
        training.check_versions()
        training.run()
    return 0


def _numbered(file: Path, attempt: str) -> list[dict[str, Any]]:
    """The worker's lines as the supervisor passes them on, without what is of one machine's minute only."""
    events = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    head = [{"attempt": attempt, "seq": at, "time": BEGUN + at} for at in range(1, len(events) + 1)]
    return [{**first, **event} for first, event in zip(head, events, strict=True)]


def slug(name: str) -> str:
    """A recipe's name as that of a folder."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower())


def elsewhere(folder: Path, *names: str) -> Lab:
    """A lab in which these recipes were made, by a process of its own: what it imports and sets stays there."""
    argv = [sys.executable, "-m", "tests.parity.planted.making.lab", str(folder), "0/1", *names]
    done = subprocess.run(argv, cwd=Path(__file__).parents[4], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return Lab(folder)


def main(folder: str, share: str = "0/1", *names: str) -> None:
    """`python -m tests.parity.planted.making.lab FOLDER [NUMBER/OF [NAME...]]`: all recipes, or every OF-th."""
    from tests.parity.planted.making.recipes import recipes

    lab, (number, of) = Lab(Path(folder).resolve()), map(int, share.split("/"))
    lab.prepare()
    for name in list(names or recipes())[number::of]:
        begun = time.monotonic()
        made = lab.run(recipes()[name])
        lab.validated(made)
        print(f"{made.name} in {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
