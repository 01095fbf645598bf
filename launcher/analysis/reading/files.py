"""Which files a run left, when Ultralytics writes each, and what that says of how far it came.

The order was measured with Ultralytics 8.4.190: args.yaml, labels.jpg, train_batch*.jpg; then per epoch the row of
results.csv and after it last.pt and best.pt; at the end both checkpoints are stripped (epoch -1), best.pt is evaluated
(curves, confusion matrices, val_batch*), and results.png is drawn last of all. Curves may also be drawn in the last
epoch, so they alone do not show a final evaluation; results.png does.
"""

from __future__ import annotations

import os
import pickletools
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from launcher.analysis.numbers import fitness, highest
from launcher.analysis.reading.view import Config, FileRow, Phase, Results, Status

ALWAYS = (
    ("args.yaml", Phase.SETUP, "the arguments asked for"),
    ("results.csv", Phase.EPOCH, "losses and metrics by epoch"),
    ("weights/last.pt", Phase.EPOCH, "the last epoch's weights"),
    ("weights/best.pt", Phase.EPOCH, "the best epoch's weights"),
)
WITH_PLOTS = (
    ("labels.jpg", Phase.SETUP, "the training set's labels"),
    ("train_batch0.jpg", Phase.FIRST_BATCHES, "a training batch, augmented"),
    ("BoxF1_curve.png", Phase.FINAL, "F1 by confidence"),
    ("BoxPR_curve.png", Phase.FINAL, "precision by recall"),
    ("BoxP_curve.png", Phase.FINAL, "precision by confidence"),
    ("BoxR_curve.png", Phase.FINAL, "recall by confidence"),
    ("confusion_matrix.png", Phase.FINAL, "what was taken for what"),
    ("confusion_matrix_normalized.png", Phase.FINAL, "the same, as shares"),
    ("val_batch0_labels.jpg", Phase.FINAL, "a validation batch with its labels"),
    ("val_batch0_pred.jpg", Phase.FINAL, "the same batch as predicted"),
    ("results.png", Phase.END, "all curves; drawn last of all"),
)
OLDER = re.compile(r"Box(F1|PR|P|R)_curve\.png")  # PR_curve.png and its like: before 8.3
_MORE = (
    (re.compile(r"train_batch\d+\.jpg"), Phase.FIRST_BATCHES, "a training batch, augmented"),
    (re.compile(r"val_batch\d+_(labels|pred)\.jpg"), Phase.FINAL, "a validation batch"),
    (re.compile(r"weights/epoch\d+\.pt"), Phase.EPOCH, "weights of one epoch (save_period)"),
    (re.compile(r"validation\.json"), Phase.FINAL, "the numbers of the final evaluation"),
)
NOT_OF = {"classify": re.compile(r"Box(F1|PR|P|R)_curve\.png|labels\.jpg")}
"""Files that other tasks do not have: models/yolo/classify."""
OPCODES = 64  # of a checkpoint's pickle, within which its first key comes
COPIED_S = 5.0  # the shortest training takes longer from its first file to its last
TICK_S = 2.0  # of the clock of a FAT file system
FILES_LIMIT = 5_000  # files of one folder that are looked at
_OURS = frozenset({"report.html", "report.md", "parity.json"})


def look(
    where: Path,
    train: Path,
    config: Config,
    verified: Mapping[str, int] | None = None,
    written: Mapping[str, float] | None = None,
) -> tuple[FileRow, ...]:
    """The files of a complete run, there or not, then what else lies in the folder.

    `verified` maps paths to the sizes that a manifest gave for them; `written` to when they were written (None: as the
    files' own times say, unless these are a copy's; a file that came from another machine has that of its arrival).
    """
    prefix = "" if where == train else f"{train.relative_to(where).as_posix()}/"
    stats = _stats(train)
    if written is None:
        written = {} if _copied(stats) else {prefix + name: stat.st_mtime for name, stat in stats.items()}
    sizes = verified or {}

    def row(name: str, phase: Phase, what: str, expected: bool) -> FileRow:
        path, stat = prefix + name, stats.get(name)
        if stat is None:
            return FileRow(path, phase, what, present=False, expected=expected)
        known = sizes[path] == stat.st_size if path in sizes else None
        return FileRow(path, phase, what, True, stat.st_size, written.get(path), expected, known)

    rows = []
    never = NOT_OF.get(str(config.get("task")))
    for wanted, phase, what in (*ALWAYS, *(WITH_PLOTS if config.get("plots") is not False else ())):
        if never is not None and never.fullmatch(wanted):
            continue
        older = OLDER.sub(r"\1_curve.png", wanted)
        rows.append(row(older if older in stats and wanted not in stats else wanted, phase, what, expected=True))
    told = {one.path.removeprefix(prefix) for one in rows}
    for name in sorted(stats.keys() - told):
        phase, what = next(((p, w) for pattern, p, w in _MORE if pattern.fullmatch(name)), (Phase.OTHER, ""))
        rows.append(row(name, phase, what, expected=False))
    return tuple(rows)


@dataclass(frozen=True)
class Left:
    """What shows how far a training came."""

    results: Results
    asked: int | None
    patience: int | None
    plots: bool
    drawn: bool
    """results.png is there."""
    final_eval: bool
    """The worker told of it."""
    last: int | None
    """last.pt's epoch, from 0; -1 once it is stripped; None where it cannot be read."""
    has_last: bool
    ours: bool = False
    """A run of samerun, whose record tells how it ended, whatever came back of it."""


def judge(left: Left) -> tuple[Status, str]:
    """How far it came, and the evidence in words."""
    done = left.results.epochs[-1] if left.results.epochs else 0
    ended = left.drawn or left.final_eval or left.last == -1
    if not done:
        if ended:
            return Status.FINISHED, f"the training ended ({_proof(left)}), but there is no results.csv"
        return Status.NOT_STARTED, "no epoch is in results.csv, and no checkpoint is stripped: it ended before that"
    of = f"{done} of {left.asked} epochs" if left.asked else f"{done} epochs"
    if left.asked is None and not ended:
        return Status.UNKNOWN, f"{of} are in results.csv; how many were asked for is not known"
    if not (ended or left.has_last or left.ours):
        return Status.UNKNOWN, f"{of} are in results.csv; neither last.pt nor results.png is here to tell how it ended"
    if left.asked is not None and done < left.asked:
        if ended:
            return Status.STOPPED, f"{of}, and it ended by itself: {_why(left, done)} ({_proof(left)})"
        return Status.CRASHED, f"{of}; {_resumable(left)}; results.png is missing"
    if left.drawn or left.final_eval:
        return Status.FINISHED, f"{of}; {_proof(left)}"
    if left.last == -1 and not left.plots:
        return Status.FINISHED, f"{of}; {_proof(left)}; plots were off, so no file shows the final evaluation"
    missing = "results.png, which is drawn last, is missing" if left.plots else "nothing shows a final evaluation"
    return Status.NO_FINAL, f"{of}; {_proof(left) if ended else _resumable(left)}; {missing}"


def table_status(results: Results) -> tuple[Status, str]:
    """The same of a table alone."""
    if not results.epochs:
        return Status.NOT_STARTED, "the table has no epoch"
    known = f"{results.epochs[-1]} epochs are in the table; how many were asked for, and how it ended, is not known"
    return Status.UNKNOWN, known


def checkpoint_epoch(file: Path) -> int | None:
    """The epoch that a checkpoint holds (from 0; -1: stripped), without unpickling it; None where it cannot be told.

    torch.save writes a zip archive with a data.pkl, in which Ultralytics' first key is `epoch`.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as stream:
                return _first_epoch(stream)
    except (OSError, zipfile.BadZipFile, StopIteration, ValueError, NotImplementedError, RuntimeError, EOFError):
        return None


def _first_epoch(stream: IO[bytes]) -> int | None:
    key = False
    for number, (opcode, value, _) in enumerate(pickletools.genops(stream)):
        if number > OPCODES:
            return None
        if key and "INT" in opcode.name and isinstance(value, int):
            return value
        key = value == "epoch" or (key and "PUT" in opcode.name) or (key and opcode.name == "MEMOIZE")
    return None


def _stats(train: Path) -> dict[str, os.stat_result]:
    """Regular files in the folder and in weights/, by path relative to it."""
    found: dict[str, os.stat_result] = {}
    for folder, prefix in ((train, ""), (train / "weights", "weights/")):
        try:
            files = sorted(folder.iterdir())[:FILES_LIMIT]
        except OSError:
            continue
        for file in files:
            if file.is_file() and not file.name.startswith(".") and file.name not in _OURS:
                found[prefix + file.name] = file.stat()
    return found


def _copied(stats: Mapping[str, os.stat_result]) -> bool:
    """Whether the files' times are those of a copy: args.yaml is written first, all others later, by far or by one."""
    first = stats.get("args.yaml")
    others = [stat.st_mtime for name, stat in stats.items() if name != "args.yaml"]
    if first is None or not others:
        return True
    return min(others) < first.st_mtime - TICK_S or max(others) - first.st_mtime < COPIED_S


def _proof(left: Left) -> str:
    """What shows that the training ended by itself."""
    signs = [
        "results.png, which is drawn last, is there" if left.drawn else "",
        "the worker told of the final evaluation" if left.final_eval else "",
        "last.pt is stripped, as at the end" if left.last == -1 else "",
    ]
    return ", ".join(sign for sign in signs if sign)


def _why(left: Left, done: int) -> str:
    """Why it may have stopped before its last epoch."""
    best = highest(left.results.epochs, fitness(left.results))  # of equals the first, as EarlyStopping has it
    if left.patience and best is not None and done - best >= left.patience:
        return f"no better epoch in {done - best}, patience is {left.patience}"
    return "a time limit or a wish; patience does not explain it"


def _resumable(left: Left) -> str:
    if left.last is not None and left.last >= 0:
        return f"last.pt holds epoch {left.last + 1} with its optimizer and can be gone on from"
    return "last.pt cannot be read" if left.has_last else "there is no last.pt"
