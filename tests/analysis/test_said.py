"""Next runs are specs that launch takes, each with one thing changed; Markdown shows text from files as it is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.analysis import analyse, compare, load_run, markdown
from launcher.analysis.markdown import comparison_markdown, escape
from launcher.analysis.model import MAP50, MAP5095, RECALL, Kind, NextRun, RunView, plain
from launcher.analysis.proposals import NAME_LENGTH
from launcher.finding import Finding
from launcher.spec import model as spec_model
from launcher.spec.load import load_spec
from tests.analysis.published import PHASE2, baseline_rows, phase2_rows, write_run
from tests.analysis.views import scored, view


@pytest.fixture
def data(tmp_path: Path) -> str:
    file = tmp_path / "data.yaml"
    file.write_text("path: .\ntrain: images\nval: images\nnames: [starfish]\n")
    return str(file)


def published(folder: Path, data: str) -> tuple[RunView, RunView]:
    common = {"model": "yolo11n.pt", "data": data, "batch": 16, "imgsz": 640}
    base = write_run(folder / "baseline", baseline_rows(), {**common, "epochs": 10, "device": "0"})
    phase2 = write_run(folder / "phase2", phase2_rows(), {**common, **PHASE2, "device": "0"})
    return load_run(phase2), load_run(base)


def train(one: NextRun) -> dict[str, object]:
    return dict(yaml.safe_load(one.spec)["train"])


def test_each_next_run_is_a_spec_that_launch_takes(tmp_path: Path, data: str) -> None:
    runs = analyse(*published(tmp_path, data)).next_runs
    assert len(runs) >= 5
    for one in runs:
        file = tmp_path / f"{one.name}.yaml"
        file.write_text(one.spec)
        spec = load_spec(file).spec
        assert (spec.name, spec.data, spec.resources.device) == (one.name, data, "cuda")


def test_each_next_run_changes_one_thing(tmp_path: Path, data: str) -> None:
    run, reference = published(tmp_path, data)
    bases = {
        "baseline": {"epochs": 10},
        "phase2": {key: PHASE2[key] for key in ("epochs", "optimizer", "lr0", "momentum", "box")}
        | {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0},
    }
    for one in analyse(run, reference).next_runs:
        base = bases[one.name.split("-")[0]]
        changed = {key for key in train(one).keys() | base.keys() if train(one).get(key) != base.get(key)}
        if "optimizer" in changed:  # pinned with its learning rate and momentum: one thing
            changed -= {"lr0", "momentum"}
        assert len(changed) == 1
        assert one.because


def test_confounded_changes_are_proposed_one_by_one_on_the_reference(tmp_path: Path, data: str) -> None:
    names = [one.name for one in analyse(*published(tmp_path, data)).next_runs]
    assert {"baseline-optimizer-adamw", "baseline-box-5", "phase2-seed-1", "phase2-close-mosaic-0"} <= set(names)
    assert not [name for name in names if name.startswith("baseline-epochs")]  # mosaic's epochs would move, too


def test_other_epochs_are_one_thing_only_where_mosaic_stays_as_it_is() -> None:
    def proposed(**arguments: Any) -> set[str]:
        base = view("base", {MAP5095: [0.1]}, epochs=20, **arguments)
        run = view("run", {MAP5095: [0.1]}, epochs=30, box=5.0, **arguments)
        return {one.name for one in analyse(run, base).next_runs if one.because == ("confounded",)}

    assert proposed() == {"base-box-5"}
    assert proposed(close_mosaic=0, mosaic=0.0) == {"base-box-5", "base-epochs-30"}


def test_paths_that_start_elsewhere_are_said_in_the_spec(data: str) -> None:
    relative, absolute = (analyse(view("run", {MAP5095: [0.1]}, data=file)).next_runs[0] for file in ("d/a.yaml", data))
    assert relative.spec.startswith("# paths are those of args.yaml")
    assert absolute.spec.startswith("name:")


def test_what_launch_would_refuse_is_left_out_of_a_next_run() -> None:
    run = view("run", {MAP5095: [0.1]}, patience="soon", no_such_argument=3, degrees=5.0)
    (one,) = [one for one in analyse(run).next_runs if one.name == "run-seed-1"]
    assert train(one) == {"degrees": 5.0, "epochs": 1, "seed": 1}


def test_a_run_of_ours_goes_on_from_its_own_spec(tmp_path: Path) -> None:
    text = "name: smoke\nmodel: yolo11n.yaml\ndata:\n  reef: {}\ntrain:\n  epochs: 3\nsync:\n  while_running: false\n"
    run = replace(view("smoke", {MAP5095: [0.1, 0.2]}), kind=Kind.RUN, spec_text=text)
    (one,) = [one for one in analyse(run).next_runs if one.name == "smoke-seed-1"]
    file = tmp_path / "next.yaml"
    file.write_text(one.spec)
    spec = load_spec(file).spec
    assert (spec.train, spec.sync.while_running) == ({"epochs": 3, "seed": 1}, False)


@pytest.mark.parametrize("text", ["", "[", "model: yolo11n.pt", "- 1"])
def test_without_a_whole_spec_nothing_is_proposed(text: str) -> None:
    assert analyse(replace(view("run", {MAP5095: [0.1]}), kind=Kind.RUN, spec_text=text)).next_runs == ()


def test_pictures_are_not_proposed_larger_than_a_gpu_is_likely_to_take() -> None:
    def sizes(imgsz: int) -> list[str]:
        run = view("run", {MAP5095: [0.1], RECALL: [0.1]}, imgsz=imgsz)
        return [one.name for one in analyse(run).next_runs if "imgsz" in one.change]

    assert (sizes(640), sizes(1280)) == (["run-imgsz-1280"], [])


def test_names_of_next_runs_are_names_of_specs() -> None:
    run = view("Weird näme/../ with a very long text in it, more than a host allows", {MAP5095: [0.1], RECALL: [0.1]})
    names = [one.name for one in analyse(run).next_runs]
    assert names
    assert all(re.fullmatch(spec_model.NAME_PATTERN, name) and len(name) <= NAME_LENGTH for name in names)
    assert spec_model.NAME_LENGTH == NAME_LENGTH


# Words


def finding(run: RunView, reference: RunView) -> Finding:
    """What is said of the change of mAP50."""
    return next(one for one in analyse(run, reference).findings if one.code == "change.mAP50")


def test_a_change_from_next_to_nothing_is_a_factor_and_from_nothing_a_difference() -> None:
    def words(before: float, after: float) -> str:
        return finding(view("b", {MAP50: [after]}, box=5.0), view("a", {MAP50: [before]})).message

    assert words(0.00081, 0.3) == "mAP50 × 370: 0.00081 → 0.300"
    assert words(0.00001, 0.9) == "mAP50 × 10,000 and more: 0.000010 → 0.900"
    assert words(0.0, 0.3) == "mAP50 +0.300: 0.000 → 0.300"
    assert words(0.2, 0.2) == "mAP50 ±0 %: 0.200 → 0.200"
    assert words(0.2, 0.0) == "mAP50 −100 %: 0.200 → 0.000"


def test_nothing_is_compared_of_no_run_and_little_of_one() -> None:
    with pytest.raises(ValueError, match="no run"):
        compare([])
    assert [one.code for one in compare([scored("a", 0.3)]).findings] == []


def test_two_equal_single_runs_need_no_spread() -> None:
    told = analyse(scored("b", 0.7, box=5.0), scored("a", 0.7)).findings
    assert "shows no effect" in next(one for one in told if one.code == "one-seed").evidence


def test_folders_of_one_name_are_told_apart() -> None:
    places = [Path("/runs", parent, "train") for parent in ("x", "y")]
    ones = [replace(scored("train", 0.3 + index / 10), where=place) for index, place in enumerate(places)]
    assert [row.id for row in compare(ones).rows] == ["x/train", "y/train"]
    assert "against x/train" in finding(ones[1], ones[0]).evidence


# Markdown and JSON

EVIL = "<script>alert(1)</script> | `x` [a](javascript:1) \n# heading \x1b[31m ![i](//evil) <img onerror=1> &lt;"


def test_text_from_files_ends_no_table_and_starts_no_html() -> None:
    run = view(EVIL, {MAP5095: [0.1, 0.2]}, model=EVIL, data=EVIL, optimizer=EVIL)
    run = replace(run, notes=EVIL, hardware={"device": EVIL}, versions={"torch": EVIL})
    reference = view("other", {MAP5095: [0.1, 0.2]})
    text = markdown(analyse(run, reference))
    outside = re.sub(r"^(`{3,})yaml\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<" not in outside
    assert "\x1b" not in outside
    assert "](" not in outside.replace("\\]", "")
    assert not re.search(r"^# heading", outside, re.MULTILINE)
    for table in re.findall(r"(?:^\|.*\n)+", outside, re.MULTILINE):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(bars) == 1, table


def test_runs_side_by_side_are_a_table_in_markdown_too() -> None:
    both = compare([view("a", {MAP5095: [0.1, 0.2]}), view(EVIL, {MAP5095: [0.1, 0.3]}, box=5.0)])
    text = comparison_markdown(both)
    assert "| 0.2000 |" in text
    assert "| 0.3000 |" in text
    assert "box 5 |" in text
    assert "<script>" not in text
    assert both._repr_markdown_() == text


def test_escaped_text_is_one_line_and_shows_as_it_was() -> None:
    assert escape("a_b|c\nd") == "a\\_b\\|c d"
    assert escape("<b>") == "&lt;b&gt;"
    assert escape("\\|") == "\\\\\\|"


def test_a_long_run_has_a_short_table_with_the_best_epoch_in_it() -> None:
    series = [0.5 - abs(step - 777) / 2000 for step in range(1, 1001)]
    text = markdown(analyse(view("long", {MAP5095: series})))
    rows = re.findall(r"^\| \**(\d+)\** \| 0", text, re.MULTILINE)
    assert "777" in rows
    assert rows[-1] == "1000"
    assert len(rows) < 80


def test_everything_is_plain_json_without_nan() -> None:
    run = view("run", {MAP5095: [float("nan"), 0.2]})
    told = analyse(run, run).as_json()
    text = json.dumps(told, allow_nan=False)
    assert json.loads(text)["run"]["results"]["columns"][MAP5095] == [None, 0.2]
    assert told["summary"]["status"] == "finished"
    assert plain({"a": (float("inf"), Path("/x"), None, True)}) == {"a": [None, "/x", None, True]}
