"""A real training through `launch`: it is verified, and nothing but the runs folder and the cache is written."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Launch


def _tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Every path below a folder, with its contents' digest and its modification time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[str(path.relative_to(folder))] = (digest, path.stat().st_mtime_ns)
    return found


def _dataset(folder: Path) -> Path:
    """Ten noisy JPEG frames with a box each; one ends in a stray byte, which Ultralytics mends on disk."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for index in range(10):
        split = "train" if index < 7 else "val"
        image = folder / "images" / split / f"frame {index}.jpg"
        label = folder / "labels" / split / f"frame {index}.txt"
        image.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(image, quality=90)
        label.write_text("0 0.5 0.5 0.4 0.4\n")
    with (folder / "images" / "train" / "frame 0.jpg").open("ab") as stream:
        stream.write(b"\0")
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: {0: cots}\n")
    return folder / "data.yaml"


@pytest.mark.training
def test_a_training_writes_nowhere_but_to_its_own_folders(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAMERUN_PAYLOAD")
    home = Path(os.environ["HOME"])
    settings = home / ".config" / "Ultralytics" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"settings_version": "0.0.6", "sync": true, "datasets_dir": "/mine"}')
    data = _dataset(tmp_path / "my data")
    spec = tmp_path / "own.yaml"
    train = "{epochs: 1, imgsz: 32, batch: 4, workers: 0, seed: 0}"
    spec.write_text(f"model: yolo11n.yaml\ndata: my data/data.yaml\ntrain: {train}\n")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    before = {folder: _tree(folder) for folder in (home, data.parent, here)}

    said = launch(spec, "--json")

    assert said.code == 0, said.err
    assert {folder: _tree(folder) for folder in (home, data.parent, here)} == before
    folders = {path.name for path in tmp_path.iterdir()}
    assert folders == {"home", "my data", "own.yaml", "here", "runs", "cache"}
    run = Path(said.json[-1]["dir"])
    started = next(line for line in said.json if line.get("event") == "started")
    assert started["device"] == "cpu"
    assert started["images"] == {"train": 7, "val": 3}
    assert len(started["initial_weights"]) == 64
    assert {"ultralytics", "torch", "python"} <= started["versions"].keys()
    for name in ("results.csv", "args.yaml", "results.png", "weights/best.pt", "weights/last.pt"):
        assert (run / "train" / name).is_file()
    numbers = json.loads((run / "train" / "validation.json").read_text())
    assert sum(size["of"] for size in numbers["recall_by_size"].values()) == 3
    assert not list((tmp_path / "runs" / ".local").iterdir())  # released
    assert "\033" not in (run / "log.txt").read_text()


@pytest.mark.training
def test_a_training_that_ultralytics_refuses_fails_with_its_reason(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAMERUN_PAYLOAD")
    _dataset(tmp_path / "data")
    spec = tmp_path / "own.yaml"
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    spec.write_text("model: broken.pt\ndata: data/data.yaml\ntrain: {epochs: 1}\n")
    said = launch(spec, "--json")
    assert said.code == 1
    assert said.json[-1]["state"] == "failed"
    assert "broken.pt" in said.json[-1]["reason"]
