"""The reef is the same everywhere, moves as a video does, and its boxes fit."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from launcher.data.check import examine
from launcher.data.dataset import read_dataset
from launcher.data.exact import Stream, sine
from launcher.data.fingerprint import fingerprint
from launcher.data.reef import ReefOptions, ensure, generate, png, scenes
from launcher.data.scene import Scene, draw
from launcher.errors import DataError, StorageError

TINY = ReefOptions(train_videos=2, val_videos=1, frames=6, width=64, height=48, stars=5)
GOLDEN_TOTAL = "ea951454d6af110af3f577dec1ea5bde473a4fe622f70f4aef4069f8acabe4a6"
"""The fingerprint of TINY. When it changes, raise GENERATOR_VERSION: everyone's reef has become another dataset."""
GOLDEN_PIXELS = "ad7c783cbb0d5427b4cba13d51fa25f3a889307dab293e81bf1e04a1a1d5bd1c"
"""SHA-256 of the pixels of TINY's first frame."""
SCENE = Scene(seed=5, name="video_0", frames=24, width=128, height=96, stars=8, empty=0.25)


def test_golden_reef(tmp_path: Path) -> None:
    found = fingerprint(read_dataset(generate(TINY, tmp_path / "reef")))
    first = next(draw(scenes(TINY)[0][1]))
    assert hashlib.sha256(first.pixels.tobytes()).hexdigest() == GOLDEN_PIXELS
    assert found.total == GOLDEN_TOTAL
    assert (found.n_images, found.n_labels) == (18, 18)


def test_another_process_draws_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from launcher.data.reef import *;"
        "generate(ReefOptions(train_videos=2, val_videos=1, frames=6, width=64, height=48, stars=5), Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, env=environment)
    generate(TINY, tmp_path / "here")
    names = [path.relative_to(tmp_path / "here") for path in sorted((tmp_path / "here").rglob("*")) if path.is_file()]
    assert len(names) == 18 * 2 + 1
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


@pytest.mark.parametrize("change", [{"seed": 1}, {"stars": 2}, {"empty": 0.6}, {"frames": 5}, {"width": 72}])
def test_other_options_are_another_reef(tmp_path: Path, change: dict[str, int]) -> None:
    other = replace(TINY, **change)
    assert other.key() != TINY.key()
    assert fingerprint(read_dataset(generate(other, tmp_path / "reef"))).total != GOLDEN_TOTAL


def test_key_does_not_depend_on_how_a_number_is_written() -> None:
    assert replace(TINY, empty=0).key() == replace(TINY, empty=0.0).key()


def test_pixels_of_a_star_lie_in_its_box_and_reach_its_sides() -> None:
    """Draw the same video with and without stars: where the two differ is where the stars are."""
    checked = 0
    for number, (frame, bare) in enumerate(zip(draw(SCENE), draw(SCENE, with_stars=False), strict=True)):
        differs = np.abs(frame.pixels.astype(int) - bare.pixels.astype(int)).max(axis=2) > 12
        outside = differs.copy()
        for view in frame.views:
            # The blur of the water and the shadow spread by up to two pixels.
            part = (slice(max(view.top - 2, 0), view.bottom + 2), slice(max(view.left - 2, 0), view.right + 2))
            outside[part] = False
            rows, columns = np.nonzero(differs[part].any(axis=1))[0], np.nonzero(differs[part].any(axis=0))[0]
            # Dim stars in murky water differ by less at their tips: a fifth of the side may be missing there.
            assert rows[-1] - rows[0] + 1 >= 0.7 * (view.bottom - view.top), (number, view)
            assert columns[-1] - columns[0] + 1 >= 0.7 * (view.right - view.left), (number, view)
            checked += 1
        if number >= 6:  # stars that enter or leave are drawn before they are labelled
            for star in _slivers(frame.pixels.shape[:2], outside):
                assert star, "a star's pixels lie outside every box"
    assert checked > 30


def _slivers(shape: tuple[int, int], outside: np.ndarray) -> list[bool]:
    """For each pixel outside all boxes, whether it is near the frame's side, where a sliver of a star may be."""
    height, width = shape
    rows, columns = np.nonzero(outside)
    reach = 16
    near = (rows < reach) | (rows >= height - reach) | (columns < reach) | (columns >= width - reach)
    return [bool(value) for value in near]


def test_stars_persist_and_move_little_from_frame_to_frame() -> None:
    frames = list(draw(SCENE))
    tracks: dict[int, list[int]] = {}
    for number, frame in enumerate(frames):
        for view in frame.views:
            tracks.setdefault(view.star, []).append(number)
    assert len(tracks) >= 5
    for star, numbers in tracks.items():
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), f"star {star} flickers"
    assert max(len(numbers) for numbers in tracks.values()) >= 10
    assert any(numbers[0] > 0 for numbers in tracks.values()) or any(n[-1] < 23 for n in tracks.values())
    for before, after in itertools.pairwise(frames):
        old = {view.star: view for view in before.views}
        for view in after.views:
            if view.star in old and view.left > 0 and view.right < 128 and old[view.star].left > 0:
                assert abs(view.left - old[view.star].left) <= 20


def test_a_share_of_the_frames_is_empty() -> None:
    quiet = [number for number, frame in enumerate(draw(SCENE)) if not frame.views]
    assert len(quiet) >= 6
    whole = [frame.views for frame in draw(replace(SCENE, empty=1.0))]
    assert whole == [()] * 24
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(
        draw(replace(SCENE, empty=1.0)), draw(replace(SCENE, stars=0)), strict=True))  # fmt: skip


def test_the_reef_passes_its_own_check_and_never_shares_a_video(tmp_path: Path) -> None:
    dataset = read_dataset(generate(TINY, tmp_path / "reef"))
    found = examine(dataset)
    assert (found.problems, found.findings, found.images_to_copy) == ((), (), ())
    assert found.facts.boxes > 10
    assert (found.facts.width, found.facts.height, found.facts.sizes) == (64, 48, 1)
    videos = {split: {item.image.split("/")[2] for item in items} for split, items in dataset.splits.items()}
    assert videos == {"train": {"video_0", "video_1"}, "val": {"video_2"}}
    for label in (tmp_path / "reef" / "labels").rglob("*.txt"):
        for row in label.read_text().splitlines():
            _, x, y, w, h = (float(part) for part in row.split())
            assert x - w / 2 >= -1e-6
            assert y - h / 2 >= -1e-6
            assert x + w / 2 <= 1 + 1e-6
            assert y + h / 2 <= 1 + 1e-6


def test_png_is_what_other_readers_see() -> None:
    import io

    from PIL import Image

    pixels = np.arange(200 * 150 * 3, dtype=np.uint32).astype(np.uint8).reshape(150, 200, 3)  # two stored blocks
    with Image.open(io.BytesIO(png(pixels.tobytes(), 200, 150))) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_ensure_generates_once_and_whole(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    first = ensure(TINY, tmp_path, lambda done, total: calls.append((done, total)))
    assert calls == [(number, 18) for number in range(1, 19)]
    assert first == tmp_path / "reef" / TINY.key() / "data.yaml"
    assert ensure(TINY, tmp_path, lambda *_: pytest.fail("generated again")) == first
    assert [path.name for path in (tmp_path / "reef").iterdir()] == [TINY.key()]


def test_ensure_after_a_kill_in_the_middle(tmp_path: Path) -> None:
    def die(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(TINY, tmp_path, die)
    old, new = tmp_path / "reef" / ".part-killed", tmp_path / "reef" / ".part-running"
    for folder in (old, new):
        (folder / "images").mkdir(parents=True)
    then = time.time() - 7200
    for path in (old / "images", old):
        os.utime(path, (then, then))
    fingerprint(read_dataset(ensure(TINY, tmp_path)))
    assert not old.exists()
    assert new.exists()  # another process may be at it


def test_processes_that_ensure_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from launcher.data.reef import *;"
        "print(ensure(ReefOptions(train_videos=2, val_videos=1, frames=6, width=64, height=48, stars=5),"
        " Path(sys.argv[1])))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = {run.communicate(timeout=60)[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert said == {str(tmp_path / "reef" / TINY.key() / "data.yaml")}
    assert fingerprint(read_dataset(Path(said.pop()))).total == GOLDEN_TOTAL
    assert [path.name for path in (tmp_path / "reef").iterdir()] == [TINY.key()]


def test_options_out_of_range_are_all_named(tmp_path: Path) -> None:
    wrong = ReefOptions(frames=0, width=10, empty=float("nan"), stars=True)
    assert [text.partition(":")[0] for text in wrong.problems()] == ["frames", "width", "stars", "empty"]
    with pytest.raises(DataError) as caught:
        generate(wrong, tmp_path / "reef")
    assert [problem.field for problem in caught.value.problems] == [
        "data.reef.frames", "data.reef.width", "data.reef.stars", "data.reef.empty",
    ]  # fmt: skip
    assert not (tmp_path / "reef").exists()


def test_generate_never_mixes_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="not empty"):
        generate(TINY, tmp_path)


def test_ensure_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        ensure(TINY, tmp_path / "file")


def test_streams_are_independent_of_how_they_are_drawn() -> None:
    whole = Stream("a", 1).floats(10)
    parts = Stream("a", 1)
    assert np.array_equal(np.concatenate([parts.floats(4), parts.floats(6)]), whole)
    assert not np.array_equal(Stream("a", 2).floats(10), whole)
    assert whole.min() >= 0.0
    assert whole.max() < 1.0


def test_sine_is_a_sine() -> None:
    turns = np.linspace(-2.0, 2.0, 4001)
    assert np.abs(sine(turns) - np.sin(2 * np.pi * turns)).max() < 0.002


@pytest.mark.parametrize("module", ["reef", "dataset", "fingerprint", "check"])
def test_importing_is_light(module: str) -> None:
    code = (
        f"import sys, launcher.data.{module};"
        "heavy = {'numpy', 'torch', 'cv2', 'ultralytics', 'PIL', 'yaml', 'sqlite3'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "[]"
