"""Trees of files to a machine and back: what is there is not sent, what was cut goes on, and nothing leads out."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.ssh.link import Link, tree
from backends.ssh.link.tree import Entry, Sent, fetch, send
from launcher.errors import IntegrityError, RemoteError, SpecError
from tests.backends.ssh.link.conftest import AGENT
from tests.emulators.ssh import Sshd, SwallowingProxy
from tests.worker.laid import until

Linked = Callable[..., Link]
WEIRD = [
    "plain.txt",
    "a folder/with spaces",
    "it's; touch PWN",
    "$(touch PWN)/`x`",
    "new\nline",
    "é/😀",
    "-rf",
    "back\\slash",
]


def entry(path: str, data: bytes) -> Entry:
    return Entry(path, len(data), hashlib.sha256(data).hexdigest())


def made(root: Path, contents: dict[str, bytes]) -> list[Entry]:
    """Files below a folder, and their entries."""
    for path, data in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return [entry(path, data) for path, data in contents.items()]


def found(root: Path) -> dict[str, bytes]:
    """What is below a folder, but for the state of the transfer."""
    files = (file for file in root.rglob("*") if file.is_file() and ".transfer" not in file.parts)
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def agent(*words: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    """The host's side alone."""
    return subprocess.run([*AGENT, *words], input=given, capture_output=True, check=False, timeout=30)


def offered(contents: list[bytes], places: list[tuple[str, bytes]], *, shas: dict[bytes, str] | None = None) -> bytes:
    """What a sender, honest or not, would send to `take`."""
    names = {data: (shas or {}).get(data, hashlib.sha256(data).hexdigest()) for data in contents}
    listed = {
        "contents": [[names[data], len(data), 0] for data in contents],
        "places": [[path, names[data]] for path, data in places],
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in [("list.json", json.dumps(listed).encode()), *((str(n), d) for n, d in enumerate(contents))]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def test_a_tree_goes_there_once_and_back(linked: Linked, sshd: Sshd, tmp_path: Path) -> None:
    contents = {path: f"content of {path}".encode() * 1000 for path in WEIRD} | {"empty": b"", "empty 2": b""}
    entries, link, to = made(tmp_path / "tree", contents), linked(), str(sshd.home / "to; touch PWN")
    told: list[tuple[int, int]] = []
    total = sum(len(data) for data in contents.values())
    assert send(link, AGENT, tmp_path / "tree", entries, to, lambda *said: told.append(said)) == Sent(10, total, 0)
    assert told[-1] == (total, total)
    assert found(Path(to)) == contents
    assert send(link, AGENT, tmp_path / "tree", entries, to) == Sent(0, 0, 10)
    assert fetch(link, AGENT, to, list(contents), tmp_path / "back") == {}
    assert found(tmp_path / "back") == contents
    assert not list(tmp_path.rglob("PWN"))


def test_only_what_differs_is_sent(linked: Linked, sshd: Sshd, tmp_path: Path) -> None:
    root, to, link = tmp_path / "tree", sshd.home / "to", linked()
    send(link, AGENT, root, made(root, {"same": b"1" * 10, "other": b"2" * 10, "gone": b"3" * 10}), str(to))
    (to / "gone").unlink()
    (to / "same").write_bytes(b"x" * 10)  # as large as before
    entries = made(root, {"same": b"1" * 10, "other": b"2" * 10, "gone": b"3" * 10, "new": b"4" * 10})
    assert send(link, AGENT, root, entries, str(to)) == Sent(3, 30, 1)
    assert found(to) == found(root)


def test_contents_that_files_share_travel_once(linked: Linked, sshd: Sshd, tmp_path: Path) -> None:
    root, to = tmp_path / "tree", sshd.home / "to"
    entries = made(root, {f"d{number}/file": b"x" * 1000 for number in range(5)})
    assert send(linked(), AGENT, root, entries, str(to)) == Sent(5, 1000, 0)
    assert found(to) == found(root)
    (to / "d1/file").write_bytes(b"changed")
    assert (to / "d2/file").read_bytes() == b"x" * 1000


def test_a_sending_that_is_cut_goes_on_within_the_file(
    linked: Linked, sshd: Sshd, proxy: SwallowingProxy, tmp_path: Path
) -> None:
    root, to, link = tmp_path / "tree", sshd.home / "to", linked(port=proxy.port)
    entries = made(root, {"one": os.urandom(24 << 20)})
    proxy.throttle(40_000_000)
    with pytest.raises(RemoteError):
        send(link, AGENT, root, entries, str(to), lambda done, _: proxy.cut() if done > 20_000_000 else None)
    assert found(to) == {}
    proxy.throttle(None)
    sent = send(link, AGENT, root, entries, str(to))
    assert (sent.files, 0 < sent.bytes < 24 << 20) == (1, True)
    assert found(to) == found(root)
    assert not list((to / ".transfer/parts").iterdir())


def test_a_part_that_is_wrong_is_found_out_and_sent_again(linked: Linked, sshd: Sshd, tmp_path: Path) -> None:
    root, to = tmp_path / "tree", sshd.home / "to"
    entries = made(root, {"one": b"right" * 1000})
    (to / ".transfer/parts").mkdir(parents=True)
    (to / ".transfer/parts" / entries[0].sha256).write_bytes(b"wrong" * 500)
    assert send(linked(), AGENT, root, entries, str(to)).bytes == 5000
    assert found(to) == found(root)


def test_a_file_that_changed_since_it_was_hashed_is_named_and_has_no_name_there(
    linked: Linked, sshd: Sshd, tmp_path: Path
) -> None:
    root, to = tmp_path / "tree", sshd.home / "to"
    entries = made(root, {"good": b"good", "bad": b"before"})
    (root / "bad").write_bytes(b"after!")
    with pytest.raises(IntegrityError, match="bad changed"):
        send(linked(), AGENT, root, entries, str(to))
    (root / "bad").write_bytes(b"sh")
    with pytest.raises(IntegrityError, match="bad changed"):
        send(linked(), AGENT, root, entries, str(to))
    assert found(to) == {"good": b"good"}


def test_what_does_not_come_back_is_named_with_its_reason(linked: Linked, tmp_path: Path) -> None:
    root = tmp_path / "there"
    made(root, {"file": b"x", "folder/below": b"y"})
    (root / "link").symlink_to(root / "file")
    (root / "way").symlink_to(tmp_path)
    (tmp_path / "secret").write_bytes(b"secret")
    os.mkfifo(root / "pipe")
    asked = ["file", "missing", "link", "way/secret", "pipe", "folder"]
    wrong = fetch(linked(), AGENT, str(root), asked, tmp_path / "back")
    assert sorted(wrong) == sorted(asked[1:])
    assert wrong["missing"] == "No such file or directory"
    assert found(tmp_path / "back") == {"file": b"x"}


@pytest.mark.parametrize("path", ["../out", "/out", "a/../../out", "", ".", "a//b", "./a", "a/", "a\0b", ".."])
def test_a_path_that_leads_out_is_refused_on_both_sides(path: str, linked: Linked, tmp_path: Path) -> None:
    link, root = linked(), tmp_path / "tree"
    with pytest.raises(SpecError, match="no path in the folder"):
        send(link, AGENT, root, [entry(path, b"x")], str(tmp_path / "to"))
    with pytest.raises(SpecError, match="no path in the folder"):
        fetch(link, AGENT, str(root), [path], tmp_path / "to")
    done = agent("take", str(tmp_path / "to"), given=offered([b"x"], [(path, b"x")]))
    assert done.returncode == 1
    assert b"is no path in the folder" in done.stderr
    assert not (tmp_path / "out").exists()
    listed = agent("give", str(tmp_path / "to"), given=json.dumps([path]).encode()).stdout
    assert b"is no path in the folder" in listed


@pytest.mark.parametrize("path", ["way/file", "way", "folder/way/file", ".transfer/parts/x", ".transfer/seen.json"])
def test_nothing_is_written_through_links_or_into_the_state(path: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "folder").mkdir(parents=True)
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    (root / "way").symlink_to(outside / "file" if path == "way" else outside)
    (root / "folder/way").symlink_to(outside)
    agent("take", str(root), given=offered([b"theirs"], [(path, b"theirs")]))
    assert found(outside) == {"file": b"mine"}
    state = root / ".transfer/seen.json"
    assert not state.exists() or b"theirs" not in state.read_bytes()


def test_a_state_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / ".transfer").symlink_to(outside)
    assert agent("take", str(root), given=offered([b"x"], [("file", b"x")])).returncode == 1
    assert found(outside) == {}


def test_one_who_still_sends_the_same_content_neither_spoils_it_nor_is_waited_for(tmp_path: Path) -> None:
    whole, root = bytes(range(256)) * 8192, tmp_path / "root"
    stream = offered([whole], [("a", whole), ("b", whole)])
    half = len(stream) // 2
    other = subprocess.Popen([*AGENT, "take", str(root)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert other.stdin is not None
    other.stdin.write(stream[:half])
    other.stdin.flush()
    part = root / ".transfer/parts" / hashlib.sha256(whole).hexdigest()
    until(lambda: part.exists() and part.stat().st_size > 0, 10)
    assert json.loads(agent("take", str(root), given=stream).stdout) == {"wrong": {}}
    assert found(root) == {"a": whole, "b": whole}
    other.stdin.write(b"*" * (len(stream) - half))  # its file has changed since it was hashed
    other.stdin.close()
    other.wait(10)
    assert found(root) == {"a": whole, "b": whole}


def test_swapped_and_corrupted_contents_get_no_name(tmp_path: Path) -> None:
    one, two = b"1" * 100, b"2" * 100
    swapped = {one: hashlib.sha256(two).hexdigest(), two: hashlib.sha256(one).hexdigest()}
    done = agent("take", str(tmp_path / "root"), given=offered([one, two], [("a", one), ("b", two)], shas=swapped))
    assert sorted(json.loads(done.stdout)["wrong"]) == sorted(swapped.values())
    assert found(tmp_path / "root") == {}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 5000), flip=st.integers(0, 5000))
def test_whatever_is_cut_or_flipped_no_file_has_wrong_bytes(cut: int, flip: int, tmp_path_factory: Any) -> None:
    root = tmp_path_factory.mktemp("root")
    contents = {"a": b"A" * 700, "b": b"B" * 300}
    stream = bytearray(offered(list(contents.values()), list(contents.items())))
    stream[flip % len(stream)] ^= 1
    agent("take", str(root), given=bytes(stream[: max(1, len(stream) - cut)]))
    for data in found(root).values():  # a flip may lie in a name: never in the bytes
        assert data in contents.values()


@pytest.mark.parametrize("end", [600, 1024, 3000])
def test_an_answer_that_ends_early_or_is_none_is_an_error(end: int, linked: Linked, tmp_path: Path) -> None:
    made(tmp_path / "root", {"a": b"A" * 700})
    whole = agent("give", str(tmp_path / "root"), given=b'["a"]').stdout
    (tmp_path / "answer").write_bytes(whole[:end])
    with pytest.raises(RemoteError):
        fetch(linked(), ["sh", "-c", 'cat "$0"', str(tmp_path / "answer")], "x", ["a"], tmp_path / "to")
    for liar in (
        b"garbage" * 200,
        b"\0" * 2000,
        offered([b"x"], [("a", b"x")]),
        whole.replace(b"0.sha256", b"7.sha256"),
    ):
        (tmp_path / "answer").write_bytes(liar)
        with pytest.raises(RemoteError):
            fetch(linked(), ["sh", "-c", 'cat "$0"', str(tmp_path / "answer")], "x", ["a"], tmp_path / "to")
    with pytest.raises(RemoteError, match="agent"):
        send(linked(), ["echo", "nonsense"], tmp_path / "root", [entry("a", b"A" * 700)], "x")


def test_a_file_that_was_touched_is_hashed_again_and_one_that_was_not_is_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    agent("take", str(root), given=offered([b"x" * 9], [("a", b"x" * 9)]))
    asked = json.dumps([["a", 9, hashlib.sha256(b"x" * 9).hexdigest()]]).encode()
    assert json.loads(agent("have", str(root), given=asked).stdout)["missing"] == []
    seen = root / ".transfer/seen.json"
    seen.write_text(seen.read_text().replace(hashlib.sha256(b"x" * 9).hexdigest(), "0" * 64))
    lied = json.dumps([["a", 9, "0" * 64]]).encode()
    assert json.loads(agent("have", str(root), given=lied).stdout)["missing"] == []  # its word is taken
    before = (root / "a").stat()
    (root / "a").write_bytes(b"y" * 9)
    os.utime(root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))  # as sly as an ordinary user can be
    assert json.loads(agent("have", str(root), given=lied).stdout)["missing"] == [0]


def test_the_other_ways_of_bulk_are_the_same(
    linked: Linked, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "BULK", 0)
    root, to, link = tmp_path / "tree", sshd.home / "to", linked()
    entries = made(root, {f"{number % 7}/{number}": os.urandom(number * 997) for number in range(50)})
    send(link, AGENT, root, entries, str(to))
    assert found(to) == found(root)
    fetch(link, AGENT, str(to), [one.path for one in entries], tmp_path / "back", expected=1)
    assert found(tmp_path / "back") == found(root)


def test_bytes_that_are_not_those_of_their_digest_come_to_no_name(linked: Linked, tmp_path: Path) -> None:
    made(tmp_path / "root", {"a": b"A" * 700, "b": b"B" * 9})
    whole = agent("give", str(tmp_path / "root"), given=b'["a", "b"]').stdout
    (tmp_path / "answer").write_bytes(whole.replace(b"AAAA", b"AAAC", 1))
    wrong = fetch(linked(), ["sh", "-c", 'cat "$0"', str(tmp_path / "answer")], "x", ["a", "b"], tmp_path / "to")
    assert wrong == {"a": "it changed while it was read"}
    assert found(tmp_path / "to") == {"b": b"B" * 9}
