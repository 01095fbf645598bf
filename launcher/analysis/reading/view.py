"""What was read of a run, as frozen values.

Numbers that could not be read are NaN in a series and None in a single field; `as_json` makes both null. Epochs count
from 1. Metrics and losses go by Ultralytics' own column names (`metrics/mAP50(B)`, `train/box_loss`); LABELS has the
words for people.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

PRECISION, RECALL = "metrics/precision(B)", "metrics/recall(B)"
MAP50, MAP5095 = "metrics/mAP50(B)", "metrics/mAP50-95(B)"
METRICS = (PRECISION, RECALL, MAP50, MAP5095)
ACCURACIES = ("metrics/accuracy_top1", "metrics/accuracy_top5")
MORE_METRICS = (
    *(f"metrics/{name}({of})" for of in "MP" for name in ("precision", "recall", "mAP50", "mAP50-95")),
    *ACCURACIES,
)
"""Of masks, poses and classification: told where a table has them, by Ultralytics' own names."""
LOSSES = ("box", "cls", "dfl")
"""Losses of detection; each is multiplied by the gain of the same name before it is written: utils/loss.py."""
GAIN_OF = {
    **{loss: loss for loss in LOSSES},
    "seg": "box",
    **{loss: loss for loss in ("pose", "kobj", "rle", "angle")},
    "giou": "",
    "l1": "",
}
"""Loss to the argument that multiplies it: utils/loss.py of 8.4.190; RT-DETR's are multiplied by fixed numbers."""
RTDETR_GAINS = {"giou": 2.0, "cls": 1.0, "l1": 5.0}
"""models/utils/loss.py, DETRLoss: RT-DETR does not look at box, cls and dfl."""
LABELS = {
    PRECISION: "precision",
    RECALL: "recall",
    MAP50: "mAP50",
    MAP5095: "mAP50-95",
    **{name: name.removeprefix("metrics/") for name in MORE_METRICS},
    "time": "time",
    **{f"{split}/{loss}_loss": f"{loss} loss, {split}" for split in ("train", "val") for loss in GAIN_OF},
}
GREATEST = 1e15  # an argument beyond it is none that Ultralytics could have trained with
Series = tuple[float, ...]


class Plain:
    """A value of the analysis that is also plain JSON."""

    def as_json(self) -> dict[str, Any]:
        """Plain values by field name: NaN is None, a path a text, a mapping a dict."""
        found: dict[str, Any] = plain(self)
        return found


def plain(value: Any) -> Any:
    """Any value of the analysis as what `json.dumps(allow_nan=False)` takes; fields with `repr=False` are left out."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, enum.Enum):
        return str(value.value)
    if value is None or isinstance(value, (str, int)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value) if one.repr}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    return str(value)


@dataclass(frozen=True)
class Repair(Plain):
    """One thing that was odd in a results.csv, and what was made of it. `count` is how often."""

    code: str
    text: str
    count: int = 1


@dataclass(frozen=True)
class Results(Plain):
    """A results.csv, one row an epoch, ascending. All series have the length of `epochs`."""

    epochs: tuple[int, ...]
    columns: Mapping[str, Series]
    """By Ultralytics' name, in the order of the file, without `epoch`."""
    seconds: Series
    """Of each epoch, from the differences of the cumulative `time`; NaN where they cannot be told."""
    restarts: tuple[int, ...] = ()
    """Epochs that were the first of a new process: `time` began again, or the row before it was written twice."""
    missing: tuple[int, ...] = ()
    """Epochs between the first and the last that have no row."""
    rewritten: Mapping[int, int] = field(default_factory=dict)
    """Epochs that have several rows, and how many more than one; the last one counts."""
    repairs: tuple[Repair, ...] = ()

    def column(self, name: str) -> Series:
        """The series of that name; NaN throughout where the file has no such column."""
        return self.columns.get(name, (math.nan,) * len(self.epochs))

    def at(self, name: str, epoch: int) -> float | None:
        """One value; None where it is not known."""
        if epoch not in self.epochs:
            return None
        value = self.column(name)[self.epochs.index(epoch)]
        return value if math.isfinite(value) else None

    def last(self, name: str) -> float | None:
        """The value of the last epoch; None where it is not known."""
        return self.at(name, self.epochs[-1]) if self.epochs else None


class Kind(enum.StrEnum):
    """What was given to `load_run`."""

    RUN = "run"
    """A run of samerun, with events, digests and a record."""
    FOLDER = "folder"
    """A folder that Ultralytics wrote."""
    TABLE = "table"
    """A results.csv, and nothing else that is known to belong to it."""


class Status(enum.StrEnum):
    """How far the training came, told by what it left. Order: earliest end first."""

    UNKNOWN = "unknown"
    """A table alone cannot tell."""
    NOT_STARTED = "not started"
    """No epoch was finished: it died in set-up or in the first epoch."""
    RUNNING = "running"
    """Our record says that it is still at work; or a folder was written to just now."""
    CRASHED = "crashed during training"
    """Epochs are missing, and the checkpoint can be gone on from."""
    CANCELLED = "cancelled during training"
    """The same, because the user asked for it."""
    STOPPED = "stopped early"
    """It ended by itself before the last epoch: patience, a time limit or a wish."""
    NO_FINAL = "finished training, no final evaluation"
    """All epochs are there; best.pt was not evaluated at the end."""
    FINISHED = "finished"
    """All epochs, the final evaluation and the last plot are there."""


class Phase(enum.StrEnum):
    """When Ultralytics writes a file; facts of 8.4.190, measured."""

    SETUP = "set-up"
    FIRST_BATCHES = "first batches"
    EPOCH = "each epoch"
    FINAL = "final evaluation"
    END = "end"
    OTHER = "other"


@dataclass(frozen=True)
class FileRow(Plain):
    """A file of the run: one that a complete run has, or one more that lies there.

    `path` is relative to `RunView.where` with forward slashes; `size` bytes; `written` Unix seconds, None where the
    time is not that of the writing; `verified` whether it has the size at which its
    sha256 was compared when it came back (None: not by us); it is not hashed again.
    """

    path: str
    phase: Phase
    what: str
    present: bool
    size: int | None = None
    written: float | None = None
    expected: bool = True
    verified: bool | None = None


@dataclass(frozen=True)
class Config(Plain):
    """A run's arguments. `values` as args.yaml has them (the request); `effective` as the trainer really had them."""

    values: Mapping[str, Any] = field(default_factory=dict)
    effective: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict, repr=False)
    source: str = ""
    """The file the values are from; empty where nothing is known."""

    def get(self, name: str) -> Any:
        """What the run had: the effective value, else the requested one; None where neither is known."""
        value = self.effective.get(name)
        return self.values.get(name) if value is None else value

    def number(self, name: str) -> float | None:
        """The same, where it is a finite number."""
        value = self.get(name)
        known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < GREATEST
        return float(value) if known else None


@dataclass(frozen=True)
class Moment(Plain):
    """An event of our worker that the report shows. `time` is Unix seconds; `epoch` the one it happened in, None
    before the first and after the last."""

    name: str
    time: float
    attempt: str
    epoch: int | None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunView(Plain):
    """A run as it lies there. Nothing in it is made up: what the files do not say is empty or None."""

    id: str
    name: str
    kind: Kind
    where: Path
    """The run's folder; of a table, the file."""
    train: Path | None
    """Ultralytics' own folder: pictures are in here. None for a table."""
    results: Results
    config: Config
    status: Status
    status_text: str
    """The status in words, with the evidence for it."""
    files: tuple[FileRow, ...] = ()
    moments: tuple[Moment, ...] = ()
    memory_gb: Series = ()
    """Per epoch of `results.epochs`; empty where it is not known."""
    final_eval: Mapping[str, float] = field(default_factory=dict)
    """Metrics of best.pt at the end, full precision; only our worker keeps them."""
    state: str = ""
    """Of our record: verified, failed, ...; empty for others."""
    hardware: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the dataset: root, fingerprint, counts."""
    positives: int | None = None
    """Labelled boxes of the validation set, where known: what recall is a share of."""
    model: str = ""
    """As the user named it: a name or a path."""
    spec_text: str = ""
    """spec.yaml of a run of ours."""
    notes: str = ""
    created: float | None = None
    ended: float | None = None
    parity: Mapping[str, Any] | None = None

    @property
    def pictures(self) -> tuple[Path, ...]:
        """Pictures that Ultralytics drew, as they lie there."""
        endings = (".png", ".jpg", ".jpeg")
        return tuple(self.where / row.path for row in self.files if row.present and row.path.lower().endswith(endings))
