"""YAML as a tree of values that know where they stand, so that an error can name file, line and column.

What is read:
- one document, whose top is a mapping; the safe tags only; scalars by the YAML 1.2 core rules, so `on` and `no` are
  text, `1e-3` is a number, and `010` and `1:30` are text (older readers take them for 8 and 90);
- a key twice in one mapping is a problem;
- anchors and aliases, as long as what they expand to stays within MAX_VALUES; nothing is nested deeper than MAX_DEPTH.

What is wrong is returned as a list of Problems; nothing here raises for any text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from launcher.errors import Problem

MAX_VALUES = 20_000  # values in one file, aliases expanded; the largest useful spec has some hundred
MAX_DEPTH = 20  # the deepest field of a spec is at 3
MAX_NUMBER = 40  # characters of a number; Python refuses to convert very long ones

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_BASED = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")

Scalar = bool | int | float | str | None


class Place(NamedTuple):
    """Where something was read. Line and column count from 1; None for an argument of the command."""

    file: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A value, where it stands, and the folder that relative paths in it start from."""

    value: Scalar | list[Item] | dict[str, Item]
    place: Place
    base: Path
    keys: dict[str, Place] = field(default_factory=dict)
    """Where each key of a mapping stands."""
    text: str | None = None
    """A scalar as it was written, for fields that want text: a version 2.10 is not the number 2.1."""

    @property
    def mapping(self) -> dict[str, Item]:
        """The entries of a mapping; none for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def at(self, path: tuple[str | int, ...]) -> Item | None:
        """The item at a path of keys and indexes, or None."""
        item: Item | None = self
        for part in path:
            inner = item.value if item is not None else None
            if isinstance(inner, dict):
                item = inner.get(str(part))
            elif isinstance(inner, list) and isinstance(part, int) and part < len(inner):
                item = inner[part]
            else:
                return None
        return item


def plain(item: Item) -> Any:
    """The value without its places: dict, list and scalars."""
    if isinstance(item.value, dict):
        return {name: plain(inner) for name, inner in item.value.items()}
    if isinstance(item.value, list):
        return [plain(inner) for inner in item.value]
    return item.value


def scalar(text: str) -> Scalar:
    """What an unquoted scalar means by the YAML 1.2 core rules. Numbers that are no finite ones stay text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) <= MAX_NUMBER:
        if _INT.match(text):
            return int(text)
        if _BASED.match(text):
            return int(text, 0)
        if _FLOAT.match(text):
            number = float(text)
            return number if math.isfinite(number) else text
    return text


def read_yaml(text: str, place: Place, base: Path, *, top_mapping: bool = True) -> tuple[Item | None, list[Problem]]:
    """The tree of a text, and what is wrong with it. The tree is None where the text cannot be read at all.

    A place with line None (a `--set` argument) gives all its items that place.
    """
    builder = _Builder(place, base)
    try:
        builder.feed(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is not None and (tab := _tab(text, mark.line, mark.column)) is not None:
            at = place if place.line is None else Place(place.file, mark.line + 1, tab + 1)
            builder.problem("is not YAML: a tab; YAML wants spaces", at)
        else:
            builder.problem(_syntax(error), builder.at(mark))
        return None, builder.problems
    except (yaml.YAMLError, UnicodeError) as error:
        return None, [_unreadable(error, text, place)]
    except _GaveUp:
        return None, builder.problems
    item = builder.root
    if item is None:
        item = Item({}, place if place.line is None else Place(place.file, 1, 1), base)
        item = item if top_mapping else Item(None, item.place, base, text="")
    if top_mapping and not isinstance(item.value, dict):
        if item.value is not None:
            builder.problem("must be a mapping of fields, `model: ...` and so on", item.place)
            return None, builder.problems
        item = Item({}, item.place, base)
    return item, builder.problems


def _syntax(error: yaml.MarkedYAMLError) -> str:
    """One line for a syntax error, without a piece of the text: that could hold anything."""
    said = ", ".join(str(part) for part in (error.context, error.problem) if part) or "cannot be read"
    return f"is not YAML: {said}".replace("\n", " ")


def _tab(text: str, line: int, column: int) -> int | None:
    """The column of a tab where YAML allows none: in the indentation of this line, or just here."""
    lines = text.split("\n")
    row = lines[line] if line < len(lines) else ""
    indentation = row[: len(row) - len(row.lstrip(" \t"))]
    if "\t" in indentation:
        return indentation.index("\t")
    return column if row[column : column + 1] == "\t" else None


def _unreadable(error: Exception, text: str, place: Place) -> Problem:
    """A character that YAML does not allow."""
    offset = next((at for at, char in enumerate(text) if _forbidden(char)), None)
    if offset is None or place.line is None:
        return Problem("is not YAML: it holds a character that YAML does not allow", file=place.file)
    line, column = text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1
    return Problem(f"is not YAML: character U+{ord(text[offset]):04X} is not allowed", place.file, line, column)


def _forbidden(char: str) -> bool:
    code = ord(char)
    return (code < 0x20 and char not in "\t\n\r") or 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF or code >= 0xFFFE


class _GaveUp(Exception):  # noqa: N818 - a jump out of the reader, not an error that anyone sees
    """The text is beyond the limits; the problem is noted."""


@dataclass(slots=True)
class _Open:
    """A sequence or mapping whose end is not read yet."""

    value: list[Item] | dict[str, Item]
    place: Place
    anchor: str | None
    before: int
    keys: dict[str, Place] = field(default_factory=dict)
    key: str | None = None


class _Builder:
    """Makes the tree from parser events, without recursion, so that no depth of nesting can exhaust the stack."""

    def __init__(self, place: Place, base: Path) -> None:
        self.place, self.base = place, base
        self.problems: list[Problem] = []
        self.root: Item | None = None
        self.count = 0
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Item, int] | None] = {}

    def at(self, mark: Any) -> Place:
        """The place of a mark of the parser."""
        if mark is None or self.place.line is None:
            return self.place
        return Place(self.place.file, mark.line + 1, mark.column + 1)

    def problem(self, message: str, place: Place) -> None:
        self.problems.append(Problem(message, *place))

    def feed(self, events: Iterator[Any]) -> None:
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.problem("holds a second document; a spec is one", self.at(event.start_mark))
                    raise _GaveUp
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._open(event)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._close()

    def _spend(self, amount: int, place: Place) -> None:
        self.count += amount
        if self.count > MAX_VALUES:
            self.problem(f"holds more than {MAX_VALUES} values once its aliases are expanded", place)
            raise _GaveUp

    def _scalar(self, event: Any) -> None:
        place = self.at(event.start_mark)
        self._spend(1, place)
        tag, text = event.tag, event.value
        quoted = event.style in ("'", '"', "|", ">")
        value: Scalar = text if quoted or tag in ("!", f"{_TAG}str") else scalar(text)
        if tag not in (None, "!") and tag not in {f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null")}:
            self.problem("carries a YAML tag; only plain values are read", place)
        item = Item(value, place, self.base, text=text)
        if event.anchor:
            self.anchors[event.anchor] = (item, 1)
        self._add(item, place, is_alias=False)

    def _alias(self, event: Any) -> None:
        place = self.at(event.start_mark)
        known = self.anchors.get(event.anchor)
        if known is None:
            inside = event.anchor in self.anchors
            self.problem("an alias refers to itself" if inside else "an alias without its anchor", place)
            raise _GaveUp
        item, size = known
        self._spend(size, place)
        self._add(item, place, is_alias=True)

    def _open(self, event: Any) -> None:
        place = self.at(event.start_mark)
        self._spend(1, place)
        if len(self.stack) >= MAX_DEPTH:
            self.problem(f"is nested deeper than {MAX_DEPTH} levels", place)
            raise _GaveUp
        if event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            self.problem("carries a YAML tag; only plain values are read", place)
        if event.anchor:
            self.anchors[event.anchor] = None
        empty: list[Item] | dict[str, Item] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.stack.append(_Open(empty, place, event.anchor, self.count - 1))

    def _close(self) -> None:
        done = self.stack.pop()
        item = Item(done.value, done.place, self.base, done.keys)
        if done.anchor:
            self.anchors[done.anchor] = (item, self.count - done.before)
        self._add(item, done.place, is_alias=False)

    def _add(self, item: Item, place: Place, *, is_alias: bool) -> None:
        """Put a finished item where it belongs: as the root, the next of a list, a key, or the value of a key."""
        if not self.stack:
            self.root = item
            return
        parent = self.stack[-1]
        if isinstance(parent.value, list):
            parent.value.append(item)
        elif parent.key is None:
            self._key(parent, item, place, is_alias=is_alias)
        else:
            parent.value[parent.key] = item
            parent.key = None

    def _key(self, parent: _Open, item: Item, place: Place, *, is_alias: bool) -> None:
        name = item.text
        if name is None or is_alias:
            self.problem("a key must be plain text", place)
            raise _GaveUp
        if name == "<<":
            self.problem("merge keys (`<<`) are not read; name the other file with `extends`", place)
        elif name in parent.keys:
            first = parent.keys[name].line
            self.problems.append(Problem("is there twice", *place, field=name, remedy=f"first in line {first}"))
        parent.keys.setdefault(name, place)
        parent.key = name
