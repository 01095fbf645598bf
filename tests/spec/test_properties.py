"""What must hold for any input: nothing but SpecError, merging, overriding and reading back."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher.errors import Problem, SpecError
from launcher.spec.arguments import Arguments
from launcher.spec.attached import SOURCES
from launcher.spec.load import load_spec, to_yaml
from launcher.spec.merge import COMMAND, merge, override
from launcher.spec.tree import Item, Place, plain, read_yaml

ARGUMENTS = Arguments()
BASE = Path("/base")

keys = st.sampled_from(
    [
        "model",
        "data",
        "train",
        "epochs",
        "reef",
        "kaggle-dataset",
        "prepare",
        "seed",
        "environment",
        "variables",
        "A",
        "resume",
        "name",
        "notes",
        "x",
    ]
)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff"), max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**12), 10**12)
scalars = (
    st.none()
    | st.booleans()
    | numbers
    | texts
    | st.sampled_from(["on", "1e-3", "010", "0x1f", "~", "1:30", "<<", "${env:A}", "kaggle-dataset:a/b"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
)
mappings = st.dictionaries(keys, values, max_size=5)
fragments = st.sampled_from(
    ["model: m\n", "data: reef\n", "train:\n", "  epochs: 3\n", "resume: ", "environment:", "{", "}", "\n", "name: "]
) | st.sampled_from(["&a ", "*a ", "extends: job.yaml\n", "  - ", "!!str ", "'", '"', "\t", "\0", "${env:A}", ": "])


def as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def tree(values: Any, file: str) -> Item:
    item, problems = read_yaml(as_text(values), Place(file, 1, 1), BASE)
    assert item is not None
    assert problems == []
    return item


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60).map(str.encode),
        st.binary(max_size=60),
        st.lists(fragments, max_size=12).map("".join).map(str.encode),
    )
)
@example(b"model: m\ndata: reef\ntrain: {epochs: {a: {}}}\nenvironment: {variables: [1]}\n")
def test_any_file_is_a_spec_or_a_spec_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_bytes(data)
        with contextlib.suppress(SpecError):
            load_spec(path, env={"A": "secret"}, arguments=ARGUMENTS)


@settings(max_examples=100, deadline=None)
@given(mappings)
def test_any_mapping_is_a_spec_or_an_error_that_names_a_place(values: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_text(as_text(values), encoding="utf-8")
        problems: tuple[Problem, ...] = ()
        try:
            loaded = load_spec(path, env={}, arguments=ARGUMENTS)
            assert json.loads(json.dumps(loaded.resolved)) == loaded.resolved
        except SpecError as error:
            problems = error.problems
    assert all(problem.line and problem.column and problem.field is not None for problem in problems)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
@example("train.epochs=" + "[" * 100)
@example("data.reef=reef")
@example("train=&a [*a]")
def test_any_set_argument_is_taken_or_a_problem(argument: str) -> None:
    item, problems = override(tree({"train": {"epochs": 1}}, "f"), argument, BASE)
    assert isinstance(item, Item)
    assert all(problem.file == COMMAND for problem in problems)


@settings(max_examples=50, deadline=None)
@given(mappings, mappings, mappings)
def test_merging_does_not_depend_on_grouping(one: Any, two: Any, three: Any) -> None:
    """(a ⊕ b) ⊕ c = a ⊕ (b ⊕ c), unless one took another's place between: then only the grouping as read is ours."""
    a, b, c = tree(one, "a"), tree(two, "b"), tree(three, "c")
    left, right = merge(merge(a, b), c), merge(a, merge(b, c))
    if not _interrupted(one, two, three):
        assert plain(left) == plain(right)


def _interrupted(one: Any, two: Any, three: Any) -> bool:
    """Whether somewhere a mapping, something else and a mapping follow one another, or one dataset another."""
    if not isinstance(two, dict):
        return isinstance(one, dict) and isinstance(three, dict)
    if not (isinstance(one, dict) and isinstance(three, dict)):
        return False
    if len(SOURCES & (one.keys() | two.keys() | three.keys())) > 1:
        return True
    return any(_interrupted(one[key], two[key], three[key]) for key in one.keys() & two.keys() & three.keys())


def _another(old: Any, new: Any) -> bool:
    """Whether one dataset is named over another: it takes its place whole."""
    return bool(SOURCES & old.keys()) and bool(SOURCES & (new.keys() - old.keys()))


@settings(max_examples=50, deadline=None)
@given(mappings, mappings)
@example({"data": {"reef": {}}, "x": 1}, {"data": {"kaggle-dataset": "a/b"}})
def test_the_later_one_wins_and_places_survive(one: Any, two: Any) -> None:
    merged = merge(tree(one, "a"), tree(two, "b"))

    def check(path: tuple[str, ...], old: Any, new: Any) -> None:
        for key in old.keys() | new.keys():
            item = merged.at((*path, key))
            assert item is not None
            both = key in new and key in old and isinstance(new[key], dict) and isinstance(old[key], dict)
            if both and not (key == "data" and not path and _another(old[key], new[key])):
                check((*path, key), old[key], new[key])
                continue
            assert plain(item) == (new[key] if key in new else old[key])
            assert item.place.file == ("b" if key in new else "a")

    check((), one, two)


@settings(max_examples=50, deadline=None)
@given(mappings)
def test_merging_with_nothing_or_itself_changes_nothing(one: Any) -> None:
    item = tree(one, "a")
    assert plain(merge(item, item)) == plain(merge(item, tree({}, "b"))) == plain(merge(tree({}, "b"), item)) == one


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=5), values)
def test_what_is_set_is_there(path: list[str], value: Any) -> None:
    item, problems = override(tree({"z": 1}, "f"), f"{'.'.join(path)}={as_text(value)}", BASE)
    assert problems == []
    found = item.at(tuple(path))
    assert found is not None
    assert plain(found) == value
    assert found.place == Place(COMMAND)
    assert plain(item)["z"] == 1
    again, _ = override(item, f"{'.'.join(path)}={as_text(value)}", BASE)
    assert plain(again) == plain(item)


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=5) | texts, values, max_size=4))
@example(
    {"a": "1e-3", "b": "on", "c": "010", "d": "1:30", "e": "0o7", "f": "1_0", "g": "=", "h": "2026-01-01", "i": 1e-07}
)
@example({"a": "\x85\u2028", "b": "a\n  b\n", "c": " x ", "d": "#", "e": "null", "f": "\x07", "g": "-.5"})
def test_written_yaml_reads_back_by_our_rules_and_by_yaml_1_1(values: dict[str, Any]) -> None:
    if "<<" in values or any("\ud800" <= char <= "\udfff" for char in "".join(values)):
        return
    text = to_yaml(values)
    item, problems = read_yaml(text, Place("f", 1, 1), BASE)
    assert item is not None
    assert problems == []
    assert plain(item) == values
    assert yaml.safe_load(text) == values
    assert to_yaml(values) == text
