"""`launch probe`, and the probe before a training, as programs: really computed, on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Launch
from tests.parity.made import trained, written

pytestmark = [pytest.mark.slow, pytest.mark.training, pytest.mark.timeout(600)]
SPEC = """\
model: yolo11n.yaml
data: {reef: {seed: 1, train_videos: 2, val_videos: 1, frames: 8}}
train: {epochs: 1, imgsz: 96, batch: 4, optimizer: SGD, lr0: 0.01, plots: false}
"""
NO_PAYLOAD = {"SAMERUN_PAYLOAD": ""}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A spec of one short epoch."""
    file = tmp_path / "small.yaml"
    file.write_text(SPEC)
    return file


def change(file: Path, what: Callable[[Any], None]) -> None:
    """Rewrite a JSON file."""
    value = json.loads(file.read_text())
    what(value)
    file.write_text(json.dumps(value))


def halve_the_targets(value: Any) -> None:
    """As if the values had been made by a machine whose assigner finds twice as many."""
    for step in value["kernel"]["steps"]:
        step["assigned"] *= 2


def made(tmp_path: Path) -> Path:
    """The record of the probe in the cache."""
    (found,) = Path(os.environ["SAMERUN_CACHE_DIR"]).glob("probes/*/probe.json")
    return found


def test_a_probe_is_a_run_of_its_own_and_says_what_it_is(launch: Launch, small: Path, tmp_path: Path) -> None:
    first = launch("probe", small, "--json", **NO_PAYLOAD)
    assert first.code == 0, first.err
    result = first.json[-1]
    assert (result["state"], result["probe"]["verdict"], result["metrics"]) == ("verified", "identical", {})
    assert len(result["probe"]["kernel"]["steps"]) == 4
    folder = Path(result["dir"])
    assert (folder / "probe.json").is_file()
    assert not (folder / "train").exists()
    (row,) = launch("ps", "--json").json
    assert (row["kind"], row["state"], row["epochs"]) == ("probe", "verified", None)
    assert "probe" in launch("ps").out.splitlines()[1]

    against = launch("probe", small, "--against", result["run"], "--new", **NO_PAYLOAD)
    assert against.code == 0, against.err
    assert "IDENTICAL" in against.out
    assert "not checked: mixed precision" in against.out

    change(made(tmp_path), halve_the_targets)
    different = launch("probe", small, "--new", **NO_PAYLOAD)
    assert different.code == 6, different.err
    assert "DIFFERENT" in different.out
    assert "the assigner chose other targets" in different.out

    nothing = launch("probe", small, "--against", "nothing", **NO_PAYLOAD)
    assert nothing.code == 2


def test_a_training_is_stopped_by_a_machine_that_computes_something_else(
    launch: Launch, small: Path, tmp_path: Path
) -> None:
    require = ("--set", "parity.probe=require", "--new", "--json")
    good = launch(small, *require, **NO_PAYLOAD)
    assert good.code == 0, good.err
    result = good.json[-1]
    assert (result["state"], result["probe"]["verdict"]) == ("verified", "identical")
    manifest = json.loads((Path(result["dir"]) / "manifest.json").read_text())
    assert "probe.json" in [file["path"] for file in manifest["files"]]

    change(made(tmp_path), halve_the_targets)
    stopped = launch(small, *require, **NO_PAYLOAD)
    result = stopped.json[-1]
    assert (stopped.code, result["state"]) == (1, "failed")
    assert "the assigner chose other targets" in result["reason"]
    assert (Path(result["dir"]) / "probe.json").is_file()
    assert not [line for line in stopped.json if line.get("event") == "started"]

    gone_on = launch(small, *require, "--set", "parity.on_different=go-on", **NO_PAYLOAD)
    assert gone_on.code == 0, gone_on.err
    warned = [line for line in gone_on.json if line.get("event") == "warning"]
    assert "probe-different" in [line["code"] for line in warned]
    assert gone_on.json[-1]["probe"]["verdict"] == "different"


def test_a_probe_is_held_against_no_training_that_its_spec_names(launch: Launch, small: Path, tmp_path: Path) -> None:
    base = written(tmp_path / "base", trained(0))
    small.write_text(SPEC + f"parity: {{against: {base}}}\n")
    probed = launch("probe", small, "--json", **NO_PAYLOAD)
    assert probed.code == 0, probed.err
    assert "parity   not known" not in probed.err
    assert (probed.json[-1]["state"], probed.json[-1]["parity"]) == ("verified", None)
    again = launch("attach", probed.json[-1]["run"], "--json", **NO_PAYLOAD)
    assert (again.code, again.json[-1]["parity"]) == (0, None)


def test_a_reference_whose_spec_requires_a_probe_has_one(launch: Launch, small: Path) -> None:
    small.write_text(SPEC + "parity: {probe: require}\n")
    said = launch("reference", small, "--seeds", "2", "--json", **NO_PAYLOAD)
    assert said.code == 0, said.err
    ended = [line for line in said.json if "checked" in line]
    assert [one["probe"]["verdict"] for one in ended] == ["identical", "identical"]
    assert [one["probe"]["loader"]["verdict"] for one in ended] == ["identical", "identical"]
