"""Settings under `resources` that one backend alone understands, checked against what the installed ones declare.

Promises: a name that no installed backend declares is an error with its line and a suggestion; a value of another kind
than the declared one too. Backends are asked only for a spec that has such a setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from launcher.backend import Option
from launcher.errors import Problem
from launcher.spec.model import Resources
from launcher.spec.tree import Item
from launcher.spec.wording import did_you_mean, dotted, place_of, trap

Options = Callable[[], Mapping[str, Option]]
"""Asks the installed backends for all that they declare, by name."""
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_JSON = {bool: "boolean", int: "integer", float: "number", str: "string"}


def settled(tree: Item, options: Options) -> tuple[Item, list[Problem]]:
    """The spec with each option as its declared kind, and what is wrong with the others."""
    resources = tree.at(("resources",))
    extra = {
        name for name in (resources.mapping if resources is not None else {}) if name not in Resources.model_fields
    }
    if resources is None or not extra:
        return tree, []
    declared = options()
    values = {name: _as_declared(item, declared.get(name)) for name, item in resources.mapping.items()}
    told = replace(tree, value={**tree.mapping, "resources": replace(resources, value=values)})
    return told, [problem for name in sorted(extra) for problem in _check(told, name, declared)]


def json_schemas(declared: Mapping[str, Option]) -> dict[str, Any]:
    """The schema of each option, by name."""
    return {
        name: {
            "type": _JSON[option.kind],
            "description": option.help,
            **({"enum": list(option.choices)} if option.choices else {}),
        }
        for name, option in sorted(declared.items())
    }


def _as_declared(item: Item, option: Option | None) -> Item:
    """Text as it was written where text is wanted, and whole numbers for numbers."""
    if option is None:
        return item
    if option.kind is str and item.text is not None:
        return replace(item, value=item.text)
    if option.kind is float and isinstance(item.value, int) and not isinstance(item.value, bool):
        return replace(item, value=float(item.value))
    return item


def _check(tree: Item, name: str, declared: Mapping[str, Option]) -> Iterator[Problem]:
    path = ("resources", name)
    if name not in declared:
        known = (*Resources.model_fields, *sorted(declared))
        remedy = did_you_mean(name, known) or f"known: {', '.join(known)}"
        yield Problem(f"there is no field {name!r}", *place_of(tree, path, key=True), field=dotted(path), remedy=remedy)
        return
    option, item = declared[name], tree.at(path)
    assert item is not None
    if type(item.value) is not option.kind:
        wanted = "bool" if option.kind is bool else "number"
        hint = trap(item.value, wanted) if option.kind is not str else None
        message = f"must be {_WORDS[option.kind]}"
        yield Problem(message, *place_of(tree, path), field=dotted(path), remedy=hint)
    elif option.choices and item.value not in option.choices:
        hint = did_you_mean(str(item.value), option.choices)
        message = f"must be one of {', '.join(option.choices)}"
        yield Problem(message, *place_of(tree, path), field=dotted(path), remedy=hint)
