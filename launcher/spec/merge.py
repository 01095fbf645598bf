"""Merges the files of a spec: what `extends` names first, then the file itself, then each `--set`.

The rule, the same for all three: mappings merge deep, anything else replaces, the later one wins, and every value
keeps the place it was written at. `null` replaces like any value: a field of ours goes back to its default, a train
argument is passed as None where Ultralytics takes one. `data: reef` is short for `data: {reef: {}}`, and
`data: kind:name` for `data: {kind: name}`; a dataset that is named over another one replaces it whole.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from launcher.errors import Problem
from launcher.spec.attached import SOURCES, split
from launcher.spec.tree import MAX_DEPTH, Item, Place, read_yaml
from launcher.spec.wording import dotted

MAX_BYTES = 1_000_000  # of one file
MAX_EXTENDS = 10  # files on one line of descent
MAX_FILES = 100  # in all
COMMAND = "--set"
_KEY = re.compile(r"[^\s.=]+(\.[^\s.=]+)*\Z")


def merge(old: Item, new: Item) -> Item:
    """`new` over `old`; of two datasets the new one alone: what stands beside the name of one is not the other's."""
    before, after = old.mapping.get("data"), new.mapping.get("data")
    if before is not None and after is not None and _names_another(before, after):
        old = replace(old, value={name: item for name, item in old.mapping.items() if name != "data"})
    return _deep(old, new)


def _names_another(old: Item, new: Item) -> bool:
    return not SOURCES.isdisjoint(old.mapping) and not SOURCES.isdisjoint(new.mapping.keys() - old.mapping.keys())


def _deep(old: Item, new: Item) -> Item:
    if not (isinstance(old.value, dict) and isinstance(new.value, dict)):
        return new
    value = dict(old.value)
    for name, item in new.value.items():
        value[name] = _deep(value[name], item) if name in value else item
    kept = old if new.place.file == COMMAND else new  # where a mapping stands is said by a file, if any holds it
    return replace(kept, value=value, keys={**old.keys, **new.keys})


class Files:
    """Reads a spec and what it extends. Collects what is wrong rather than stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.read: dict[Path, Item | None] = {}
        """By resolved path, in the order in which they were first read."""
        self._merged: dict[Path, Item | None] = {}

    def load(self, path: Path) -> Item | None:
        """The merged tree of a spec file, without `extends`; None where a file of it cannot be read."""
        return self._load(path, None, ())

    def _load(self, path: Path, named_at: Place | None, line: tuple[Path, ...]) -> Item | None:
        key = resolved(path)
        if key in self._merged:
            return self._merged[key]
        if key in line:
            chain = " → ".join(one.name for one in (*line[line.index(key) :], key))
            self._refuse(f"extends itself: {chain}", named_at, path)
            return None
        if len(line) > MAX_EXTENDS or (key not in self.read and len(self.read) >= MAX_FILES):
            limit = f"{MAX_EXTENDS} levels deep or over {MAX_FILES} files"
            self._refuse(f"goes more than {limit}", named_at, path)
            return None
        if key not in self.read:
            self.read[key] = self._read(path, named_at)
        own = self.read[key]
        merged = self._over_bases(own, path, (*line, key)) if own is not None else None
        self._merged[key] = merged
        return merged

    def _over_bases(self, own: Item, path: Path, line: tuple[Path, ...]) -> Item | None:
        """A file over what it extends; None where one of these cannot be read. All are read, to tell all problems."""
        bases = [self._load(path.parent / name, place, line) for name, place in self._bases(own)]
        rest = {name: item for name, item in own.mapping.items() if name != "extends"}
        merged: Item | None = None
        for item in (*bases, replace(own, value=rest)):
            if item is None:
                return None
            merged = item if merged is None else merge(merged, item)
        return merged

    def _bases(self, own: Item) -> list[tuple[str, Place]]:
        """The files that a spec extends, each with the place that names it."""
        named = own.mapping.get("extends")
        if named is None or named.value is None:
            return []
        items = named.value if isinstance(named.value, list) else [named]
        wrong = [item for item in items if not isinstance(item.value, str) or not item.value or "${" in item.value]
        for item in wrong:
            self.problems.append(Problem("must be a file name or a list of them", *item.place, field="extends"))
        return [(str(item.value), item.place) for item in items if item not in wrong]

    def _read(self, path: Path, named_at: Place | None) -> Item | None:
        try:
            if path.exists() and not path.is_file():
                self._refuse("is not a file", named_at, path)
                return None
            with path.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except FileNotFoundError:
            self._refuse("does not exist", named_at, path)
            return None
        except (OSError, ValueError) as error:
            self._refuse(f"cannot be read: {getattr(error, 'strerror', None) or error}", named_at, path)
            return None
        if len(data) > MAX_BYTES:
            self._refuse(f"is larger than {MAX_BYTES // 1000} kB; that is no spec", named_at, path)
            return None
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
            self.problems.append(Problem("is not UTF-8 text", str(path), line, column))
            return None
        item, problems = read_yaml(text, Place(str(path), 1, 1), path.parent.absolute())
        self.problems.extend(problems)
        return _open_data(item) if item is not None else None

    def _refuse(self, message: str, named_at: Place | None, path: Path) -> None:
        """Note what is wrong with a file: at the place that names it, or at the file where the command does."""
        if named_at is None:
            self.problems.append(Problem(message, file=str(path)))
        else:
            self.problems.append(Problem(f"{path} {message}", *named_at, field="extends"))


def override(tree: Item, argument: str, folder: Path) -> tuple[Item, list[Problem]]:
    """The tree with one `a.b=value` over it. The value is read as YAML; nothing after the `=` is null."""
    name, equals, text = argument.partition("=")
    name = name.strip()
    if not equals or not _KEY.match(name) or not name.isprintable():
        # What was given is not shown: it could be a secret.
        return tree, [Problem("is written as field=value", file=COMMAND, remedy="as in --set train.epochs=3")]
    path = tuple(name.split("."))
    if len(path) > MAX_DEPTH:
        return tree, [Problem("there is no field so deep", file=COMMAND)]
    if path[0] == "extends":
        return tree, [Problem("cannot be set from the command line", file=COMMAND, field="extends")]
    item, problems = read_yaml(text, Place(COMMAND), folder, top_mapping=False)
    if item is None or problems:
        return tree, [replace(problem, file=COMMAND, field=name, line=None, column=None) for problem in problems]
    for end in range(1, len(path)):
        around = tree.at(path[:end])
        if around is not None and around.value is not None and not isinstance(around.value, dict):
            kind = "a list; set it whole" if isinstance(around.value, list) else "one value, with no fields below it"
            return tree, [Problem(f"{dotted(path[:end])} is {kind}", file=COMMAND, field=name)]
    for part in reversed(path):
        item = Item({part: item}, item.place, folder, {part: item.place})
    return merge(tree, _open_data(item)), []


def resolved(path: Path) -> Path:
    """The one path of a file, however it is named; the path as it is where that cannot be told."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path


def _open_data(tree: Item) -> Item:
    """`data: reef`, and `data: {reef: }` without options, as `data: {reef: {}}`; `data: kind:name` as {kind: name}."""
    data = tree.mapping.get("data")
    if data is None:
        return tree
    if data.value == "reef":
        opened = Item({"reef": replace(data, value={}, text=None)}, data.place, data.base, {"reef": data.place})
    elif isinstance(data.value, str) and (named := split(data.value)):
        kind, name = named
        item = replace(data, value=name, text=name)
        opened = Item({kind: item}, data.place, data.base, {kind: data.place})
    elif (reef := data.mapping.get("reef")) is not None and reef.value is None:
        opened = replace(data, value={**data.mapping, "reef": replace(reef, value={}, text=None)})
    else:
        return tree
    return replace(tree, value={**tree.mapping, "data": opened})
