"""Whether a run agrees with itself: its files with their digests, its table with what else tells the same numbers.

Every epoch's numbers are written down several times: in results.csv, in the worker's event (runs of ours), and in
last.pt and best.pt, into which Ultralytics copies the table so far, and the metrics of the very epoch the weights are
of (engine/trainer.py, save_model). They agree to the digits of results.csv, or one of them is not of this run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from launcher.analysis.model import LABELS, METRICS, Kind, Results, RunView
from launcher.analysis.numbers import best_epoch, fitness
from launcher.analysis.reading import worker
from launcher.errors import SamerunError
from launcher.files import sha256_file
from launcher.parity.inputs.checkpoint import numbers
from launcher.parity.model import Difference
from launcher.parity.model import Kind as Weight
from launcher.runs import events as run_events
from launcher.runs import record as records

DIGITS = 2e-5
"""Relative: results.csv has six digits (five before 8.1), twice rounded."""
ROUNDED = 1.1e-5
"""Absolute: metrics are rounded to five places before anything is written (engine/validator.py)."""
CHECKPOINTS = ("best.pt", "last.pt")
SAVE_MODEL = "ultralytics 8.4.190, engine/trainer.py, save_model"


def contradictions(run: RunView) -> list[Difference]:
    """Everything in which the run denies itself, each kind at its first place."""
    return [*_files(run), *_table(run), *_weights(run)]


def _files(run: RunView) -> Iterator[Difference]:
    """Weights that are not those that the machine wrote down."""
    if run.kind is not Kind.RUN or run.train is None:
        return
    try:
        if not records.read(run.where).checked:
            return
    except SamerunError:
        return
    entries = worker.read_json(run.where / "manifest.json").get("files")
    for entry in entries if isinstance(entries, list) else ():
        path = str(entry.get("path")) if isinstance(entry, dict) else ""
        file = run.where / path
        if path in tuple(f"train/weights/{name}" for name in CHECKPOINTS) and file.is_file():
            digest = sha256_file(file)
            if digest != entry.get("sha256"):
                why = "when the machine wrote it down: the file was exchanged or changed since"
                what = f"sha256 of {file.name} of {run.id}"
                yield Difference(what, digest, entry.get("sha256"), Weight.MUST_EQUAL, why, "manifest.json", 100)


def _table(run: RunView) -> Iterator[Difference]:
    """results.csv against every other copy of it."""
    if any(repair.code == "from-events" for repair in run.results.repairs):
        return
    if run.kind is Kind.RUN:
        yield from _first(run, worker.results(run_events.read(run.where)), "in the worker's event", "events.jsonl")
    for name in CHECKPOINTS:
        held = _held(run, name).get("train_results")
        if isinstance(held, Mapping) and (copy := _results(held)) is not None:
            yield from _first(run, copy, f"in the table inside {name}", SAVE_MODEL)


def _weights(run: RunView) -> Iterator[Difference]:
    """The metrics inside best.pt against the best row, those inside last.pt against the row that its table ends with.

    A table that lacks rows which the checkpoint has (it came back half) is no contradiction: the row that is meant may
    be one of those.
    """
    results = run.results
    inside = _results(_held(run, "last.pt").get("train_results") or {})
    ends = inside.epochs[-1] if inside is not None and inside.epochs else None
    whole = results.epochs[:1] == (1,) and not results.missing and (ends is None or ends <= results.epochs[-1])
    rows = {"best.pt": _only_best(run) if whole else None, "last.pt": ends}
    for name, epoch in rows.items():
        metrics = _held(run, name).get("train_metrics") or {}
        for column in METRICS if epoch is not None else ():
            mine, theirs = results.at(column, epoch or 0), metrics.get(column)
            if mine is not None and isinstance(theirs, float) and not _alike(mine, theirs):
                what = f"{LABELS[column]} of {run.id} in epoch {epoch}, results.csv"
                why = f"inside {name}: the file, or the table, is of something else"
                yield Difference(what, mine, theirs, Weight.MUST_EQUAL, why, SAVE_MODEL, 97)
                break


def _only_best(run: RunView) -> int | None:
    """The epoch of the highest fitness; None where another one is as good, to the digits."""
    values = [value for value in fitness(run.results) if math.isfinite(value)]
    alone = bool(values) and sum(value >= max(values) - ROUNDED for value in values) == 1
    return best_epoch(run.results) if alone else None


def _first(run: RunView, copy: Results, where: str, source: str) -> Iterator[Difference]:
    """The first number of results.csv that a copy has otherwise."""
    for column, values in copy.columns.items():
        if not column.startswith(("metrics/", "train/", "val/")):
            continue
        for epoch, theirs in zip(copy.epochs, values, strict=True):
            mine = run.results.at(column, epoch)
            if mine is not None and math.isfinite(theirs) and not _alike(mine, theirs):
                what = f"{LABELS.get(column, column)} of {run.id} in epoch {epoch}, results.csv"
                why = f"{where}: one of them was edited, or is of another run"
                yield Difference(what, mine, theirs, Weight.MUST_EQUAL, why, source, 98)
                return


def _alike(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=DIGITS, abs_tol=ROUNDED)


def _held(run: RunView, name: str) -> dict[str, Any]:
    return numbers(run.train / "weights" / name) if run.train is not None else {}


def _results(columns: Mapping[Any, Any]) -> Results | None:
    """A table that lies in a checkpoint as lists by column; None for anything else. The last row of an epoch counts."""
    epochs = columns.get("epoch")
    if not isinstance(epochs, list):
        return None
    try:
        rows = {int(epoch): at for at, epoch in enumerate(epochs)}
        named = {str(name).strip(): values for name, values in columns.items() if isinstance(values, list)}
        series = {
            name: tuple(float(values[at]) for at in rows.values())
            for name, values in named.items()
            if len(values) == len(epochs) and all(isinstance(value, (int, float)) for value in values)
        }
    except (TypeError, ValueError, OverflowError):
        return None
    return Results(tuple(rows), series, (math.nan,) * len(rows))
