"""Progress bars for packing, where a human looks and there is enough to do to need one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SHOWN_FROM = 50  # steps: fewer are over before a bar can be read


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yields `progress(what, done, of)`. rich is imported when the first bar is needed."""
    shown: dict[str, Any] = {}
    live: Any = None

    def progress(what: str, done: int, of: int) -> None:
        nonlocal live
        if of < SHOWN_FROM or not sys.stderr.isatty():
            return
        if live is None:
            if done >= of:
                return  # all of it was known already
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            live = Progress(*columns, console=Console(stderr=True), transient=True)
            live.start()
        if what not in shown:
            shown[what] = live.add_task(what, total=of)
        live.update(shown[what], completed=done, total=of)

    try:
        yield progress
    finally:
        if live is not None:
            live.stop()
