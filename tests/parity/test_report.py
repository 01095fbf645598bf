"""The report's part: verdict, layers, differences and curves, as text that a file cannot break out of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.analysis import analyse, load_run
from launcher.parity import compare
from launcher.report.document import page
from launcher.report.parity import files
from launcher.settings import Settings
from tests.parity.made import trained, written
from tests.parity.test_references import Make, make, settings

__all__ = ["make", "settings"]


def test_the_report_shows_the_verdict_its_layers_and_the_curves(make: Make, settings: Settings) -> None:
    base, run = make("base", 0), make("run", 1, box=5.0)
    for seed in range(2, 5):
        make(f"seed{seed}", seed)
    files.write(compare(run, base, validate=False, settings=settings), run)
    text = page(analyse(load_run(run, settings)))
    assert '<section id="parity">' in text
    assert '<a href="#parity">different</a> against base' in text
    assert "decided by the inputs layer" in text
    assert '<th scope="row">train.box</th><td class="text">5.0</td><td class="text">7.5</td>' in text
    assert 'data-chart="parity-train-box-loss"' in text
    assert "Seeds of the reference: base, seed4, seed3, seed2" in text


def test_a_run_without_a_verdict_has_no_such_part(make: Make, settings: Settings) -> None:
    assert '<section id="parity">' not in page(analyse(load_run(make("run", 1), settings)))


@pytest.mark.parametrize("broken", ["{", "[]", '{"verdict": 7}', '{"verdict": "identical", "bands": "x"}'])
def test_a_parity_json_that_cannot_be_read_is_no_verdict(make: Make, settings: Settings, broken: str) -> None:
    run = make("run", 1)
    (run / "parity.json").write_text(broken)
    assert '<section id="parity">' not in page(analyse(load_run(run, settings)))


def test_texts_of_a_parity_json_are_shown_as_text(make: Make, settings: Settings) -> None:
    run, evil = make("run", 1), "<img src=x onerror=alert(1)>"
    difference = {"what": evil, "run": evil, "reference": {"a": evil}, "kind": evil, "why": evil, "source": evil}
    layer = {"layer": evil, "verdict": evil, "decided": evil}
    held: dict[str, Any] = {
        "verdict": evil,
        "layer": evil,
        "reason": evil,
        "reference": evil,
        "references": [evil, evil],
    }
    held |= {"layers": [layer], "differences": [difference], "not_checked": [evil]}
    (run / "parity.json").write_text(json.dumps(held))
    text = page(analyse(load_run(run, settings)))
    assert '<section id="parity">' in text
    assert "<img src=x" not in text


def test_a_folder_of_ultralytics_can_have_a_verdict_written_beside_it(tmp_path: Path, settings: Settings) -> None:
    run, base = written(tmp_path / "run", trained(1), [b"1"], seed=1), written(tmp_path / "base", trained(0))
    made = files.write(compare(run, base, validate=False, settings=settings), run, "png")
    assert {file.suffix for file in made[1:]} == {".png"}
    assert not any(row.path.startswith("parity") for row in load_run(run, settings).files)
