"""What the installed Ultralytics says of its own arguments, read from its files; Ultralytics is never imported.

Names, defaults, sections and comments come from `cfg/default.yaml`; the types and limits that it enforces from the
tables in `cfg/__init__.py` (only the tables are parsed: 2 ms, where the whole module takes 30); the optimizers from
the one line of `engine/trainer.py` that lists them; the models and datasets that it knows by name from the names of
its files and from one list in `utils/downloads.py`. A table that is not found is empty, and then the comment's type
is what is known. Nothing is kept between runs: there is no cache to go stale.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from launcher.errors import Problem, SpecError

_LINE = re.compile(r"([A-Za-z_]\w*):(?:(?:.*?\s)?# \(([^)]*)\)\s*(.*))?")
_SECTION = re.compile(r"# ([A-Z][\w ./]*?)\s*-*\Z")
_TABLE = r"^{name}\b[^=\n]*= *(?:frozenset\(\s*)?(\{{.*?\}})"
_OPTIMIZERS = re.compile(r"^\s*optimizers = (\{[^}]*\})", re.MULTILINE)
_ASSETS = re.compile(r"^GITHUB_ASSETS_NAMES\b[^=\n]*= *(\w+\(.*?^\))", re.MULTILINE | re.DOTALL)
_NAMES_MAY_HOLD = (
    ast.Expression, ast.BinOp, ast.Add, ast.List, ast.Tuple, ast.Set, ast.ListComp, ast.comprehension, ast.JoinedStr,
    ast.FormattedValue, ast.Constant, ast.Name, ast.Load, ast.Store,
)  # fmt: skip
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Fact:
    """One line of default.yaml."""

    default: Any
    section: str
    types: frozenset[str]
    """As the comment gives them: bool, int, float, str, list."""
    comment: str


class UltralyticsPackage:
    """The package folder of an Ultralytics, looked at without running it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def find(cls) -> UltralyticsPackage:
        """The Ultralytics of this interpreter. Raises SpecError where there is none."""
        found = importlib.util.find_spec("ultralytics")
        if found is None or not found.submodule_search_locations:
            raise SpecError([Problem("Ultralytics is not installed here", remedy="pip install ultralytics")])
        return cls(Path(found.submodule_search_locations[0]))

    @cached_property
    def version(self) -> str:
        """Its version, or `unknown`."""
        found = re.search(r"^__version__ = [\"']([^\"']+)", self._text("__init__.py"), re.MULTILINE)
        return found[1] if found else "unknown"

    @cached_property
    def facts(self) -> dict[str, Fact]:
        """Every argument of default.yaml. Raises SpecError where that file cannot be read."""
        text = self._text("cfg/default.yaml")
        try:
            defaults = yaml.load(text, Loader=_LOADER)
        except yaml.YAMLError:
            defaults = None
        if not isinstance(defaults, dict) or not defaults:
            file = str(self.folder / "cfg/default.yaml")
            raise SpecError([Problem("Ultralytics' defaults cannot be read", file=file, remedy="install it again")])
        section, facts = "", {name: Fact(value, "", frozenset(), "") for name, value in defaults.items()}
        for line in text.splitlines():
            if header := _SECTION.match(line):
                section = header[1]
            elif (found := _LINE.match(line)) and found[1] in facts:
                types = frozenset(
                    re.findall(r"bool|int|float|str|list", re.sub(r"\[.*?\]|tuple", _inner, found[2] or ""))
                )
                facts[found[1]] = Fact(defaults[found[1]], section, types, found[3] or "")
        return facts

    def table(self, name: str) -> Any:
        """A set or dict of literals in cfg/__init__.py; an empty set where there is none of that name."""
        found = re.search(_TABLE.format(name=name), self._configuration, re.MULTILINE | re.DOTALL)
        return (_literal(found[1]) if found else None) or set()

    @cached_property
    def optimizers(self) -> frozenset[str]:
        """The optimizers that the trainer builds; empty where its source does not list them as expected."""
        found = _OPTIMIZERS.search(self._text("engine/trainer.py"))
        return frozenset((_literal(found[1]) if found else None) or ())

    @cached_property
    def models(self) -> frozenset[str]:
        """The names of its model configurations; empty where there is no such folder."""
        return frozenset(file.name for file in (self.folder / "cfg/models").rglob("*.yaml"))

    @cached_property
    def datasets(self) -> frozenset[str]:
        """The names of the datasets that it would download by name."""
        return frozenset(file.name for file in (self.folder / "cfg/datasets").glob("*.yaml"))

    @cached_property
    def assets(self) -> frozenset[str]:
        """The weights that it downloads by name; empty where its list of them cannot be read."""
        found = _ASSETS.search(self._text("utils/downloads.py"))
        return frozenset(name for name in (_names(found[1]) if found else ()) if name.endswith(".pt"))

    @cached_property
    def _configuration(self) -> str:
        return self._text("cfg/__init__.py")

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""


def _inner(found: re.Match[str]) -> str:
    """`tuple` is written as a list in YAML; what a list holds is no type of the argument itself."""
    return "list" if found[0] == "tuple" else ""


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def _names(text: str) -> frozenset[str]:
    """What a `frozenset(...)` of texts, sums of lists and comprehensions holds; nothing where it is anything else.

    It can call no function and reach no attribute: only what builds texts and lists is let through.
    """
    try:
        tree = ast.parse(text, mode="eval")
        call = tree.body
        if not isinstance(call, ast.Call) or ast.unparse(call.func) not in ("frozenset", "set") or len(call.args) != 1:
            return frozenset()
        inner = ast.Expression(call.args[0])
        if not all(isinstance(node, _NAMES_MAY_HOLD) for node in ast.walk(inner)):
            return frozenset()
        found = eval(compile(inner, "downloads.py", "eval"), {"__builtins__": {}})
        return frozenset(name for name in found if isinstance(name, str))
    except (SyntaxError, ValueError, TypeError, NameError, RecursionError):
        return frozenset()
