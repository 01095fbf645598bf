"""A training through `launch` against the same training by Ultralytics alone, in turns. It takes minutes.

Both train jobspecs/smoke.yaml's model with its arguments, on the built-in reef, on the same number of threads, with
the same settings of Ultralytics (no network, no telemetry), each in a Python process of its own whose start counts.
Ultralytics alone gets a copy of the dataset, because it writes its caches into it; the caches of one round are there
in the next. Two numbers: the whole command's wall clock, and the time of an epoch as the training itself wrote it.
A fixed cost weighs the more the shorter the training is, so it is also given in seconds.
"""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import Options, Table, Target, environment, execute, failure, launch, middle, python, ratio

ROUNDS = 3
LIMIT = 1.02
SPEC = Path(__file__).resolve().parent.parent / "jobspecs" / "smoke.yaml"
DIRECT = """
import json, os, shutil, sys
job = json.loads(open(sys.argv[1]).read())
fonts = os.path.join(os.environ["YOLO_CONFIG_DIR"], "Ultralytics")
os.makedirs(fonts, exist_ok=True)
import matplotlib
font = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
for name in ("Arial.ttf", "Arial.Unicode.ttf"):  # as samerun's worker does: else Ultralytics would fetch them
    shutil.copyfile(font, os.path.join(fonts, name))
from ultralytics import YOLO, settings
off = ("sync", "clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb")
settings.update({key: False for key in off if key in settings})
YOLO(job["model"]).train(**job["train"], data=job["data"], device=job["device"], save_dir=sys.argv[2], exist_ok=True)
"""
ALONE, OURS = "Ultralytics alone", "launch SPEC"


class Bench:
    """The two commands, and the time of each epoch as results.csv has it."""

    def __init__(self, options: Options) -> None:
        self.home, self.epochs = options.home, options.epochs
        self.direct = self.home / "direct.py"
        self.direct.write_text(DIRECT)
        quiet = {
            "YOLO_CONFIG_DIR": str(self.home / "cfg"),
            "YOLO_OFFLINE": "1",
            "YOLO_AUTOINSTALL": "0",
            "ULTRALYTICS_SAFE_LOAD": "1",
            "MPLCONFIGDIR": str(self.home / "mpl"),
            "XDG_CACHE_HOME": str(self.home / "xdg"),
        }
        self.env = environment(self.home, quiet)
        self.submit = [launch(), str(SPEC), "--set", f"train.epochs={self.epochs}", "--set", "resources.device=cpu"]
        self.commands: dict[str, list[str]] = {}

    def prepare(self) -> None:
        """Have the dataset drawn and packed, and write down what Ultralytics alone is asked for."""
        import yaml

        warm = [*self.submit, "--dry-run"]
        if execute(warm, self.env, self.home).code:
            raise RuntimeError(f"launch SPEC --dry-run: {failure(warm, self.env, self.home)}")
        made = next((self.home / "cache" / "reef").glob("*/data.yaml"))
        shutil.copytree(made.parent, self.home / "data")
        spec = yaml.safe_load(SPEC.read_text())
        train = {**spec["train"], "epochs": self.epochs}
        job = {"model": spec["model"], "train": train, "data": str(self.home / "data" / "data.yaml"), "device": "cpu"}
        (self.home / "job.json").write_text(json.dumps(job))
        self.commands[ALONE] = [python(), str(self.direct), str(self.home / "job.json"), str(self.home / "alone")]
        self.commands[OURS] = self.submit

    def round(self, name: str) -> tuple[float, float, float]:
        """Seconds: the whole command, a median epoch after the first, and all epochs as the training counted them."""
        argv = self.commands[name]
        shutil.rmtree(self.home / "alone", ignore_errors=True)
        shutil.rmtree(self.home / "runs", ignore_errors=True)
        run = execute(argv, self.env, self.home)
        if run.code:
            raise RuntimeError(f"{name} ended with {run.code}: {failure(argv, self.env, self.home)}")
        root = self.home / "alone" if name == ALONE else next((self.home / "runs").glob("*/train"))
        with (root / "results.csv").open(newline="") as stream:
            ends = [float(row["time"]) for row in csv.DictReader(stream, skipinitialspace=True)]
        steps = [later - earlier for earlier, later in itertools.pairwise(ends)] or ends
        return run.wall, statistics.median(steps), ends[-1]


def measure(options: Options) -> list[Table]:
    """One table. The first round fills caches and does not count; who begins changes from round to round."""
    bench = Bench(options)
    bench.prepare()
    found: dict[str, list[tuple[float, float, float]]] = {ALONE: [], OURS: []}
    for number in range((options.rounds or ROUNDS) + 1):
        for name in list(found)[:: 1 if number % 2 else -1]:
            seconds = bench.round(name)
            if number:
                found[name].append(seconds)
    return [_table(found, options.epochs)]


def _table(found: Mapping[str, Sequence[tuple[float, float, float]]], epochs: int) -> Table:
    rows = []
    for name, rounds in found.items():
        parts = list(zip(*rounds, strict=True))
        base = list(zip(*found[ALONE], strict=True))
        cells = [(middle(mine, 2), f"{ratio(mine, unit):.3f}") for mine, unit in zip(parts, base, strict=True)]
        rows.append((name, *itertools.chain.from_iterable(cells)))
    walls, alone = [one[0] for one in found[OURS]], [one[0] for one in found[ALONE]]
    fixed = statistics.median(a - b for a, b in zip(walls, alone, strict=True))
    epoch = ratio([one[1] for one in found[OURS]], [one[1] for one in found[ALONE]])
    columns = ("way", "wall s: median (min)", "ratio", "an epoch s", "ratio", "all epochs s", "ratio")
    targets = (
        Target("whole command against Ultralytics alone", ratio(walls, alone), LIMIT, "x"),
        Target("an epoch against Ultralytics alone", epoch, LIMIT, "x"),
    )
    notes = (f"launch costs {fixed:.2f} s more in a command of {statistics.median(alone):.0f} s",)
    title = f"overhead: {SPEC.name}, {epochs} epochs, {len(walls)} rounds"
    return Table(title, columns, tuple(rows), targets, notes)
