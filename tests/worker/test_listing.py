"""A dataset that nobody has looked at before: listed on the machine as it would have been at home, or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.data.check import examine
from launcher.data.dataset import read_dataset
from launcher.worker.box import Box
from launcher.worker.data import listing, view
from launcher.worker.training.guard import GuardError
from tests.data.trees import jpeg, picture, sound, write
from tests.worker.test_train import Told

Tree = Callable[[Path], Path]


def box_for(root: Path, source: Path, **attempt: Any) -> Box:
    box = Box(str(root / "box"))
    box.make()
    Path(box.inbox).mkdir(exist_ok=True)
    Path(box.inbox, "attempt.json").write_text(json.dumps({"data_root": str(source), **attempt}))
    return box


def listed(box: Box) -> tuple[dict[str, Any], Told]:
    told = Told()
    listing.ensure(box, told)  # type: ignore[arg-type]
    return json.loads(Path(listing.file(box)).read_text()), told


def refused(box: Box) -> GuardError:
    with pytest.raises(GuardError) as caught:
        listing.ensure(box, Told())  # type: ignore[arg-type]
    assert not Path(listing.file(box)).exists()
    assert caught.value.remedy
    return caught.value


@contextmanager
def read_only(root: Path) -> Iterator[None]:
    """As a service mounts it; and looked at afterwards, because root may write everywhere."""
    every = [root, *root.rglob("*")]
    before = {path: (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in every}
    for path in every:
        if not path.is_symlink():
            path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        yield
    finally:
        for path in every:
            if not path.is_symlink():
                path.chmod(0o700)
    assert {
        path: (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in (root, *root.rglob("*"))
    } == before


# Odd datasets, each of which Ultralytics trains on.


def lists(root: Path) -> Path:
    file = sound(root, "train: [images/train/v1, images/train/v0]\nval: val.txt\ntest: images/val\nnames: {0: a b}\n")
    (root / "val.txt").write_text("./images/val/v2/e.png\n./images/val/v2/d.png\n./images/val/v2/e.png\n")
    return file


def links(root: Path) -> Path:
    file = sound(root)
    (root / "images/train/linked").symlink_to(root / "images/train/v1")
    (root / "images/train/v0/same.png").symlink_to(root / "images/train/v0/a.png")
    return file


def names(root: Path) -> Path:
    file = sound(root, "train: images/train\nval: images/val\nnc: 2\n")
    more = ("it's", "日本", "😀", "with space", "#hash {x}", "%d", "a.b.c")
    write(root, {f"images/train/{name}.png": picture(number) for number, name in enumerate(more)})
    write(root, {f"labels/train/{name}.txt": "1 0.5 0.5 0.1 0.1\n" for name in more[:3]})
    return file


def oddly_ended(root: Path) -> Path:
    file = sound(root)
    write(root, {"images/train/z.jpg": jpeg() + b"\0", "images/train/y.jpg": jpeg(2), "labels/train/z.txt": ""})
    return file


def elsewhere(root: Path) -> Path:
    sound(root / "inner/set", "path: ../../inner/set\ntrain: images/train\nval: images/val\nnames: [a]\n")
    return root / "inner/set/data.yaml"


def roboflow(root: Path) -> Path:
    write(root, {
        "data.yaml": "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['a']\n",
        "train/images/a.png": picture(), "train/labels/a.txt": "0 0.5 0.5 0.1 0.1",
        "valid/images/b.png": picture(1), "valid/labels/b.txt": "0 0.5 0.5 0.1 0.1",
    })  # fmt: skip
    return root / "data.yaml"


TREES: tuple[Tree, ...] = (sound, lists, links, names, oddly_ended, elsewhere, roboflow)


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.__name__)
def test_it_is_listed_as_at_home(tmp_path: Path, tree: Tree) -> None:
    source = tmp_path / "data"
    home = read_dataset(tree(source))
    mark = examine(home).fingerprint
    with read_only(source):
        box = box_for(tmp_path, source)
        found, told = listed(box)
    assert found["fingerprint"] == mark.total
    assert found["splits"] == {
        split: [{"image": item.image, "label": item.label} for item in items] for split, items in home.splits.items()
    }
    assert found["names"] == {str(number): name for number, name in home.names.items()}
    assert found["files"] == [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in mark.files]
    assert found["copy"] == list(examine(home).images_to_copy)
    (event,) = told.named("dataset")
    parts = {key: event[key] for key in ("fingerprint", "images", "labels", "splits")}
    assert parts == {
        "fingerprint": mark.total, "images": mark.images, "labels": mark.labels, "splits": mark.splits,
    }  # fmt: skip
    assert (event["n_train"], event["n_val"]) == (len(home.splits["train"]), len(home.splits["val"]))


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.__name__)
def test_its_view_is_whole_and_the_source_is_only_read(tmp_path: Path, tree: Tree) -> None:
    source = tmp_path / "data"
    home = read_dataset(tree(source))
    with read_only(source):
        box = box_for(tmp_path, source)
        listed(box)
        done = Path(view.make(box))
        read = yaml.safe_load(done.read_text(encoding="utf-8"))
        for split, items in home.splits.items():
            lines = (done.parent / read[split]).read_text(encoding="utf-8").splitlines()
            assert [Path(line).read_bytes() for line in lines] == [
                (home.root / item.image).read_bytes() for item in items
            ]
            (Path(lines[0]).parent / "note").write_text("the view may be written")
        for image in examine(home).images_to_copy:
            assert not (done.parent / image).is_symlink()
            (done.parent / image).write_bytes(b"Ultralytics may mend it")


def test_a_dataset_that_came_with_the_attempt_is_not_read_again(tmp_path: Path) -> None:
    box = box_for(tmp_path, tmp_path / "nowhere")
    Path(box.inbox, "data.json").write_text("{}")
    assert listed(box) == ({}, Told())


def test_a_restarted_training_does_not_read_it_again(tmp_path: Path) -> None:
    sound(tmp_path / "data")
    box = box_for(tmp_path, tmp_path / "data")
    found, _ = listed(box)
    (tmp_path / "data/data.yaml").unlink()
    assert listed(box) == (found, Told())


def test_another_dataset_than_the_run_began_with_is_refused(tmp_path: Path) -> None:
    sound(tmp_path / "data")
    mark = listed(box_for(tmp_path / "one", tmp_path / "data"))[0]["fingerprint"]
    assert listed(box_for(tmp_path / "two", tmp_path / "data", expect_fingerprint=mark))[0]["fingerprint"] == mark
    (tmp_path / "data/labels/val/v2/d.txt").write_text("0 0.5 0.5 0.4 0.3\n")
    error = refused(box_for(tmp_path / "three", tmp_path / "data", expect_fingerprint=mark))
    assert error.code == "data-changed"
    assert mark in str(error)


def test_a_file_that_goes_away_after_the_listing_is_a_mismatch(tmp_path: Path) -> None:
    sound(tmp_path / "data")
    box = box_for(tmp_path, tmp_path / "data")
    listed(box)
    (tmp_path / "data/images/val/v2/d.png").unlink()
    with pytest.raises(view.DataMismatchError, match=r"d\.png is not in the dataset"):
        view.make(box)


def test_the_only_data_yaml_below_is_found_and_of_several_the_one_at_the_root(tmp_path: Path) -> None:
    sound(tmp_path / "data/a/b")
    assert listed(box_for(tmp_path / "one", tmp_path / "data"))[1].named("dataset")[0]["yaml"] == "a/b/data.yaml"
    sound(tmp_path / "data/c")
    error = refused(box_for(tmp_path / "two", tmp_path / "data"))
    assert "there are 2 of data.yaml, and none is at the root: a/b/data.yaml, c/data.yaml" in str(error)
    sound(tmp_path / "data")
    assert listed(box_for(tmp_path / "three", tmp_path / "data"))[1].named("dataset")[0]["yaml"] == "data.yaml"


def test_what_cannot_be_trained_on_says_why(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no data.yaml" in str(refused(box_for(tmp_path, empty)))
    assert "there is no folder" in str(refused(box_for(tmp_path, tmp_path / "gone")))
    assert "there is no folder ''" in str(refused(box_for(tmp_path, tmp_path / "x", data_root=None)))
    file = sound(tmp_path / "wrong", "train: images/trian\nval: images/val\nnames: {1: a}\n")
    told = str(refused(box_for(tmp_path, file.parent)))
    assert f"{file}:1: train:" in told
    assert f"{file}:3: names:" in told


def test_a_data_yaml_that_leads_out_of_what_is_attached_is_refused(tmp_path: Path) -> None:
    sound(tmp_path / "other")
    write(tmp_path / "data", {"data.yaml": "path: ../other\ntrain: images/train\nval: images/val\nnames: [a]\n"})
    assert "leads out of the attached dataset" in str(refused(box_for(tmp_path, tmp_path / "data")))


def test_a_linked_root_is_no_way_out(tmp_path: Path) -> None:
    sound(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    listed(box_for(tmp_path, tmp_path / "link"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    sound(tmp_path / "data")
    (tmp_path / "data/images/train/v0/a.png").chmod(0)
    assert "a.png: cannot be read: Permission denied" in str(refused(box_for(tmp_path, tmp_path / "data")))


def test_what_is_odd_is_a_warning(tmp_path: Path) -> None:
    sound(tmp_path / "data", "train: images\nval: images/val\nnames: [a]\ndownload: x\n")
    told = listed(box_for(tmp_path, tmp_path / "data"))[1]
    assert [event["code"] for event in told.named("warning")] == ["data-download-ignored", "data-split-overlap"]


def test_without_its_script_run_a_prepared_dataset_is_not_read(tmp_path: Path) -> None:
    sound(tmp_path / "data")
    box = box_for(tmp_path, tmp_path / "data")
    Path(listing.script(box)).write_text("")
    sound(Path(listing.prepared(box)))  # half of it, for all that is known
    assert refused(box).code == "data-not-prepared"
    Path(f"{listing.prepared(box)}.done").touch()
    assert listed(box)[0]["root"] == str(Path(listing.prepared(box)).resolve())
