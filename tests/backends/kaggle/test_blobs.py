"""Uploads: whatever breaks, the server ends with the file's bytes, or we say that it does not."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.kaggle.client.blobs import Blob, EndedError, Patience, start, upload
from backends.kaggle.client.refusals import RefusedError, UnansweredError
from backends.kaggle.client.wire import Limits, Wire
from launcher.errors import IntegrityError, SamerunError, StorageError
from tests.backends.kaggle.scripted import Reply, Request, Server, in_turn, says, serving

SECRET = "X-Goog-Signature=5ecre7"
QUICK = Patience(silence=0.4, tries=4, pauses=(0.01,), retry_after=0.1)


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, n: data[offset : offset + n]


class Store:
    """A resumable upload's far end: keeps what comes, and breaks as `faults` say, one for each PUT."""

    def __init__(self, size: int, faults: Iterator[str] | None = None) -> None:
        self.size = size
        self.data = b""
        self.done = False
        self.faults = faults or iter(())

    def put(self, offset: int, body: bytes | None, fault: str) -> tuple[int, dict[str, str]]:
        """Status and headers; 0 for a cut connection. `body` None is a probe."""
        if fault == "503":
            return 503, {}
        if fault == "429":
            return 429, {"Retry-After": "1"}
        if fault == "cut before":
            return 0, {}
        if body is not None and not self.done:
            assert offset <= len(self.data), "bytes after a hole"
            kept = body if fault in ("", "lost reply") else body[: len(body) // 2]
            self.data = self.data[:offset] + kept
            self.done = len(self.data) == self.size
        if fault == "forgets":
            self.data, self.done = (self.data if self.done else self.data[: len(self.data) // 2]), self.done
        if fault in ("cut within", "lost reply"):
            return 0, {}
        if self.done or (self.size == 0 and body is not None):
            self.done = True
            return 200, {}
        return 308, {"Range": f"bytes=0-{len(self.data) - 1}"} if self.data else {}


class Session:
    """`requests.Session.put` over a store in memory."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def put(self, url: str, data: Any, headers: dict[str, str], allow_redirects: bool) -> requests.Response:
        assert not allow_redirects
        body = data if isinstance(data, bytes) else b"".join(iter(lambda: data.read(7), b""))
        assert len(body) == int(headers["Content-Length"])
        found = re.fullmatch(r"bytes (?:\*|(\d+)-(\d+))/(\d+)", headers.get("Content-Range", ""))
        probe = found is not None and found[1] is None
        status, given = self.store.put(
            int(found[1]) if found and found[1] else 0, None if probe else body, next(self.store.faults, "")
        )
        if status == 0:
            raise requests.exceptions.ConnectionError("Connection aborted.")
        response = requests.Response()
        response.status_code, response._content = status, b""
        response.headers.update(given)
        return response


faults = st.lists(
    st.sampled_from(["503", "429", "cut before", "cut within", "lost reply", "half", "forgets"]), max_size=6
)


@settings(deadline=None)
@given(st.binary(max_size=100), faults, st.booleans(), st.integers(0, 100))
def test_the_server_has_the_file_when_upload_returns(data: bytes, broken: list[str], fresh: bool, before: int) -> None:
    store = Store(len(data), iter(broken))
    if not fresh:
        store.data = data[:before]
        store.done = bool(data) and len(store.data) == len(data)
    sent: list[int] = []
    blob = Blob("a.tar", len(data), "t", "http://x/")
    options: Any = {"patience": replace(QUICK, tries=len(broken) + 1), "session": Session(store)}
    upload(blob, reader(data), sent.append, fresh=fresh, sleep=lambda s: None, **options)
    assert store.done
    assert store.data == data
    assert sent[-1] == len(data)


@settings(deadline=None, max_examples=40)
@given(st.binary(min_size=1, max_size=60), st.lists(faults, min_size=1, max_size=4))
def test_another_process_goes_on_from_the_json_where_the_first_gave_up(data: bytes, lives: list[list[str]]) -> None:
    store = Store(len(data))
    blob = Blob("a.tar", len(data), "t", "http://x/")
    fresh = True
    for broken in [*lives, []]:
        store.faults = iter(broken)
        blob = Blob.from_json(json.loads(json.dumps(blob.as_json())))
        try:
            options: Any = {"fresh": fresh, "patience": replace(QUICK, tries=1), "session": Session(store)}
            upload(blob, reader(data), sleep=lambda s: None, **options)
        except UnansweredError:
            fresh = False
            continue
        break
    assert store.data == data


@pytest.mark.parametrize("value", ["bytes=0-9", "bytes=3-4", "0-x", "bytes=0-99999999999999999999", "items=0-1"])
def test_a_range_that_cannot_be_ends_the_upload(value: str) -> None:
    answers = in_turn(Reply(308, headers={"Range": value}))
    with serving(answers) as server, pytest.raises(UnansweredError, match="of 9 bytes"):
        upload(Blob("a", 9, "t", server.url), reader(b"x" * 9), patience=QUICK)


# Over real sockets.


class Far:
    """A store behind a server. `limits`: after how many bytes of each PUT's body the connection is reset."""

    def __init__(self, server: Server, size: int, limits: list[int | None]) -> None:
        self.store = Store(size)
        self.limits = limits
        server.read_limit = lambda path: self.limits[0] if self.limits else None
        server.answer = self.answer

    def answer(self, request: Request) -> Reply:
        limit = self.limits.pop(0) if self.limits else None
        announced = int(request.headers["Content-Length"])
        found = re.fullmatch(r"bytes (?:\*|(\d+)-(\d+))/(\d+)", request.headers.get("Content-Range", ""))
        probe = found is not None and found[1] is None
        at = int(found[1]) if found and found[1] else 0
        status, headers = self.store.put(at, None if probe else request.body, "")
        if limit is not None and announced > len(request.body):
            return Reply(cut=-1)
        return Reply(status, headers=headers)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as started:
        yield started


def test_a_connection_that_is_cut_again_and_again_sends_only_what_is_missing(server: Server) -> None:
    data = bytes(range(256)) * 4096
    far = Far(server, len(data), [300_000, None, 400_000, None])
    upload(Blob("a.tar", len(data), "t", server.url), reader(data), fresh=True, patience=QUICK)
    assert far.store.data == data
    ranges = [request.headers.get("Content-Range") for request in server.requests]
    size = len(data)
    assert ranges == [
        None,
        f"bytes */{size}",
        f"bytes 300000-{size - 1}/{size}",
        f"bytes */{size}",
        f"bytes 700000-{size - 1}/{size}",
    ]
    assert not any("Authorization" in request.headers for request in server.requests)


def test_progress_grows_to_the_size_and_blocks_are_small(server: Server) -> None:
    size = 3 << 20
    far = Far(server, size, [])
    asked: list[int] = []
    sent: list[int] = []

    def read(offset: int, n: int) -> bytes:
        asked.append(n)
        return b"\1" * n

    upload(Blob("a.tar", size, "t", server.url), read, sent.append, fresh=True, patience=QUICK)
    assert len(far.store.data) == size
    assert sent == sorted(sent)
    assert sent[-1] == size
    assert max(asked) <= 1 << 16


def test_a_server_that_takes_nothing_ends_the_upload_after_some_silences(server: Server) -> None:
    gate = threading.Event()

    def hang(request: Request) -> Reply:
        gate.wait(5)
        return Reply(200)

    server.answer = hang
    started = time.monotonic()
    with pytest.raises(UnansweredError, match="time limit"):
        upload(Blob("a", 9, "t", server.url), reader(b"x" * 9), patience=replace(QUICK, tries=1))
    gate.set()
    assert time.monotonic() - started < 2


def test_a_server_that_says_308_for_ever_ends_the_upload(server: Server) -> None:
    server.answer = in_turn(Reply(308, headers={"Range": "bytes=0-3"}))
    with pytest.raises(UnansweredError, match="takes no byte after 4"):
        upload(Blob("a", 9, "t", server.url), reader(b"x" * 9), patience=QUICK)
    assert len(server.requests) < 10


@pytest.mark.parametrize("status", [404, 410])
def test_an_address_that_has_ended_says_so(server: Server, status: int) -> None:
    server.answer = in_turn(Reply(status))
    with pytest.raises(EndedError):
        upload(Blob("a", 9, "t", server.url), reader(b"x" * 9), patience=QUICK)
    assert len(server.requests) == 1


def test_an_upload_that_was_whole_when_the_reply_was_lost_is_not_sent_again(server: Server) -> None:
    server.answer = in_turn(Reply(cut=-1), Reply(200))
    upload(Blob("a", 9, "t", server.url), reader(b"x" * 9), fresh=True, patience=QUICK)
    assert [len(request.body) for request in server.requests] == [9, 0]


def test_an_upload_that_another_process_began_sends_only_the_rest(server: Server) -> None:
    far = Far(server, 9, [])
    far.store.data = b"12345"
    upload(Blob("a", 9, "t", server.url), reader(b"123456789"), patience=QUICK)
    assert far.store.data == b"123456789"
    assert [request.body for request in server.requests] == [b"", b"6789"]


def test_a_server_that_has_all_and_is_not_done_is_asked_and_not_sent_a_range_that_cannot_be(server: Server) -> None:
    server.answer = in_turn(
        Reply(308, headers={"Range": "bytes=0-8"}), Reply(308, headers={"Range": "bytes=0-8"}), Reply()
    )
    upload(Blob("a", 9, "t", server.url), reader(b"x" * 9), fresh=True, patience=QUICK)
    assert [request.headers.get("Content-Range") for request in server.requests] == [None, "bytes */9", "bytes */9"]


def test_an_empty_file_is_uploaded(server: Server) -> None:
    server.answer = in_turn(Reply(201))
    upload(Blob("a", 0, "t", server.url), reader(b""), fresh=True, patience=QUICK)
    assert server.requests[0].headers["Content-Length"] == "0"


def test_a_file_that_became_shorter_or_unreadable_is_said_and_not_sent_as_if_whole(server: Server) -> None:
    def broken(offset: int, n: int) -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.raises(IntegrityError, match="4 bytes instead of 9"):
        upload(Blob("a.tar", 9, "t", server.url), reader(b"four"), fresh=True, patience=QUICK)
    with pytest.raises(StorageError, match="Input/output error"):
        upload(Blob("a.tar", 9, "t", server.url), broken, fresh=True, patience=QUICK)
    assert all(len(request.body) < 9 for request in server.requests)


def test_no_error_and_no_repr_shows_the_signed_address(server: Server) -> None:
    blob = Blob("a.tar", 9, "tok-5ecre7", f"{server.url}/up?{SECRET}")
    assert "5ecre7" not in repr(blob) + str(blob)
    faults = [Reply(cut=-1), Reply(400, f"bad {blob.url} {blob.token}".encode()), Reply(503), Reply(404), Reply(301)]
    for fault in faults:
        server.answer = in_turn(fault)
        with pytest.raises(SamerunError) as caught:
            upload(blob, reader(b"x" * 9), patience=replace(QUICK, tries=0))
        shown = f"{caught.value} {caught.value!r} {caught.value.remedy}"
        assert "5ecre7" not in shown
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_starting_is_sent_once_and_gives_what_is_needed_to_go_on(server: Server) -> None:
    signed = Wire(None, endpoint=server.url, limits=Limits(pauses=(0.01,)))
    server.answer = in_turn(says({"token": "t", "createUrl": "http://x/y"}))
    assert start(signed, "a.tar", 9, 1) == Blob("a.tar", 9, "t", "http://x/y")
    assert server.requests[0].fields == {
        "type": "DATASET",
        "name": "a.tar",
        "contentLength": 9,
        "lastModifiedEpochSeconds": 1,
    }
    server.answer = in_turn(says({}))
    with pytest.raises(UnansweredError, match="no address"):
        start(signed, "a.tar", 9)
    server.answer = in_turn(says({"code": 400, "message": "too large"}, 400))
    with pytest.raises(RefusedError, match="too large"):
        start(signed, "a.tar", 9)
    assert len(server.requests) == 3
