"""The probe as a layer of the verdict: what two run folders' probe.json say of each other."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.analysis.reading.view import RunView
from launcher.parity.model import Kind, Layer, Verdict
from launcher.parity.probing import compare, probe_layer, probe_planned, table
from tests.parity.probing.records import record, scaled


@dataclass
class Folder:
    """As much of a RunView as the layer looks at."""

    id: str
    where: Path


def run(folder: Path, name: str, probe: Any = None) -> RunView:
    where = folder / name
    where.mkdir()
    if probe is not None:
        (where / "probe.json").write_text(probe if isinstance(probe, str) else json.dumps(probe))
    return cast(RunView, Folder(name, where))


@pytest.mark.parametrize(
    ("ours", "verdict", "kind"),
    [
        (record(), Verdict.IDENTICAL, None),
        (record(scaled("cls_loss", 1 + 1e-6)), Verdict.EQUIVALENT, Kind.NUMERIC_NOISE),
        (record(scaled("assigned", 0.9)), Verdict.DIFFERENT, Kind.MUST_EQUAL),
        (
            record(lambda one: one["loader"]["images"][0].update(file="other")),
            Verdict.INCONCLUSIVE,
            Kind.CHANGES_STREAM,
        ),
        (record(lambda one: one.update(key="other")), Verdict.INCONCLUSIVE, None),
        (record(lambda one: one["weights"].update(digest="other")), Verdict.INCONCLUSIVE, None),
    ],
)
def test_what_the_probes_say_is_what_the_layer_says(tmp_path: Path, ours: Any, verdict: Verdict, kind: Any) -> None:
    found = probe_layer(run(tmp_path, "run", ours), run(tmp_path, "reference", record()))
    assert (found.layer, found.verdict) == (Layer.PROBE, verdict)
    assert [one.kind for one in found.differences] == ([kind] if kind is not None else [])
    assert "mixed precision" in " ".join(found.not_checked)
    json.dumps(found.as_json(), allow_nan=False)


def test_a_difference_names_the_quantity_the_step_and_both_values(tmp_path: Path) -> None:
    ours = record(scaled("assigned", 0.5, 1))
    (found,) = probe_layer(run(tmp_path, "run", ours), run(tmp_path, "reference", record())).differences
    assert (found.what, found.run, found.reference) == ("probe, step 1: assigned", 200.5, 401)


@pytest.mark.parametrize(("ours", "theirs", "names"), [(None, record(), "run"), (record(), None, "reference")])
def test_without_a_probe_the_layer_is_not_reached(tmp_path: Path, ours: Any, theirs: Any, names: str) -> None:
    found = probe_layer(run(tmp_path, "run", ours), run(tmp_path, "reference", theirs))
    assert (found.verdict, found.differences) == (None, ())
    assert found.decided.startswith(f"{names} has no probe.json")
    assert found.not_checked


def test_one_that_cannot_be_read_claims_nothing(tmp_path: Path) -> None:
    found = probe_layer(run(tmp_path, "run", "{"), run(tmp_path, "reference", record()))
    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_machine_that_had_found_itself_different_stays_different(tmp_path: Path) -> None:
    broken = record(scaled("assigned", 0.5))
    broken["result"] = compare(broken, record())
    other = record(scaled("assigned", 0.5))
    found = probe_layer(run(tmp_path, "run", broken), run(tmp_path, "reference", other))
    assert found.verdict is Verdict.DIFFERENT
    assert "assigner" in found.decided


def test_a_probe_that_is_there_was_planned(tmp_path: Path) -> None:
    assert probe_planned(run(tmp_path, "run", record()))
    assert not probe_planned(run(tmp_path, "folder of Ultralytics"))


def test_the_table_has_a_row_a_step_and_both_parts() -> None:
    lines = table(compare(record(scaled("box_loss", math.inf, 1)), record()))
    assert lines[0].split()[:3] == ["step", "first", "layer"]
    assert [line.split()[0] for line in lines[1:3]] == ["0", "1"]
    assert lines[3].startswith("kernels: different")
    assert lines[4].startswith("loader: identical")
    assert [line.split(":")[0] for line in table(compare({}, {}))] == ["kernels", "loader"]


def test_a_machine_that_found_itself_different_is_so_beside_a_reference_without_a_probe(tmp_path: Path) -> None:
    broken = record(scaled("assigned", 0.5))
    broken["result"] = compare(broken, record())
    found = probe_layer(run(tmp_path, "run", broken), run(tmp_path, "reference"))
    assert found.verdict is Verdict.DIFFERENT
    assert "assigner" in found.decided


@pytest.mark.parametrize("odd", ["text", {"step": 0}, [1], 7])
def test_a_result_of_other_types_is_still_different_and_raises_nothing(tmp_path: Path, odd: Any) -> None:
    broken = record()
    broken["result"] = {"verdict": "different", "kind": odd, "reason": odd, "decided": odd}
    found = probe_layer(run(tmp_path, "run", broken), run(tmp_path, "reference", record()))
    assert found.verdict is Verdict.DIFFERENT
    json.dumps(found.as_json(), allow_nan=False)
