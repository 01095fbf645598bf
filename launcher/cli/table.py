"""The live table of a training: one row an epoch, and below it what the worker said last."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from launcher.cli import out

if TYPE_CHECKING:
    from launcher.runs.events import Event

COLUMNS: tuple[tuple[str, int, Callable[[Event], str]], ...] = (
    ("epoch", 6, lambda event: f"{event.fields.get('epoch')}/{event.fields.get('epochs')}"),
    ("box", 5, lambda event: _loss(event, "box_loss")),
    ("cls", 5, lambda event: _loss(event, "cls_loss")),
    ("dfl", 5, lambda event: _loss(event, "dfl_loss")),
    *(
        (name, max(5, len(name)), lambda event, key=key: _number(event.table("metrics").get(key)))
        for name, key in out.METRICS.items()
    ),
    ("s/epoch", 7, lambda event: _number(event.number("seconds"), 1)),
    ("mem GB", 6, lambda event: _number(event.number("memory_gb"), 2)),
)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _loss(event: Event, name: str) -> str:
    return _number(event.table("losses").get(name))


def header() -> str:
    """The column names, aligned for plain text."""
    return "  ".join(f"{name:>{width}}" for name, width, _ in COLUMNS)


def row(event: Event) -> str:
    """An epoch, aligned for plain text."""
    return "  ".join(f"{cell(event):>{width}}" for _, width, cell in COLUMNS)


def rich_table(epochs: list[Event], title: str, best: int | None) -> Any:
    """The same as a table of rich; the row of the best mAP50-95 is marked."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, _, _ in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for event in epochs:
        style = "bold green" if event.fields.get("epoch") == best else None
        table.add_row(*(cell(event) for _, _, cell in COLUMNS), style=style)
    return table


def best_epoch(epochs: list[Event]) -> int | None:
    """The epoch with the highest mAP50-95 so far."""
    scored = [(event.table("metrics").get(out.METRICS["mAP50-95"]) or 0.0, event) for event in epochs]
    if not scored or max(score for score, _ in scored) <= 0:
        return None
    top = max(scored, key=lambda pair: pair[0])[1]
    return int(top.number("epoch") or 0)
