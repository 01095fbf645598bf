"""Objects through the real client: what is put is what comes, with the numbers and checksums that belong to it."""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import io
from typing import Any

import google_crc32c
import pytest
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    MethodNotImplemented,
    NotFound,
    PreconditionFailed,
    Unauthorized,
)
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Client, transfer_manager
from google.oauth2.credentials import Credentials

from tests.emulators.storage import StorageEmulator
from tests.emulators.storage_tests.conftest import Bare

MIB = 1 << 20


def test_what_is_uploaded_comes_back_with_its_checksums(bucket: Any) -> None:
    blob = bucket.blob("runs/é b+#?.txt")
    blob.metadata = {"epoch": "7"}
    blob.upload_from_string(b"hello", content_type="text/plain")
    same = bucket.get_blob("runs/é b+#?.txt")
    assert (same.size, same.content_type, same.metadata) == (5, "text/plain", {"epoch": "7"})
    assert same.crc32c == base64.b64encode(google_crc32c.value(b"hello").to_bytes(4, "big")).decode()
    assert same.md5_hash == base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    assert same.download_as_bytes() == b"hello"


def test_a_resumable_upload_arrives_whole(storage: StorageEmulator, bucket: Any) -> None:
    data = bytes(range(256)) * 4 * 1024 * 3 + b"tail"
    bucket.blob("big", chunk_size=MIB).upload_from_file(io.BytesIO(data))
    assert [call.phase for call in storage.requests] == ["resumable-start", *["resumable-chunk"] * 4]
    assert [call.status for call in storage.requests] == [200, 308, 308, 308, 200]
    assert storage.read("reef", "big") == data
    assert bucket.blob("big").download_as_bytes() == data


@pytest.mark.parametrize(("start", "end"), [(0, 0), (3, 5), (5, None), (8, 99)])
def test_a_range_is_that_range(bucket: Any, start: int, end: int | None) -> None:
    bucket.blob("a").upload_from_string(b"0123456789")
    assert (
        bucket.blob("a").download_as_bytes(start=start, end=end)
        == b"0123456789"[start : 10 if end is None else end + 1]
    )


def test_chunked_download_also_of_an_empty_object(bucket: Any) -> None:
    """The client asks for a range of it, too, and reads `bytes */0` of the 416."""
    bucket.blob("empty").upload_from_string(b"")
    bucket.blob("big").upload_from_string(b"x" * (600 << 10))
    assert bucket.blob("empty", chunk_size=256 << 10).download_as_bytes() == b""
    assert bucket.blob("big", chunk_size=256 << 10).download_as_bytes() == b"x" * (600 << 10)


def test_generations_grow_and_patching_counts_metagenerations(bucket: Any) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    first = blob.generation
    blob.upload_from_string(b"2")
    assert blob.generation > first
    assert blob.metageneration == 1
    blob.metadata = {"a": "1"}
    blob.patch()
    assert (blob.metageneration, blob.generation > first) == (2, True)
    with pytest.raises(NotFound, match="No such object: reef/a"):
        bucket.blob("a", generation=first).download_as_bytes()


def test_a_download_goes_on_while_the_object_is_overwritten(storage: StorageEmulator, bare: Bare) -> None:
    storage.put("reef", "a", b"old" * MIB)
    storage.faults.add("slow-stream", rate=30 * MIB)
    reply = bare.pool.request(
        "GET", f"{storage.endpoint}/download/storage/v1/b/reef/o/a?alt=media", preload_content=False
    )
    first = reply.read(10)
    storage.put("reef", "a", b"new")
    assert first + reply.read() == b"old" * MIB


def test_listing_pages_prefixes_and_fields(storage: StorageEmulator, client: Any) -> None:
    for name in ("a/1", "a/2", "b/1", "c", "é"):
        storage.put("reef", name, b"x")
    storage.settings.page_limit = 2
    wanted = "items(name,size,crc32c),nextPageToken"
    blobs = list(client.list_blobs("reef", fields=wanted))
    assert [blob.name for blob in blobs] == ["a/1", "a/2", "b/1", "c", "é"]
    assert {blob.generation for blob in blobs} == {None}
    assert storage.count()["storage.objects.list"] == 3
    listing = client.list_blobs("reef", delimiter="/")
    assert [blob.name for blob in listing] == ["c", "é"]
    assert listing.prefixes == {"a/", "b/"}
    assert [blob.name for blob in client.list_blobs("reef", prefix="a/", start_offset="a/2")] == ["a/2"]


def test_a_page_token_outlives_what_it_was_made_after(storage: StorageEmulator, client: Any) -> None:
    for name in ("a", "b", "c", "d"):
        storage.put("reef", name, b"x")
    listing = client.list_blobs("reef", page_size=2)
    pages = listing.pages
    assert [blob.name for blob in next(pages)] == ["a", "b"]
    client.bucket("reef").delete_blobs(["a", "b"])
    storage.put("reef", "aa", b"too late")
    assert [blob.name for blob in next(pages)] == ["c", "d"]


def test_buckets_are_made_once_and_deleted_empty(client: Any) -> None:
    client.create_bucket("kelp")
    with pytest.raises(Conflict):
        client.create_bucket("kelp")
    client.bucket("kelp").blob("a").upload_from_string("x")
    with pytest.raises(Conflict, match="not empty"):
        client.bucket("kelp").delete()
    client.bucket("kelp").delete_blob("a")
    client.bucket("kelp").delete()
    assert client.lookup_bucket("kelp") is None
    with pytest.raises(NotFound, match="bucket does not exist"):
        client.get_bucket("kelp")


def test_compose_copy_and_batch(storage: StorageEmulator, client: Any, bucket: Any) -> None:
    for name in ("a", "b"):
        bucket.blob(name).upload_from_string(name)
    whole = bucket.blob("whole")
    whole.compose([bucket.blob("a"), bucket.blob("b")])
    assert (whole.download_as_bytes(), whole.md5_hash, whole.component_count) == (b"ab", None, 2)
    bucket.copy_blob(whole, bucket, "copy")
    bucket.blob("moved").rewrite(bucket.blob("copy"))
    storage.requests.clear()
    with client.batch(raise_exception=False) as batch:
        bucket.delete_blob("a")
        bucket.delete_blob("nothing")
        bucket.delete_blob("b")
    assert [reply.status_code for reply in batch._responses] == [204, 404, 204]
    assert [call.operation for call in storage.requests] == ["batch"]
    assert list(storage.objects("reef")) == ["copy", "moved", "whole"]
    assert storage.read("reef", "moved") == b"ab"


def test_many_threads_lose_nothing(storage: StorageEmulator, client: Any, bucket: Any) -> None:
    pairs = [(io.BytesIO(str(number).encode() * 1000), bucket.blob(f"n/{number:03d}")) for number in range(100)]
    results = transfer_manager.upload_many(pairs, worker_type="thread", max_workers=8)
    assert [result for result in results if isinstance(result, Exception)] == []
    held = storage.objects("reef")
    assert [held[f"n/{number:03d}"].content.read() for number in range(100)] == [
        str(n).encode() * 1000 for n in range(100)
    ]


def test_one_of_many_creators_wins(storage: StorageEmulator, bucket: Any) -> None:
    def create(number: int) -> bool:
        try:
            bucket.blob("once").upload_from_string(str(number), if_generation_match=0)
        except PreconditionFailed:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(24)))
    assert won.count(True) == 1
    assert storage.read("reef", "once") == str(won.index(True)).encode()


def test_tokens_are_asked_for(storage: StorageEmulator, bare: Bare) -> None:
    storage.settings.tokens = {"rw": "write", "ro": "read"}

    def as_who(token: str) -> Any:
        options = {"api_endpoint": storage.endpoint}
        return Client(
            project="p",
            credentials=Credentials(token),  # type: ignore[no-untyped-call]
            client_options=options,
        ).bucket("reef")

    as_who("rw").blob("a").upload_from_string("x")
    assert as_who("ro").blob("a").download_as_bytes() == b"x"
    with pytest.raises(Forbidden, match="denied on resource"):
        as_who("ro").blob("a").upload_from_string("y")
    with pytest.raises((Unauthorized, GoogleAuthError)):
        as_who("stolen").blob("a").download_as_bytes()
    assert bare.ask("GET", "/storage/v1/b/reef/o/a").json()["error"]["errors"][0]["reason"] == "required"
    assert storage.read("reef", "a") == b"x"


def test_a_hot_object_is_limited_where_that_is_set(storage: StorageEmulator, bucket: Any) -> None:
    storage.settings.writes_per_second = 1
    bucket.blob("a").upload_from_string("1", retry=None)
    with pytest.raises(Exception, match="exceeded the rate limit for object mutation"):
        bucket.blob("a").upload_from_string("2", retry=None)
    bucket.blob("b").upload_from_string("1", retry=None)
    assert storage.read("reef", "a") == b"1"


def test_what_is_not_emulated_is_said_aloud(client: Any, bucket: Any, bare: Bare) -> None:
    with pytest.raises(MethodNotImplemented, match="versions"):
        list(client.list_blobs("reef", versions=True, retry=None))
    with pytest.raises(MethodNotImplemented, match="not emulated"):
        bucket.get_iam_policy(retry=None)
    bucket.versioning_enabled = True
    with pytest.raises(MethodNotImplemented, match="versioning"):
        bucket.patch(retry=None)
    assert bare.ask("GET", "/storage/v1/b/reef/o?brandNew=1").status == 501
    assert bare.ask("PUT", "/reef/a", b"x").status == 501  # the XML API


def test_a_name_that_cannot_be_is_refused(bucket: Any) -> None:
    with pytest.raises(BadRequest):
        bucket.blob("a" * 1025).upload_from_string("x")
