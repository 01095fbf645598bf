"""The pictures on the page: those of two runs side by side, within the room there is, whatever a file holds."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from launcher.analysis.model import FileRow, Phase, RunView
from launcher.report import pictures
from launcher.report.pictures import album
from tests.report import made

ROOM = 2_000_000


def run(folder: Path, *names: str, size: tuple[int, int] = (300, 220)) -> RunView:
    """A run whose folder has these pictures."""
    folder.mkdir()
    for name in names:
        mode = "RGBA" if name.endswith(".png") else "RGB"
        Image.effect_noise(size, 90).convert(mode).save(folder / name, compress_level=1)
    return view(folder, *names)


def view(folder: Path, *names: str) -> RunView:
    """A run that has these files."""
    rows = tuple(FileRow(name, Phase.FINAL, "a picture", present=True) for name in names)
    return made.view(where=folder, train=folder, files=rows)


def test_curves_of_two_runs_stand_side_by_side_under_either_name(tmp_path: Path) -> None:
    old, new = run(tmp_path / "old", "PR_curve.png"), run(tmp_path / "new", "BoxPR_curve.png")
    (row,) = album([("new", new), ("old", old)], ROOM).curves
    assert row.title == "precision against recall"
    assert [one.caption for one in row.pictures] == ["new", "old"]
    assert all(one.alt for one in row.pictures)


def test_predictions_stand_beside_what_was_labelled(tmp_path: Path) -> None:
    names = ("val_batch0_labels.jpg", "val_batch0_pred.jpg")
    runs = [(name, run(tmp_path / name, *names)) for name in ("one", "two")]
    (row,) = album(runs, ROOM).mosaics
    assert [one.caption for one in row.pictures] == ["labels", "predictions of one", "predictions of two"]


def test_a_single_run_has_its_curves_in_one_row(tmp_path: Path) -> None:
    found = album([("one", run(tmp_path / "one", "BoxPR_curve.png", "BoxF1_curve.png"))], ROOM).curves
    assert [[one.caption for one in row.pictures] for row in found] == [
        ["precision against recall", "F1 against confidence"]
    ]


def test_pictures_shrink_until_they_fit_and_what_does_not_is_said(tmp_path: Path) -> None:
    names = ("confusion_matrix.png", "confusion_matrix_normalized.png", "labels.jpg")
    one = [("one", run(tmp_path / "one", *names, size=(1200, 900)))]
    large, small = album(one, ROOM), album(one, 300_000)
    assert max(picture.width for picture in large.matrices[0].pictures) == 900
    assert max(picture.width for picture in small.matrices[0].pictures) < 900
    assert sum(len(picture.uri) for row in (*small.matrices, *small.data) for picture in row.pictures) < 310_000
    tight = album(one, 80_000)
    assert any("no room" in text for text in tight.left_out)


def test_what_is_embedded_is_a_jpeg_made_here(tmp_path: Path) -> None:
    shown = album([("one", run(tmp_path / "one", "labels.jpg"))], ROOM).data[0].pictures[0]
    data = base64.b64decode(shown.uri.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert image.size == (shown.width, shown.height)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "a" / "confusion_matrix.png")
    shown = album([("a", view(tmp_path / "a", "confusion_matrix.png"))], ROOM).matrices[0].pictures[0]
    with Image.open(io.BytesIO(base64.b64decode(shown.uri.split(",")[1]))) as image:
        assert image.getpixel((20, 20)) == (255, 255, 255)


@pytest.mark.parametrize(
    "content", [b"", b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"GIF89a" + b"\0" * 60]
)
def test_what_is_no_picture_is_said_and_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.jpg").write_bytes(content)
    found = album([("one", view(tmp_path, "labels.jpg", "confusion_matrix.png"))], ROOM)
    assert found.data == found.matrices == ()
    assert len(found.left_out) == 2
    assert "labels.jpg: cannot be read" in found.left_out[1]


def test_a_picture_cut_short_is_left_out(tmp_path: Path) -> None:
    one = run(tmp_path / "one", "labels.jpg", "confusion_matrix.png")
    for file in (tmp_path / "one").iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert len(album([("one", one)], ROOM).left_out) == 2


def test_a_picture_that_would_fill_the_memory_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1_000_000)
    found = album([("one", run(tmp_path / "one", "labels.jpg", size=(1200, 900)))], ROOM)
    assert "larger than 1 million pixels" in found.left_out[0]
