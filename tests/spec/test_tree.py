"""The YAML reader: YAML 1.2 scalars, exact places, limits, and never anything but a tree or problems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.spec.tree import MAX_DEPTH, MAX_VALUES, Item, Place, plain, read_yaml, scalar


def read(text: str) -> tuple[Any, list[str]]:
    item, problems = read_yaml(text, Place("f", 1, 1), Path("/base"))
    return (plain(item) if item is not None else None), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("0x10", 16),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
        # The traps of YAML 1.1 stay text.
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    got = scalar(text)
    assert got == value
    assert type(got) is type(value)


def test_quoted_scalars_are_text() -> None:
    assert read("a: '3'\nb: \"true\"\nc: !!str 5\nd: |\n  1\n")[0] == {"a": "3", "b": "true", "c": "5", "d": "1\n"}


def test_every_value_and_key_knows_its_place() -> None:
    item, problems = read_yaml("a: 1\nb:\n  c: [x, y]\n  'd':   2\n", Place("f", 1, 1), Path("/base"))
    assert isinstance(item, Item)
    assert problems == []
    assert item.keys == {"a": Place("f", 1, 1), "b": Place("f", 2, 1)}
    inner = item.mapping["b"]
    assert inner.keys == {"c": Place("f", 3, 3), "d": Place("f", 4, 3)}
    assert [item.at(path).place[1:] for path in (("a",), ("b", "c", 1), ("b", "d"))] == [(1, 4), (3, 10), (4, 10)]  # type: ignore[union-attr]
    assert item.at(("b", "c", 7)) is None
    assert item.at(("a", "b")) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3:1: a: is there twice (first in line 1)"),
        ("a: 1\n\tb: 2\n", "f:2:1: "),
        ("a: [1\n", "f:2:1: "),
        ("a: !!python/object:os.system x\n", "f:1:4: carries a YAML tag; only plain values are read"),
        ("a: !mine {b: 1}\n", "f:1:4: carries a YAML tag; only plain values are read"),
        ("a: 1\n---\nb: 2\n", "f:2:1: holds a second document"),
        ("- a\n- b\n", "f:1:1: must be a mapping of fields"),
        ("just text", "f:1:1: must be a mapping of fields"),
        ("a: *b\n", "f:1:4: an alias without its anchor"),
        ("a: &x [*x]\n", "f:1:8: an alias refers to itself"),
        ("[1]: 2\n", "f:1:1: a key must be plain text"),
        ("<<: {a: 1}\n", "f:1:1: merge keys (`<<`) are not read"),
        ("a: 1\nb: x\x07y\n", "f:2:5: is not YAML: character U+0007 is not allowed"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, problem: str) -> None:
    _, problems = read(text)
    assert problems[0].startswith(problem)
    assert "\n" not in problems[0]


def test_several_problems_of_one_file_are_told_at_once() -> None:
    _, problems = read("a: 1\na: !x 2\nb: 3\nb: 4\n")
    assert [problem.split(" ")[0] for problem in problems] == ["f:2:1:", "f:2:4:", "f:4:1:"]


def test_empty_text_is_an_empty_mapping() -> None:
    assert read("") == ({}, [])
    assert read("# nothing\n") == ({}, [])
    assert read("~") == ({}, [])


def test_aliases_are_read() -> None:
    assert read("a: &x {b: 1}\nc: *x\nd: &y 3\ne: *y\n")[0] == {"a": {"b": 1}, "c": {"b": 1}, "d": 3, "e": 3}


def test_a_billion_laughs_end_early() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    value, problems = read("\n".join(lines))
    assert value is None
    assert problems == [
        f"f:5:{problems[0].split(':')[2]}: holds more than {MAX_VALUES} values once its aliases are expanded"
    ]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_ends_early(opening: str) -> None:
    value, problems = read("a:\n  " + opening * 100_000)
    assert value is None
    assert f"is nested deeper than {MAX_DEPTH} levels" in problems[0]


def test_many_values_end_early() -> None:
    assert "more than" in read("a: [" + "1," * (MAX_VALUES + 1) + "]")[1][0]


yaml_like = st.text(alphabet=st.sampled_from("ab:-[]{},&*!|>'\"#?%@` \n\t01e.~$\x85\ufeff"), max_size=60)


@given(st.one_of(st.text(max_size=80), yaml_like, st.text(st.characters(categories=["Cs", "Cc", "L"]), max_size=20)))
@example("\ud800")
@example('a: "\\ud800"')
@example("&a [*a]")
@example("? *a")
@example("&a &b")
def test_any_text_gives_a_tree_or_problems(text: str) -> None:
    item, problems = read_yaml(text, Place("f", 1, 1), Path("/base"))
    assert item is not None or problems
    for problem in problems:
        assert "\n" not in str(problem).replace(problem.field or "", "")
        assert problem.file == "f"
