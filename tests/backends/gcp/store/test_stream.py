"""The stream comes out of the store as it went in: by byte, by line, by offset, whatever happens to who carries it."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.gcp.store import Outbox, Store
from backends.gcp.store import outbox as outbox_module
from backends.gcp.store.carrier import stream as stream_module
from backends.gcp.store.carrier.names import AttemptNames
from backends.gcp.store.carrier.objects import DamagedError, Objects
from backends.gcp.store.carrier.stream import StreamCarrier, unwrap, wrap
from backends.local.box import read
from launcher.backend import Lines
from launcher.errors import IntegrityError, RemoteError
from tests.backends.gcp.store.world import BUCKET, RUN, Dying, FakeBox, KilledError, names_in, slow
from tests.emulators.storage import StorageEmulator

NAMES = AttemptNames(RUN, f"{RUN}-a1")
NUMBERS = itertools.count()


def carrier_of(box: FakeBox, objects: Objects | None = None) -> StreamCarrier:
    return StreamCarrier(objects or Objects(BUCKET, "samerun", seconds=5), NAMES, box.worker.stream)


def carry(carrier: StreamCarrier) -> None:
    while carrier.step():
        pass


def all_lines(store: Store, cursor: str = "", *, again: bool = False) -> tuple[list[str], str]:
    """Until there are no more; `again`: each time by another process."""
    lines: list[str] = []
    while True:
        outbox = (Store(BUCKET, seconds=5) if again else store).attempt(RUN, f"{RUN}-a1", 1)
        found = outbox.lines(cursor)
        assert found.lines or found.cursor.partition("@")[0] == (cursor.partition("@")[0] or "0")
        cursor = found.cursor
        if not found.lines:
            return lines, cursor
        lines += found.lines


def test_lines_are_those_of_the_file(box: FakeBox, store: Store, storage: StorageEmulator) -> None:
    carrier = carrier_of(box)
    for part in ("one\ntwo\n", "thr", "ee\nfour\n\nsix\n", "half"):
        box.say(part.encode())
        carry(carrier)
    assert all_lines(store)[0] == ["one", "two", "three", "four", "", "six"]
    assert [name.rpartition("/")[2].lstrip("0") for name in names_in(storage)] == ["", "8", "11", "24"]


def test_a_torn_line_waits_for_its_end_and_costs_no_new_download(
    box: FakeBox, store: Store, storage: StorageEmulator
) -> None:
    carrier = carrier_of(box)
    box.say(b"one\nhal")
    carry(carrier)
    outbox = store.attempt(RUN, box.attempt, 1)
    first = outbox.lines("")
    assert first == Lines(("one",), "4@0")
    storage.requests.clear()
    assert outbox.lines(first.cursor) == Lines((), "4@0")
    assert sum(call.sent for call in storage.requests) < 200
    box.say(b"f\n")
    carry(carrier)
    assert outbox.lines(first.cursor) == Lines(("half",), "9@9")


def test_an_idle_look_is_one_small_request(box: FakeBox, store: Store, storage: StorageEmulator) -> None:
    box.say(b"one\n")
    carry(carrier_of(box))
    outbox = store.attempt(RUN, box.attempt, 1)
    cursor = outbox.lines("").cursor
    storage.requests.clear()
    assert outbox.lines(cursor) == Lines((), cursor)
    assert len(storage.requests) == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.binary(min_size=1, max_size=40) | st.just(b"\n") | st.just("ä\n".encode()), max_size=8),
    most=st.integers(5, 30),
    room=st.integers(1, 40),
)
def test_every_cursor_reads_what_the_file_has_there(
    parts: list[bytes], most: int, room: int, tmp_path_factory: pytest.TempPathFactory, storage: StorageEmulator
) -> None:
    """The reference is the local backend's reader, on the file itself."""
    box = FakeBox(tmp_path_factory.mktemp("box") / "box")
    attempt = f"a{next(NUMBERS)}"  # all examples share a bucket
    names = AttemptNames(RUN, attempt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "PIECE_BYTES", most)
        patch.setattr(outbox_module, "READ_BYTES", room)
        patch.setattr(outbox_module, "AHEAD", 3)
        objects = Objects(BUCKET, "samerun", seconds=5)
        carrier = StreamCarrier(objects, names, box.worker.stream)
        for part in parts:
            box.say(part)
            carry(carrier)
        cursor, found = "", list[str]()
        while True:
            lines = Outbox(objects, RUN, attempt, 1).lines(cursor)
            offset = int(cursor.partition("@")[0] or 0)
            assert lines.cursor.partition("@")[0] == str(offset + sum_of(box.printed()[offset:], len(lines.lines)))
            assert Outbox(objects, RUN, attempt, 1).lines(str(offset)).lines[:1] == lines.lines[:1]
            if not lines.lines:
                break
            found += lines.lines
            cursor = lines.cursor
    if parts:
        assert found == list(read(Path(box.worker.stream), 0).lines)


def sum_of(data: bytes, lines: int) -> int:
    """Bytes of so many lines."""
    return sum(len(line) + 1 for line in data.split(b"\n")[:lines])


@pytest.mark.parametrize("seed", [*range(5), *slow(*range(5, 400))])
def test_killed_anywhere_nothing_is_lost_and_nothing_comes_twice(
    seed: int, box: FakeBox, store: Store, storage: StorageEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(stream_module, "PIECE_BYTES", 64)
    objects = Dying(chance, 0.3)
    carrier = carrier_of(box, objects)
    cursor, heard = "", list[str]()
    for number in range(25):
        box.say(f"line {number} {'x' * chance.randrange(90)}\n".encode()[: chance.choice((None, None, -1))])
        if chance.random() < 0.3:
            more, cursor = all_lines(store, cursor, again=chance.random() < 0.5)
            heard += more
        try:
            carry(carrier)
        except KilledError:
            if chance.random() < 0.5:
                objects.late()
            carrier = carrier_of(box, objects)
        if chance.random() < 0.3:
            objects.late()
    box.say(b"\n")
    carry(carrier_of(box))
    objects.late()
    heard += all_lines(store, cursor)[0]
    assert heard == box.printed().decode().split("\n")[:-1]
    assert all_lines(store)[0] == heard


@pytest.mark.parametrize("kind", ["lose-reply", *slow("503-after", "cut-upload", "reset", "503", "429")])
def test_a_reply_that_is_lost_and_a_cut_connection_change_nothing(
    kind: str, box: FakeBox, store: Store, storage: StorageEmulator
) -> None:
    storage.faults.add(kind, on="storage.objects.insert")
    carrier = carrier_of(box)
    for part in (b"one\n", b"two\n"):
        box.say(part)
        carry(carrier)
    assert not storage.faults.waiting()
    assert all_lines(store)[0] == ["one", "two"]


def test_bytes_that_come_wrong_are_asked_for_again_or_refused(
    box: FakeBox, store: Store, storage: StorageEmulator
) -> None:
    box.say(b"one\n" * 50)
    carry(carrier_of(box))
    for kind in ("corrupt", "truncated", "wrong-hash"):
        storage.faults.add(kind, on="storage.objects.get:download", times=1)
        try:
            assert Store(BUCKET).attempt(RUN, box.attempt, 1).lines("").lines == ("one",) * 50
        except (IntegrityError, RemoteError):
            pass
        storage.faults.clear()
    assert all_lines(store)[0] == ["one"] * 50


def test_pieces_that_were_swapped_are_no_lines(box: FakeBox, store: Store, storage: StorageEmulator) -> None:
    carrier = carrier_of(box)
    for part in (b"one\n", b"two\n"):
        box.say(part)
        carry(carrier)
    storage.swap(BUCKET, *[name for name in storage.objects(BUCKET) if "/stream/" in name])
    with pytest.raises(IntegrityError, match="at byte 0"):
        store.attempt(RUN, box.attempt, 1).lines("")


def test_a_piece_that_is_gone_is_no_end(box: FakeBox, store: Store, storage: StorageEmulator) -> None:
    carrier = carrier_of(box)
    for part in (b"one\n", b"two\n", b"three\n"):
        box.say(part)
        carry(carrier)
    Objects(BUCKET, "samerun").bucket.blob(f"samerun/{NAMES.piece(4)}").delete()
    with pytest.raises(IntegrityError, match="no piece at byte 4"):
        store.attempt(RUN, box.attempt, 1).lines("")


def test_a_carrier_mends_a_last_piece_that_was_damaged(box: FakeBox, store: Store, storage: StorageEmulator) -> None:
    box.say(b"one\n")
    carry(carrier_of(box))
    storage.put(BUCKET, f"samerun/{NAMES.piece(0)}", b"what is this\nhm\n")
    box.say(b"two\n")
    carry(carrier_of(box))
    assert all_lines(store)[0] == ["one", "two"]


@given(st.binary(min_size=1), st.integers(0, 10**12), st.data())
def test_a_piece_is_itself_and_nothing_else(content: bytes, offset: int, data: st.DataObject) -> None:
    piece = wrap("a", offset, content)
    assert unwrap("a", offset, piece) == content
    at = data.draw(st.integers(0, len(piece) - 1))
    cut, altered = piece[:at], piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
    for other in (cut, altered, piece + b"x", wrap("b", offset, content), wrap("a", offset + 1, content)):
        with pytest.raises(DamagedError):
            unwrap("a", offset, other)
