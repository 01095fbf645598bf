"""Checks train arguments against the installed Ultralytics, in a millisecond or so and before any machine is taken.

Promises: what Ultralytics would refuse by name, type or range is refused here, and some that it would take and then
ignore. An argument that samerun itself must set is refused with the field that sets it. `coerce` gives one canonical
form to what Ultralytics takes for the same, so that `box: 5` and `box: 5.0` are one spec.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

from launcher.spec.package import Fact, UltralyticsPackage
from launcher.spec.wording import did_you_mean, trap

MANAGED = {
    "model": "write it as `model:`, beside `train:`",
    "data": "write it as `data:`, beside `train:`",
    "device": "write it as `resources.device`",
    "name": "write it as `name:`, beside `train:`",
    "resume": "samerun resumes by itself; see `resume:`",
    "cfg": "write the arguments out under `train:`, or share them by `extends:`",
    **dict.fromkeys(("project", "save_dir", "exist_ok"), "samerun chooses the folder: runs/<id>/train"),
    **dict.fromkeys(("mode", "task"), "samerun only trains detection; leave it out"),
}
"""Arguments that belong to samerun, and what to do instead."""

OTHER_NAMES = {
    **dict.fromkeys(("lr", "learning_rate"), "lr0"),
    "batch_size": "batch",
    **dict.fromkeys(("img_size", "image_size"), "imgsz"),
    **dict.fromkeys(("iterations", "max_epochs"), "epochs"),
}
"""What other trainers call an argument, where its own name is not near enough to be guessed."""

TRAINING_SECTIONS = frozenset(
    {"Train settings", "Segmentation", "Classification", "Val/Test settings", "Hyperparameters"}
)
ALSO_TRAINING = frozenset({"classes", "agnostic_nms"})
"""In default.yaml's predict section, but read in training: data/build.py and models/yolo/detect/val.py."""

MINIMUM = {
    "imgsz": 32,  # the largest stride of the detection models; utils/checks.py raises it to this with a warning
    "close_mosaic": 0,  # default.yaml: 0 keeps mosaic on
    "workers": 0,  # torch.utils.data.DataLoader
    "save_period": -1,  # default.yaml: disabled below 1
    "epochs": 1,  # also in CFG_INT_MIN, as the two below; older versions have no such table
    "seed": 0,
    "patience": 0,
    "time": 0,
    "warmup_epochs": 0,
    "box": 0,  # a negative gain would train away from the labels
    "cls": 0,
    "dfl": 0,
    "degrees": 0,  # "+/-"; documented range 0 to 180
}
MAXIMUM = {"seed": 2**32 - 1, "degrees": 180}  # the seed: numpy.random.seed
CHOICES = {
    "cache": ("ram", "disk"),  # default.yaml's comments, as the rest
    "amp": ("fp16", "bf16", "fp32"),  # check_cfg
    "split": ("val", "test", "train"),
    "copy_paste_mode": ("flip", "mixup"),
    "auto_augment": ("randaugment", "autoaugment", "augmix"),
}
TYPE_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list",
}
NULL_MEANS_SOMETHING = frozenset({"auto_augment"})  # check_cfg: none at all, where the default is randaugment


class Arguments:
    """The train arguments of one Ultralytics."""

    def __init__(self, package: UltralyticsPackage | None = None) -> None:
        self.package = package or UltralyticsPackage.find()
        self._facts = self.package.facts

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The arguments that a spec may set, in the order of default.yaml."""
        return tuple(
            name
            for name, fact in self._facts.items()
            if name not in MANAGED and (not fact.section or fact.section in TRAINING_SECTIONS or name in ALSO_TRAINING)
        )

    def default(self, name: str) -> Any:
        """What Ultralytics takes when the spec is silent."""
        return self._facts[name].default

    def describe(self, name: str) -> str:
        """Ultralytics' own line on it."""
        return self._facts[name].comment

    def types(self, name: str) -> frozenset[str]:
        """What kinds of value it takes: bool, int, float, str, list, null."""
        fact = self._facts[name]
        types = set(fact.types)
        if not types:
            tables = ("float", "fraction", "int", "bool", "str")
            types = {"float" if kind == "fraction" else kind for kind in tables if name in self._tables[kind]}
        types = types or {type(fact.default).__name__} & TYPE_WORDS.keys()
        if fact.default is None or name in NULL_MEANS_SOMETHING:
            types.add("null")
        return frozenset(types | ({"int"} if "float" in types else set()))

    def bounds(self, name: str) -> tuple[float | None, float | None]:
        """The least and the greatest number it takes, both included."""
        if name == "batch":
            return -1, None
        low: float | None = MINIMUM.get(name)
        if (name in self._tables["fraction"] and name != "fraction") or name == "scale":
            return 0, 1
        floors = self._tables["minimum"]
        return floors.get(name, low) if isinstance(floors, dict) else low, MAXIMUM.get(name)

    def choices(self, name: str) -> tuple[str, ...]:
        """The texts it takes, upper or lower case; empty where any will do."""
        if name == "quantize":
            return tuple(self._tables["quantize"])
        return tuple(sorted(self.package.optimizers)) if name == "optimizer" else CHOICES.get(name, ())

    def check(self, name: str, value: Any) -> str | None:
        """What is wrong with a value in a spec, with the way out; None when Ultralytics would train with it."""
        if name in MANAGED:
            return f"is not set under train ({MANAGED[name]})"
        if name not in self._facts:
            other = OTHER_NAMES.get(name.lower())
            hint = f"did you mean {other!r}?" if other in self.names else did_you_mean(name, self.names)
            return f"Ultralytics has no argument {name!r}" + (f" ({hint})" if hint else "")
        if name not in self.names:
            return f"is not a training argument (Ultralytics reads it in: {_purpose(self._facts[name])})"
        return self._check_type(name, value) or self._check_value(name, value)

    def coerce(self, name: str, value: Any) -> Any:
        """The canonical form of a value that `check` accepts."""
        types = self.types(name)
        if isinstance(value, float) and "float" not in types and value.is_integer():
            return int(value)
        if name == "fraction" and value == 1:
            return 1.0
        if type(value) is int and "float" in types and "int" not in self._facts[name].types:
            return float(value)
        if name == "quantize" and isinstance(aliases := self._tables["quantize"], dict):
            return aliases.get(str(value).lower(), value)
        if isinstance(value, str) and (known := self.choices(name)):
            return next((choice for choice in known if choice.lower() == value.lower()), value)
        return value

    @cached_property
    def _tables(self) -> dict[str, Any]:
        names = {"float": "CFG_FLOAT_KEYS", "fraction": "CFG_FRACTION_KEYS", "int": "CFG_INT_KEYS"}
        names |= {"bool": "CFG_BOOL_KEYS", "str": "CFG_STR_KEYS", "minimum": "CFG_INT_MIN"}
        names |= {"quantize": "QUANTIZE_ALIASES"}
        return {kind: self.package.table(name) for kind, name in names.items()}

    def _check_type(self, name: str, value: Any) -> str | None:
        types = self.types(name)
        if value is None:
            if "null" in types:
                return None
            return f"must not be null (leave it out for Ultralytics' default, {_show(self.default(name))})"
        kind = "list" if isinstance(value, list) else type(value).__name__
        if name == "imgsz" and kind == "list":
            return "training takes one number, the longer side of the image"
        whole = kind == "float" and isinstance(value, float) and value.is_integer()
        if not types or kind in types or (whole and "int" in types):
            return None
        asked = " or ".join(TYPE_WORDS[one] for one in TYPE_WORDS if one in _narrowed(types))
        hint = trap(value, "number" if types & {"int", "float"} else "bool" if "bool" in types else "text")
        return f"must be {asked}, not {_show(value)}" + (f" ({hint})" if hint else "")

    def _check_value(self, name: str, value: Any) -> str | None:
        special: Callable[[Any], str | None] | None = _SPECIAL.get(name)
        if special is not None and (message := special(value)):
            return message
        if (known := self.choices(name)) and (isinstance(value, str) or (name == "quantize" and value is not None)):
            if str(value).lower() not in (choice.lower() for choice in known):
                hint = did_you_mean(str(value), known) or "known: " + ", ".join(known)
                return f"must be one of Ultralytics' own, not {_show(value)} ({hint})"
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = self.bounds(name)
            if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
                return f"must be {_range(low, high)}, is {value}"
        return None


def _purpose(fact: Fact) -> str:
    return fact.section.removesuffix(" settings").lower() or "other modes"


def _narrowed(types: frozenset[str]) -> frozenset[str]:
    """A number may be whole: no need to say both."""
    return types - {"int"} if "float" in types else types


def _show(value: Any) -> str:
    """A value in an error, cut short."""
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "null" if value is None else str(value).lower()


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "a finite number"
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"{low} or more" if low is not None else f"{high} or less"


def _batch(value: Any) -> str | None:
    fits = value == -1 or (0 < value < 1) or (value >= 1 and float(value).is_integer())
    return None if fits else "must be a whole number of images, -1 for AutoBatch, or a share of GPU memory (0 to 1)"


def _time(value: Any) -> str | None:
    return "must be more than 0 hours" if value is not None and value <= 0 else None


def _save(value: Any) -> str | None:
    return None if value else "without checkpoints there is nothing to resume from or to bring back (leave it out)"


def _scale(value: Any) -> str | None:
    if not isinstance(value, list):
        return None
    numbers = len(value) == 2 and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in value)
    return None if numbers and 0 < value[0] <= value[1] else "as a list must be two numbers, [least, greatest]"


def _fraction(value: Any) -> str | None:
    if isinstance(value, list):
        fits = len(value) in (2, 3) and all(_share_or_count(one) for one in value) and all(value[:2])
        return None if fits else "as a list must be [train, val] or [train, val, test], each a share or a count"
    fits = 0 < value <= 1 or (isinstance(value, int) and value > 1)
    return None if fits else "must be a share above 0 and up to 1, or a count of images above 1"


def _share_or_count(value: Any) -> bool:
    return (type(value) is int and value >= 0) or (type(value) is float and 0 <= value <= 1)


_SPECIAL: dict[str, Callable[[Any], str | None]] = {
    "batch": _batch,
    "time": _time,
    "save": _save,
    "scale": _scale,
    "fraction": _fraction,
}
