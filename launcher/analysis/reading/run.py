"""A run as it lies there: one of ours, a folder of Ultralytics, or a results.csv alone."""

from __future__ import annotations

import functools
import math
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.analysis.numbers import duration
from launcher.analysis.reading import worker
from launcher.analysis.reading.files import Left, checkpoint_epoch, judge, look, table_status
from launcher.analysis.reading.results import read_results
from launcher.analysis.reading.view import Config, FileRow, Kind, Repair, Results, RunView, Status
from launcher.errors import DataError, NotFoundError, SpecError
from launcher.runs import events as run_events
from launcher.runs import record as records
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import open_run
from launcher.settings import Settings
from launcher.spec.package import UltralyticsPackage
from launcher.spec.tree import Place, plain, read_yaml

RESULTS, ARGUMENTS, TRAIN = "results.csv", "args.yaml", "train"
STILL_S = 120.0  # beside three epochs: set-up and the final evaluation take longer than a short epoch
MAY_GO_ON = frozenset({Status.CRASHED, Status.NOT_STARTED, Status.UNKNOWN})
YAML_LIMIT = 1 << 20  # bytes of an args.yaml
_NOTHING = Results((), {}, ())


def load_run(
    what: str | Path, settings: Settings | None = None, *, positives: int | None = None, now: float | None = None
) -> RunView:
    """The run that `what` means: an id, unique prefix or name of ours, a run folder of ours or of Ultralytics, or a
    results.csv (with the folder around it, where that is a run's). `positives`: labelled boxes of its validation set,
    where the run does not know them. `now`: Unix seconds (default: the clock's), to tell a folder that is still written
    to from one that was left.

    Raises NotFoundError for nothing there, DataError for a file that holds no table, IntegrityError for a run.json of
    ours that cannot be read.
    """
    view = _still_written(_view(str(what), settings), time.time() if now is None else now)
    return replace(view, positives=positives) if positives is not None else view


@functools.cache
def defaults() -> Mapping[str, Any]:
    """The train arguments' defaults in the Ultralytics that is installed here; empty where there is none."""
    try:
        return {name: fact.default for name, fact in UltralyticsPackage.find().facts.items()}
    except SpecError:
        return {}


def _view(what: str, settings: Settings | None) -> RunView:
    path = Path(os.path.expanduser(what))  # noqa: PTH111 - Path.expanduser raises for an unknown user
    if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        around = path.parent
        if path.name == RESULTS and ((around / ARGUMENTS).is_file() or (around / "weights").is_dir()):
            return _folder(around)
        return _folder(around) if path.name == records.FILE else _table(path)
    is_folder = os.path.isdir(path)  # noqa: PTH112 - the same
    if is_folder and _is_run(path) and ("/" in what or what in (".", "..")):
        return _folder(path)
    try:
        _, store, record = open_run(settings or Settings.load(), what)
    except (NotFoundError, ValueError, OSError) as error:  # a text with a NUL, a name that is too long
        if is_folder and _is_run(path):
            return _folder(path)
        if is_folder:
            message = f"{what} is a folder without a run: no {records.FILE}, {RESULTS} or {ARGUMENTS}"
            raise NotFoundError(message, remedy="name the folder in which results.csv lies") from None
        message = error.message if isinstance(error, NotFoundError) else f"there is no run {what[:80]!r}"
        first = f"{error.remedy}. " if isinstance(error, NotFoundError) and error.remedy else ""
        remedy = f"{first}A folder of Ultralytics, or a results.csv, can be named by its path"
        raise NotFoundError(message, remedy=remedy) from None
    return _run(store.folder(record.id), record)


def _still_written(view: RunView, now: float) -> RunView:
    """A folder of Ultralytics that looks cut short, but was written to within three of its epochs, may be at work."""
    written = [row.written for row in view.files if row.written is not None]
    if view.kind is not Kind.FOLDER or view.status not in MAY_GO_ON:
        return view
    if not written:
        return replace(view, status_text=f"{view.status_text}; or this is a copy that was made while it trained")
    usual = [seconds for seconds in view.results.seconds if math.isfinite(seconds)]
    ago = now - max(written)
    if not 0 <= ago < STILL_S + 3 * (statistics.median(usual) if usual else 0.0):
        return view
    text = f"{view.status_text}; but a file was written {duration(ago)} ago, so it may still be at work"
    return replace(view, status=Status.RUNNING, status_text=text)


def _is_run(folder: Path) -> bool:
    files = (folder / records.FILE, folder / RESULTS, folder / ARGUMENTS)
    return any(file.is_file() for file in files) or (folder / "weights").is_dir()


def _folder(folder: Path) -> RunView:
    """Ours, or Ultralytics': the train folder of a run of ours means that run."""
    folder = folder.resolve()
    for run in (folder, folder.parent if folder.name == TRAIN else folder):
        if (run / records.FILE).is_file():
            return _run(run, records.read(run))
    config = _config(folder / ARGUMENTS)
    results = _results(folder)
    rows = look(folder, folder, config)
    left = _left(folder, results, config, drawn=_has(rows, "results.png"), final_eval=False)
    status, text = judge(left)
    device = config.values.get("device")
    written = [row.written for row in rows if row.written is not None]
    return RunView(
        id=folder.name,
        name=str(config.values.get("name") or folder.name),
        kind=Kind.FOLDER,
        where=folder,
        train=folder,
        results=results,
        config=config,
        status=status,
        status_text=text,
        files=rows,
        hardware={} if device is None else {"device asked for": str(device)},
        data={"yaml": str(config.values["data"])} if config.values.get("data") else {},
        model="" if _resumed(config) else str(config.values.get("model") or ""),
        created=min(written, default=None),
        ended=max(written, default=None),
    )


def _run(folder: Path, record: RunRecord) -> RunView:
    """A run of samerun, with everything that its record and events say. Raises NotFoundError for a probe."""
    if record.kind == records.PROBE:
        raise NotFoundError(
            f"{record.id} is a probe, no training", remedy="`launch probe SPEC --against RUN` compares two"
        )
    events = run_events.read(folder)
    started = next((attempt.started for attempt in reversed(record.attempts) if attempt.started), None) or {}
    train = folder / TRAIN
    config = _config(train / ARGUMENTS)
    config = replace(config, effective=worker.effective(started))
    results = _results(train)
    if not results.epochs:
        told = worker.results(events)
        results = told if told.epochs else results
    results = worker.with_restarts(results, events)
    rows = look(folder, train, config, worker.verified(folder, record), worker.written(events, folder))
    done = any(event.name == "final_eval" for event in events)
    status, text = judge(_left(train, results, config, drawn=_has(rows, "results.png"), final_eval=done, ours=True))
    if not record.state.ended:
        status, text = Status.RUNNING, f"the run is {record.state}; so far: {text}"
    elif record.state is RunState.CANCELLED and status is Status.CRASHED:
        status = Status.CANCELLED
    reason = f": {record.reason}" if record.reason and record.reason != record.state else ""
    return RunView(
        id=record.id,
        name=record.name,
        kind=Kind.RUN,
        where=folder,
        train=train,
        results=results,
        config=config,
        status=status,
        status_text=f"{text}. The record says {record.state}{reason}",
        files=rows,
        moments=worker.moments(events),
        memory_gb=worker.memory(events, results.epochs),
        final_eval=worker.final_eval(events),
        state=str(record.state),
        hardware=worker.hardware(record, started),
        versions=worker.versions(started),
        data=dict(record.data or {}),
        positives=worker.positives(record),
        model=record.model,
        spec_text=_text(folder / "spec.yaml"),
        notes=record.notes or "",
        created=record.created,
        ended=record.attempt.ended if record.attempt else None,
        parity=worker.read_json(folder / "parity.json") or None,
    )


def _table(file: Path) -> RunView:
    """A results.csv alone: nothing is known but its rows."""
    results = read_results(file)
    status, text = table_status(results)
    file = file.resolve()
    name = file.parent.name if file.name == RESULTS else file.stem
    return RunView(
        id=name,
        name=name,
        kind=Kind.TABLE,
        where=file,
        train=None,
        results=results,
        config=Config(defaults=defaults()),
        status=status,
        status_text=text,
    )


def _results(folder: Path) -> Results:
    """The folder's table; none where there is none yet."""
    try:
        return read_results(folder / RESULTS)
    except NotFoundError:
        return _NOTHING
    except DataError as error:
        return replace(_NOTHING, repairs=(Repair("no-table", str(error)),))


def _config(file: Path) -> Config:
    """args.yaml as a mapping; what cannot be read is empty, and `source` says so.

    Read as a spec is: safe tags only, and no alias that expands without end.
    """
    try:
        if file.stat().st_size > YAML_LIMIT:
            return Config(defaults=defaults(), source=f"{file.name}, which is too large")
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return Config(defaults=defaults())
    except OSError:
        return Config(defaults=defaults(), source=f"{file.name}, which cannot be read")
    item, problems = read_yaml(text, Place(file.name), file.parent)
    values = plain(item) if item is not None else None
    if not isinstance(values, dict) or (problems and not values):
        return Config(defaults=defaults(), source=f"{file.name}, which cannot be read")
    return Config(values, defaults=defaults(), source=file.name)


def _resumed(config: Config) -> bool:
    """Whether `model` is the checkpoint that a process went on from: engine/trainer.py, check_resume, sets both."""
    return bool(config.get("resume")) and Path(str(config.get("model")).replace("\\", "/")).name == "last.pt"


def _left(folder: Path, results: Results, config: Config, *, drawn: bool, final_eval: bool, ours: bool = False) -> Left:
    """What shows how far the training came. args.yaml says what was asked for, also of a run that was resumed."""
    epochs, patience = config.number("epochs"), config.number("patience")
    last = folder / "weights" / "last.pt"
    return Left(
        results=results,
        asked=int(epochs) if epochs else None,
        patience=int(patience) if patience else None,
        plots=config.get("plots") is not False,
        drawn=drawn,
        final_eval=final_eval,
        last=checkpoint_epoch(last),
        has_last=last.is_file(),
        ours=ours,
    )


def _has(rows: tuple[FileRow, ...], name: str) -> bool:
    return any(row.present and row.path.rsplit("/", 1)[-1] == name for row in rows)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
