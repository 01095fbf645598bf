"""`launch parity`, `--against` and `launch reference`, as programs; the stub payload in the place of the training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from launcher.cli.parity import main
from launcher.errors import NotFoundError
from launcher.spec.load import load_spec
from tests.cli.conftest import Launch, launch, spec
from tests.parity.made import trained, written

__all__ = ["launch", "spec"]
FAST = {"SAMERUN_STUB_EPOCH_S": "0"}


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A run and its reference, which has another box gain."""
    monkeypatch.setenv("SAMERUN_RUNS_DIR", str(tmp_path / "runs"))
    return written(tmp_path / "run", trained(9), [b"1"], seed=9, box=5.0), written(tmp_path / "base", trained(0))


def test_different_is_exit_6_with_a_verdict_in_words_json_and_files(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, base = map(str, pair)
    assert main([run, base, "--no-validate"]) == 6
    out = capsys.readouterr().out
    assert out.startswith("DIFFERENT  run against base")
    assert "must-equal         train.box: 5.0, reference 7.5" in out
    assert main([run, base, "--no-validate", "--json", "--out", str(pair[0] / "to"), "--pictures", "png"]) == 6
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["layer"]) == ("different", "inputs")
    assert json.loads((pair[0] / "to" / "parity.json").read_text())["verdict"] == "different"
    assert len(list((pair[0] / "to" / "parity").glob("*.png"))) == 7


def test_inconclusive_is_no_failure(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written(tmp_path / "other", trained(9), [b"1"], seed=9)
    assert main([str(other), str(pair[1]), "--no-validate"]) == 0
    assert capsys.readouterr().out.startswith("INCONCLUSIVE")


@pytest.mark.parametrize(
    "wrong",
    [["--margin", "0"], ["--margin", "x=0.1"], ["--margin", "=0.1"], ["--margin", "0.1", "--margin", "mAP50=0.1"]],
)
def test_a_margin_that_is_none_is_a_usage_error(pair: tuple[Path, Path], wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, pair), *wrong])
    assert ended.value.code == 2


def test_margins_reach_the_curves(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = written(tmp_path / "other", trained(9), [b"9"], seed=9)
    seeds = [str(written(tmp_path / f"s{n}", trained(n), [b"%d" % n], seed=n)) for n in range(1, 5)]
    assert main([str(other), str(pair[1]), *seeds, "--no-validate", "--json", "--margin", "mAP50-95=0.2"]) == 0
    curves = json.loads(capsys.readouterr().out)["layers"][3]
    assert curves["verdict"] == "equivalent"
    assert [one["margin"] for one in curves["evidence"]["equivalence"]] == [0.2]


def test_a_run_is_held_against_its_reference_when_it_has_ended(launch: Launch, spec: Path, tmp_path: Path) -> None:
    base = launch(spec, "--json", **FAST).json[-1]
    done = launch(spec, "--new", "--against", base["run"], "--json", **FAST)
    result = done.json[-1]
    # The stub writes its process id into args.yaml, so two of its runs are different.
    assert (done.code, result["state"]) == (6, "verified")
    assert (result["parity"]["verdict"], result["parity"]["reference"]) == ("different", base["run"])
    folder = Path(result["dir"])
    assert json.loads((folder / "parity.json").read_text())["verdict"] == "different"
    assert json.loads((folder / "run.json").read_text())["against"] == base["run"]
    again = launch("attach", result["run"], "--json", **FAST)
    assert (again.code, again.json[-1]["parity"]["verdict"]) == (6, "different")
    assert base["parity"] is None


def test_a_reference_that_is_not_there_is_told_before_anything_is_started(
    launch: Launch, spec: Path, tmp_path: Path
) -> None:
    said = launch(spec, "--against", "nobody", **FAST)
    assert said.code == 2
    assert "nobody" in said.err
    assert not any((tmp_path / "runs").glob("*/run.json"))


def test_a_reference_that_is_gone_when_the_run_has_ended_is_no_success(
    launch: Launch, spec: Path, tmp_path: Path
) -> None:
    base = written(tmp_path / "base", trained(0))
    result = launch(spec, "--against", base, "--json", **FAST).json[-1]
    assert json.loads(Path(result["dir"], "run.json").read_text())["against"] == str(base)
    shutil.rmtree(base)
    again = launch("attach", result["run"], "--json", **FAST)
    assert again.code == 2
    assert again.json[-1]["parity"]["verdict"] is None
    assert "not known" in again.err


def test_the_spec_can_name_the_reference_and_the_bundle_does_not_change_with_it(
    launch: Launch, spec: Path, tmp_path: Path
) -> None:
    first = launch(spec, "--json", **FAST).json[-1]
    spec.write_text(spec.read_text() + f"parity: {{against: {first['run']}, margin: 0.02}}\n")
    result = launch(spec, "--json", **FAST).json[-1]
    assert result["parity"]["reference"] == first["run"]
    records = [json.loads(Path(one["dir"], "run.json").read_text()) for one in (first, result)]
    assert records[0]["bundle"] == records[1]["bundle"]
    assert records[0]["key"] == records[1]["key"]
    assert records[1]["parity"]["margin"] == 0.02
    assert "parity" in Path(result["dir"], "spec.yaml").read_text()
    loaded = load_spec(spec)
    assert "parity" not in loaded.experiment_text()
    assert "parity" in loaded.yaml_text()


def test_reference_runs_each_seed_once_and_finds_those_that_are_there(launch: Launch, spec: Path) -> None:
    first = launch("reference", spec, "--seeds", "2", "--json", **FAST)
    assert first.code == 0, first.err
    two = first.json[-1]
    more = launch("reference", spec, "--seeds", "3", "--json", **FAST)
    three = more.json[-1]
    assert three["runs"][:2] == two["runs"]
    assert len(set(three["runs"])) == 3
    assert more.err.count("is verified already") == 2
    assert "mAP50" in more.err
    assert launch("reference", spec, "--seeds", "1", **FAST).code == 2


def test_reference_stops_at_a_seed_that_fails_and_goes_on_from_there(launch: Launch, spec: Path) -> None:
    failed = launch("reference", spec, "--seeds", "2", SAMERUN_STUB_FAIL_EPOCH="2", **FAST)
    assert failed.code == 1
    assert "0 of 2 seeds are there; the same command goes on" in failed.err
    assert launch("reference", spec, "--seeds", "2", **FAST).code == 0


def test_a_run_is_refused_as_its_own_reference(
    launch: Launch, spec: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotFoundError, match="are the same run"):
        main([str(pair[0]), f"{pair[0]}/../run"])
    going = launch(spec, "--detach", "--json", SAMERUN_STUB_EPOCH_S="1").json[-1]["run"]
    said = launch(spec, "--against", going, **FAST)
    assert said.code == 2
    assert "cannot be its own reference" in said.err
    launch("cancel", going, **FAST)
