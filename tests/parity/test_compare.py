"""Any two run folders: what is said of them, how it is shown, and what happens to files that are not whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import NotFoundError
from launcher.parity import Kind, Layer, Verdict, compare
from launcher.parity.inputs.layer import GROUPS
from launcher.parity.words import lines, markdown
from launcher.report.parity import files
from launcher.report.parity.shown import panel, read
from launcher.settings import Settings
from tests.parity.made import changed, csv_text, trained, without, written

BASE = trained(0)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SAMERUN_RUNS_DIR", str(tmp_path / "none"))
    return Settings.load()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return written(tmp_path / "base", BASE, seed=0)


def seeds(folder: Path, count: int = 4) -> list[Path]:
    return [written(folder / f"seed{n}", trained(n), [b"%d" % n], seed=n) for n in range(1, count + 1)]


def test_the_same_folder_twice_is_never_identical_by_assumption(tmp_path: Path, base: Path, settings: Settings) -> None:
    copy = written(tmp_path / "copy", BASE, seed=0)
    said = compare(copy, base, validate=False, settings=settings)
    assert (said.verdict, said.layer) == (Verdict.INCONCLUSIVE, Layer.INPUTS)
    assert said.of(Layer.WEIGHTS).verdict is said.of(Layer.CURVES).verdict is Verdict.IDENTICAL
    assert any("images, labels and split" in text for text in said.not_checked)
    sure = compare(copy, base, assume=GROUPS, validate=False, settings=settings)
    assert sure.verdict is Verdict.EQUIVALENT
    assert "data" in sure.assumed


def test_another_seed_with_the_reference_and_its_seeds(tmp_path: Path, base: Path, settings: Settings) -> None:
    run = written(tmp_path / "run", trained(99), [b"other"], seed=99)
    said = compare(run, base, seeds(tmp_path), assume=GROUPS, validate=False, settings=settings)
    assert said.references == ("base", "seed1", "seed2", "seed3", "seed4")
    assert said.of(Layer.INPUTS).verdict is said.of(Layer.CURVES).verdict is Verdict.CONSISTENT
    assert (said.verdict, said.layer) == (Verdict.INCONCLUSIVE, Layer.WEIGHTS)  # they were not validated again


def test_a_worse_run_is_different_by_its_curves(tmp_path: Path, base: Path, settings: Settings) -> None:
    run = written(tmp_path / "run", trained(99, shift=-0.3), [b"other"], seed=99)
    said = compare(run, base, seeds(tmp_path), validate=False, settings=settings)
    assert (said.verdict, said.layer) == (Verdict.DIFFERENT, Layer.CURVES)


def test_a_changed_argument_is_different_by_the_inputs(tmp_path: Path, base: Path, settings: Settings) -> None:
    run = written(tmp_path / "run", trained(99), [b"other"], seed=99, box=5.0)
    said = compare(run, base, validate=False, settings=settings)
    assert (said.verdict, said.layer) == (Verdict.DIFFERENT, Layer.INPUTS)
    assert said.differences[0].what == "train.box"
    assert [one.kind for one in said.differences] == sorted(
        (one.kind for one in said.differences), key=list(Kind).index
    )


def test_one_number_edited_beside_the_same_weights_is_found(tmp_path: Path, base: Path, settings: Settings) -> None:
    edited = changed(BASE, "metrics/mAP50(B)", 10, BASE.columns["metrics/mAP50(B)"][9] * 1.01)
    said = compare(written(tmp_path / "run", edited, seed=0), base, validate=False, settings=settings)
    assert (said.verdict, said.layer) == (Verdict.DIFFERENT, Layer.WEIGHTS)
    assert "a table was edited" in said.reason


def test_best_and_last_that_were_swapped_are_not_the_same_weights(
    tmp_path: Path, base: Path, settings: Settings
) -> None:
    run = written(tmp_path / "run", BASE, seed=0)
    (run / "weights" / "last.pt").unlink()
    said = compare(run, base, assume=GROUPS, validate=False, settings=settings)
    assert said.of(Layer.WEIGHTS).verdict is None
    assert said.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("kind", ["padded", "duplicate", "restart", "nan", "missing", "early", "torn", "empty", "page"])
def test_tables_of_any_kind_are_read_and_claim_nothing_that_they_do_not_bear(
    tmp_path: Path, base: Path, settings: Settings, kind: str
) -> None:
    run = written(tmp_path / "run", trained(99), [b"other"], seed=99)
    text = csv_text(trained(99))
    rows = text.splitlines(keepends=True)
    again = [*rows[:5], rows[4].replace(rows[4].split(",")[1], "1.5", 1), *rows[5:]]
    made = {
        "padded": csv_text(trained(99), padded=True),
        "duplicate": "".join(again),
        "restart": "".join([*rows[:5], *(row.replace(row.split(",")[1], "3.5", 1) for row in rows[5:])]),
        "nan": csv_text(changed(trained(99), "train/box_loss", 5, float("nan"))),
        "missing": csv_text(without(trained(99), epochs=[4])),
        "early": csv_text(without(trained(99), epochs=[8, 9, 10])),
        "torn": text[: len(text) // 2],
        "empty": "",
        "page": "<html><body>404</body></html>",
    }[kind]
    (run / "results.csv").write_text(made)
    said = compare(run, base, seeds(tmp_path), assume=GROUPS, validate=False, settings=settings)
    curves = said.of(Layer.CURVES).verdict
    whole = kind in ("padded", "duplicate", "restart")
    assert curves is (Verdict.CONSISTENT if whole else None if kind in ("empty", "page") else Verdict.INCONCLUSIVE)
    json.dumps(said.as_json(), allow_nan=False)
    if kind in ("duplicate", "restart"):
        assert "resumed at epochs" in [one.what for one in said.differences]


def test_a_table_alone_is_inconclusive(tmp_path: Path, base: Path, settings: Settings) -> None:
    alone = tmp_path / "alone.csv"
    alone.write_text(csv_text(trained(99)))
    said = compare(alone, base, seeds(tmp_path), validate=False, settings=settings)
    assert said.verdict is Verdict.INCONCLUSIVE
    assert said.of(Layer.INPUTS).verdict is None


def test_a_seed_of_another_experiment_is_left_out(tmp_path: Path, base: Path, settings: Settings) -> None:
    other = written(tmp_path / "other", trained(5), [b"5"], seed=5, lrf=0.5)
    again = written(tmp_path / "again", BASE, seed=0)
    run = written(tmp_path / "run", trained(99), [b"other"], seed=99)
    said = compare(run, base, [other, again], validate=False, settings=settings)
    assert said.references == ("base",)
    assert any(text.startswith("curves: other as a seed: train.lrf") for text in said.not_checked)
    assert any("again as a seed: it is base again" in text for text in said.not_checked)


def test_an_unknown_assumption_and_a_run_that_is_not_there_are_refused(base: Path, settings: Settings) -> None:
    with pytest.raises(ValueError, match="cannot be assumed"):
        compare(base, base, assume=["luck"], settings=settings)
    with pytest.raises(NotFoundError):
        compare(base, base.parent / "nothing", settings=settings)


def test_a_verdict_is_shown_in_a_notebook_and_on_a_terminal(tmp_path: Path, base: Path, settings: Settings) -> None:
    run = written(tmp_path / "a|b", trained(99), [b"other"], seed=99, box=5.0)
    said = compare(run, base, seeds(tmp_path), validate=False, settings=settings)
    text = markdown(said)
    assert text == said._repr_markdown_()
    assert "a\\|b" in text
    assert "| train.box | 5.0 | 7.5 | must-equal |" in text
    head, *rest = lines(said)
    assert head.startswith("DIFFERENT  a|b against base")
    assert any("not checked" in line for line in rest)


def test_files_of_a_verdict_hold_what_was_said_and_pictures_of_all_metrics(
    tmp_path: Path, base: Path, settings: Settings
) -> None:
    run = written(tmp_path / "run", trained(99), [b"other"], seed=99)
    said = compare(run, base, seeds(tmp_path), validate=False, settings=settings)
    (tmp_path / "to" / "parity").mkdir(parents=True)
    (tmp_path / "to" / "parity" / "parity-of-yesterday.svg").write_text("old")
    made = files.write(said, tmp_path / "to")
    held = json.loads(made[0].read_text())
    assert held == said.as_json()
    assert len(made) == 1 + 4 + 3
    assert not (tmp_path / "to" / "parity" / "parity-of-yesterday.svg").exists()
    assert "prediction" not in made[1].read_text() or made[1].read_text().startswith("<?xml")
    shown = read(held)
    drawn = panel(shown)
    assert shown is not None
    assert shown.verdict == said.verdict
    assert drawn is not None
    assert [len(chart.lines) for chart in drawn.charts] == [3] * 7


@pytest.mark.parametrize("broken", [{}, {"verdict": 3}, {"verdict": "identical", "layers": "all"}, {"bands": []}])
def test_a_parity_json_that_is_none_is_not_shown(broken: dict[str, object]) -> None:
    assert read(broken) is None
    assert panel(None) is None


def test_a_band_that_does_not_fit_its_epochs_is_not_drawn() -> None:
    band = {"column": "x", "label": "x", "epochs": [1, 2], "run": [1.0], "reference": [1.0, 2.0]}
    assert panel(read({"verdict": "different", "bands": [band]})) is None


def test_neither_torch_nor_scipy_is_imported_for_the_package() -> None:
    script = "import sys, launcher.parity, launcher.cli.parity, launcher.cli.main; launcher.cli.main.main(['--help']);"
    script += "print([name for name in ('torch', 'ultralytics', 'scipy', 'numpy', 'plotly') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_run_is_neither_its_own_reference_nor_a_seed_of_it(tmp_path: Path, base: Path, settings: Settings) -> None:
    with pytest.raises(ValueError, match="its own reference"):
        compare(base, tmp_path / "." / "base", settings=settings)
    run = written(tmp_path / "run", trained(99, shift=-0.3), [b"other"], seed=99)
    said = compare(run, base, [run, *seeds(tmp_path)], validate=False, settings=settings)
    assert said.references == ("base", "seed1", "seed2", "seed3", "seed4")
    assert any("run as a seed: it is the run itself" in text for text in said.not_checked)


def test_pictures_that_lie_in_the_folder_already_are_left_alone(tmp_path: Path, base: Path, settings: Settings) -> None:
    mine = tmp_path / "to" / "parity" / "holiday.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    run = written(tmp_path / "run", trained(99), [b"other"], seed=99)
    files.write(compare(run, base, validate=False, settings=settings), tmp_path / "to")
    assert mine.read_bytes() == b"mine"


def test_a_column_of_any_length_has_a_picture(tmp_path: Path, base: Path, settings: Settings) -> None:
    for folder, seed in (("long", 0), ("other", 1)):
        file = written(tmp_path / folder, trained(seed), seed=seed) / "results.csv"
        file.write_text(file.read_text().replace("train/box_loss", "train/" + "x" * 400))
    said = compare(tmp_path / "other", tmp_path / "long", validate=False, settings=settings)
    assert len(files.write(said, tmp_path / "to")) == 1 + 4 + 3


def test_epochs_beyond_any_training_are_no_verdict() -> None:
    band = {"column": "x", "label": "x", "epochs": [10**400], "run": [1.0], "reference": [1.0]}
    assert read({"verdict": "different", "bands": [band]}) is None


def test_text_of_a_file_does_not_steer_the_terminal(tmp_path: Path, base: Path, settings: Settings) -> None:
    run = written(tmp_path / "run", trained(99), [b"other"], seed=99, cls="\x1b]0;title\x07\x1b[2J")
    text = "\n".join(lines(compare(run, base, validate=False, settings=settings)))
    assert "train.cls: ?]0;title??[2J" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "wrong", [{"margin": 0.0}, {"margin": float("nan")}, {"margin": {"mAP50": -0.1}}, {"last_epochs": 0}]
)
def test_what_cannot_be_a_margin_or_a_number_of_epochs_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    one, other = (written(tmp_path / str(n), trained(n), [b"%d" % n], seed=n) for n in (1, 2))
    with pytest.raises(ValueError, match=r"margin|last_epochs"):
        compare(one, other, validate=False, **wrong)
