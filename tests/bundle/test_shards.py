"""Shards: any byte at any time, the same bytes for ever, nothing sent that is not what was hashed."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.bundle.shards import Member, Shard, header, lay_out
from launcher.errors import IntegrityError
from launcher.files import CHUNK
from tests.bundle.sharded import CONTENTS, LOOSE, TARGETS, digest_of, laid_out, members_of, whole, written

GNU_TAR = shutil.which("gtar") or shutil.which("tar") or ""
FIRST_RELEASE = "334ae0802ae785dc309f27bac0980ac89bde284fc8b1f3e51cd9690a5c9eadf5"


@LOOSE
@given(CONTENTS, TARGETS)
def test_each_content_is_in_one_shard_once_and_python_reads_it(contents: list[bytes], target: int) -> None:
    with laid_out(contents, target) as (_, made):
        found: dict[str, bytes] = {}
        for shard in made.shards:
            data = whole(shard)
            assert len(data) == shard.size
            assert shard.size <= target or len(shard.members) == 1
            members = members_of(data)
            assert list(members) == sorted(members)
            assert not set(members) & set(found)
            found |= members
        assert found == {f"{digest_of(c)[:2]}/{digest_of(c)[2:]}": c for c in contents if c}


@settings(LOOSE, max_examples=8)
@given(CONTENTS, TARGETS)
def test_gnu_tar_reads_them_without_a_complaint(contents: list[bytes], target: int) -> None:
    with laid_out(contents, target) as (folder, made):
        for shard in made.shards:
            run = [GNU_TAR, "-x", "-C", str(folder), "-f", "-"]
            done = subprocess.run(run, input=whole(shard), capture_output=True, check=True)
            assert done.stderr == b""
        for content in filter(None, contents):
            assert (folder / digest_of(content)[:2] / digest_of(content)[2:]).read_bytes() == content


@LOOSE
@given(CONTENTS, TARGETS, st.data())
def test_any_range_is_a_slice_of_the_whole(contents: list[bytes], target: int, data: st.DataObject) -> None:
    with laid_out(contents, target) as (_, made):
        for shard in made.shards:
            bytes_ = whole(shard)
            offset = data.draw(st.integers(0, shard.size))
            n = data.draw(st.integers(0, shard.size))
            assert shard.read(offset, n) == bytes_[offset : offset + n]
            with shard.open(offset) as reader:
                pieces = []
                while piece := reader.read(data.draw(st.integers(1, 4000))):
                    pieces.append(piece)
                    assert reader.offset + len(reader) == shard.size
                assert b"".join(pieces) == bytes_[offset:]
                assert reader.read() == b""


@pytest.mark.parametrize("offset", [-1, 10_000_000])
def test_an_offset_outside_is_refused(tmp_path: Path, offset: int) -> None:
    shard = lay_out(written(tmp_path, [b"a"])).shards[0]
    with pytest.raises(ValueError, match="no offset"):
        shard.read(offset, 1)


@LOOSE
@given(CONTENTS, TARGETS)
def test_names_and_bytes_depend_on_contents_alone(contents: list[bytes], target: int) -> None:
    with laid_out(contents, target) as (_, one), laid_out(contents[::-1] * 2, target) as (folder, two):
        for path in (folder / "data").iterdir():
            os.utime(path, (1, 1))
            path.chmod(0o600)
        assert (one.key, one.index, one.index_name) == (two.key, two.index, two.index_name)
        assert [(s.name, digest_of(whole(s))) for s in one.shards] == [
            (s.name, digest_of(whole(s))) for s in two.shards
        ]


def test_another_set_or_cut_has_another_key(tmp_path: Path) -> None:
    blobs = written(tmp_path, [b"a" * 600, b"b" * 600])
    keys = {lay_out(blobs).key, lay_out(blobs, 1024).key, lay_out(dict(list(blobs.items())[:1])).key, lay_out({}).key}
    assert len(keys) == 4


def test_the_bytes_are_those_of_the_first_release(tmp_path: Path) -> None:
    """What was uploaded once must be found again by later versions: change SCHEME with this number."""
    made = lay_out(written(tmp_path, [b"", b"a", b"b" * 600, b"c" * 5000]), 4096)
    assert [(shard.name, shard.size, len(shard.members)) for shard in made.shards] == [
        ("samerun-3d077e53-000.tar", 6656, 1),
        ("samerun-3d077e53-001.tar", 3584, 2),
    ]
    assert digest_of(b"".join(map(whole, made.shards)) + made.index) == FIRST_RELEASE


def test_no_member_is_an_extension_header(tmp_path: Path) -> None:
    made = lay_out(written(tmp_path, [bytes([n]) * n for n in range(1, 50)]))
    with tarfile.open(fileobj=io.BytesIO(whole(made.shards[0])), mode="r:") as tar:
        infos = tar.getmembers()
    assert {info.type for info in infos} == {tarfile.REGTYPE}
    assert {(info.uid, info.gid, info.uname, info.gname, info.mode) for info in infos} == {(0, 0, "", "", 0o644)}
    assert {info.mtime for info in infos} == {315532800}
    assert not any(info.pax_headers for info in infos)


@pytest.mark.parametrize("size", [(8 << 30) - 1, 8 << 30, 9 << 30])
def test_a_content_of_eight_gib_has_one_header_that_tar_reads(tmp_path: Path, size: int) -> None:
    member = Member("ab" + "c" * 62, size, tmp_path / "x", 0)
    data = header(member)
    assert len(data) == 512
    info = tarfile.TarInfo.frombuf(data, "utf-8", "strict")
    assert (info.name, info.size) == (member.name, size)
    done = subprocess.run([GNU_TAR, "-tvf", "-"], input=data, capture_output=True, check=False)
    assert f" {size} ".encode() in done.stdout


def test_a_content_of_eight_gib_is_cut_and_read_where_it_ends(tmp_path: Path) -> None:
    """A sparse file: offsets after it are right, and it is refused, as its digest is not that of zeros."""
    size = (8 << 30) + 5
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(size)
    small = written(tmp_path / "more", [b"last"])
    made = lay_out({"0" * 64: (large, size), **small}, 1 << 40)
    (shard,) = made.shards
    at = shard.members[1].at
    assert at == 512 + size + 507
    assert shard.read(at + 512, 4) == b"last"
    assert shard.size == at + 1024 + 1024
    assert len(lay_out({"0" * 64: (large, size), **small}).shards) == 2


def test_an_unchanged_tree_of_fifty_thousand_is_laid_out_without_opening_a_file() -> None:
    blobs = {digest_of(str(n).encode()): (Path("/nowhere"), 400_000) for n in range(50_000)}
    made = lay_out(blobs)
    assert 18 <= len(made.shards) <= 20
    assert len(made.index) < 10_000


@pytest.mark.parametrize("blob", [("A" * 64, 1), ("a" * 63, 1), ("../" + "a" * 61, 1), ("a" * 64, -1)])
def test_what_is_no_digest_or_size_is_refused(tmp_path: Path, blob: tuple[str, int]) -> None:
    with pytest.raises(ValueError, match="no content"):
        lay_out({blob[0]: (tmp_path, blob[1])})


# A file that changes


def change(path: Path, how: str) -> None:
    data = path.read_bytes()
    before = path.stat()
    if how == "gone":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"longer": data + b"x", "shorter": data[:-1], "other bytes": data[:-1] + b"!"}[how])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def send(shard: Shard, sent: bytearray) -> None:
    with shard.open() as reader:
        while piece := reader.read(512):
            sent += piece


@pytest.mark.parametrize("how", ["gone", "a folder", "longer", "shorter", "other bytes"])
def test_a_changed_file_is_named_and_not_one_byte_of_it_is_sent(tmp_path: Path, how: str) -> None:
    contents = [bytes([n]) * 1000 for n in range(1, 6)]
    blobs = written(tmp_path, contents)
    (shard,) = lay_out(blobs).shards
    sent_before = whole(shard)
    victim = shard.members[2]
    change(victim.source, how)
    sent = bytearray()
    with pytest.raises(IntegrityError) as caught:
        send(shard, sent)
    assert str(victim.source) in caught.value.message
    assert caught.value.remedy
    assert sent == sent_before[: len(sent)]
    assert victim.at <= len(sent) <= victim.at + 512
    for inside in (victim.at + 500, victim.at + 700, victim.at + 512 + 999):
        with pytest.raises(IntegrityError):
            shard.read(inside, 100)


def test_a_large_file_changed_where_it_was_sent_already_is_found_before_its_end(tmp_path: Path) -> None:
    (shard,) = lay_out(written(tmp_path, [os.urandom(3 * CHUNK)])).shards
    with shard.open() as reader:
        reader.read(2 * CHUNK)
        source = shard.members[0].source
        with source.open("r+b") as stream:
            stream.write(b"changed")
        with pytest.raises(IntegrityError):
            reader.read()
    with pytest.raises(IntegrityError):  # gone on with in another process, behind the change
        shard.read(2 * CHUNK, shard.size)


def test_a_file_cut_off_while_it_is_read_is_found(tmp_path: Path) -> None:
    (shard,) = lay_out(written(tmp_path, [os.urandom(3 * CHUNK)])).shards
    with shard.open() as reader:
        reader.read(CHUNK)
        os.truncate(shard.members[0].source, CHUNK)
        with pytest.raises(IntegrityError):
            reader.read()
