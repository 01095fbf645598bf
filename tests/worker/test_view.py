"""The view of a dataset: links and copies that keep the user's files as they are, whatever these are called."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.worker.box import Box
from launcher.worker.data import view

ODD = ["plain", "with space", "it's", 'a "quote"', "ünïcödé", "日本", "😀", "$(x);&", "#hash: {a}", "- dash", "%d"]


def laid(root: Path, name: str = "plain", *, copy: bool = False, **attempt: Any) -> Box:
    """A box and a dataset of two images, one without a label; folders are called `name`."""
    data = root / f"data {name}"
    box = Box(str(root / f"box {name}"))
    box.make()
    Path(box.inbox).mkdir()
    images = [f"{name}/images/train/{name}.png", f"{name}/images/val/other.png"]
    label = f"{name}/labels/train/{name}.txt"
    files = {images[0]: b"image", images[1]: b"other", label: b"0 0.5 0.5 0.1 0.1\n"}
    for path, content in files.items():
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(content)
    listing = {
        "names": {"0": name, "1": "b"},
        "splits": {"train": [{"image": images[0], "label": label}], "val": [{"image": images[1], "label": None}]},
        "files": [
            {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in files.items()
        ],
        "copy": images[:1] if copy else [],
    }
    Path(box.inbox, "data.json").write_text(json.dumps(listing), encoding="utf-8")
    Path(box.inbox, "attempt.json").write_text(json.dumps({"data_root": str(data), **attempt}), encoding="utf-8")
    return box


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ODD)
def test_names_of_all_kinds_come_through(tmp_path: Path, name: str) -> None:
    done = Path(view.make(laid(tmp_path, name)))
    read = yaml.safe_load(done.read_text(encoding="utf-8"))
    assert read["names"] == [name, "b"]
    assert read["path"] == str(done.parent)
    (image,) = (done.parent / read["train"]).read_text(encoding="utf-8").splitlines()
    assert image == str(done.parent / f"{name}/images/train/{name}.png")
    assert Path(image).read_bytes() == b"image"
    assert Path(image.replace("/images/", "/labels/")).with_suffix(".txt").read_bytes().startswith(b"0 0.5")


def test_images_are_links_labels_are_copies(tmp_path: Path) -> None:
    done = Path(view.make(laid(tmp_path)))
    assert (done.parent / "plain/images/train/plain.png").is_symlink()
    assert not (done.parent / "plain/labels/train/plain.txt").is_symlink()
    assert not (done.parent / "plain/labels/val").exists()


def test_an_image_that_would_be_rewritten_is_a_copy(tmp_path: Path) -> None:
    box = laid(tmp_path, copy=True)
    before = snapshot(tmp_path / "data plain")
    done = Path(view.make(box))
    image = done.parent / "plain/images/train/plain.png"
    assert not image.is_symlink()
    image.write_bytes(b"rewritten")
    (done.parent / "plain/labels/train/plain.txt").write_bytes(b"")
    (done.parent / "plain/labels/train.cache").write_bytes(b"cache")
    assert snapshot(tmp_path / "data plain") == before


def test_a_dataset_that_may_only_be_read(tmp_path: Path) -> None:
    box = laid(tmp_path, copy=True)
    folders = [tmp_path / "data plain", *(tmp_path / "data plain").rglob("*")]
    for path in folders:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        done = Path(view.make(box))
        (done.parent / "plain/labels/train/plain.txt").write_bytes(b"")
        (done.parent / "plain/images/train/plain.png").write_bytes(b"")
    finally:
        for path in folders:
            path.chmod(0o700)


@pytest.mark.parametrize(
    ("content", "attempt", "says"),
    [
        (None, {}, "is not in the dataset"),
        (b"imag", {}, "has 4 bytes, 5 when"),
        (b"IMAGE", {"verify_data": True}, "other bytes"),
    ],
)
def test_another_dataset_is_a_mismatch(
    tmp_path: Path, content: bytes | None, attempt: dict[str, Any], says: str
) -> None:
    box = laid(tmp_path, **attempt)
    image = tmp_path / "data plain/plain/images/train/plain.png"
    if content is None:
        image.unlink()
    else:
        image.write_bytes(content)
    with pytest.raises(view.DataMismatchError, match=says):
        view.make(box)
    assert not Path(box.work, "data", view.DONE).exists()


def test_half_a_view_is_made_again_and_a_whole_one_is_kept(tmp_path: Path) -> None:
    box = laid(tmp_path)
    done = Path(view.make(box))
    done.unlink()
    (done.parent / "plain/labels/train/plain.txt").write_bytes(b"half")
    (done.parent / "plain/images/train/plain.png").unlink()
    view.make(box)
    assert (done.parent / "plain/labels/train/plain.txt").read_bytes().startswith(b"0 0.5")
    cache = done.parent / "plain/labels/train.cache"
    cache.write_bytes(b"cache")
    stamp = done.stat().st_mtime_ns
    view.make(box)
    assert cache.exists()
    assert done.stat().st_mtime_ns == stamp
