"""Data that lies elsewhere: named in one of two forms, which are one; what is wrong with it is told at its place."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from launcher.errors import SpecError
from launcher.spec.arguments import Arguments
from launcher.spec.attached import AttachedData
from launcher.spec.load import LoadedSpec, load_spec, read_resolved
from launcher.spec.schema import json_schema
from launcher.spec.tree import Place, plain, read_yaml
from tests.spec.conftest import Problems, Write

HEAD = "model: yolo11n.yaml\n"
COTS = "kaggle-competition: tensorflow-great-barrier-reef"


def load(path: Path, *overrides: str) -> LoadedSpec:
    return load_spec(path, overrides, env={})


@pytest.mark.parametrize("name", ["alice/reef", "alice/reef/3", "a-1/2048"])
def test_both_forms_are_one(write: Write, name: str) -> None:
    short = load(write(f"{HEAD}data: kaggle-dataset:{name}\n"))
    assert short.spec.data == AttachedData("kaggle-dataset", name)
    assert short.resolved["data"] == {"kaggle-dataset": name}
    for text in (f"data: {{kaggle-dataset: {name}}}\n", f"data:\n  kaggle-dataset: {name}\n  prepare:\n"):
        assert load(write(HEAD + text)).yaml_text() == short.yaml_text()
    assert load(write(HEAD + "data: reef\n"), f"data=kaggle-dataset:{name}").resolved == short.resolved


def test_a_script_is_a_path_like_others(write: Write, tmp_path: Path) -> None:
    write("", "make/prepare.py")
    write(f"{HEAD}data:\n  prepare: ../make/prepare.py\n  {COTS}\n", "jobs/base.yaml")
    loaded = load(write("extends: jobs/base.yaml\n"))
    script = str(tmp_path / "make/prepare.py")
    assert loaded.spec.data == AttachedData("kaggle-competition", "tensorflow-great-barrier-reef", script)
    assert list(loaded.resolved["data"]) == ["kaggle-competition", "prepare"]
    assert read_resolved(loaded.yaml_text()) == loaded.spec


def test_organisations_and_older_competitions_have_capitals(write: Write) -> None:
    write("", "prepare.py")
    named = load(write(f"{HEAD}data: kaggle-dataset:Cornell-University/arxiv/3\n")).spec.data
    assert named == AttachedData("kaggle-dataset", "Cornell-University/arxiv/3")
    named = load(write(f"{HEAD}data: {{kaggle-competition: Kannada-MNIST, prepare: prepare.py}}\n")).spec.data
    assert isinstance(named, AttachedData)
    assert named.name == "Kannada-MNIST"


def test_a_slug_that_looks_like_a_number_is_text(write: Write) -> None:
    write("", "prepare.py")
    data = load(write(f"{HEAD}data: {{kaggle-competition: 2048, prepare: prepare.py}}\n")).spec.data
    assert data == AttachedData("kaggle-competition", "2048", str(write("", "prepare.py")))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data=kaggle-dataset:a/b", {"kaggle-dataset": "a/b"}),
        ("data.kaggle-dataset=a/b", {"kaggle-dataset": "a/b"}),
        ("data=reef", {"reef": {}}),
        ("data.reef.seed=4", {"reef": {"seed": 4}}),
        ("data.kaggle-competition=other", {"kaggle-competition": "other", "prepare": "SCRIPT"}),
    ],
)
def test_a_dataset_named_over_another_takes_its_whole_place(write: Write, override: str, expected: Any) -> None:
    script = str(write("", "prepare.py"))
    path = write(f"{HEAD}data:\n  {COTS}\n  prepare: prepare.py\n")
    found = load(path, override).resolved["data"]
    assert found == {key: script if value == "SCRIPT" else value for key, value in expected.items()}


def test_a_script_may_be_added_to_what_is_extended(write: Write) -> None:
    script = str(write("", "prepare.py"))
    write(f"{HEAD}data: kaggle-competition:cots\n", "base.yaml")
    loaded = load(write("extends: base.yaml\ndata: {prepare: prepare.py}\n"))
    assert loaded.resolved["data"] == {"kaggle-competition": "cots", "prepare": script}


SCRIPTLESS = (
    "a competition holds no data.yaml, so it cannot be trained on as it is (add `prepare: prepare.py`, "
    "a script that makes a dataset of it (README, 'Data that is elsewhere'))"
)
NO_NAME = "is no name that it can have"
VERSION = "(write owner/slug, or owner/slug/3 for version 3)"
MISTAKES = [
    ("data: kaggle-dataset:Alice/Reef", f"2:7: data.kaggle-dataset: {NO_NAME} (did you mean 'alice/reef'?)"),
    ("data: kaggle-dataset:reef", f"2:7: data.kaggle-dataset: {NO_NAME} {VERSION}"),
    ("data: kaggle-dataset:a/b/v3", f"2:7: data.kaggle-dataset: {NO_NAME} {VERSION}"),
    ("data: kaggle-dataset:a/b/0", f"2:7: data.kaggle-dataset: {NO_NAME} {VERSION}"),
    ("data: 'kaggle-dataset:'", f"2:7: data.kaggle-dataset: {NO_NAME} {VERSION}"),
    ("data: 'kaggle-dataset: a/b'", f"2:7: data.kaggle-dataset: {NO_NAME} {VERSION}"),
    ("data: {kaggle-dataset: [a/b]}", f"2:24: data.kaggle-dataset: {NO_NAME} {VERSION}"),
    ("data: {kaggle-dataset: ../b}", f"2:24: data.kaggle-dataset: {NO_NAME} {VERSION}"),
    ("data: kaggle-competition:cots", f"2:7: data.kaggle-competition: {SCRIPTLESS}"),
    ("data: kaggle-datset:a/b", ("2:7: data: there is no such file, and no kind of data 'kaggle-datset' (did you mean"
     " 'kaggle-dataset'?)")),
    ("data: gcs:bucket/x", ("2:7: data: there is no such file, and no kind of data 'gcs' (known: kaggle-dataset,"
     " kaggle-competition)")),
    ("data: {kagle-dataset: a/b}", ("2:8: data.kagle-dataset: there is no field 'kagle-dataset' (did you mean"
     " 'kaggle-dataset'?)")),
    ("data: {}", "2:7: data: names no dataset (add one of reef, kaggle-dataset, kaggle-competition)"),
    ("data: {prepare: prepare.py}", ("2:17: data.prepare: names no dataset (add one of reef, kaggle-dataset,"
     " kaggle-competition)")),
    ("data: {reef: {}, prepare: prepare.py}", "2:18: data.prepare: has nothing to make of reef (take it out)"),
    ("data: {reef: {}, kaggle-dataset: a/b}", "2:18: data.kaggle-dataset: is a second dataset beside reef (name one)"),
    ("data: {kaggle-dataset: a/b, prepare: gone.py}", ("2:38: data.prepare: there is no such file (looked for gone.py:"
     " a relative path starts at the folder of job.yaml)")),
    ("data: {kaggle-dataset: a/b, prepare: job.yaml}", "2:38: data.prepare: must be a Python script, NAME.py"),
    ("data: {kaggle-dataset: a/b, prepare: .}", ("2:38: data.prepare: is a folder, not a file (looked for .: a relative"
     " path starts at the folder of job.yaml)")),
    ("data: {kaggle-dataset: a/b, prepare: [x]}", ("2:38: data.prepare: must be the path of a script (as in prepare:"
     " prepare.py)")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_is_told_once_at_its_place(
    write: Write, problems: Problems, tmp_path: Path, text: str, says: str
) -> None:
    write("", "prepare.py")
    told = [line.replace(str(tmp_path), ".") for line in problems(write(f"{HEAD}{text}\n"))]
    assert told == [f"job.yaml:{says}"]


def test_a_name_is_written_out(write: Write, problems: Problems) -> None:
    (told,) = problems(write(f"{HEAD}data: kaggle-dataset:${{env:OWNER}}/reef\n"), env={"OWNER": "alice"})
    assert "${env:OWNER} is not filled in here" in told


def test_a_file_whose_name_looks_like_a_kind_is_named_with_its_folder(write: Write, tmp_path: Path) -> None:
    write("", "kaggle-dataset:a.yaml")
    assert load(write(f"{HEAD}data: ./kaggle-dataset:a.yaml\n")).spec.data == str(tmp_path / "kaggle-dataset:a.yaml")


def test_schema_and_loader_agree_on_data(arguments: Arguments, write: Write) -> None:
    """On what a schema can say: not whether a file is there."""
    validator = jsonschema.Draft202012Validator(json_schema(arguments))
    write("", "prepare.py")
    names = ("a/b", "a/b/3", "cots", "A/b", "a/b/0", "a/b/c", "", "a b")
    texts = [f"data: '{kind}:{name}'" for kind in ("kaggle-dataset", "kaggle-competition") for name in names]
    texts += [
        f"data: {{{', '.join(parts)}}}"
        for kind, name, more in itertools.product(
            ("kaggle-dataset", "kaggle-competition", "x"),
            names,
            ("", "prepare: prepare.py", "prepare: null", "reef: {}"),
        )
        for parts in [[f"{kind}: '{name}'", *([more] if more else [])]]
    ]
    texts += ["data: {}", "data: {prepare: prepare.py}", "data: {reef: {}, prepare: prepare.py}", "data: reef"]
    differ = []
    for text in texts:
        path = write(HEAD + text + "\n")
        item, _ = read_yaml(path.read_text(), Place("f", 1, 1), Path())
        assert item is not None
        try:
            load(path)
            loads = True
        except SpecError:
            loads = False
        if validator.is_valid(plain(item)) != loads:
            differ.append((text, loads))
    assert differ == []


def test_a_file_that_extends_another_may_hold_a_part(arguments: Arguments) -> None:
    validator = jsonschema.Draft202012Validator(json_schema(arguments))
    for data in ({"prepare": "p.py"}, {"kaggle-competition": "cots"}, "kaggle-competition:cots"):
        assert validator.is_valid({"extends": "base.yaml", "data": data})
        assert not validator.is_valid({"model": "m", "data": data})
    assert not validator.is_valid({"extends": "base.yaml", "data": {"kagle": "cots"}})
