"""Says what is wrong with a spec in words that name the field, the place and the way out.

Turns pydantic's errors into Problems with places. No value of a variable is ever shown: a secret may be in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from launcher.errors import Problem
from launcher.spec.tree import Item, Place, scalar

Path = tuple[str | int, ...]

_TRAPS = (
    ("bool", re.compile(r"(?i)(yes|on|y)\Z"), "YAML 1.2 knows true and false only: write true"),
    ("bool", re.compile(r"(?i)(no|off|n)\Z"), "YAML 1.2 knows true and false only: write false"),
    ("number", re.compile(r"[-+]?0[0-9_]+\Z"), "some YAML readers take a leading zero for octal: leave it out"),
    ("number", re.compile(r"[-+]?[0-9]+(:[0-9]+)+(\.[0-9]*)?\Z"), "some YAML readers count a:b in sixties: one number"),
    ("number", re.compile(r"[-+]?[0-9][0-9,_' ]*(\.[0-9]+)?\Z"), "write the digits alone"),
    ("number", re.compile(r"(?i)[-+]?\.?(inf|nan|infinity)\Z"), "only a finite number will do"),
)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """`did you mean 'epochs'?`, or None where nothing known is close."""
    from difflib import get_close_matches  # only needed once something is wrong

    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[close[0]]!r}?" if close else None


def trap(text: object, wanted: str) -> str | None:
    """What to write in the place of a text where `wanted` (`bool` or `number`) was asked for, if that can be told."""
    if not isinstance(text, str):
        return None
    meant = scalar(text)
    if isinstance(meant, bool) if wanted == "bool" else isinstance(meant, (int, float)) and not isinstance(meant, bool):
        return "write it without quotes"
    return next((hint for kind, pattern, hint in _TRAPS if kind == wanted and pattern.match(text)), None)


def dotted(path: Path) -> str:
    """`train.epochs`: how a field is named to the user."""
    return ".".join(str(part) for part in path)


def place_of(tree: Item, path: Path, *, key: bool = False) -> Place:
    """Where the value at a path stands (or its key), or else the nearest mapping around it."""
    parent = tree.at(path[:-1]) if path else tree
    if key and path and parent is not None and str(path[-1]) in parent.keys:
        return parent.keys[str(path[-1])]
    for end in range(len(path), -1, -1):
        if (item := tree.at(path[:end])) is not None:
            return item.place
    return tree.place


def from_pydantic(
    errors: Iterable[Mapping[str, Any]],
    tree: Item,
    fields: Mapping[str, tuple[str, ...]],
    meanings: Mapping[str, str],
    not_yet: frozenset[str],
) -> list[Problem]:
    """Problems for the errors of a model; `fields`: known names by dotted parent, `meanings`: what a pattern asks."""
    problems: dict[tuple[str, str], Problem] = {}
    for error in errors:
        path = tuple(part for part in error["loc"] if part not in ("<path>", "<source>", "<attached>", "[key]"))
        if path[:1] == ("train",) and len(path) > 1:
            path, error = path[:2], {**error, "type": "train", "msg": "must be one value or a list of values"}
        kind, remedy = error["type"], None
        item = tree.at(path)
        place = place_of(tree, path, key=kind in ("extra_forbidden", "unexpected_keyword_argument"))
        if kind in ("extra_forbidden", "unexpected_keyword_argument"):
            message, remedy = _unknown(path, fields, not_yet)
        elif kind == "missing":
            message = "is missing"
        else:
            message, remedy = _wrong(error, item, meanings)
        name = dotted(path)
        problems.setdefault((name, message), Problem(message, *place, field=name, remedy=remedy))
    return list(problems.values())


def _unknown(path: Path, fields: Mapping[str, tuple[str, ...]], not_yet: frozenset[str]) -> tuple[str, str | None]:
    name, parent = str(path[-1]), dotted(path[:-1])
    if not parent and name in not_yet:
        return "is not built yet, so it would have no effect", "take it out"
    known = fields.get(parent, ())
    return f"there is no field {name!r}", did_you_mean(name, known) or f"known: {', '.join(known)}"


def _wrong(error: Mapping[str, Any], item: Item | None, meanings: Mapping[str, str]) -> tuple[str, str | None]:
    context = error.get("ctx") or {}
    wanted = {"bool_type": "bool", "int_type": "number", "float_type": "number"}.get(error["type"])
    remedy = trap(item.value, wanted) if item is not None and wanted else None
    if error["type"] == "string_pattern_mismatch":
        return f"must be {meanings.get(context.get('pattern', ''), 'different')}", remedy
    if error["type"] in ("model_type", "model_attributes_type", "dict_type", "dataclass_type", "dataclass_exact_type"):
        return "must be a mapping of fields", remedy
    said = str(error["msg"]).replace("Input should be", "must be").replace("a valid ", "a ")
    words = {"a integer": "a whole number", "a boolean": "true or false", "a string": "text"}
    for old, new in words.items():
        said = said.replace(old, new)
    return said.replace("Value error, ", ""), remedy
