"""Where a spec's `model` and `data` are: a file that is there, or a name that the installed Ultralytics knows.

Promises: what is not there is told now, at its place in the spec, and not by a machine that was waited for. What a
variable is filled in with is checked as well, and never shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from launcher.errors import Problem
from launcher.spec.attached import KINDS, PREPARE
from launcher.spec.merge import COMMAND
from launcher.spec.package import UltralyticsPackage
from launcher.spec.tree import Item
from launcher.spec.wording import did_you_mean, dotted
from launcher.variables import expand, references

_P6 = re.compile(r"(yolov[58])([nsmlx])6\Z")  # nn/tasks.py, yaml_model_load: an old way to write yolov5n-p6
_SCALED = re.compile(r"(\d+)([nslmx])(.+)?$")  # the same: yolo11n.yaml is yolo11.yaml at the scale n
_UNSCALED = re.compile(r"(yolo(?:e-)?v?\d+)(-.*)?\.yaml\Z")
_NO_FILE = "there is no such file"
_KIND = re.compile(r"([A-Za-z][A-Za-z0-9_-]+):(?!//)")  # two letters or more: one would be a drive


@dataclass(frozen=True)
class _Text:
    """What a field says, with its variables filled in."""

    text: str
    item: Item
    filled: str
    """` once X is filled in`, where a variable is named: then the text is not to be shown."""

    @property
    def path(self) -> str:
        """It as an absolute path; `.` and `..` are folded, links stay as they are."""
        given = os.path.expanduser(self.text)  # noqa: PTH111 - Path.expanduser raises for an unknown user
        return os.path.normpath(self.item.base / given)

    @property
    def is_bare(self) -> bool:
        """Whether it is a name, with nothing of a path."""
        return "/" not in self.text and not self.text.startswith("~")

    @property
    def looked_for(self) -> str:
        """Where it was looked for, for a remedy."""
        if self.filled:
            return f"export {' and '.join(references(str(self.item.value)))} as the absolute path of a file"
        if os.path.isabs(self.text) or self.text.startswith("~"):  # noqa: PTH117
            return "mend the path"
        start = "the current folder" if self.item.place.file == COMMAND else f"the folder of {self.item.place.file}"
        return f"looked for {self.path}: a relative path starts at {start}"


@dataclass(frozen=True)
class _Wrong:
    message: str
    remedy: str | None = None


_Look = Callable[[_Text, UltralyticsPackage], str | _Wrong]


def with_paths(tree: Item, env: Mapping[str, str], package: UltralyticsPackage) -> tuple[Item, list[Problem]]:
    """With `data`, its `prepare`, and a `model` that is a file, as absolute paths; and what is wrong with them.

    A text that names a variable stays as it is. One whose variable is not set is told elsewhere.
    """
    problems = []
    looks: tuple[tuple[tuple[str, ...], _Look], ...]
    looks = ((("data",), _data), (("data", PREPARE), _script), (("model",), _model))
    for path, look in looks:
        item = tree.at(path)
        if item is None or not isinstance(item.value, str) or not item.value:
            continue
        variables = references(item.value)
        if any(variable not in env for variable in variables):
            continue
        filled = f" once {' and '.join(variables)} is filled in" if variables else ""
        found = look(_Text(expand(item.value, env), item, filled), package)
        if isinstance(found, _Wrong):
            problems.append(Problem(found.message + filled, *item.place, field=dotted(path), remedy=found.remedy))
        elif not variables:
            tree = _with(tree, path, replace(item, value=found))
    return tree, problems


def _with(tree: Item, path: tuple[str, ...], item: Item) -> Item:
    """The tree with another item at a path that is there."""
    if not path:
        return item
    return replace(tree, value={**tree.mapping, path[0]: _with(tree.mapping[path[0]], path[1:], item)})


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for a name that is too long


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - the same


def _script(said: _Text, package: UltralyticsPackage) -> str | _Wrong:
    path = said.path
    if not _is_file(path):
        return _Wrong("is a folder, not a file" if _is_folder(path) else _NO_FILE, said.looked_for)
    return path if path.endswith(".py") else _Wrong("must be a Python script, NAME.py")


def _data(said: _Text, package: UltralyticsPackage) -> str | _Wrong:
    if "://" in said.text:
        return _Wrong("must be a path, not an address")
    if said.filled and not os.path.isabs(said.text):  # noqa: PTH117
        return _Wrong("must be an absolute path")
    path = said.path
    if _is_file(path):
        return path
    if _is_folder(path):
        if not _is_file(os.path.join(path, "data.yaml")):  # noqa: PTH118
            return _Wrong("is a folder", "name the dataset's data.yaml")
        return _Wrong("is a folder", f"name the file in it: {str(said.item.value).rstrip('/')}/data.yaml")
    if said.is_bare and {said.text, f"{said.text}.yaml"} & package.datasets:
        remedy = "download it once and name its data.yaml here; `data: reef` needs no download"
        return _Wrong("built-in datasets of Ultralytics are not downloaded here", remedy)
    if not said.filled and (kind := _KIND.match(said.text)):
        remedy = did_you_mean(kind[1], KINDS) or f"known: {', '.join(KINDS)}"
        return _Wrong(f"{_NO_FILE}, and no kind of data {kind[1]!r}", remedy)
    return _Wrong("is not a file" if os.path.exists(path) else _NO_FILE, said.looked_for)  # noqa: PTH110


def _model(said: _Text, package: UltralyticsPackage) -> str | _Wrong:
    if "://" in said.text:
        return _Wrong("must be a path or a name, not an address", "download it once and name the file")
    if _is_file(said.path):
        if said.filled and not os.path.isabs(said.text):  # noqa: PTH117
            return _Wrong("must be an absolute path or a name that Ultralytics knows")
        return said.path
    if not said.is_bare:
        return _Wrong("is a folder, not a file" if _is_folder(said.path) else _NO_FILE, said.looked_for)
    return _by_name(said, package)


def _by_name(said: _Text, package: UltralyticsPackage) -> str | _Wrong:
    """A name that Ultralytics knows, or what is wrong with it. Where its lists cannot be read every name will do."""
    name = said.text
    if name.endswith((".yaml", ".yml")):
        if not package.models or _configuration(name) in package.models or name in package.models:
            return name
        known = _scaled(package.models)
        kind = "model configuration"
    else:
        weights = name if name.endswith(".pt") else f"{name}.pt"  # utils/checks.py, check_model_file_from_stem
        renamed = f"{weights.removesuffix('.pt')}u.pt"  # the same, check_yolov5u_filename: yolov5n.pt is yolov5nu.pt
        if not package.assets or {weights, renamed} & package.assets:
            return name
        known = sorted(package.assets)
        kind = "pretrained weights" if name.endswith(".pt") else "model"
    where = "here" if said.filled or said.item.place.file == COMMAND else "beside this file"
    hint = None if said.filled else did_you_mean(name, known)
    other = "write the path of a file, or a name as in yolo11n.pt or yolo11n.yaml"
    return _Wrong(f"there is no such file {where}, and Ultralytics has no {kind} of that name", hint or other)


def _configuration(name: str) -> str:
    """The file that a configuration's name stands for: its scale is left out. Follows yaml_model_load."""
    stem, dot, suffix = name.rpartition(".")
    return _SCALED.sub(r"\1\3", _P6.sub(r"\1\2-p6", stem) + dot + suffix)


def _scaled(models: frozenset[str]) -> list[str]:
    """The names of configurations, with each scale."""
    found = sorted(models)
    for name in models:
        if parts := _UNSCALED.match(name):
            found += [f"{parts[1]}{scale}{parts[2] or ''}.yaml" for scale in "nsmlx"]
    return found
