"""Evidence, tables and folders of runs, made from a seed and a few numbers."""

from __future__ import annotations

import csv
import io
import math
import pickle
import random
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from launcher.analysis.changes import QUIET
from launcher.analysis.model import MAP50, MAP5095, PRECISION, RECALL
from launcher.analysis.reading.run import defaults
from launcher.parity.curves.series import Table
from launcher.parity.inputs import evidence as e
from launcher.parity.inputs.evidence import Evidence

EPOCHS = 10
SPREAD = {MAP5095: 0.016, MAP50: 0.006, PRECISION: 0.01, RECALL: 0.018}
LEVELS = {MAP5095: 0.716, MAP50: 0.951, PRECISION: 0.94, RECALL: 0.914}
LOSSES = {"box": 1.2, "cls": 0.9, "dfl": 1.0}
CV = 0.03
HEADER = (
    "epoch",
    "time",
    *(f"train/{name}_loss" for name in LOSSES),
    *LEVELS,
    *(f"val/{name}_loss" for name in LOSSES),
    "lr/pg0",
)


def trained(seed: int, name: str = "", *, epochs: int = EPOCHS, shift: float = 0.0, loss: float = 1.0) -> Table:
    """A table as a training of this seed could have written it: the spread is that measured on the small reef.

    `shift` is added to all metrics, `loss` multiplies all losses.
    """
    draw = random.Random(seed)
    columns: dict[str, tuple[float, ...]] = {}
    for metric, level in LEVELS.items():
        of_run = draw.gauss(0, SPREAD[metric])
        course = [level * (1 - math.exp(-(at + 1) / 2)) for at in range(epochs)]
        columns[metric] = tuple(value + of_run + shift + draw.gauss(0, SPREAD[metric] / 4) for value in course)
    for split in ("train", "val"):
        for part, level in LOSSES.items():
            of_run = draw.gauss(1, CV / 2)
            columns[f"{split}/{part}_loss"] = tuple(
                level * loss * (1 + 2 / (at + 1)) * of_run * draw.gauss(1, CV) for at in range(epochs)
            )
    columns["lr/pg0"] = tuple(0.01 * (1 - at / epochs) for at in range(epochs))
    return Table(name or f"seed{seed}", tuple(range(1, epochs + 1)), columns, {}, columns[MAP5095], epochs, False)


def without(table: Table, column: str = "", epochs: Sequence[int] = ()) -> Table:
    """The table with a column or epochs taken out."""
    kept = [at for at, epoch in enumerate(table.epochs) if epoch not in epochs]
    columns = {name: tuple(values[at] for at in kept) for name, values in table.columns.items() if name != column}
    fitness = tuple(table.fitness[at] for at in kept)
    fitness = tuple(math.nan for _ in fitness) if column == MAP5095 else fitness
    return replace(table, epochs=tuple(table.epochs[at] for at in kept), columns=columns, fitness=fitness)


def changed(table: Table, column: str, epoch: int, value: float) -> Table:
    """The table with one number changed."""
    at = table.epochs.index(epoch)
    values = table.columns[column]
    return replace(table, columns={**table.columns, column: (*values[:at], value, *values[at + 1 :])})


def known(run: str = "run", **changes: Any) -> Evidence:
    """All that is known of a run of ours; `changes` by field with `__` for a dot and `_` for what it is."""
    fields: dict[str, Any] = {f"{e.ARGUMENT}{name}": value for name, value in defaults().items() if name not in QUIET}
    fields |= {
        e.MODEL: "yolo11n.yaml",
        e.INITIAL: "a" * 64,
        e.RESTARTS: [],
        e.ENDED: "finished",
        e.BATCHES: [16],
        "worker": "b" * 64,
        "bundle": "c" * 64,
    }
    fields |= {f"{e.DATA}{name}": name[0] * 64 for name in e.DIGESTS}
    fields |= {f"{e.FILE}{name}": e.INTACT for name in e.FILES}
    fields |= {f"{e.VERSION}ultralytics": "8.4.190", f"{e.VERSION}torch": "2.15.0", f"{e.VERSION}python": "3.11.7"}
    had = {"device": "cpu", "amp": False, "batch": 16, "accumulate": 4, "workers": 0, "threads": 2, "world_size": 1}
    had |= {"optimizer": "AdamW", "lr0": 0.002, "momentum": 0.9, "images": {"train": 8, "val": 8}}
    fields |= {f"{e.HAD}{name}": value for name, value in had.items()}
    return Evidence(run, {**fields, **{name.replace("__", "."): value for name, value in changes.items()}})


def lacking(evidence: Evidence, *names: str) -> Evidence:
    """The evidence without these fields."""
    return replace(evidence, fields={name: value for name, value in evidence.fields.items() if name not in names})


def weights(tensors: Sequence[bytes], date: str = "", train_args: Mapping[str, Any] | None = None) -> bytes:
    """A checkpoint laid out as torch.save does: data.pkl and the bytes of each tensor."""
    held = {"epoch": -1, "date": date, "version": "8.4.190", "train_args": dict(train_args or {})}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("best/data.pkl", pickle.dumps(held, protocol=2))
        for number, data in enumerate(tensors):
            archive.writestr(f"best/data/{number}", data)
        archive.writestr("best/version", "3\n")
    return file.getvalue()


def written(folder: Path, table: Table, tensors: Sequence[bytes] = (b"w",), **arguments: Any) -> Path:
    """A folder as Ultralytics leaves it: args.yaml, results.csv, weights."""
    (folder / "weights").mkdir(parents=True)
    values = {
        **defaults(),
        "model": "yolo11n.yaml",
        "data": "/data/reef.yaml",
        "epochs": len(table.epochs),
        **arguments,
    }
    (folder / "args.yaml").write_text(yaml.safe_dump(values))
    (folder / "results.csv").write_text(csv_text(table))
    chosen = {**arguments, "optimizer": "AdamW", "lr0": 0.002, "momentum": 0.9, "batch": 16}
    for name in ("best.pt", "last.pt"):
        (folder / "weights" / name).write_bytes(weights(tensors, str(folder), chosen))
    (folder / "results.png").write_bytes(b"drawn")
    return folder


def csv_text(table: Table, *, padded: bool = False) -> str:
    """A results.csv; `padded` as before 8.1, with blanks around the names."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name.rjust(23) for name in HEADER] if padded else HEADER)
    for at, epoch in enumerate(table.epochs):
        numbers = [table.columns[name][at] if name in table.columns else math.nan for name in HEADER[2:]]
        writer.writerow([epoch, round(10.5 * (at + 1), 2), *(f"{value:.6g}" for value in numbers)])
    return out.getvalue()
