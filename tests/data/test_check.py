"""The check finds what Ultralytics would drop, rewrite or accept silently, says where, and counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.data import fingerprint as fingerprint_module
from launcher.data.check import check, examine, inspect_image, parse_rows
from launcher.data.dataset import read_dataset
from launcher.data.fingerprint import fingerprint
from launcher.finding import Severity
from tests.data.trees import encoded, jpeg, picture, sound, write

LABEL = "labels/train/v0/a.txt"


def found_in(root: Path, files: dict[str, bytes | str]) -> list[str]:
    """The problems after these files are written over a sound dataset, without their folder."""
    sound(root)
    write(root, files)
    problems, _ = check(read_dataset(root / "data.yaml"))
    return [str(problem).replace(f"{root.resolve()}/", "") for problem in problems]


def test_a_sound_dataset(tmp_path: Path) -> None:
    dataset = read_dataset(sound(tmp_path))
    found = examine(dataset)
    assert (found.problems, found.findings, found.images_to_copy) == ((), (), ())
    assert found.fingerprint == fingerprint(dataset)
    assert found.facts.as_json() == {
        "n_train": 3, "n_val": 2, "n_test": 0, "classes": 1, "boxes": 4, "train_boxes": 2, "small": 4, "background": 1,
        "width": 16, "height": 12, "sizes": 1, "bytes": found.fingerprint.bytes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("0 0.5 0.5 0.1", "has 4 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "has 6 numbers"),
        ("1 0.5 0.5 0.1 0.1", "class 1 does not exist"),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5"),
        ("0 1.5 0.5 0.1 0.1", "0..1"),
        ("0 0.5 -0.5 0.1 0.1", "0..1"),
        ("0 0.5 0.5 -0.005 0.1", "negative"),
        ("0 320 240 20 20", "0..1"),
        ("0 nan 0.5 0.1 0.1", "finite"),
        ("0 0.5 inf 0.1 0.1", "finite"),
        ("inf 0.5 0.5 0.1 0.1", "finite"),
        ("0 0.5 x 0.1 0.1", "finite"),
        ("0 0.5 0_5 0.1 0.1", "finite"),
        ("0,0.5,0.5,0.1,0.1", "finite"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3", "among polygons"),
    ],
)
def test_a_wrong_row(tmp_path: Path, row: str, says: str) -> None:
    found = found_in(tmp_path, {LABEL: f"0 0.5 0.5 0.1 0.1\n\n{row}\n"})
    assert len(found) == 1
    assert says in found[0]
    assert f"{LABEL}:{1 if 'polygons' in says else 3}:" in found[0]


def test_polygons(tmp_path: Path) -> None:
    assert found_in(tmp_path, {LABEL: "0 0.1 0.1 0.2 0.1 0.2 0.4\n0 0 0 1 0 1 1 0 1\n"}) == []
    rows = parse_rows("0 0.1 0.1 0.3 0.1 0.3 0.5\n")
    assert rows.areas == pytest.approx((0.08,))
    assert "has 8 numbers" in found_in(tmp_path, {LABEL: "0 0.1 0.1 0.2 0.1 0.2 0.4 0.5\n"})[0]


@pytest.mark.parametrize(
    "text", ["", "\n\n", "\ufeff", "\ufeff0 0.5 0.5 0.1 0.1", "0 0.5\t0.5 1.0 1", "0 0.5 0.5 1e-3 0.1"]
)
def test_a_label_file_without_fault(tmp_path: Path, text: str) -> None:
    assert found_in(tmp_path, {LABEL: text}) == []


def test_a_label_file_that_is_no_text(tmp_path: Path) -> None:
    assert "not a text file" in found_in(tmp_path, {LABEL: b"\xff\xfe\x00"})[0]


def test_many_problems_are_counted_not_listed(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(30):
        files[f"images/train/v0/z{number:02}.png"] = picture(number)
        files[f"labels/train/v0/z{number:02}.txt"] = "9 0.5 0.5 0.1 0.1\n"
    found = found_in(tmp_path, files)
    assert len(found) == 21
    assert "and 10 more" in found[-1]
    many = found_in(tmp_path / "rows", {LABEL: "0 5 5 5 5\n" * 40})
    assert len(many) == 6
    assert "and 35 more rows" in many[-1]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.png", b"", "is empty"),
        ("a.png", b"<html>404</html>", "is not an image"),
        ("a.png", picture()[:-30], "corrupt"),
        ("a.png", picture(width=200, height=200)[:9000], "cor"),
        ("a.png", bytes([*picture()[:70], picture()[70] ^ 1, *picture()[71:]]), "corrupt"),
        ("a.png", picture(width=8), "8 x 12"),
        ("a.jpg", jpeg(width=300, height=300)[:800], "cut off"),
        ("a.jpg", jpeg()[:20], "not an image"),
        ("a.png", encoded("GIF"), "format GIF"),
    ],
)
def test_a_wrong_image(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    sound(tmp_path)
    (tmp_path / "images/train/v0/a.png").unlink()
    write(tmp_path, {f"images/train/v0/{name}": data})
    problems, _ = check(read_dataset(tmp_path / "data.yaml"))
    assert len(problems) == 1, problems
    assert says in problems[0].message
    assert problems[0].file == str(tmp_path.resolve() / f"images/train/v0/{name}")


def test_a_jpeg_that_ultralytics_would_rewrite(tmp_path: Path) -> None:
    sound(tmp_path)
    write(tmp_path, {"images/train/v0/p.jpg": jpeg() + b"\0\0", "images/train/v0/q.jpg": jpeg()})
    found = examine(read_dataset(tmp_path / "data.yaml"))
    assert found.problems == ()
    assert found.images_to_copy == ("images/train/v0/p.jpg",)
    assert [finding.code for finding in found.findings] == ["data-jpeg-rewritten"]


def test_agrees_with_ultralytics_on_what_is_wrong(tmp_path: Path) -> None:
    """The oracle: Ultralytics' own verification of each label, row by row, and of each image."""
    utils = pytest.importorskip("ultralytics.data.utils")
    rows = [
        "0 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1", "0 0.5 0.5 0.1 0.1 0.1", "1 0.5 0.5 0.1 0.1", "-1 0.5 0.5 0.1 0.1",
        "0.5 0.5 0.5 0.1 0.1", "0 1.005 0.5 0.1 0.1", "0 1.02 0.5 0.1 0.1", "0 -0.005 0.5 0.1 0.1",
        "0 0.5 0.5 -0.005 0.1",
        "0 -0.02 0.5 0.1 0.1", "0 nan 0.5 0.1 0.1", "0 x 0.5 0.1 0.1", "0 0.1 0.1 0.2 0.1 0.2 0.4", "",
        "0 0.1 0.1 0.2 0.1 0.2 0.4\n0 0.5 0.5 0.1 0.1", "0 0.1 0.1 0.2 0.1 0.2 0.4 0.5", "0 0.5 0.5 0 0.1",
    ]  # fmt: skip
    write(tmp_path, {"a.png": picture()})
    for row in rows:
        (tmp_path / "a.txt").write_text(row)
        arguments = (str(tmp_path / "a.png"), str(tmp_path / "a.txt"), "", False, 1, 0, 0, False)
        theirs = utils.verify_image_label(arguments)[-2] == 0
        ours = parse_rows(row)
        assert (not ours.wrong and all(number < 1 for number in ours.classes)) == theirs, row
    images = (picture(), picture()[:-30], picture(width=8), jpeg(), jpeg()[:20], b"", b"junk", jpeg() + b"\0")
    for data in images:
        (tmp_path / "b.jpg").write_bytes(data)
        (tmp_path / "b.txt").write_text("")
        arguments = (str(tmp_path / "b.jpg"), str(tmp_path / "b.txt"), "", False, 1, 0, 0, False)
        note = inspect_image(data)
        assert (utils.verify_image_label(arguments)[-2] == 0) == ("wrong" not in note), data[:20]
        assert ((tmp_path / "b.jpg").read_bytes() != data) == bool(note.get("rewritten"))


def test_silent_changes_are_findings(tmp_path: Path) -> None:
    sound(tmp_path)
    row = "0 0.5 0.5 0.1 0.1\n"
    write(tmp_path, {
        LABEL: row + row, "labels/train/v0/b.txt": "0 1.005 0.5 0.1 0.1\n", "labels/val/v2/d.txt": "0 0.5 0.5 0 0.1\n",
    })  # fmt: skip
    found = examine(read_dataset(tmp_path / "data.yaml"))
    assert found.problems == ()
    assert [finding.code for finding in found.findings] == [
        "data-duplicate-rows", "data-outside-a-little", "data-flat-boxes",
    ]  # fmt: skip
    assert found.facts.train_boxes == 2
    assert found.findings[0].evidence == LABEL


def test_a_split_without_any_box(tmp_path: Path) -> None:
    found = found_in(tmp_path, {"labels/val/v2/d.txt": "", "labels/val/v2/e.txt": ""})
    assert len(found) == 1
    assert "val: not one of the 2 images has a box" in found[0]


def test_size_and_small_boxes(tmp_path: Path) -> None:
    sound(tmp_path)
    big: dict[str, bytes | str] = {f"images/train/v0/{name}.png": picture(width=400, height=320) for name in "ab"}
    write(tmp_path, {**big, "images/train/v1/c.png": picture(width=400, height=320)})
    facts = examine(read_dataset(tmp_path / "data.yaml")).facts
    assert (facts.width, facts.height, facts.sizes) == (400, 320, 2)
    assert facts.small == 2  # the boxes of the two small images; those of the large ones have 40 x 64 pixels or more


def test_an_exif_rotation_turns_the_size(tmp_path: Path) -> None:
    import io

    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    assert inspect_image(buffer.getvalue()) == {"size": [20, 40]}


def test_a_problem_is_remembered_by_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint_module, "RACY_NS", -1)
    sound(tmp_path / "data")
    write(tmp_path / "data", {LABEL: "3 0.5 0.5 0.1 0.1\n", "images/train/v0/b.png": b"junk"})
    dataset = read_dataset(tmp_path / "data/data.yaml")
    first = examine(dataset, tmp_path / "cache.sqlite")
    assert len(first.problems) == 2
    monkeypatch.setattr(fingerprint_module, "_read", lambda path: pytest.fail(f"{path} read again"))
    assert examine(dataset, tmp_path / "cache.sqlite") == first
    # Another data.yaml over the same files: the class is there now, and nothing is read for that.
    (tmp_path / "data/data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b, c, d]\n")
    assert len(examine(read_dataset(tmp_path / "data/data.yaml"), tmp_path / "cache.sqlite").problems) == 1


NUMBERS = st.floats(0.0, 1.0, width=32)


@given(st.lists(st.tuples(st.integers(0, 5), NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=20))
def test_rows_written_are_rows_read(boxes: list[tuple[int, float, float, float, float]]) -> None:
    text = "".join(" ".join(str(part) for part in box) + "\n" for box in boxes)
    rows = parse_rows(text)
    assert rows.wrong == ()
    assert len(rows.areas) == len(set(boxes))
    assert rows.duplicates == len(boxes) - len(set(boxes))
    assert set(rows.classes) == {box[0] for box in boxes}
    for number, line in rows.classes.items():
        assert boxes[line - 1][0] == number


@given(st.text(alphabet=st.sampled_from("0123456789.-+eE_ \t\n\rnaifx\u2028,"), max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    rows = parse_rows(text)
    assert bool(rows.classes) == bool(rows.areas)
    assert all(area >= 0.0 for area in rows.areas)
    assert all(1 <= line <= len(text.splitlines()) for line, _ in rows.wrong)


def test_the_same_picture_to_train_and_to_judge_on(tmp_path: Path) -> None:
    sound(tmp_path)
    twins: dict[str, bytes | str] = {f"images/val/v2/{name}.png": picture(1) for name in "def"}
    write(tmp_path, twins)
    problems, findings = check(read_dataset(tmp_path / "data.yaml"))
    assert problems == []
    (finding,) = findings
    assert (finding.code, finding.severity) == ("data-split-same-image", Severity.WARNING)
    assert finding.message == "3 of 3 images in `val` have the bytes of ones in `train`: the scores will be too good"
    assert finding.evidence == (
        "images/val/v2/d.png is images/train/v0/b.png, images/val/v2/e.png is images/train/v0/b.png, and 1 more"
    )


def test_the_same_path_in_both_splits_is_told_once(tmp_path: Path) -> None:
    yaml = sound(tmp_path, "train: images/train\nval: [images/val, images/train/v0]\nnames: [starfish]\n")
    _, findings = check(read_dataset(yaml))
    assert [finding.code for finding in findings] == ["data-split-overlap"]
