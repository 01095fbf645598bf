"""What differs between the configurations of runs, what each difference acts on, and whether it can be told apart.

Only differences are listed, each with Ultralytics' own default. Where both runs know what the trainer really had, that
is compared, else what was asked for. An argument that one run's version does not have counts as a difference only if
the other has set it. Names that do not act on the training (folders, plots, the look of predictions) are left out.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.analysis.model import Config, Difference, RunView
from launcher.errors import SpecError
from launcher.spec.arguments import Arguments

QUIET = frozenset(
    {
        "dnn",
        "save",
        "save_period",
        "save_json",
        "verbose",
        "plots",
        "profile",
        "exist_ok",
        "project",
        "name",
        "save_dir",
    }
    | {"resume", "mode", "task", "cfg", "tracker", "model", "data"}
)
"""Of no effect on the numbers, or looked at elsewhere (model and data)."""
GROUPS = {
    "seed": ("seed",),
    "machine": ("device", "workers", "amp", "deterministic", "compile", "channels_last", "cache"),
    "schedule": ("epochs", "time", "patience", "close_mosaic", "cos_lr", "lrf"),
    "validation": ("val", "split", "conf", "iou", "max_det", "augment", "agnostic_nms", "classes", "nms", "single_cls"),
    "model": ("model", "pretrained", "freeze", "distill_model", "cls_remap"),
    "data": ("data", "fraction"),
}
_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}
EFFECTS = frozenset({"training", "schedule", "validation", "model", "data"})
"""Groups whose changes are a cause to be told apart; seeds and machines are noise to be measured."""
ALSO_VALIDATION = frozenset({"imgsz", "rect"})
"""Training arguments that the validation follows, too."""
MIXING = ("mosaic", "mixup", "cutmix", "copy_paste")
"""What is off in the last close_mosaic epochs: data/dataset.py, close_mosaic."""
OPTIMIZERS = ("lr0", "momentum", "warmup_bias_lr")
"""What `optimizer: auto` sets itself: where it is on one side, these are part of the change of optimizer."""
IGNORED = "has no effect where optimizer is auto"
VERSION = "version"
SAME_DATA = "paths; whether the data is the same is not known"
SAME_MODEL = "paths to a file of one name; whether it is the same is not known"
PERHAPS = frozenset({SAME_DATA, SAME_MODEL})
"""Notes of differences that may be none."""
_ABSENT = object()


def differences(runs: Sequence[RunView]) -> tuple[Difference, ...]:
    """What differs between these runs, values in their order; training first, then by name."""
    known = [bool(run.config.values or run.config.effective) for run in runs]
    if sum(known) < 2:
        return ()
    had = all(run.config.effective for run, is_known in zip(runs, known, strict=True) if is_known)
    tables = [
        (run.config.effective if had else run.config.values) if is_known else None
        for run, is_known in zip(runs, known, strict=True)
    ]
    found = [one for name in _names() if (one := _argument(name, tables, runs[0].config)) is not None]
    found += [one for one in (_model(runs), _data(runs), *_machines(runs), _mosaic(runs)) if one is not None]
    order = ("model", "data", "training", "schedule", "validation", "seed", "machine")
    return tuple(sorted(found, key=lambda one: (order.index(one.group), one.name)))


def causes(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """Those that may each explain a different result, without what follows from others of them."""
    return tuple(one for one in found if one.group in EFFECTS and not one.follows)


def mosaic_epochs(config: Config) -> tuple[int, int] | None:
    """(first, last) epoch with mixing augmentations, (0, 0) for none; None where the arguments are not known.

    As in 8.4.190: off once epoch >= epochs - close_mosaic, counted from 0. Versions from before 18 September 2026 kept
    it on where epochs < close_mosaic (PR 26226).
    """
    epochs, close = config.number("epochs"), config.number("close_mosaic")
    if epochs is None or close is None:
        return None
    if config.get("rect") or not any(config.number(name) for name in MIXING):
        return 0, 0
    last = int(epochs - close) if close else int(epochs)
    return (1, last) if last > 0 else (0, 0)


def show(value: Any) -> str:
    """A value of args.yaml for people."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def phrase(one: Difference) -> str:
    """`epochs 10 → 15`, from the reference (the last) to the run (the first); of more runs each value once."""
    if len(one.values) == 2:
        return f"{one.name} {show(one.values[1])} → {show(one.values[0])}"
    return f"{one.name} {', '.join(dict.fromkeys(show(value) for value in reversed(one.values)))}"


@functools.cache
def _names() -> tuple[str, ...]:
    """Arguments of a training, and the device."""
    try:
        names = Arguments().names
    except SpecError:
        names = ()
    return tuple(dict.fromkeys((*(name for name in names if name not in QUIET), "device")))


def _argument(name: str, tables: Sequence[Mapping[str, Any] | None], config: Config) -> Difference | None:
    """The difference in one argument; None where there is none. A table of None is a run that is not known."""
    default = config.defaults.get(name)
    values = [None if table is None else table.get(name, _ABSENT) for table in tables]
    known = [value for value, table in zip(values, tables, strict=True) if table is not None]
    given = [value for value in known if value is not _ABSENT]
    alike = all(_same(value, given[0]) for value in given[1:])
    if not given or (alike and (len(given) == len(known) or _same(given[0], default))):
        return None
    shown = tuple(None if value is _ABSENT else value for value in values)
    at_default = tuple(value is _ABSENT or _same(value, default) for value in values)
    note = _note(name, tables)
    return Difference(name, shown, default, _GROUP_OF.get(name, "training"), at_default, note, note == IGNORED)


def _same(one: Any, other: Any) -> bool:
    """Whether they are one value to Ultralytics: 5 and 5.0 are, true and 1 are not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _note(name: str, tables: Sequence[Mapping[str, Any] | None]) -> str:
    auto = any(str(table.get("optimizer")).lower() == "auto" for table in tables if table is not None)
    if name in OPTIMIZERS and auto:
        return IGNORED
    if name == "optimizer" and auto:
        return "auto chooses optimizer and learning rate by the number of steps"
    return "the validation changes with it" if name in ALSO_VALIDATION else ""


def _model(runs: Sequence[RunView]) -> Difference | None:
    names = {run.model.replace("\\", "/").rsplit("/", 1)[-1] for run in runs if run.model}
    return _of(runs, "model", [run.model for run in runs], "model", SAME_MODEL if len(names) == 1 else "")


def _data(runs: Sequence[RunView]) -> Difference | None:
    """By fingerprint where all have one, else by path, which shows little."""
    prints = [str(run.data.get("fingerprint") or "")[:12] for run in runs]
    if all(prints):
        return _of(runs, "data", prints, "data", "fingerprint of the dataset")
    paths = [str(run.data.get("root") or run.data.get("yaml") or "") for run in runs]
    return _of(runs, "data", paths, "data", SAME_DATA)


def _machines(runs: Sequence[RunView]) -> list[Difference | None]:
    """Versions and devices, where known. Another Ultralytics is other code: losses, augmentations, schedules."""
    found = [
        _of(runs, f"{name} {VERSION}", [run.versions.get(name, "") for run in runs], group, "")
        for name, group in (("ultralytics", "training"), ("torch", "machine"))
    ]
    devices = [run.hardware.get("device_name", "") for run in runs]
    return [*found, _of(runs, "device name", devices, "machine", "")]


def _mosaic(runs: Sequence[RunView]) -> Difference | None:
    """The epochs with mosaic: what epochs and close_mosaic come to together."""
    phases = [mosaic_epochs(run.config) for run in runs]
    texts = ["" if one is None else f"{one[0]} to {one[1]}" if one[1] else "none" for one in phases]
    note = "follows from epochs, close_mosaic and the mixing augmentations"
    return _of(runs, "epochs with mosaic", texts, "schedule", note, follows=True)


def _of(
    runs: Sequence[RunView], name: str, values: Sequence[str], group: str, note: str, *, follows: bool = False
) -> Difference | None:
    """A difference between texts, of which an empty one is not known."""
    if len({value for value in values if value}) < 2:
        return None
    shown = tuple(value or None for value in values)
    return Difference(name, shown, None, group, tuple(False for _ in runs), note, follows)
