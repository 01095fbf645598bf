"""Shards found and laid out again: wherever they were mounted, however they were unpacked, whole or not at all."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.bundle import shards as module
from launcher.bundle.shards import ShardSet, lay_out
from launcher.worker.data import unshard
from launcher.worker.data.unshard import ShardError
from tests.bundle.sharded import CONTENTS, LOOSE, TARGETS, digest_of, laid_out, members_of, whole, written


def listing(contents: list[bytes]) -> list[dict[str, Any]]:
    """The `files` of data.json: every content under two names, one of them odd."""
    return [
        {"path": path, "size": len(content), "sha256": digest_of(content)}
        for number, content in enumerate(contents)
        for path in (f"images/train/{number}.jpg", f"labels/ä {number}/\udc80.txt")
    ]


FORMS = ("archives", "folders", "folders in folders", "in place", "folders named like archives", "mixed")


def mounted(made: ShardSet, folder: Path, form: str) -> None:
    """What a service may make of an upload."""
    folder.mkdir(parents=True)
    (folder / made.index_name).write_bytes(made.index)
    for number, shard in enumerate(made.shards):
        now = FORMS[number % 5] if form == "mixed" else form
        if now == "archives":
            (folder / shard.name).write_bytes(whole(shard))
            continue
        places = {"folders": shard.stem, "in place": ".", "folders named like archives": shard.name}
        base = folder / {**places, "folders in folders": f"{shard.stem}/{shard.stem}"}[now]
        for name, data in members_of(whole(shard)).items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_bytes(data)


@pytest.mark.parametrize("form", FORMS)
@settings(LOOSE, max_examples=15)
@given(contents=CONTENTS, target=TARGETS, deep=st.sampled_from(["", "slug", "datasets/owner/slug"]))
def test_the_tree_is_the_same_however_it_was_mounted(form: str, contents: list[bytes], target: int, deep: str) -> None:
    with laid_out(contents, target) as (folder, made):
        root = folder / "input"
        mounted(made, root / "kaggle" / deep, form)
        (root / "another dataset").mkdir()
        (root / "another dataset" / f"samerun-{'0' * 64}.json").write_text("{}")
        files = listing(contents)
        for _ in range(2):  # again, as after a kill
            unshard.lay([str(folder / "nowhere"), str(root)], made.key, files, str(folder / "tree"), str(folder / "s"))
        tree = folder / "tree"
        there = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_symlink())
        assert there == sorted(file["path"] for file in files)
        for file in files:
            assert digest_of((tree / file["path"]).read_bytes()) == file["sha256"]


@pytest.fixture
def three(tmp_path: Path) -> tuple[ShardSet, list[dict[str, Any]]]:
    contents = [bytes([65 + n]) * 1500 for n in range(6)]
    return lay_out(written(tmp_path / "data", contents), 5120), listing(contents)


def lay(tmp_path: Path, made: ShardSet, files: list[dict[str, Any]]) -> None:
    unshard.lay([str(tmp_path / "input")], made.key, files, str(tmp_path / "tree"), str(tmp_path / "scratch"))


@pytest.mark.parametrize("form", FORMS[:3])
def test_everything_missing_or_cut_is_named(
    tmp_path: Path, three: tuple[ShardSet, list[dict[str, Any]]], form: str
) -> None:
    made, files = three
    mounted(made, tmp_path / "input/x", form)
    gone, short = made.shards[0].members[0], made.shards[2].members[1]
    if form == "archives":
        for shard, member in ((made.shards[0], gone), (made.shards[2], short)):
            data = whole(shard)
            (tmp_path / "input/x" / shard.name).write_bytes(data[: member.at + 512 + 100])
    else:
        next((tmp_path / "input/x").rglob(gone.name)).unlink()
        next((tmp_path / "input/x").rglob(short.name)).write_bytes(b"short")
    with pytest.raises(ShardError) as caught:
        lay(tmp_path, made, files)
    lost = {gone.sha256, short.sha256}
    if form == "archives":
        lost |= {member.sha256 for member in made.shards[0].members}
    for file in files:
        assert any(line.startswith(f"{file['path']}: ") for line in caught.value.problems) == (file["sha256"] in lost)
    assert not (tmp_path / "tree").exists()
    assert not list((tmp_path / "scratch").rglob("*.part-*"))


def test_without_an_index_the_folders_looked_in_are_named(
    tmp_path: Path, three: tuple[ShardSet, list[dict[str, Any]]]
) -> None:
    made, files = three
    with pytest.raises(ShardError, match=r"no samerun-.*input") as caught:
        lay(tmp_path, made, files)
    assert len(caught.value.problems) == len(files) + 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version":1,"key":"another","shards":[]}', '{"version":2,"key":"KEY","shards":[]}',
     '{"version":1,"key":"KEY","shards":[{"name":"../x.tar","first":"0"}]}'],
)  # fmt: skip
def test_a_damaged_index_is_said_and_a_good_one_deeper_down_is_used(
    tmp_path: Path, three: tuple[ShardSet, list[dict[str, Any]]], text: str
) -> None:
    made, files = three
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / made.index_name).write_text(text.replace("KEY", made.key))
    with pytest.raises(ShardError, match=r"index|Expecting"):
        lay(tmp_path, made, files)
    mounted(made, tmp_path / "input/a/b", "folders")
    lay(tmp_path, made, files)


def test_what_one_mount_lacks_is_taken_from_another(
    tmp_path: Path, three: tuple[ShardSet, list[dict[str, Any]]]
) -> None:
    made, files = three
    mounted(made, tmp_path / "input/old", "in place")
    mounted(made, tmp_path / "input/z/new", "folders")
    next((tmp_path / "input/old").rglob(made.shards[1].members[0].name)).unlink()
    lay(tmp_path, made, files)


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "", "a//b", "./a", "a/.", "a\0b"])
def test_no_path_leads_out_of_the_tree(tmp_path: Path, three: tuple[ShardSet, list[dict[str, Any]]], path: str) -> None:
    made, files = three
    mounted(made, tmp_path / "input", "folders")
    with pytest.raises(ShardError, match="leads out"):
        lay(tmp_path, made, [{**files[0], "path": path}])
    assert not (tmp_path / "tree").exists()


def test_an_archive_writes_nothing_but_what_is_wanted(
    tmp_path: Path, three: tuple[ShardSet, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, files = three
    take = unshard._take

    def watched(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        assert Path(path).is_relative_to(tmp_path / "scratch")  # before anything is written elsewhere
        take(tar, member, path)

    monkeypatch.setattr(unshard, "_take", watched)
    mounted(made, tmp_path / "input", "archives")
    shard = made.shards[0]
    good = shard.members[0]
    absolute = f"{tmp_path}/evil/{good.sha256}"
    with tarfile.open(tmp_path / "input" / shard.name, "w") as tar:
        for name in ("../evil", absolute, f"/{good.name}", good.sha256, "ff/" + "f" * 62):
            info = tarfile.TarInfo(name)
            info.size = good.size
            tar.addfile(info, io.BytesIO(bytes(good.size)))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(good.name)
            info.type, info.linkname, info.size = kind, "/etc/passwd", good.size
            tar.addfile(info)
    with pytest.raises(ShardError):
        lay(tmp_path, made, files)
    there = {
        path.relative_to(tmp_path / "scratch").as_posix()
        for path in (tmp_path / "scratch").rglob("*")
        if path.is_file()
    }
    assert there == {member.name for other in made.shards[1:] for member in other.members}
    assert not (tmp_path / "evil").exists()


def test_links_that_turn_in_a_circle_end(tmp_path: Path, three: tuple[ShardSet, list[dict[str, Any]]]) -> None:
    made, files = three
    mounted(made, tmp_path / "elsewhere/x", "folders")
    (tmp_path / "input/a").mkdir(parents=True)
    for name in ("up", "also up"):
        (tmp_path / "input/a" / name).symlink_to(tmp_path / "input")
    (tmp_path / "input/self").symlink_to(tmp_path / "input/self")
    with pytest.raises(ShardError):
        lay(tmp_path, made, files)
    (tmp_path / "input/mount").symlink_to(tmp_path / "elsewhere")
    lay(tmp_path, made, files)


def test_a_long_list_of_the_missing_is_shown_in_part_and_kept_whole(tmp_path: Path) -> None:
    files = [{"path": f"{n}.jpg", "size": 1, "sha256": f"{n:064x}"} for n in range(200)]
    with pytest.raises(ShardError, match="and 151 more") as caught:
        unshard.lay([str(tmp_path)], "0" * 64, files, str(tmp_path / "t"), str(tmp_path / "s"))
    assert len(caught.value.problems) == 201


def test_both_sides_have_the_same_words() -> None:
    assert unshard.PREFIX == module.PREFIX
    assert digest_of(b"") == unshard.EMPTY
    assert json.loads(lay_out({}).index) == {"version": 1, "key": lay_out({}).key, "shards": []}
