"""The two runs that began this project, as run folders: what was published of them, and the rest marked as made up.

Published: the figures of the last epoch, of the best one, the losses with their gains, and three cumulative times.
Made up: every other row, the fourth and fifth digit of the metrics, the times of the reference, file contents. The
precisions were published as 0.620 and 0.499, and the change as -19 %: of the three-digit figures it would be -19.5 %,
so the digits made up here are ones that give both.

Which epoch holds the jump is not published as such: 979 s was said of epoch 5, and 39,322 s of what came after; as
values of the cumulative `time` that is epoch 6, and (43,908 - 39,322) / 9 = 510 s for each of the epochs left.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from launcher.spec.package import UltralyticsPackage

METRICS = ("metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)")
LOSSES = ("box_loss", "cls_loss", "dfl_loss")
HEADER = (
    "epoch",
    "time",
    *(f"train/{loss}" for loss in LOSSES),
    *METRICS,
    *(f"val/{loss}" for loss in LOSSES),
    *(f"lr/pg{index}" for index in range(3)),
)
BEGUN = 1_765_000_000.0  # Unix seconds, 6 December 2025: made up, but of the month in which they ran
SETUP = ("labels.jpg", "train_batch0.jpg", "train_batch1.jpg", "train_batch2.jpg")
FINAL = (
    *(f"Box{curve}_curve.png" for curve in ("F1", "PR", "P", "R")),
    *(f"val_batch{index}_{kind}.jpg" for index in range(3) for kind in ("labels", "pred")),
    "confusion_matrix.png",
    "confusion_matrix_normalized.png",
)


@dataclass(frozen=True)
class Published:
    """The run folders of the reference (phase 1) and of phase 2."""

    baseline: Path
    phase2: Path


def published(folder: Path) -> Published:
    """Both runs, written into `folder` as `baseline` and `phase2`: args.yaml, results.csv, weights, pictures."""
    common = {"model": "yolo11n.pt", "data": "/data/cots/data.yaml", "batch": 16, "imgsz": 640, "device": "mps"}
    write_run(folder / "baseline", baseline_rows(), {**common, "epochs": 10})
    write_run(folder / "phase2", phase2_rows(), {**common, **PHASE2})
    return Published(folder / "baseline", folder / "phase2")


PHASE2: Mapping[str, Any] = {
    "epochs": 15, "optimizer": "AdamW", "lr0": 0.002, "momentum": 0.9, "box": 5.0, "cls": 0.5, "dfl": 1.5,
    "degrees": 0.0, "translate": 0.1, "scale": 0.5, "fliplr": 0.5, "mosaic": 1.0, "mixup": 0.0,
    "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0,
}  # fmt: skip


def baseline_rows() -> list[dict[str, float]]:
    """10 epochs. Published: the metrics of epochs 9 (mAP) and 10, the training losses of epoch 10."""
    train = _to((2.9, 4.1, 1.4), (1.756, 1.802, 1.005), 10)
    val = _to((2.6, 4.4, 1.3), (1.9, 2.4, 1.1), 10)  # made up whole
    metrics = _to((0.21, 0.03, 0.03, 0.012), (0.6, 0.09, 0.15, 0.075), 9)
    metrics[8] = (0.633, 0.0934, 0.162, 0.085)
    metrics.append((0.61961, 0.0910, 0.1540, 0.0780))
    times = [560.0 * epoch for epoch in range(1, 11)]  # made up: "normal, about 10 minutes"
    return _rows(times, train, metrics, val)


def phase2_rows() -> list[dict[str, float]]:
    """15 epochs. Published: epoch 12's mAP50-95, everything of epoch 15, three times.

    The validation losses before the last epoch are made up to be flat, so that nothing can be read out of their course.
    """
    train = _to((2.1, 3.6, 1.3), (1.030, 0.929, 0.950), 15)
    val = _to((1.32, 5.2, 1.07), (1.305, 5.139, 1.057), 15)
    metrics = _to((0.19, 0.02, 0.02, 0.008), (0.52, 0.056, 0.088, 0.043), 11)
    metrics.append((0.531, 0.0571, 0.0907, 0.0450))
    metrics.extend([(0.515, 0.0545, 0.086, 0.0431), (0.507, 0.0531, 0.0841, 0.0416)])
    metrics.append((0.49946, 0.0520, 0.0820, 0.0400))
    before = [979.0 * epoch / 5 for epoch in range(1, 6)]
    after = [39_322.0 + (43_908.0 - 39_322.0) * step / 9 for step in range(10)]
    return _rows([*before, *after], train, metrics, val)


def csv_text(rows: Sequence[Mapping[str, float]], header: Sequence[str] = HEADER) -> str:
    """A results.csv as Ultralytics 8.4 writes it."""
    lines = [",".join(header)]
    lines += [",".join(f"{row[name]:.6g}" for name in header) for row in rows]
    return "\n".join(lines) + "\n"


def write_run(
    folder: Path,
    rows: Sequence[Mapping[str, float]],
    arguments: Mapping[str, Any],
    *,
    finished: bool = True,
    plots_to_the_end: bool = True,
) -> Path:
    """A folder as Ultralytics leaves it, files with the times at which it writes them.

    `finished` False: as after a kill between epochs, last.pt can be gone on from. `plots_to_the_end` False: as after
    a kill before the final evaluation drew results.png.
    """
    (folder / "weights").mkdir(parents=True)
    _put(folder / "args.yaml", yaml.safe_dump({**_defaults(), **arguments}, sort_keys=False).encode(), 0)
    end = max((row["time"] for row in rows), default=0.0)
    for index, name in enumerate(SETUP):
        _put(folder / name, _picture(name), 5 + index)
    if not rows:
        return folder
    _put(folder / "results.csv", csv_text(rows).encode(), end)
    last = -1 if finished else int(rows[-1]["epoch"]) - 1
    for name in ("best.pt", "last.pt"):
        _put(folder / "weights" / name, checkpoint(last), end + 2)
    if finished:
        for index, name in enumerate(FINAL):
            _put(folder / name, _picture(name), end + 20 + index)
        if plots_to_the_end:
            _put(folder / "results.png", _picture("results.png"), end + 50)
    return folder


def checkpoint(epoch: int) -> bytes:
    """A file laid out as torch.save does, with an epoch (from 0; -1: stripped) and no weights in it."""
    optimizer: dict[str, Any] | None = None if epoch < 0 else {"state": {}, "param_groups": []}
    value = {"epoch": epoch, "best_fitness": None, "model": None, "ema": None, "optimizer": optimizer}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=2))
    return file.getvalue()


def _to(first: Sequence[float], last: Sequence[float], count: int) -> list[tuple[float, ...]]:
    """Made-up values from the first to the last, straight."""
    pairs = list(zip(first, last, strict=True))
    return [tuple(a + (b - a) * step / (count - 1) for a, b in pairs) for step in range(count)]


def _rows(
    times: Sequence[float],
    train: Sequence[Sequence[float]],
    metrics: Sequence[Sequence[float]],
    val: Sequence[Sequence[float]],
) -> list[dict[str, float]]:
    columns = zip(times, train, metrics, val, strict=True)
    rates = [0.002 * (1 - index / len(times)) for index in range(len(times))]
    return [
        dict(zip(HEADER, (epoch, time, *a, *b, *c, rate, rate, rate), strict=True))
        for epoch, ((time, a, b, c), rate) in enumerate(zip(columns, rates, strict=True), 1)
    ]


@functools.cache
def _defaults() -> dict[str, Any]:
    return {name: fact.default for name, fact in UltralyticsPackage.find().facts.items()}


@functools.cache
def _picture(name: str) -> bytes:
    file = io.BytesIO()
    shade = sum(name.encode()) % 200
    Image.new("RGB", (64, 36), (shade, 90, 160)).save(file, "PNG" if name.endswith(".png") else "JPEG")
    return file.getvalue()


def _put(file: Path, data: bytes, after_s: float) -> None:
    file.write_bytes(data)
    os.utime(file, (BEGUN + after_s, BEGUN + after_s))
