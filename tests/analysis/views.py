"""Runs as they would have been read, made from a few numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.analysis import analyse, compare
from launcher.analysis.model import MAP50, MAP5095, PRECISION, RECALL, Config, Kind, Results, RunView, Status
from launcher.analysis.reading.run import defaults
from launcher.finding import Finding


def view(
    name: str = "run",
    columns: Mapping[str, Sequence[float]] | None = None,
    seconds: Sequence[float] | None = None,
    positives: int | None = None,
    **arguments: Any,
) -> RunView:
    """A finished folder of Ultralytics with these columns and with all arguments at their defaults but these."""
    series = {column: tuple(map(float, values)) for column, values in (columns or {}).items()}
    count = max((len(values) for values in series.values()), default=len(seconds or ()))
    values = {**defaults(), "model": "yolo11n.pt", "data": "/data/data.yaml", "epochs": count, **arguments}
    return RunView(
        id=name,
        name=name,
        kind=Kind.FOLDER,
        where=Path("/runs", name),
        train=Path("/runs", name),
        results=Results(tuple(range(1, count + 1)), series, tuple(seconds or (10.0,) * count)),
        config=Config(values, defaults=defaults(), source="args.yaml"),
        status=Status.FINISHED,
        status_text="",
        model=str(values["model"]),
        data={"yaml": str(values["data"])},
        positives=positives,
    )


def scored(name: str, map50: float, **arguments: Any) -> RunView:
    """A run of three epochs that ends at, and is best at, this mAP50."""
    rising = [map50 / 3, map50 / 2, map50]
    columns = {MAP50: rising, MAP5095: [value / 2 for value in rising], PRECISION: [0.5] * 3, RECALL: [0.25] * 3}
    return view(name, columns, **arguments)


def said(run: RunView, *references: RunView) -> dict[str, Finding]:
    """What the analysis finds, by code."""
    return {one.code: one for one in analyse(run, references).findings}


def compared(*runs: RunView) -> dict[str, Finding]:
    """What the comparison finds, by code."""
    return {one.code: one for one in compare(runs).findings}
