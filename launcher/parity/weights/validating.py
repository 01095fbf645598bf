"""Validations of best.pt here: what they are held against, where their results are kept, how one is started.

Arguments are those of the run's own final evaluation, so that a difference is not of our making: its imgsz, twice its
batch (as the trainer's loader has it), its iou, max_det and conf; rect on, augment off, float32, the val split. A
result is kept beside the run (in the cache for a folder that is not ours) with the digest of the weights, the
fingerprint of the dataset and the arguments, and taken again only for the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.analysis.model import LABELS, Kind, Plain, RunView
from launcher.analysis.numbers import best_epoch
from launcher.analysis.reading import worker
from launcher.data.check import examine
from launcher.data.dataset import read_dataset
from launcher.errors import SamerunError
from launcher.files import sha256_file, write_atomic
from launcher.parity.model import Difference
from launcher.parity.model import Kind as Weight
from launcher.parity.weights.tolerances import COMPARED, SOURCE, allowed
from launcher.runs.create import Data, listing, look_at_data
from launcher.settings import Settings
from launcher.spec.load import read_resolved

VERSION = 1
NAME = "parity/validation.json"
FINAL = "the final evaluation"
LIMIT_S = 3600.0
"""Longest that one validation may take: an assumption (the largest fold of COTS has 6,708 images)."""
TAKEN_OVER = ("iou", "max_det", "conf", "single_cls", "agnostic_nms", "classes")
FIXED = {"rect": True, "augment": False, "split": "val", "workers": 0, "plots": False, "verbose": False}
MPS = "https://github.com/ultralytics/ultralytics/issues/24399"


@dataclass(frozen=True)
class Check(Plain):
    """One metric as the run wrote it (`where`) and as it was found here."""

    column: str
    where: str
    run: float
    here: float
    allowed: float

    @property
    def apart(self) -> bool:
        """Whether it is another number."""
        return not abs(self.run - self.here) <= self.allowed


@dataclass(frozen=True)
class Validation(Plain):
    """What is known of one run's best.pt. `data_known`: the dataset is, by its fingerprint, that of the training."""

    why_not: str = ""
    fingerprint: str = ""
    data: str = ""
    data_known: bool = False
    checks: tuple[Check, ...] = ()

    @property
    def apart(self) -> tuple[Check, ...]:
        """Numbers that the weights do not give."""
        return tuple(one for one in self.checks if one.apart)

    @property
    def agrees(self) -> bool:
        """Whether it was validated and gives the run's numbers."""
        return bool(self.checks) and not self.apart

    @property
    def greatest(self) -> float:
        """The largest difference."""
        return max((abs(one.run - one.here) for one in self.checks), default=0.0)

    def sentence(self) -> str:
        """The first number that is another."""
        one = self.apart[0]
        return f"{LABELS[one.column]} of {one.where} is {one.run:.6g}, and best.pt gives {one.here:.6g} here"

    def difference(self, run: str, one: Check) -> Difference:
        """The same, for the layer."""
        what = f"{LABELS[one.column]} of {run} in {one.where}"
        why = f"when best.pt is validated here ({one.allowed:.0e} is allowed): the numbers are not of these weights"
        return Difference(what, one.run, one.here, Weight.MUST_EQUAL, why, f"{SOURCE}; {MPS}", 96)


def of(views: Sequence[RunView], *, start: bool, settings: Settings) -> tuple[Validation, ...]:
    """A validation of each, from what is kept; where there is none and `start`, made now."""
    return tuple(_of(view, start, settings) for view in views)


def _of(view: RunView, start: bool, settings: Settings) -> Validation:
    best = view.train / "weights" / "best.pt" if view.train is not None else None
    if best is None or not best.is_file():
        return Validation("there is no best.pt")
    if str(view.config.get("task") or "detect") != "detect":
        return Validation(f"it is of {view.config.get('task')}, and only detection is validated again")
    if not _expected(view)[1]:
        return Validation("the run wrote no metrics of it")
    key = key_of(sha256_file(best), view)
    kept = _kept(view, settings, key)
    if kept is None and not start:
        return Validation("it was not validated yet")
    try:
        kept = kept or _made(view, settings, best, key)
    except SamerunError as error:
        return Validation(error.message)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Validation(f"it could not be validated: {error}")
    recorded = str(view.data.get("fingerprint") or "")
    known = bool(recorded) and recorded == kept["fingerprint"]
    found = Validation("", str(kept["fingerprint"]), str(kept["data"]), known)
    if recorded and not known:
        return Validation(f"the dataset at {found.data} is no longer the one that it was trained on")
    return replace(found, checks=_checks(view, kept))


def _expected(view: RunView) -> tuple[str, dict[str, float]]:
    """What the run wrote of best.pt: in the final evaluation's event, else in the best row of its table."""
    if found := {name: view.final_eval[name] for name in COMPARED if name in view.final_eval}:
        return FINAL, found
    epoch = best_epoch(view.results)
    if epoch is None or view.results.epochs[:1] != (1,) or view.results.missing:
        return "", {}
    rows = {name: view.results.at(name, epoch) for name in COMPARED}
    return f"row {epoch} of results.csv", {name: value for name, value in rows.items() if value is not None}


def _checks(view: RunView, kept: Mapping[str, Any]) -> tuple[Check, ...]:
    where, expected = _expected(view)
    had = view.config.effective
    rules: dict[str, Any] = {
        "half": bool(had.get("amp")) and had.get("device") != "cpu",
        "row": where != FINAL,
        "same": had.get("device") == kept.get("device"),
        "boxes": kept["boxes"] if isinstance(kept.get("boxes"), int) else view.positives,
    }
    return tuple(
        Check(name, where, value, here, allowed(name, **rules))
        for name, value in expected.items()
        if isinstance(here := kept["metrics"].get(name), float)
    )


def arguments(view: RunView) -> dict[str, Any]:
    """The arguments of the validation."""
    size, batch = view.config.number("imgsz"), view.config.number("batch")
    taken = {name: view.config.get(name) for name in TAKEN_OVER}
    loader = {"imgsz": int(size or 640), "batch": max(1, 2 * int(batch or 8))}
    return {**loader, **{name: value for name, value in taken.items() if value is not None}, **FIXED}


def key_of(weights: str, view: RunView) -> str:
    """What a kept result is of: the sha256 of best.pt, the dataset, the arguments."""
    value = {
        "version": VERSION,
        "weights": weights,
        "data": view.data.get("fingerprint") or view.data.get("yaml"),
        "arguments": arguments(view),
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _file(view: RunView, settings: Settings) -> Path:
    if view.kind is Kind.RUN:
        return view.where / NAME
    name = hashlib.sha256(str(view.where).encode()).hexdigest()[:32]
    return settings.cache_dir / "validations" / f"{name}.json"


def _kept(view: RunView, settings: Settings, key: str) -> dict[str, Any] | None:
    """An earlier result for the same weights, dataset and arguments."""
    held = worker.read_json(_file(view, settings))
    whole = isinstance(held.get("metrics"), dict) and isinstance(held.get("fingerprint"), str) and "data" in held
    if held.get("key") != key or not whole:
        return None
    if not view.data.get("fingerprint"):  # a folder's dataset may have changed under its path
        with contextlib.suppress(SamerunError, OSError):
            found = _dataset(view, settings)
            return held if found.found.fingerprint.total == held["fingerprint"] else None
    return held


def _dataset(view: RunView, settings: Settings) -> Data:
    """The run's dataset, read. Raises SamerunError where it is not here."""
    if view.kind is Kind.RUN:
        found = look_at_data(settings, read_resolved(view.spec_text), lambda *_: None, make=False)
        if isinstance(found, Data):
            return found
        raise SamerunError("its dataset is not here")
    yaml = Path(str(view.config.values.get("data") or ""))
    if not yaml.is_absolute() or not yaml.is_file():
        raise SamerunError(f"its dataset is not here: there is no {yaml}")
    dataset = read_dataset(yaml)
    return Data(dataset, examine(dataset, settings.cache_dir / "digests.sqlite"))


def _made(view: RunView, settings: Settings, best: Path, key: str) -> dict[str, Any]:
    """Validate now and keep the result. Raises SamerunError, OSError and ValueError."""
    data = _dataset(view, settings)
    mark = data.found.fingerprint.total
    recorded = view.data.get("fingerprint")
    if recorded and recorded != mark:
        raise SamerunError(f"the dataset at {data.dataset.root} is no longer the one that it was trained on")
    box = Path(tempfile.mkdtemp(prefix="samerun-validation-"))
    try:
        said = _run(box, best, data, arguments(view))
    finally:
        shutil.rmtree(box, ignore_errors=True)
    result = {**said, "key": key, "fingerprint": mark, "data": str(data.dataset.root), "arguments": arguments(view)}
    file = _file(view, settings)
    with contextlib.suppress(OSError):  # it is made again
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(result, indent=1).encode())
    return result


def _run(box: Path, best: Path, data: Data, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The validation, in a process of its own. Raises SamerunError with what it says."""
    from launcher.parity.weights.process import REQUEST, RESULT

    (box / "in").mkdir()
    request = {"weights": str(best.resolve()), "arguments": dict(asked)}
    attempt = {"version": 1, "attempt": "validation", "data_root": str(data.dataset.root), "verify_data": False}
    (box / "in" / "data.json").write_bytes(listing(data))
    (box / "in" / "attempt.json").write_text(json.dumps(attempt), encoding="utf-8")
    (box / "in" / REQUEST).write_text(json.dumps(request), encoding="utf-8")
    argv = [sys.executable, "-m", "launcher.parity.weights.process", str(box)]
    root = str(Path(__file__).parents[3])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    try:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SamerunError(f"the validation took more than {LIMIT_S:g} s") from None
    if done.returncode or not (box / "out" / RESULT).is_file():
        last = done.stderr.decode(errors="replace").strip().splitlines()
        raise SamerunError(f"the validation failed: {last[-1] if last else f'exit code {done.returncode}'}")
    return dict(worker.read_json(box / "out" / RESULT))
