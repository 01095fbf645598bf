"""`${env:NAME}`: named in a spec, looked up where it is used, shown nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.spec.load import load_spec
from launcher.variables import expand, references
from tests.spec.conftest import Problems, Write

SECRET = "hunter2-hunter2"


def test_expand() -> None:
    assert expand("a${env:X}b${env:Y}${env:X}", {"X": "1", "Y": "${env:X}"}) == "a1b${env:X}1"
    assert expand("$X ${X} plain", {}) == "$X ${X} plain"
    assert references("a${env:X}b${env:_y1}") == ("X", "_y1")


def test_expand_names_what_is_not_set() -> None:
    with pytest.raises(SpecError) as caught:
        expand("${env:A}${env:B}${env:A}${env:C}", {"B": SECRET})
    assert [problem.message for problem in caught.value.problems] == [
        "environment variable A is not set",
        "environment variable C is not set",
    ]
    assert SECRET not in str(caught.value)


def test_a_value_is_nowhere(write: Write, tmp_path: Path) -> None:
    path = write(
        "model: ${env:MODEL}\ndata: ${env:DATA}/data.yaml\nenvironment: {variables: {WANDB_API_KEY: '${env:WANDB}'}}\n"
    )
    write("", f"{SECRET}/data.yaml")
    write("", f"{SECRET}.pt")
    env = {"MODEL": str(tmp_path / f"{SECRET}.pt"), "DATA": str(tmp_path / SECRET), "WANDB": SECRET}
    loaded = load_spec(path, env=env)
    shown = repr(loaded) + str(loaded.spec) + json.dumps(loaded.resolved) + loaded.yaml_text()
    assert SECRET not in shown
    assert "${env:WANDB}" in loaded.yaml_text()
    assert expand(str(loaded.spec.data), env) == str(tmp_path / SECRET / "data.yaml")


def test_a_variable_is_named_only_where_it_is_filled_in(write: Write, problems: Problems) -> None:
    told = problems(
        write("model: yolo11n.yaml\ndata: reef\nnotes: ${env:A}\nname: ${env:GONE}\ntrain: {optimizer: '${env:A}'}\n"),
        env={"A": SECRET},
    )
    remedy = "write the value itself; a variable may stand in data, model and environment.variables"
    assert told == [
        f"job.yaml:3:8: notes: ${{env:A}} is not filled in here ({remedy})",
        f"job.yaml:4:7: name: ${{env:GONE}} is not filled in here ({remedy})",
        f"job.yaml:5:20: train.optimizer: ${{env:A}} is not filled in here ({remedy})",
    ]


def test_a_variable_that_is_not_set_is_told_where_it_is_named(write: Write, problems: Problems) -> None:
    told = problems(write("model: yolo11n.yaml\ndata:\n  ${env:COTS}/data.yaml\n"))
    assert told == ["job.yaml:3:3: data: environment variable COTS is not set (export COTS=... and run again)"]


def test_a_relative_path_in_a_variable_is_refused_without_showing_it(write: Write, problems: Problems) -> None:
    told = problems(write("model: yolo11n.yaml\ndata: ${env:COTS}\n"), env={"COTS": SECRET})
    assert told == ["job.yaml:2:7: data: must be an absolute path once COTS is filled in"]


@pytest.mark.parametrize("text", ["${HOME}/x", "${env:}", "${env:A-B}", "${env:A", "${ENV:A}"])
def test_a_reference_of_another_form_is_refused(write: Write, problems: Problems, text: str) -> None:
    told = problems(write(f"model: yolo11n.yaml\ndata: '{text}'\nnotes: '{text}'\n"))
    assert told == ["job.yaml:2:7: data: holds a reference that is not of the form ${env:NAME}"]


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "my_secret", "DB_PASSWORD", "passwd", "WANDB_API_KEY", "AWS_CREDENTIALS", "KeyFile"]
)
def test_a_literal_secret_by_its_name(write: Write, problems: Problems, name: str) -> None:
    told = problems(write(f"model: yolo11n.yaml\ndata: reef\nenvironment:\n  variables:\n    {name}: {SECRET}\n"))
    assert len(told) == 1
    assert (
        "looks like a secret; a spec holds none (set an environment variable and refer to it: ${env:NAME})" in told[0]
    )
    assert SECRET not in told[0]


@pytest.mark.parametrize(
    "secret",
    [
        "hf_abcdefghijklmnopqrstuvwxyz",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "sk-abcdefghijklmnopqrstuvwxyz",
        "https://me:" + SECRET + "@example.org/x",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
@pytest.mark.parametrize("field", ["notes", "environment.variables.ANY", "train.optimizer", "data", "data.reef.seed"])
def test_a_literal_secret_by_its_shape(write: Write, problems: Problems, field: str, secret: str) -> None:
    told = problems(write("model: yolo11n.yaml\ndata: reef\n"), f"{field}='{secret}'")
    assert [line.split(" (")[0] for line in told] == [f"--set: {field}: looks like a secret; a spec holds none"]
    assert secret not in "".join(told)


def test_a_set_argument_without_a_field_is_not_shown(write: Write, problems: Problems) -> None:
    assert SECRET not in "".join(problems(write("model: yolo11n.yaml\ndata: reef\n"), SECRET))


def test_control_characters_are_refused(write: Write, problems: Problems) -> None:
    assert problems(write('model: "a\\0b"\ndata: reef\n')) == ["job.yaml:1:8: model: holds a control character"]


def test_ordinary_variables_are_taken(write: Write) -> None:
    path: Path = write(
        "model: yolo11n.yaml\ndata: reef\nenvironment: {variables: {OMP_NUM_THREADS: 4, MODE: a://b:80/c@d}}\n"
    )
    assert load_spec(path, env={}).spec.environment.variables == {"OMP_NUM_THREADS": "4", "MODE": "a://b:80/c@d"}
