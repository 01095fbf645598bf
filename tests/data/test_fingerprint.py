"""The fingerprint follows the bytes and names, nothing else; the cache saves reading and is never believed too far."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.data import fingerprint as module
from launcher.data.dataset import read_dataset
from launcher.data.fingerprint import Fingerprint, fingerprint, scan
from launcher.errors import DataError
from tests.data.trees import age, picture, sound


def of(root: Path, cache: Path | None = None) -> Fingerprint:
    return fingerprint(read_dataset(root / "data.yaml"), cache)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return sound(tmp_path / "data").parent


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files just written count as old ones: no test waits two seconds."""
    monkeypatch.setattr(module, "RACY_NS", -1)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files read, by name."""
    names: list[str] = []
    real = module._read

    def read(path: str) -> bytes:
        names.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(module, "_read", read)
    return names


def test_is_what_it_says(tree: Path) -> None:
    found = of(tree)
    assert (found.n_images, found.n_labels) == (5, 4)
    assert found.bytes == sum((tree / file.path).stat().st_size for file in found.files)
    assert [file.path for file in found.files] == sorted(file.path for file in found.files)
    for file in found.files:
        import hashlib

        assert file.sha256 == hashlib.sha256((tree / file.path).read_bytes()).hexdigest()


def test_does_not_depend_on_place_times_or_order(tree: Path, tmp_path: Path) -> None:
    before = of(tree)
    other = tmp_path / "elsewhere" / "deeper"
    files = [path for path in tree.rglob("*") if path.is_file()]
    for path in reversed(files):
        to = other / path.relative_to(tree)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
    age(other)
    (other / "labels/train.cache").write_bytes(b"Ultralytics' own")
    (other / "images/train/notes.txt").write_text("not an image")
    assert of(other) == before


def _flip(root: Path) -> None:
    path = root / "images/train/v0/a.png"
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)


def _edit(root: Path) -> None:
    (root / "labels/train/v0/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")


def _rename(root: Path) -> None:
    (root / "images/train/v1/c.png").rename(root / "images/train/v1/cc.png")


def _swap(root: Path) -> None:
    a, b = root / "images/train/v0/a.png", root / "images/train/v0/b.png"
    one, two = a.read_bytes(), b.read_bytes()
    a.write_bytes(two)
    b.write_bytes(one)


def _relist(root: Path) -> None:
    (root / "data.yaml").write_text("train: [images/train, images/val/v2]\nval: images/val\nnames: [starfish]\n")


def _rename_class(root: Path) -> None:
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [seastar]\n")


def _background(root: Path) -> None:
    (root / "labels/train/v1").mkdir(exist_ok=True)
    (root / "labels/train/v1/c.txt").write_text("")


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (_flip, {"images"}),
        (_edit, {"labels"}),
        (_rename, {"images", "splits"}),
        (_swap, {"images"}),
        (_relist, {"splits"}),
        (_rename_class, {"splits"}),
        (_background, {"labels", "splits"}),
    ],
)
def test_changes_with_what_it_names(tree: Path, change: Callable[[Path], None], changed: set[str]) -> None:
    before = of(tree)
    change(tree)
    after = of(tree)
    assert {part for part in ("images", "labels", "splits") if getattr(before, part) != getattr(after, part)} == changed
    assert before.total != after.total


def test_json_and_back(tree: Path) -> None:
    found = of(tree)
    value = json.loads(json.dumps(found.as_json()))
    assert Fingerprint.from_json(value) == found
    value["files"][0][2] = "0" * 64
    with pytest.raises(ValueError, match="not those"):
        Fingerprint.from_json(value)
    for wrong in ({}, {**found.as_json(), "scheme": "x"}, {**found.as_json(), "files": [[1]]}):
        with pytest.raises(ValueError):
            Fingerprint.from_json(wrong)


@pytest.mark.usefixtures("calm")
def test_second_pass_reads_nothing(tree: Path, tmp_path: Path, opened: list[str]) -> None:
    cache = tmp_path / "new" / "cache.sqlite"
    first = of(tree, cache)
    assert len(opened) == 9
    opened.clear()
    seen: list[tuple[int, int]] = []
    assert fingerprint(read_dataset(tree / "data.yaml"), cache, lambda *at: seen.append(at)) == first
    assert opened == []
    assert seen == [(9, 9)]


@pytest.mark.usefixtures("calm")
def test_only_what_changed_is_read_again(tree: Path, tmp_path: Path, opened: list[str]) -> None:
    cache = tmp_path / "cache.sqlite"
    of(tree, cache)
    opened.clear()
    (tree / "images/train/v0/a.png").write_bytes(picture(99))
    assert of(tree, cache) == of(tree)
    assert opened[0] == "a.png"
    assert len(opened) == 1 + 9


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("replace", [True, False])
def test_a_change_with_size_and_mtime_restored_is_noticed(tree: Path, tmp_path: Path, replace: bool) -> None:
    cache, path = tmp_path / "cache.sqlite", tree / "images/train/v0/a.png"
    before, was = of(tree, cache), path.stat()
    time.sleep(0.02)  # one tick of the clock that stamps change times
    if replace:
        other = tree / "other"
        other.write_bytes(picture(77))
        other.replace(path)
    else:
        path.write_bytes(picture(77))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    assert of(tree, cache).images != before.images


def test_young_files_are_not_trusted_to_the_cache(tree: Path, tmp_path: Path, opened: list[str]) -> None:
    """A second write in the same tick of the clock would leave size and times as they are."""
    cache = tmp_path / "cache.sqlite"
    age(tree)  # the modification time alone is not enough
    of(tree, cache)
    opened.clear()
    of(tree, cache)
    assert len(opened) == 9


@pytest.mark.usefixtures("calm")
def test_a_corrupt_cache_costs_time_only(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache.sqlite"
    first = of(tree, cache)
    for junk in (b"", b"not a database" * 500, cache.read_bytes()[:5000] + b"\xff" * 3000):
        cache.write_bytes(junk)
        assert of(tree, cache) == first
    folder = tmp_path / "folder"
    folder.mkdir()
    assert of(tree, folder) == first
    assert of(tree, tree / "data.yaml" / "below-a-file") == first
    with sqlite3.connect(tmp_path / "other.sqlite") as connection:
        connection.execute("CREATE TABLE files_1 (x)")
    assert of(tree, tmp_path / "other.sqlite") == first


@pytest.mark.usefixtures("calm")
def test_a_locked_cache_costs_time_only(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_WAIT_S", 0.05)
    cache = tmp_path / "cache.sqlite"
    first = of(tree, cache)
    connection = sqlite3.connect(cache, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        assert of(tree, cache) == first
    finally:
        connection.close()


@pytest.mark.usefixtures("calm")
def test_notes_are_cached_for_their_inspector_alone(tree: Path, tmp_path: Path, opened: list[str]) -> None:
    cache, dataset = tmp_path / "cache.sqlite", read_dataset(tree / "data.yaml")
    first = scan(dataset, cache, inspect=lambda kind, data: f"{kind} {len(data)}", inspector="one")
    assert first.notes["labels/train/v0/a.txt"] == "label 18"
    assert first.read == 9
    opened.clear()
    again = scan(dataset, cache, inspect=lambda *_: pytest.fail("inspected again"), inspector="one")
    assert (again.notes, again.read, opened) == (first.notes, 0, [])
    other = scan(dataset, cache, inspect=lambda *_: "other", inspector="two")
    assert (set(other.notes.values()), other.read) == ({"other"}, 9)


def test_each_file_is_read_once_even_when_two_splits_share_it(tree: Path, opened: list[str]) -> None:
    _relist(tree)
    assert of(tree).n_images == 5
    assert len(opened) == len(set(opened)) == 9


def test_files_that_went_away_are_all_named(tree: Path) -> None:
    dataset = read_dataset(tree / "data.yaml")
    (tree / "images/train/v0/a.png").unlink()
    (tree / "images/train/v0/b.png").unlink()
    os.mkfifo(tree / "images/train/v0/b.png")  # reading it would wait for ever
    with pytest.raises(DataError) as caught:
        fingerprint(dataset)
    assert [Path(problem.file or "").name for problem in caught.value.problems] == ["a.png", "b.png"]


def test_a_name_that_is_not_utf8(tree: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (tree / "images/train/v0" / name).write_bytes(picture(5))
    except OSError:
        pytest.skip("this file system wants UTF-8")
    found = of(tree, tmp_path / "cache.sqlite")
    assert found.n_images == 6
    assert Fingerprint.from_json(json.loads(json.dumps(found.as_json()))) == found
