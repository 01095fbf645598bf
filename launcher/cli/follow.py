"""Following a run on the terminal, for `launch SPEC`, `attach` and `resume`: live table, lines, the last word.

Ctrl-C stops following, never the run.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.backend import Backend
from launcher.cli import out, table
from launcher.errors import Exit, RemoteError, SamerunError
from launcher.runs.driving.drive import Driver, Progress
from launcher.runs.driving.release import left_over
from launcher.runs.events import Event
from launcher.runs.events import read as read_events
from launcher.runs.record import PROBE, RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings

LOOK_S = 0.5  # how often the record is looked at while another process drives the run
SHOWN_EPOCHS = 12  # rows that the live table keeps on the screen


def follow(
    store: Store,
    settings: Settings,
    backend: Backend[Any],
    record: RunRecord,
    *,
    as_json: bool = False,
    logs: bool = False,
    detach: bool = False,
    resume: bool = False,
) -> int:
    """Drive the run, or watch the process that does; returns the exit code."""
    gc.freeze()
    gc.enable()  # off since the command began (launcher.cli.main); this may take days
    folder = store.folder(record.id)
    view = _view(folder, record, as_json=as_json, logs=logs)
    try:
        with store.driving(record.id) as free:
            if free:
                driver = Driver(store, settings, backend, store.read(record.id))
                if resume:
                    driver.again()
                driver.observers.append(view.update)
                with view:
                    record = driver.drive(follow=not detach)
            else:
                out.say(f"  {record.id} is driven by another launch; watching")
                with view:
                    record = _watch(store, record, view)
    except KeyboardInterrupt:
        out.say(f"\nlaunch: stopped following; {record.id} goes on. `launch attach {record.id}` follows it again")
        return _end(store.read(record.id), folder, as_json, Exit.INTERRUPTED)
    except SamerunError as error:
        out.print_error(error, as_json=False)
        return _end(store.read(record.id), folder, as_json, error.exit_code)
    if detach and not record.state.ended:
        out.say(f"  {record.id} is {record.state}. `launch attach {record.id}` follows it")
        return _end(record, folder, as_json, Exit.OK)
    return ended(settings, record, folder, as_json=as_json)


def ended(settings: Settings, record: RunRecord, folder: Path, *, as_json: bool) -> int:
    """The last word on a run that has ended, with its parity where it has a reference; returns the exit code."""
    summary(record, folder)
    code = exit_of(record)
    if record.against is None or record.kind == PROBE or record.state is not RunState.VERIFIED:
        return _end(record, folder, as_json, code)
    from launcher.cli.parity import after

    found, said = after(settings, record, folder)
    return _end(record, folder, as_json, said if said != Exit.OK else code, found)


def exit_of(record: RunRecord) -> Exit:
    """The exit code of a run as it stands."""
    if record.state is RunState.VERIFIED:
        return Exit.LEFT_OVER if left_over(record) else Exit.OK
    if record.state is RunState.COLLECTING:
        return Exit.INTEGRITY
    return Exit.FAILED if record.state.ended else Exit.UNKNOWN


def summary(record: RunRecord, folder: Path) -> None:
    """The last word: state, folder, what was verified, metrics."""
    good = record.state is RunState.VERIFIED
    out.say(f"{out.paint(record.state.upper(), '1;32' if good else '1;31')}  {record.id}")
    if record.reason:
        out.say(f"  reason   {record.reason}")
    out.say(f"  folder   {folder}")
    if (best := folder / "train" / "weights" / "best.pt").is_file():
        out.say(f"  weights  {best}")
    checked = record.checked
    if checked.get("files") is not None and checked.get("files"):
        what = f"{checked['files']} files, {out.size(checked['bytes'])}, each equal to the sha256 that the worker wrote"
        out.say(f"  checked  {what if good else 'kept ' + str(checked['files']) + ' files of what there was'}")
    numbers = [
        f"{name} {record.metrics[key]:.3f}" for name, key in out.METRICS.items() if record.metrics.get(key) is not None
    ]
    if numbers:
        out.say(f"  metrics  {'  '.join(numbers)}  (as the machine that trained it says)")
    for line in left_over(record):
        out.say(f"  {out.paint('left over', '1;31')}  {line}")
    if record.state in (RunState.FAILED, RunState.CANCELLED, RunState.LOST):
        out.say(f"  next     `launch logs {record.id}` shows what was printed; `launch resume {record.id}` goes on")


def _end(record: RunRecord, folder: Path, as_json: bool, code: Exit, parity: Mapping[str, Any] | None = None) -> int:
    if as_json:
        out.emit({**out.result(record, folder), "parity": parity})
    return int(code)


def _watch(store: Store, record: RunRecord, view: Any) -> RunRecord:
    """Look at the record until the run has ended; another process writes it."""
    seen = 0
    while True:
        record = store.read(record.id)
        events = read_events(store.folder(record.id))
        view.update(Progress(record, tuple(events[seen:])))
        seen = len(events)
        if record.state.ended:
            return record
        if not store.driven(record.id) and not store.read(record.id).state.ended:
            message = f"the launch that drove {record.id} has ended"
            raise RemoteError(message, remedy=f"`launch attach {record.id}` takes over")
        time.sleep(LOOK_S)


def _view(folder: Path, record: RunRecord, *, as_json: bool, logs: bool) -> Any:
    if as_json:
        return JsonView()
    if sys.stderr.isatty() and not logs and record.payload is None:
        return LiveView(folder, record)
    return PlainView(record, logs=logs or record.payload is not None)


class JsonView:
    """One JSON line an event and a change of state."""

    def __init__(self) -> None:
        self._state: str | None = None

    def __enter__(self) -> JsonView:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, progress: Progress) -> None:
        """Print what is new."""
        record = progress.record
        if record.state != self._state:
            self._state = record.state
            out.emit({"run": record.id, "state": str(record.state), "reason": record.reason})
        for event in progress.events:
            out.emit(
                {"attempt": event.attempt, "seq": event.seq, "time": event.time, "event": event.name, **event.fields}
            )


class PlainView:
    """Lines: states, epochs as rows, warnings; all that the worker prints when `logs`."""

    def __init__(self, record: RunRecord, *, logs: bool) -> None:
        self._said: tuple[RunState, str] | None = None
        self._headed = False
        self._logs = logs

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, progress: Progress) -> None:
        """Print what is new."""
        record = progress.record
        if self._logs and progress.lines:
            sys.stderr.write("\n".join(progress.lines) + "\n")
            sys.stderr.flush()
        if (record.state, record.reason) != self._said and not record.state.ended:
            self._said = (record.state, record.reason)
            why = f": {record.reason}" if record.reason else ""
            out.say(f"  {record.state:<10} {record.attempt.id if record.attempt else record.id}{why}")
        for event in progress.events:
            self._event(event)

    def _event(self, event: Event) -> None:
        if event.name == "epoch":
            if not self._headed:
                self._headed = True
                out.say(table.header())
            out.say(table.row(event))
        elif text := describe(event):
            out.say(f"  {text}")


class LiveView:
    """The live table of rich: epochs, and a line below that says what goes on."""

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self._epochs = {int(e.number("epoch") or 0): e for e in read_events(folder) if e.name == "epoch"}
        self._record = record
        self._notes: list[str] = []
        self._last = ""
        self._step = ""
        self._live: Any = None

    def __enter__(self) -> LiveView:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(
            self._render(), console=Console(stderr=True), refresh_per_second=4, get_renderable=self._render
        )
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._last = ""
        self._live.stop()

    def update(self, progress: Progress) -> None:
        """Take in what is new; the table draws itself four times a second."""
        self._record = progress.record
        for event in progress.events:
            if event.name == "epoch":
                self._epochs[int(event.number("epoch") or 0)] = event
            elif text := describe(event):
                self._notes = [*self._notes, text][-4:]
        if progress.lines:
            self._last = progress.lines[-1]
        self._step = str(progress.step) if progress.step is not None else ""

    def _render(self) -> Any:
        return render(list(self._epochs.values()), self._record, self._notes, self._last, self._step)


def render(epochs: list[Event], record: RunRecord, notes: list[str], last: str, step: str = "") -> Any:
    """The table and the lines below it; `step` is what is being sent."""
    from rich.console import Group
    from rich.text import Text

    shown = epochs[-SHOWN_EPOCHS:]
    parts: list[Any] = []
    if shown:
        parts.append(table.rich_table(shown, f"{record.id} on {record.backend}", table.best_epoch(epochs)))
    parts.extend(Text(f"  {note}", style="yellow") for note in notes)
    since = out.duration(time.time() - record.attempt.journalled) if record.attempt else ""
    if not record.state.ended:
        last = step or record.reason or last
        parts.append(Text(f"  {record.state} {since}  {last[:160]}", style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def describe(event: Event) -> str:
    """An event in words, for those that a human should see; empty for the others."""
    fields = event.fields
    if event.name == "warning":
        more = ", ".join(f"{key} {value}" for key, value in fields.items() if key not in ("code", "reason"))
        return f"warning: {fields.get('code')} {fields.get('reason', '')} ({more})"
    if event.name == "device":
        memory = f", {out.size(fields['memory'])}" if isinstance(fields.get("memory"), int) else ""
        return f"device: {fields.get('name') or fields.get('device')}{memory}, proved by a convolution"
    if event.name == "probe":
        return f"probe: {fields.get('verdict')}: {fields.get('reason')}"
    if event.name == "preparing":
        return f"preparing: {fields.get('what')}"
    if event.name == "dataset":
        images = f"{fields.get('n_train')} images to train on, {fields.get('n_val')} to validate on"
        return f"the dataset: {images}, fingerprint {str(fields.get('fingerprint'))[:12]}"
    if event.name == "resumed":
        return f"resumed after epoch {fields.get('epoch')}, its checkpoint's digest checked"
    if event.name == "started":
        versions = fields.get("versions") or {}
        return (
            f"training on {fields.get('device')}, batch {fields.get('batch')}, {fields.get('optimizer')} "
            f"lr0 {fields.get('lr0')}, ultralytics {versions.get('ultralytics')}, torch {versions.get('torch')}"
        )
    if event.name == "error":
        return f"error: {fields.get('reason')}"
    return ""
