"""Data that lies where the machine is, through `launch`: planned without it, trained on it, held to what it was."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.data.dataset import read_dataset
from launcher.data.fingerprint import fingerprint
from tests.cli import attaching
from tests.cli.conftest import Launch
from tests.cli.test_training import _dataset
from tests.data.trees import sound
from tests.worker.laid import ROOT
from tests.worker.test_prepare import SPLIT

SPEC = "model: yolo11n.yaml\ndata: kaggle-dataset:alice/reef\ntrain: {epochs: 3}\n"


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the machine of the backend `attaching` has its datasets; it is installed."""
    attaching.install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{ROOT}")
    monkeypatch.setenv(attaching.ROOT, str(tmp_path / "mounts"))
    sound(tmp_path / "mounts/alice/reef")
    return tmp_path / "mounts"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "away.yaml"
    file.write_text(SPEC)
    return file


def record_of(launch: Launch, run: str) -> dict[str, Any]:
    (record,) = launch("show", run, "--json").json
    return dict(record)


def test_a_run_on_a_dataset_that_never_was_here(launch: Launch, mounts: Path, spec: Path) -> None:
    said = launch(spec, "--backend", "attaching", "--json")
    assert said.code == 0, said.err
    assert said.json[-1]["state"] == "verified"
    record = record_of(launch, "away")
    mark = fingerprint(read_dataset(mounts / "alice/reef/data.yaml"))
    assert record["data"] == {
        "kind": "kaggle-dataset", "name": "alice/reef", "fingerprint": mark.total, "images": mark.images,
        "labels": mark.labels, "splits": mark.splits, "yaml": "data.yaml",
        "facts": {"n_train": 3, "n_val": 2, "classes": 1, "bytes": mark.bytes},
    }  # fmt: skip
    shown = launch("show", "away").out
    assert f"kaggle-dataset:alice/reef, fingerprint {mark.total[:12]}" in shown
    assert launch("ps").code == 0
    again = launch(spec, "--backend", "attaching", "--dry-run")
    assert again.code == 0, again.err


def test_the_plan_says_what_is_not_known(launch: Launch, mounts: Path, spec: Path) -> None:
    said = launch("plan", spec, "--backend", "attaching")
    assert said.code == 0, said.err
    assert "kaggle-dataset:alice/reef" in said.out
    assert "the dataset is on Kaggle: not counted here" in said.out
    assert "takes    not known" in said.out
    (plan,) = launch("plan", spec, "--backend", "attaching", "--json").json
    assert plan["data"] is None
    assert plan["estimate"]["total_seconds"] is None


def test_a_backend_that_cannot_attach_it_says_which_can(launch: Launch, mounts: Path, spec: Path) -> None:
    said = launch(spec)
    assert said.code == 2
    assert "local cannot attach data of the kind kaggle-dataset" in said.err
    assert "--backend attaching" in said.err
    assert not (Path(os.environ["SAMERUN_RUNS_DIR"])).exists()


def test_nobody_who_can_is_said_too(launch: Launch, spec: Path) -> None:
    said = launch("plan", spec, "--json")
    assert said.code == 2
    (found,) = [one for one in said.json[0]["findings"] if one["code"] == "data.cannot-attach"]
    assert found["remedy"]


def test_a_dry_run_shows_what_is_attached_and_what_travels(
    launch: Launch, mounts: Path, spec: Path, tmp_path: Path
) -> None:
    (tmp_path / "make.py").write_text(SPLIT)
    spec.write_text(SPEC.replace("kaggle-dataset:alice/reef", "{kaggle-dataset: alice/reef/3, prepare: make.py}"))
    said = launch(spec, "--backend", "attaching", "--dry-run", "--json")
    assert said.code == 0, said.err
    request = said.json[-1]
    assert request["attempt.json"]["data_root"] == str(mounts / "alice/reef/3")
    assert "expect_fingerprint" not in request["attempt.json"]
    names = {file["path"] for file in request["files"]}
    assert "prepare.py" in names
    assert "data.json" not in names
    bundles = [json.loads(file.read_bytes()) for file in (tmp_path / "cache/bundles").glob("*/job.json")]
    assert [job["data"] for job in bundles] == [{"kind": "kaggle-dataset", "name": "alice/reef/3"}]


def test_what_is_attached_and_its_script_are_part_of_the_digest(
    launch: Launch, mounts: Path, spec: Path, tmp_path: Path
) -> None:
    shutil.copytree(mounts / "alice/reef", mounts / "alice/reef/3")
    script = tmp_path / "make.py"
    script.write_text(SPLIT)
    specs = [
        "kaggle-dataset:alice/reef",
        "kaggle-dataset:alice/reef/3",
        "{kaggle-dataset: alice/reef/3, prepare: make.py}",
        "{kaggle-dataset: alice/reef/3, prepare: make.py}",
    ]
    for number, data in enumerate(specs):
        spec.write_text(SPEC.replace("kaggle-dataset:alice/reef", data))
        script.write_text(SPLIT + "\n" * (number == 3))
        assert launch(spec, "--backend", "attaching", "--dry-run").code == 0
    assert len(list((tmp_path / "cache/bundles").iterdir())) == 4


def cut_short(launch: Launch, spec: Path) -> dict[str, Any]:
    """A run whose first attempt ended after its first epoch."""
    spec.write_text(SPEC + "resume: {attempts: 1, restarts: 0}\n")
    said = launch(spec, "--backend", "attaching", "--json", SAMERUN_STUB_KILL_EPOCH="2")
    assert said.code == 1, said.err
    record = record_of(launch, "away")
    assert (record["state"], record["epoch"]) == ("failed", 1)
    assert record["data"]["fingerprint"]
    return record


def test_a_resumed_run_is_held_to_the_dataset_that_it_began_with(launch: Launch, mounts: Path, spec: Path) -> None:
    before = cut_short(launch, spec)
    label = mounts / "alice/reef/labels/val/v2/d.txt"
    text = label.read_text()
    label.write_text("0 0.5 0.5 0.4 0.4\n")
    said = launch("resume", "away", "--json")
    assert said.code == 1
    assert "the dataset has changed since the run began" in said.json[-1]["reason"]
    assert record_of(launch, "away")["data"] == before["data"]
    label.write_text(text)
    said = launch("resume", "away", "--json")
    assert said.code == 0, said.err
    assert record_of(launch, "away")["state"] == "verified"


def test_a_run_does_not_move_to_a_backend_that_cannot_attach_its_data(launch: Launch, mounts: Path, spec: Path) -> None:
    cut_short(launch, spec)
    said = launch("resume", "away", "--backend", "local")
    assert said.code == 2
    assert "local cannot attach data" in said.err
    assert record_of(launch, "away")["state"] == "failed"


def test_a_competition_is_prepared_and_a_script_that_fails_is_told(
    launch: Launch, mounts: Path, spec: Path, tmp_path: Path
) -> None:
    pictures = sorted((mounts / "alice/reef").rglob("*.png"))
    (mounts / "cots").mkdir()
    for path in pictures:
        shutil.copy(path, mounts / "cots" / path.name)
    script = tmp_path / "prepare.py"
    script.write_text("print('no table of boxes here')\nraise SystemExit(4)\n")
    spec.write_text(SPEC.replace("kaggle-dataset:alice/reef", "{kaggle-competition: cots, prepare: prepare.py}"))
    said = launch(spec, "--backend", "attaching", "--json")
    assert said.code == 1
    assert said.json[-1]["reason"] == "prepare.py: ended with exit code 4"
    assert "no table of boxes here" in launch("logs", "away").out
    script.write_text(SPLIT)
    said = launch(spec, "--backend", "attaching", "--json")
    assert said.code == 0, said.err
    assert record_of(launch, "away")["data"]["facts"]["n_train"] == 4


@pytest.mark.training
def test_a_real_training_on_an_attached_dataset(
    launch: Launch, mounts: Path, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAMERUN_PAYLOAD")
    data = _dataset(mounts / "alice/own")
    (data.parent / "images/train/broken.jpg").write_bytes(b"no image")
    before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in data.parent.rglob("*")}
    spec.write_text(
        "model: yolo11n.yaml\ndata: kaggle-dataset:alice/own\n"
        "train: {epochs: 1, imgsz: 32, batch: 4, workers: 0, seed: 0}\n"
    )
    said = launch(spec, "--backend", "attaching", "--json")
    assert said.code == 0, said.err
    started = next(line for line in said.json if line.get("event") == "started")
    assert started["images"] == {"train": 7, "val": 3}
    dropped = next(line for line in said.json if line.get("code") == "images-dropped")
    assert (dropped["split"], dropped["listed"], dropped["used"]) == ("train", 8, 7)
    assert record_of(launch, "away")["data"]["fingerprint"] == fingerprint(read_dataset(data)).total
    after = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in data.parent.rglob("*")}
    assert after == before, "a JPEG that ends oddly is not mended where it lies"
