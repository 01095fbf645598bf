"""Analyses made by hand: every field can be filled with what a test wants to see on the page."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.analysis.model import (
    LABELS,
    LOSSES,
    METRICS,
    Analysis,
    Change,
    Comparison,
    ComparisonRow,
    Config,
    Difference,
    FileRow,
    Interval,
    Kind,
    LossRow,
    Mark,
    MetricRow,
    Moment,
    NextRun,
    Phase,
    Progression,
    Results,
    RunView,
    Section,
    Spread,
    Status,
    Summary,
    Timing,
)
from launcher.finding import Finding, Severity

SECTIONS = {
    "configuration": "Configuration",
    "metrics": "Metrics",
    "progression": "Progression",
    "losses": "Losses",
    "technical": "Technical issues",
    "stability": "Stability",
    "overfitting": "Overfitting",
    "files": "Files",
    "lessons": "Lessons",
}
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}


def progression(epochs: int, seed: int = 0, gains: Mapping[str, float] | None = None) -> Progression:
    """A training that learns, with noise; one slow epoch."""
    draw = random.Random(seed)
    gains = GAINS | dict(gains or {})
    every = tuple(range(1, epochs + 1))
    rise = [1 - math.exp(-3 * at / epochs) for at in every]
    tops = dict(zip(METRICS, (0.62, 0.35, 0.3, 0.15), strict=True))
    metrics = {name: tuple(round(top * r * draw.uniform(0.9, 1.1), 5) for r in rise) for name, top in tops.items()}
    losses = {
        f"{split}/{loss}_loss": tuple(
            round((base - 0.12 * r) * gains[loss] * draw.uniform(0.98, 1.02), 5) for r in rise
        )
        for loss, base in (("box", 0.35), ("cls", 3.0), ("dfl", 0.9))
        for split in ("train", "val")
    }
    units = {name: tuple(one / gains[name.split("/")[1][:3]] for one in values) for name, values in losses.items()}
    marks = [Mark(max(every), "best", f"best epoch {epochs}")] if epochs else []
    marks += (
        [Mark(6, "gap", "10.6 h"), Mark(6, "mosaic-closed", "mosaic is off from epoch 6 on (close_mosaic 10)")]
        if epochs > 6
        else []
    )
    return Progression(
        epochs=every,
        metrics=metrics,
        losses=losses,
        per_gain=units,
        rates={f"lr/pg{group}": tuple(0.002 * (1 - at / (epochs + 1)) for at in every) for group in range(3)},
        seconds=tuple(38_343.0 if epoch == 6 else 500 * draw.uniform(0.9, 1.1) for epoch in every),
        fitness=metrics["metrics/mAP50-95(B)"],
        best_epoch=epochs or None,
        marks=tuple(marks),
    )


def view(name: str = "phase 2", id_: str = "phase-2-abc", epochs: int = 15, seed: int = 0, **changed: Any) -> RunView:
    """A finished run."""
    made = progression(epochs, seed)
    results = Results(epochs=made.epochs, columns={**made.metrics, **made.losses}, seconds=made.seconds)
    run = RunView(
        id=id_,
        name=name,
        kind=Kind.FOLDER,
        where=Path("/runs") / id_,
        train=Path("/runs") / id_,
        results=results,
        config=Config({"box": 7.5, "seed": 0}),
        status=Status.FINISHED,
        status_text="All epochs are there, and results.png, which is written last.",
        files=(
            FileRow("args.yaml", Phase.SETUP, "the arguments", True, 1693, 1_760_000_000.0, verified=True),
            FileRow("results.png", Phase.END, "all curves", False),
        ),
        moments=(Moment("resumed", 1_760_000_000.0, "a1", 5, {"from": "last.pt"}),),
        memory_gb=tuple(8 + 0.1 * at for at in range(epochs)),
    )
    return replace(run, **changed)


def analysis(references: int = 1, epochs: int = 15, **changed: Any) -> Analysis:
    """A run against so many references, all with their numbers."""
    run, made = view(epochs=epochs), progression(epochs, gains={"box": 5.0})
    others = tuple(view(f"baseline {at}" if at else "baseline", f"base-{at}", seed=at + 1) for at in range(references))
    metrics = tuple(_metric(name, made, bool(references)) for name in METRICS)
    losses = tuple(_loss(split, loss, made) for split in ("train", "val") for loss in LOSSES) if epochs else ()
    said = Analysis(
        run=run,
        references=others,
        summary=summary(run, made),
        key=(finding("metric-fell", Severity.WARNING), finding("one-seed", Severity.INFO)),
        differences=(Difference("box", (5.0, 7.5), 7.5, "training", (False, True), "a gain"),) if references else (),
        metrics=metrics,
        losses=losses,
        progression=made,
        reference_progressions=tuple(progression(10, seed) for seed in range(1, references + 1)),
        files=run.files,
        sections=tuple(Section(code, title, (finding(code, Severity.ERROR),)) for code, title in SECTIONS.items()),
        next_runs=(NextRun("box-only", "box 5.0, all else as the baseline", ("confounded",), "train: {box: 5.0}\n"),),
    )
    return replace(said, **changed)


def comparison(runs: int = 3, epochs: int = 12) -> Comparison:
    """Runs that differ in their seed."""
    views = tuple(view(f"run {at}", f"run-{at}", epochs, at) for at in range(runs))
    made = tuple(progression(epochs, seed) for seed in range(runs))
    last = [{name: one.metrics[name][-1] for name in METRICS} for one in made]
    rows = tuple(
        ComparisonRow(
            id=one.id,
            name=one.name,
            status=one.status,
            epochs_done=epochs,
            epochs_asked=epochs,
            best_epoch=epochs,
            final=last[at],
            best=last[at],
            final_changes={name: change(last[0][name], last[at][name]) for name in METRICS} if at else {},
            seconds=3600.0,
            seed=at,
            changes=tuple(f"hsv_{at} 0.0{at}" for at in range(12)) if at else (),
            group=0,
        )
        for at, one in enumerate(views)
    )
    spread = Spread(0, tuple(one.id for one in views), METRICS[-1], 0.15, 0.01, 0.13, 0.17, 0.04)
    return Comparison(views, rows, (), (spread,), (finding("one-thing", Severity.INFO),), made)


def change(before: float, after: float) -> Change:
    """From one value to another."""
    return Change(before, after, after - before, (after - before) / before)


def finding(
    code: str, severity: Severity, text: str = "mAP50 fell by 47 %: several things changed at once."
) -> Finding:
    """A finding with everything."""
    return Finding(code, severity, text, "0.082 against 0.154", "change one thing", "https://example.org/why")


def summary(run: RunView, made: Progression) -> Summary:
    """The head."""
    last = {name: values[-1] if values else None for name, values in made.metrics.items()}
    timing = Timing(43_908.0, 510.0, {6: 38_343.0}, 5565.0)
    return Summary(
        name=run.name,
        status=run.status,
        status_text=run.status_text,
        epochs_done=len(made.epochs),
        epochs_asked=15,
        best_epoch=made.best_epoch,
        best_by="mAP50-95",
        final=last,
        best=last,
        timing=timing,
        model="yolo11n.pt",
        data="cots, 23,501 images",
        hardware="Apple M1 (MPS)",
        versions="ultralytics 8.4.190, torch 2.15.0",
    )


def _metric(name: str, made: Progression, compared: bool) -> MetricRow:
    values = made.metrics[name]
    last = values[-1] if values else None
    row = MetricRow(name, LABELS[name], last, last, last, made.best_epoch)
    if not compared or last is None:
        return row
    moved = change(last * 1.9, last)
    interval = Interval(last * 0.9, last * 1.1, 1196)
    return replace(row, interval=interval, reference_final=last * 1.9, reference_best=last * 2, final_change=moved)


def _loss(split: str, loss: str, made: Progression) -> LossRow:
    name = f"{split}/{loss}_loss"
    values, gain = made.losses[name], 5.0 if loss == "box" else GAINS[loss]
    raw, unit = change(1.756, 1.03), change(0.234, 0.206)
    return LossRow(
        name=name,
        label=LABELS[name],
        loss=loss,
        split=split,
        gain=gain,
        first=values[0],
        last=values[-1],
        lowest=min(values),
        lowest_epoch=3,
        per_gain=values[-1] / gain,
        reference_last=1.756,
        reference_gain=7.5,
        reference_per_gain=0.234,
        raw_change=raw,
        per_gain_change=unit,
        comparable=loss != "box",
    )
