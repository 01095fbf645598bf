"""What is the user's to mend: said before anything starts, with file and remedy, exit code 2."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import SPEC, Launch


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small good dataset of 16 x 16 pixel images; returns its data.yaml."""
    from PIL import Image

    for split in ("train", "val"):
        for index in range(2):
            image = tmp_path / "set" / "images" / split / f"{index}.png"
            label = tmp_path / "set" / "labels" / split / f"{index}.txt"
            image.parent.mkdir(parents=True, exist_ok=True)
            label.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16), index).save(image)
            label.write_text("0 0.5 0.5 0.2 0.2\n")
    file = tmp_path / "set" / "data.yaml"
    file.write_text("path: .\ntrain: images/train\nval: images/val\nnames: [cots]\n")
    return file


def _edit(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


def _no_labels(yaml: Path) -> None:
    for split in ("train", "val"):
        for label in (yaml.parent / "labels" / split).iterdir():
            label.unlink()
        (yaml.parent / "labels" / split).rmdir()


def _empty_split(yaml: Path) -> None:
    for image in (yaml.parent / "images" / "val").iterdir():
        image.unlink()


def _corrupt(yaml: Path) -> None:
    image = yaml.parent / "images" / "train" / "1.png"
    image.write_bytes(image.read_bytes()[:40])


def _bad_class(yaml: Path) -> None:
    (yaml.parent / "labels" / "train" / "0.txt").write_text("3 0.5 0.5 0.2 0.2\n")


def _foreign(yaml: Path) -> None:
    _edit(yaml, "path: .", "path: /Users/somebody/datasets/cots")


MISTAKES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing label folders": (_no_labels, "labels"),
    "an empty split": (_empty_split, "val"),
    "a corrupt image": (_corrupt, "1.png"),
    "a class that does not exist": (_bad_class, "0.txt:1"),
    "a path of another machine": (_foreign, "/Users/somebody/datasets/cots"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_bad_dataset_is_named_and_nothing_starts(launch: Launch, dataset: Path, name: str, tmp_path: Path) -> None:
    spec = tmp_path / "own.yaml"
    spec.write_text(f"model: yolo11n.yaml\ndata: {dataset}\ntrain: {{epochs: 1}}\n")
    assert launch(spec).code == 0  # good before
    mistake, shown = MISTAKES[name]
    mistake(dataset)
    said = launch(spec, "--new")
    assert said.code == 2, said.err
    assert shown in said.err
    assert "nothing was started" in said.err
    assert len(launch("ps", "--json").json) == 1


def test_a_typo_names_file_line_column_and_field(launch: Launch, spec: Path) -> None:
    spec.write_text(SPEC.replace("epochs", "epoch"))
    said = launch(spec)
    assert said.code == 2
    assert "tiny.yaml:3:9: train.epoch" in said.err
    assert "did you mean 'epochs'?" in said.err


def test_a_spec_that_is_not_there(launch: Launch) -> None:
    said = launch("nowhere.yaml")
    assert said.code == 2
    assert "nowhere.yaml" in said.err


def test_a_backend_that_is_not_there(launch: Launch, spec: Path) -> None:
    said = launch(spec, "--backend", "locl")
    assert said.code == 2
    assert "did you mean 'local'?" in said.err


def test_a_run_that_is_not_there(launch: Launch) -> None:
    said = launch("show", "nothing")
    assert said.code == 2
    assert "SAMERUN_RUNS_DIR" in said.err


def test_a_device_that_is_not_there(launch: Launch, spec: Path) -> None:
    said = launch(spec, "--set", "resources.device=mps")
    assert said.code == 2
    assert "local.no-device" in said.err


def test_an_error_is_also_json(launch: Launch, spec: Path) -> None:
    spec.write_text(SPEC.replace("epochs", "epoch"))
    said = launch(spec, "--json")
    assert said.json[-1]["error"] == "SpecError"
    assert said.json[-1]["problems"][0]["line"] == 3


def test_a_runs_folder_that_cannot_be_written(launch: Launch, spec: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    said = launch(spec, SAMERUN_RUNS_DIR=str(blocked / "runs"))
    assert said.code == 2, said.err
    assert str(blocked) in said.err
    assert "SAMERUN_RUNS_DIR" in said.err


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    """A file system of 1 MB, where this user may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(launch: Launch, spec: Path, small_disk: Path) -> None:
    assert launch(spec).code == 0
    (small_disk / "filler").write_bytes(b"\0" * (1 << 20))
    said = launch(spec, "--new", SAMERUN_RUNS_DIR=str(small_disk / "runs"))
    assert said.code == 2, said.err
    assert "free some space" in said.err


def test_a_setting_that_does_not_exist(launch: Launch, tmp_path: Path) -> None:
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "samerun"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('run_dir = "x"\n')
    said = launch("ps")
    assert said.code == 2
    assert "run_dir" in said.err
