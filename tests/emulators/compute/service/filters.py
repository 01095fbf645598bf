"""The filter of list requests: AIP-160 comparisons, or `eq` and `ne` with regular expressions; never both.

Fields are named as in JSON (`labels.run`, `scheduling.automaticRestart`, `operationType`). OR binds closer than AND, as
AIP-160 says. A comparison with a field that is not there is false, but for `!=` and `ne`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from tests.emulators.compute.settings import invalid

Test = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[()])|(?P<operator>!=|<=|>=|=|<|>|:)|"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'"""
    r"""|(?P<word>[^\s()=<>:!"']+))"""
)


def matcher(text: str) -> Test:
    """What the filter lets through. Raises ApiError 400 for one that cannot be read."""
    if not text.strip():
        return lambda item: True
    parser = _Parser(text)
    test = parser.all_of()
    if parser.left:
        raise parser.wrong()
    return test


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.left: list[tuple[str, str]] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self.wrong()
            kind = str(match.lastgroup)
            value = re.sub(r"\\(.)", r"\1", match[kind]) if kind in ("double", "single") else match[kind]
            self.left.append((kind, value))
            at = match.end()
        words = {value for kind, value in self.left if kind == "word"}
        if words & {"eq", "ne"} and any(kind == "operator" for kind, _ in self.left):
            raise self.wrong()

    def wrong(self) -> Exception:
        return invalid("filter", self.text, "Invalid list filter expression.")

    def all_of(self) -> Test:
        tests = [self.any_of()]
        while self.left and self.left[0] != ("mark", ")"):
            if self.left[0] == ("word", "AND"):
                self.left.pop(0)
            tests.append(self.any_of())
        return lambda item: all(test(item) for test in tests)

    def any_of(self) -> Test:
        tests = [self.one()]
        while self.left and self.left[0] == ("word", "OR"):
            self.left.pop(0)
            tests.append(self.one())
        return lambda item: any(test(item) for test in tests)

    def one(self) -> Test:
        kind, value = self.take()
        if (kind, value) == ("word", "NOT"):
            inner = self.one()
            return lambda item: not inner(item)
        if (kind, value) == ("mark", "("):
            inner = self.all_of()
            if self.take() != ("mark", ")"):
                raise self.wrong()
            return inner
        if kind not in ("word", "double", "single"):
            raise self.wrong()
        negative = kind == "word" and value.startswith("-")
        test = self.comparison(value.removeprefix("-") if negative else value)
        return (lambda item: not test(item)) if negative else test

    def comparison(self, field: str) -> Test:
        kind, operator = self.take()
        if kind != "operator" and operator not in ("eq", "ne"):
            raise self.wrong()
        kind, value = self.take()
        if kind in ("mark", "operator"):
            raise self.wrong()
        if operator in ("eq", "ne"):
            try:
                pattern = re.compile(value)
            except re.error:
                raise self.wrong() from None
            return _regular(field, pattern, wanted=operator == "eq")
        return lambda item: _compare(operator, look_up(item, field), value)

    def take(self) -> tuple[str, str]:
        if not self.left:
            raise self.wrong()
        return self.left.pop(0)


def look_up(item: Mapping[str, Any], field: str) -> Any:
    """The value of a field with dots in its name, None where it is not there; of lists, all of their items'."""
    value: Any = item
    for part in field.split("."):
        if isinstance(value, list):
            value = [one.get(part) for one in value if isinstance(one, Mapping)]
        else:
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _regular(field: str, pattern: re.Pattern[str], *, wanted: bool) -> Test:
    def test(item: Mapping[str, Any]) -> bool:
        value = look_up(item, field)
        return (value is not None and pattern.fullmatch(_text(value)) is not None) == wanted

    return test


def _compare(operator: str, value: Any, wanted: str) -> bool:
    if operator == "!=":
        return not _compare("=", value, wanted)
    if value is None:
        return False
    if operator == ":":
        if wanted == "*":
            return True
        values = value if isinstance(value, (list, dict)) else [value]
        return any(fnmatchcase(_text(one), wanted) or wanted in _text(one) for one in values)
    values = value if isinstance(value, list) else [value]
    if operator == "=":
        return any(fnmatchcase(_text(one), _literal(wanted)) for one in values)
    return any(_ordered(operator, one, wanted) for one in values)


def _ordered(operator: str, value: Any, wanted: str) -> bool:
    try:
        order = float(value) - float(wanted)
    except (TypeError, ValueError):
        text = _text(value)
        order = (text > wanted) - (text < wanted)
    return {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[operator]


def _literal(wanted: str) -> str:
    """Only `*` has a meaning of its own."""
    return wanted.replace("[", "[[]").replace("?", "[?]")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
