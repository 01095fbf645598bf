"""Partial replies: the `fields` parameter, `items(name,size),nextPageToken` or `a/b`, applied to a resource."""

from __future__ import annotations

import re
from typing import Any

from tests.emulators.storage.settings import ApiError

_TOKEN = re.compile(r"[\w*]+|[(),/]")
Tree = dict[str, Any]


def parse(text: str) -> Tree:
    """Names to trees of names; an empty tree means everything below. Raises ApiError 400."""
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != text.replace(" ", ""):
        raise _bad(text)
    try:
        tree, rest = _list(tokens)
    except IndexError as error:
        raise _bad(text) from error
    if rest:
        raise _bad(text)
    return tree


def pick(value: Any, tree: Tree) -> Any:
    """What the tree names of a value; of each element of a list."""
    if not tree or ("*" in tree and not tree["*"]):
        return value
    if isinstance(value, list):
        return [pick(one, tree) for one in value]
    if not isinstance(value, dict):
        return value
    every: Tree | None = tree.get("*")
    return {name: pick(one, tree.get(name) or every or {}) for name, one in value.items() if name in tree or every}


def _list(tokens: list[str]) -> tuple[Tree, list[str]]:
    tree: Tree = {}
    while True:
        name, tokens = tokens[0], tokens[1:]
        if name in "(),/":
            raise IndexError(name)
        below: Tree = {}
        if tokens[:1] == ["/"]:
            below, tokens = _one(tokens[1:])
        elif tokens[:1] == ["("]:
            below, tokens = _list(tokens[1:])
            if tokens[:1] != [")"]:
                raise IndexError(name)
            tokens = tokens[1:]
        _merge(tree, name, below)
        if tokens[:1] != [","]:
            return tree, tokens
        tokens = tokens[1:]


def _one(tokens: list[str]) -> tuple[Tree, list[str]]:
    """What follows a slash: one name, with what is below it."""
    end = next((index for index, token in enumerate(tokens) if token in (",", ")")), len(tokens))
    if "(" in tokens[:end]:
        start = tokens.index("(")
        depth = 0
        for index in range(start, len(tokens)):
            depth += {"(": 1, ")": -1}.get(tokens[index], 0)
            if depth == 0:
                end = index + 1
                break
    tree, rest = _list(tokens[:end])
    if rest:
        raise IndexError(rest[0])
    return tree, tokens[end:]


def _merge(tree: Tree, name: str, below: Tree) -> None:
    if name in tree and (not tree[name] or not below):
        tree[name] = {}
    elif name in tree:
        for child, deeper in below.items():
            _merge(tree[name], child, deeper)
    else:
        tree[name] = below


def _bad(text: str) -> ApiError:
    return ApiError(400, "invalidParameter", f"Invalid field selection {text}", location=("parameter", "fields"))
