"""data.yaml is read as Ultralytics reads it, and every way it can be wrong is named with its line and a remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.data.dataset import Item, read_dataset
from launcher.errors import DataError, Problem
from tests.data.trees import picture, sound, write


def problems(data_yaml: Path) -> list[Problem]:
    with pytest.raises(DataError) as caught:
        read_dataset(data_yaml)
    assert caught.value.problems
    return list(caught.value.problems)


def only(data_yaml: Path) -> Problem:
    found = problems(data_yaml)
    assert len(found) == 1, found
    assert found[0].file
    assert found[0].remedy
    return found[0]


def test_reads_splits_in_ultralytics_order(tmp_path: Path) -> None:
    dataset = read_dataset(sound(tmp_path))
    assert dataset.root == tmp_path.resolve()
    assert dataset.names == {0: "starfish"}
    assert dataset.splits["train"] == (
        Item("images/train/v0/a.png", "labels/train/v0/a.txt"),
        Item("images/train/v0/b.png", "labels/train/v0/b.txt"),
        Item("images/train/v1/c.png", None),
    )
    assert [item.image for item in dataset.splits["val"]] == ["images/val/v2/d.png", "images/val/v2/e.png"]
    assert dataset.sources == {"train": ("images/train",), "val": ("images/val",)}
    assert dataset.findings == ()


def test_agrees_with_ultralytics_on_images_and_labels(tmp_path: Path) -> None:
    """The oracle: Ultralytics' own listing of a tree with hidden files, odd suffixes, links, a dash before a slash."""
    base = pytest.importorskip("ultralytics.data.base")
    from ultralytics.data.utils import img2label_paths

    file = sound(tmp_path)
    more = ("train/v0-x/f.PNG", "train/v0/.hidden.png", "train/.v/g.png", "train/v0/images/h.tar.png", "train/v0/x.txt")
    write(tmp_path, {f"images/{name}": picture(9) for name in (*more, "train/noext", "train/zé.jpeg")})
    write(
        tmp_path, {"images/train/v0/labels/h.tar.txt": "", "labels/train/v0/images/h.tar.txt": ""}
    )  # the first counts
    (tmp_path / "images/train/linked").symlink_to(tmp_path / "images/train/v1")

    class Probe:
        prefix, fraction = "", 1.0

    theirs = base.BaseDataset.get_img_files(Probe(), str(tmp_path / "images" / "train"))
    dataset = read_dataset(file)
    ours = [item.image for item in dataset.splits["train"]]
    assert [f"{tmp_path}/{path}" for path in ours] == theirs
    assert Item("images/train/v0/images/h.tar.png", "images/train/v0/labels/h.tar.txt") in dataset.splits["train"]
    labels = img2label_paths(theirs)
    assert [item.label and f"{tmp_path}/{item.label}" for item in dataset.splits["train"]] == [
        label if Path(label).is_file() else None for label in labels
    ]


@pytest.mark.parametrize("path", [".", "", "{root}", "../data", "./"])
def test_path_is_relative_to_data_yaml_or_absolute(tmp_path: Path, path: str) -> None:
    root = tmp_path / "data"
    text = f"path: {path.format(root=root)}\ntrain: images/train\nval: images/val\nnames: {{0: a}}\n"
    assert read_dataset(sound(root, text)).root == root.resolve()


def test_path_that_ultralytics_would_take_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sound(tmp_path / "data", "path: .\ntrain: images/train\nval: images/val\nnames: [a]\n")
    monkeypatch.chdir(tmp_path)
    assert [finding.code for finding in read_dataset(file).findings] == ["data-path-ambiguous"]


def test_lists_of_folders_and_text_files(tmp_path: Path) -> None:
    file = sound(tmp_path, "train: [images/train/v1, images/train/v0]\nval: val.txt\nnames: [a]\n")
    absolute = tmp_path / "images/val/v2/d.png"
    (tmp_path / "val.txt").write_bytes(f"\ufeff./images/val/v2/e.png\r\n{absolute}\nnot an image\n".encode())
    dataset = read_dataset(file)
    assert [item.image[-5:] for item in dataset.splits["train"]] == ["a.png", "b.png", "c.png"]
    assert [item.image[-5:] for item in dataset.splits["val"]] == ["d.png", "e.png"]
    assert dataset.sources["val"] == ("val.txt",)


def test_roboflow_layout_and_validation_key(tmp_path: Path) -> None:
    write(tmp_path, {
        "data.yaml": "train: ../train/images\nvalidation: ../valid/images\nnc: 1\nnames: ['a']\n",
        "train/images/a.png": picture(), "train/labels/a.txt": "0 0.5 0.5 0.1 0.1",
        "valid/images/b.png": picture(), "valid/labels/b.txt": "0 0.5 0.5 0.1 0.1",
    })  # fmt: skip
    dataset = read_dataset(tmp_path / "data.yaml")
    assert dataset.splits["train"] == (Item("train/images/a.png", "train/labels/a.txt"),)
    assert dataset.splits["val"] == (Item("valid/images/b.png", "valid/labels/b.txt"),)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: [a, b]", {0: "a", 1: "b"}),
        ("names: {1: b, 0: a}", {0: "a", 1: "b"}),
        ("names: {'0': true}\nnc: 1.0", {0: "True"}),
        ("nc: 2", {0: "class_0", 1: "class_1"}),
        ("names:\nnc: '1'", {0: "class_0"}),
    ],
)
def test_names(tmp_path: Path, names: str, expected: dict[int, str]) -> None:
    assert read_dataset(sound(tmp_path, f"train: images/train\nval: images/val\n{names}\n")).names == expected


@pytest.mark.parametrize(
    ("names", "field", "line"),
    [
        ("nc: 3\nnames: [a]", "nc", 3),
        ("nc: some", "nc", 3),
        ("nc: 0", "nc", 3),
        ("nc: 1e999", "nc", 3),
        ("nothing: 1", "names", None),
        ("names: {0: a, 2: b}", "names", 3),
        ("names: {x: a}", "names", 3),
        ("names: []", "names", 3),
        ("names: starfish", "names", 3),
        ("names: [[a]]", "names", 3),
    ],
)
def test_wrong_names(tmp_path: Path, names: str, field: str, line: int | None) -> None:
    found = only(sound(tmp_path, f"train: images/train\nval: images/val\n{names}\n"))
    assert (found.field, found.line) == (field, line)


def test_all_problems_at_once(tmp_path: Path) -> None:
    found = problems(sound(tmp_path, "train: images/trian\nnames: {1: a}\n"))
    assert [(problem.field, problem.line) for problem in found] == [("names", 2), ("train", 1), ("val", None)]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("train: [a\nval: b\n", 2, "is not YAML"),
        ("- a\n- b\n", 1, "mapping"),
        ("", 1, "mapping"),
        ("a: !!python/object/apply:os.system ['touch /tmp/owned']\n", 1, "is not YAML"),
        ("a: \x00\n", None, "is not YAML"),
        ("a: 2001-99-99\n", None, "is not YAML"),
        ("[" * 5000, None, "is not YAML"),
        ("x: " + "y" * (5 << 20), None, "MiB"),
    ],
)
def test_not_a_data_yaml(tmp_path: Path, text: str, line: int | None, says: str) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(text)
    found = problems(file)[0]
    assert says in found.message
    assert (found.file, found.line) == (str(file), line)


def test_missing_folder_and_binary_data_yaml(tmp_path: Path) -> None:
    assert "no such file" in only(tmp_path / "data.yaml").message
    assert "cannot be read" in only(tmp_path).message
    (tmp_path / "data.yaml").write_bytes(b"\xff\xfe\x00")
    assert "is not YAML" in problems(tmp_path / "data.yaml")[0].message


@pytest.mark.parametrize("path", ["/Users/x/reef", "C:\\data\\reef", "/content/drive/MyDrive/cots"])
def test_a_path_of_another_machine(tmp_path: Path, path: str) -> None:
    found = only(sound(tmp_path, f"path: {path}\ntrain: images/train\nval: images/val\nnames: [a]\n"))
    assert (found.field, found.line) == ("path", 1)
    assert "another" in found.message
    assert "delete `path:`" in (found.remedy or "")


@pytest.mark.parametrize("path", ["nowhere", "5", "'a\\0b'", "x" * 5000])
def test_a_path_that_is_no_folder(tmp_path: Path, path: str) -> None:
    assert only(sound(tmp_path, f"path: {path}\ntrain: images/train\nval: images/val\nnames: [a]\n")).field == "path"


@pytest.mark.parametrize(
    "value", ["[]", "''", "{a: b}", "[1]", "5", "images/none", "[images/train, images/none]", "images/empty"]
)
def test_a_split_that_is_not_there(tmp_path: Path, value: str) -> None:
    (tmp_path / "images/empty").mkdir(parents=True)
    (tmp_path / "images/empty/readme.txt").write_text("")
    found = only(sound(tmp_path, f"val: images/val\ntrain: {value}\nnames: [a]\n"))
    assert (found.field, found.line) == ("train", 2)


def test_an_image_in_place_of_a_list(tmp_path: Path) -> None:
    found = only(sound(tmp_path, "train: images/train/v0/a.png\nval: images/val\nnames: [a]\n"))
    assert "is an image" in found.message


@pytest.mark.parametrize("part", ["../other/images", "{other}/images", "linked"])
def test_images_outside_the_root_cannot_travel(tmp_path: Path, part: str) -> None:
    other = tmp_path / "other"
    write(other, {"images/a.png": picture(), "labels/a.txt": ""})
    text = f"train: {part.format(other=other)}\nval: images/val\nnames: [a]\n"
    file = sound(tmp_path / "data", text)
    (tmp_path / "data/linked").symlink_to(other / "images")
    assert "cannot travel" in only(file).message


def test_a_list_with_wrong_rows_names_each(tmp_path: Path) -> None:
    file = sound(tmp_path, "train: images/train\nval: val.txt\nnames: [a]\n")
    (tmp_path / "val.txt").write_text("./images/val/v2/d.png\nimages/val/v2/e.png\n./gone.png\n/etc/x.png\n")
    found = problems(file)
    assert [(problem.line, problem.file) for problem in found] == [
        (line, str(tmp_path / "val.txt")) for line in (2, 3, 4)
    ]
    (tmp_path / "val.txt").write_text("./gone.png\n" * 50)
    found = problems(file)
    assert len(found) == 21
    assert found[-1].message == "and 30 more"


def test_a_link_that_goes_round(tmp_path: Path) -> None:
    file = sound(tmp_path)
    (tmp_path / "images/train/v1/loop").symlink_to(tmp_path / "images/train")
    assert "for ever" in only(file).message


def test_no_label_at_all_is_a_mistake(tmp_path: Path) -> None:
    file = sound(tmp_path)
    for label in (tmp_path / "labels/val").rglob("*.txt"):
        label.unlink()
    found = only(file)
    assert found.field == "val"
    assert str(tmp_path / "labels/val/v2") in found.message


def test_labels_that_ultralytics_would_seek_outside_the_root(tmp_path: Path) -> None:
    write(tmp_path / "images/set", {
        "data.yaml": "train: train\nval: val\nnames: [a]\n", "train/a.png": picture(), "train/a.txt": "",
        "val/b.png": picture(), "val/b.txt": "",
    })  # fmt: skip
    assert all("outside" in found.message for found in problems(tmp_path / "images/set/data.yaml"))


def test_labels_beside_the_images(tmp_path: Path) -> None:
    write(tmp_path, {
        "data.yaml": "train: train\nval: val\nnames: [a]\n", "train/a.png": picture(), "train/a.txt": "",
        "val/b.png": picture(), "val/b.txt": "",
    })  # fmt: skip
    assert read_dataset(tmp_path / "data.yaml").splits["val"] == (Item("val/b.png", "val/b.txt"),)


def test_what_is_odd_is_a_finding(tmp_path: Path) -> None:
    file = sound(
        tmp_path,
        "train: images\nval: images/val\ntest: images/nothing\nnames: [a]\ndownload: |\n  raise SystemExit('ran')\n",
    )
    dataset = read_dataset(file)
    codes = [finding.code for finding in dataset.findings]
    assert codes == ["data-test-missing", "data-download-ignored", "data-split-overlap"]
    assert "test" not in dataset.splits
    assert "2 images" in dataset.findings[2].message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    file = sound(tmp_path)
    (tmp_path / "images/train/v1").chmod(0)
    try:
        assert "Permission" in only(file).message
    finally:
        (tmp_path / "images/train/v1").chmod(0o755)
