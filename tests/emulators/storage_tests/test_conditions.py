"""Preconditions and checksums: a write that must not happen does not, and says so."""

from __future__ import annotations

import io
from typing import Any

import pytest
from google.api_core.exceptions import NotModified, PreconditionFailed

from tests.emulators.storage import StorageEmulator
from tests.emulators.storage.wire.request import Body, Request
from tests.emulators.storage.wire.upload_api import multipart_parts
from tests.emulators.storage_tests.conftest import Bare

QUANTUM = 1 << 18
WRONG = "AAAAAA=="


def test_create_if_absent_never_overwrites(storage: StorageEmulator, bucket: Any) -> None:
    bucket.blob("a").upload_from_string("first", if_generation_match=0)
    with pytest.raises(PreconditionFailed, match="did not hold"):
        bucket.blob("a").upload_from_string("second", if_generation_match=0)
    assert storage.read("reef", "a") == b"first"


def test_a_stale_generation_cannot_swap(storage: StorageEmulator, bucket: Any) -> None:
    blob = bucket.blob("LATEST.json")
    blob.upload_from_string("1")
    read = blob.generation
    blob.upload_from_string("2", if_generation_match=read)
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string("zombie", if_generation_match=read)
    assert storage.read("reef", "LATEST.json") == b"2"


def test_the_end_of_a_resumable_upload_is_where_conditions_count(storage: StorageEmulator, bare: Bare) -> None:
    place = bare.start("a", "&ifGenerationMatch=0")
    storage.put("reef", "a", b"other writer")
    assert bare.ask("PUT", place, b"hello").status == 412
    assert storage.read("reef", "a") == b"other writer"
    storage.settings.early_conditions = True
    path = "/upload/storage/v1/b/reef/o?uploadType=resumable&name=a&ifGenerationMatch=0"
    assert bare.ask("POST", path, b"{}").status == 412


@pytest.mark.parametrize(
    ("asked", "reading", "writing"),
    [
        ({"if_generation_match": 5}, PreconditionFailed, PreconditionFailed),
        ({"if_generation_not_match": "now"}, NotModified, PreconditionFailed),
        ({"if_metageneration_match": 5}, PreconditionFailed, PreconditionFailed),
        ({"if_metageneration_not_match": 1}, NotModified, PreconditionFailed),
    ],
)
def test_each_condition_stops_each_kind_of_request(
    storage: StorageEmulator, bucket: Any, asked: dict[str, Any], reading: type[Exception], writing: type[Exception]
) -> None:
    before = storage.put("reef", "a", b"x")
    asked = {name: before.generation if value == "now" else value for name, value in asked.items()}
    for read in (bucket.blob("a").reload, bucket.blob("a").download_as_bytes):
        with pytest.raises(reading):
            read(**asked)
    blob = bucket.blob("a")
    blob.metadata = {"a": "1"}
    with pytest.raises(writing):
        blob.patch(**asked)
    with pytest.raises(writing):
        blob.delete(**asked)
    if "if_metageneration_not_match" not in asked:  # which the client misspells here
        with pytest.raises(writing):
            blob.upload_from_string("y", **asked)
    assert storage.objects("reef")["a"] == before


def test_each_condition_that_holds_lets_through(storage: StorageEmulator, bucket: Any) -> None:
    now = storage.put("reef", "a", b"x").generation
    holds = {
        "if_generation_match": now,
        "if_generation_not_match": 5,
        "if_metageneration_match": 1,
        "if_metageneration_not_match": 5,
    }
    assert bucket.blob("a").download_as_bytes(**holds) == b"x"
    del holds["if_metageneration_not_match"]
    bucket.blob("a").upload_from_string("y", **holds)
    bucket.blob("a").delete(if_generation_match=storage.objects("reef")["a"].generation)
    assert storage.objects("reef") == {}


def test_a_checksum_that_does_not_fit_is_400_and_nothing_is_made(storage: StorageEmulator, bare: Bare) -> None:
    resource = b'{"name": "a", "crc32c": "' + WRONG.encode() + b'"}'
    parts = b"".join(b"--m\r\ncontent-type: x/y\r\n\r\n" + part + b"\r\n" for part in (resource, b"hello"))
    path = "/upload/storage/v1/b/reef/o?uploadType="
    reply = bare.ask("POST", path + "multipart", parts + b"--m--", Content_Type="multipart/related; boundary=m")
    assert reply.status == 400
    assert 'doesn\'t match calculated CRC32C "mnG7TA=="' in reply.json()["error"]["message"]
    assert bare.ask("POST", path + "media&name=a", b"hello", x_goog_hash=f"crc32c={WRONG}").status == 400
    place = bare.start("a")
    span = {"Content_Range": "bytes 0-4/5", "x_goog_hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="}
    assert bare.ask("PUT", place, b"hello", **span).status == 400
    assert storage.objects("reef") == {}
    assert list((storage.world.folder / "contents").iterdir()) == []


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 11, 64])
def test_a_multipart_body_is_cut_at_its_boundaries_wherever_its_pieces_end(step: int) -> None:
    content = b"\r\n--m\r\n--mar--\r\n--mar" * 3
    parts = b"".join(b"--mark\r\ncontent-type: x/y\r\n\r\n" + part + b"\r\n" for part in (b'{"name": "a"}', content))
    whole = io.BytesIO(parts + b"--mark--\r\n")
    headers = {"content-type": "multipart/related; boundary=mark"}
    request = Request("POST", "/", {}, headers, Body(lambda most: whole.read(min(step, most))))
    resource, kind, pieces = multipart_parts(request)
    assert (resource, kind, b"".join(pieces)) == ({"name": "a"}, "x/y", content)


def test_a_multipart_body_without_an_end_is_refused(storage: StorageEmulator, bare: Bare) -> None:
    body = b'--m\r\na: b\r\n\r\n{"name": "a"}\r\n--m\r\na: b\r\n\r\nhalf an obj'
    path = "/upload/storage/v1/b/reef/o?uploadType=multipart"
    assert bare.ask("POST", path, body, Content_Type="multipart/related; boundary=m").status == 400
    assert storage.objects("reef") == {}
    assert list((storage.world.folder / "contents").iterdir()) == []


def test_a_resumable_upload_says_what_is_safe(storage: StorageEmulator, bare: Bare) -> None:
    total = QUANTUM + 10
    place = bare.start("a")
    assert "Range" not in bare.ask("PUT", place, Content_Range=f"bytes */{total}").headers
    reply = bare.ask("PUT", place, b"x" * (QUANTUM + 5), Content_Range=f"bytes 0-{QUANTUM + 4}/{total}")
    assert (reply.status, reply.headers["Range"]) == (308, f"bytes=0-{QUANTUM - 1}")  # not the odd 5
    gap = bare.ask("PUT", place, b"y", Content_Range=f"bytes {QUANTUM + 9}-{QUANTUM + 9}/{total}")
    assert (gap.status, "exceeds already" in gap.json()["error"]["message"]) == (400, True)
    again = bare.ask("PUT", place, b"x" * 20, Content_Range=f"bytes {QUANTUM - 10}-{total - 1}/{total}")
    assert (again.status, again.json()["size"]) == (200, str(total))
    assert bare.ask("PUT", place, Content_Range=f"bytes */{total}").json()["generation"] == again.json()["generation"]
    assert storage.read("reef", "a") == b"x" * total


def test_a_body_of_another_length_than_said_is_refused(storage: StorageEmulator, bare: Bare) -> None:
    place = bare.start("a")
    assert bare.ask("PUT", place, b"hell", Content_Range="bytes 0-4/5").status == 400
    assert bare.ask("PUT", place, b"hello", Content_Range="bytes 0-4/5").status == 200
    assert storage.read("reef", "a") == b"hello"


def test_an_upload_expires_and_can_be_given_up(storage: StorageEmulator, bare: Bare) -> None:
    given_up = bare.start("a")
    assert bare.ask("DELETE", given_up).status == 499
    assert bare.ask("PUT", given_up, b"hello").status == 404
    storage.settings.upload_seconds = -1.0
    assert bare.ask("PUT", bare.start("a"), b"hello").status == 410
    assert storage.objects("reef") == {}
