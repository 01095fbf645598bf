"""The JSON schema: valid itself, and of one mind with the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from launcher.spec.arguments import Arguments
from launcher.spec.load import load_spec
from launcher.spec.schema import json_schema
from launcher.spec.tree import Place, plain, read_yaml

JOBSPECS = sorted((Path(__file__).parents[2] / "jobspecs").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator(arguments: Arguments) -> jsonschema.Draft202012Validator:
    schema = json_schema(arguments)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    return jsonschema.Draft202012Validator(schema)


def as_values(text: str) -> Any:
    item, problems = read_yaml(text, Place("f", 1, 1), Path())
    assert item is not None
    assert problems == []
    return plain(item)


@pytest.mark.parametrize("path", JOBSPECS, ids=lambda path: path.name)
def test_every_ready_spec_is_valid_and_loads(
    path: Path, validator: jsonschema.Draft202012Validator, tmp_path: Path
) -> None:
    text = path.read_text()
    validator.validate(as_values(text))
    assert text.startswith("# ")
    data = tmp_path / "data.yaml"
    data.write_text("")
    spec = load_spec(path, env={"COTS_DATA": str(data)}).spec
    assert spec.name == path.stem.replace("_", "-")


def test_the_ready_specs_are_there() -> None:
    assert {path.stem for path in JOBSPECS} >= {"smoke", "baseline", "phase2", "full_aug"}


@pytest.mark.parametrize("line", ["{}", "trian: {}", "data: 3", "data: {reef: {sed: 1}}", "name: A b", "sweep: {}"])
def test_broken_ones_fail(line: str, validator: jsonschema.Draft202012Validator) -> None:
    text = line if line == "{}" else "model: m\ndata: reef\n" + line
    values = {"model": "m", **as_values(line)} if line.startswith("data") else as_values(text)
    assert not validator.is_valid(values)


@pytest.mark.parametrize(
    "text",
    [
        "model: m\ndata: reef\ntrain:\nresume: {attempts: 4}\nnotes: x",
        "extends: [a.yaml, b.yaml]\ntrain: {epochs: 3}",
        "model: m\ndata: {reef: {seed: 3}}",
        "model: m\ndata: {reef: }",
        "model: m\ndata: x\nenvironment: {torch: 2.15.0, variables: {A: 3, API_KEY: '${env:X}'}}",
    ],
)
def test_good_ones_pass(text: str, validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(as_values(text))


def test_secrets_need_a_reference(validator: jsonschema.Draft202012Validator) -> None:
    assert not validator.is_valid({"model": "m", "data": "reef", "environment": {"variables": {"API_KEY": "abc"}}})


def test_schema_and_loader_agree_on_every_argument(
    arguments: Arguments, validator: jsonschema.Draft202012Validator
) -> None:
    texts = ("x", "ram", "adamw", "fp16", "randaugment", "val", "mixup")
    values: list[Any] = [
        None,
        True,
        False,
        -2,
        -1,
        0,
        1,
        2,
        31,
        640,
        0.5,
        1.0,
        1.5,
        -0.1,
        8,
        "int8",
        *texts,
        [1, 2],
        [0.5, 1.5],
        {},
    ]
    differ = [
        (name, value)
        for name in arguments.names
        for value in values
        if validator.is_valid({"model": "m", "data": "reef", "train": {name: value}})
        != (arguments.check(name, value) is None)
    ]
    # A fraction above 1 must be a count, and a pair may not hold 0 or shares above 1: more than the schema says.
    assert {name for name, _ in differ} <= {"fraction"}
    assert not validator.is_valid({"model": "m", "data": "reef", "train": {"source": "x"}})


def test_the_arguments_carry_ultralytics_own_words(arguments: Arguments) -> None:
    epochs = json_schema(arguments)["properties"]["train"]["anyOf"][0]["properties"]["epochs"]
    assert epochs == {
        "default": 100,
        "description": "number of epochs to train for",
        "type": ["integer"],
        "minimum": 1,
    }
    every = json_schema(arguments)["properties"]["train"]["anyOf"][0]["properties"].values()
    assert all(len(one["description"]) <= 160 and "\n" not in one["description"] for one in every)
