"""Settings of `resources` that one backend declares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.backend import Option
from launcher.errors import SpecError
from launcher.spec.load import load_spec, read_resolved
from tests.spec.conftest import Write

DECLARED: Mapping[str, Option] = {
    "host": Option(str, "where"),
    "internet": Option(bool, "whether"),
    "top_price": Option(float, "how much"),
    "disk_gb": Option(int, "how much"),
    "zone": Option(str, "which", choices=("north", "south")),
}
HEAD = "model: yolo11n.yaml\ndata: {reef: {}}\nresources:\n"


def load(path: Path, *overrides: str) -> dict[str, object]:
    return load_spec(path, overrides, env={}, options=lambda: DECLARED).spec.resources.options


def test_they_come_as_the_kind_that_is_declared(write: Write) -> None:
    path = write(HEAD + "  host: 10\n  internet: false\n  top_price: 3\n  disk_gb: 40\n  zone: north\n  max_hours: 2\n")
    assert load(path) == {"host": "10", "internet": False, "top_price": 3.0, "disk_gb": 40, "zone": "north"}
    assert load(path, "resources.host=user@gpubox")["host"] == "user@gpubox"


def test_they_survive_in_the_resolved_spec(write: Write) -> None:
    loaded = load_spec(write(HEAD + "  host: gpubox\n  device: cpu\n"), env={}, options=lambda: DECLARED)
    assert read_resolved(loaded.yaml_text()).resources.options == {"host": "gpubox"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hots: a", "there is no field 'hots' (did you mean 'host'?)"),
        ("devise: cpu", "there is no field 'devise' (did you mean 'device'?)"),
        ("internet: yes", "must be true or false"),
        ("disk_gb: 1.5", "must be a whole number"),
        ("host: [a]", "must be text"),
        ("zone: nroth", "must be one of north, south (did you mean 'north'?)"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(write: Write, line: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(write(HEAD + f"  max_hours: 1\n  {line}\n"))
    (problem,) = caught.value.problems
    assert problem.line == 5
    assert said in str(problem)


def test_backends_are_asked_only_when_there_is_one(write: Write) -> None:
    def never() -> Mapping[str, Option]:
        raise AssertionError("a backend was imported")

    path = write(HEAD + "  device: cpu\n")
    assert load_spec(path, env={}, options=never).spec.resources.options == {}
