"""What a spec's texts may hold: references to environment variables that are set, and no secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from launcher.errors import Problem
from launcher.spec.tree import Item
from launcher.spec.wording import Path, dotted
from launcher.variables import REFERENCE, not_set, references

_SECRET_NAME = re.compile(r"(?i)token|secret|passw(or)?d|key|credential")
_SECRET_SHAPES = re.compile(
    r"\b(gh[pousr]_\w{20}|github_pat_\w{20}|hf_\w{20}|AKIA[0-9A-Z]{16}|AIza[\w-]{30}|KGAT_\w{16}|xox[abprs]-\w{8}"
    r"|sk-[\w-]{20})|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s@$]+@"
)

_FILLED_IN: tuple[Path, ...] = (("data",), ("model",))
_VARIABLES = ("environment", "variables")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def check_text(path: Path, item: Item, env: Mapping[str, str]) -> Iterator[Problem]:
    """What is wrong with the references in one text of a spec, and whether a secret stands in it."""
    text = item.value
    if not isinstance(text, str):
        return
    name = dotted(path)
    if _CONTROL.search(text):
        yield Problem("holds a control character", *item.place, field=name)
    if "${" in REFERENCE.sub("", text) and path[0] != "notes":
        yield Problem("holds a reference that is not of the form ${env:NAME}", *item.place, field=name)
    named = references(text)
    if named and path not in _FILLED_IN and path[:2] != _VARIABLES:
        remedy = "write the value itself; a variable may stand in data, model and environment.variables"
        yield Problem(f"${{env:{named[0]}}} is not filled in here", *item.place, field=name, remedy=remedy)
        named = ()
    for variable in named:
        if variable not in env:
            problem = not_set(variable)
            yield Problem(problem.message, *item.place, field=name, remedy=problem.remedy)
    by_name = path[:2] == _VARIABLES and _SECRET_NAME.search(str(path[-1])) and text
    if (by_name and not references(text)) or _SECRET_SHAPES.search(text):
        remedy = "set an environment variable and refer to it: ${env:NAME}"
        yield Problem("looks like a secret; a spec holds none", *item.place, field=name, remedy=remedy)
