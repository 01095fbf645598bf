"""Each fault does what it says, and the real client recovers from it or fails as it documents."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import urllib3
from google.api_core.exceptions import Forbidden, GoogleAPICallError, PreconditionFailed, RetryError
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY

from tests.emulators.storage import StorageEmulator
from tests.emulators.storage.faults import AFTER, BEFORE, DOWNLOAD, KINDS, UPLOAD
from tests.emulators.storage_tests.conftest import Bare

QUICK = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.02).with_timeout(10)
MIB = 1 << 20
DATA = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(autouse=True)
def every_fault_happened(storage: StorageEmulator) -> Iterator[None]:
    yield
    with storage.faults._lock:
        assert all(fault.hits for fault in storage.faults._faults)


def put(bucket: Any, data: bytes = b"hello", **options: Any) -> None:
    bucket.blob("a").upload_from_string(data, retry=QUICK, **options)


@pytest.mark.parametrize("kind", ["408", "429", "500", "502", "503", "504", "reset"])
def test_what_is_transient_is_tried_again(storage: StorageEmulator, bucket: Any, kind: str) -> None:
    for operation in ("insert", "get", "list", "delete"):
        storage.faults.add(kind, on=f"storage.objects.{operation}", times=2)
    put(bucket)
    assert bucket.blob("a").download_as_bytes(retry=QUICK) == b"hello"
    assert [blob.name for blob in bucket.list_blobs(retry=QUICK)] == ["a"]
    bucket.blob("a").delete(retry=QUICK)
    assert storage.count() == {f"storage.objects.{name}": 3 for name in ("insert", "get", "list", "delete")}
    assert [call.fault for call in storage.requests] == [kind, kind, ""] * 4


def test_a_fault_is_seen_without_retries(storage: StorageEmulator, bucket: Any) -> None:
    storage.faults.add("503", on="storage.objects.insert:multipart")
    with pytest.raises(GoogleAPICallError, match="Backend Error"):
        bucket.blob("a").upload_from_string("x", retry=None)
    assert storage.objects("reef") == {}


@pytest.mark.parametrize(
    ("kind", "reason"), [("403", "forbidden"), ("403-quota", "quotaExceeded"), ("403-billing", "accountDisabled")]
)
def test_a_refusal_is_not_tried_again(storage: StorageEmulator, bucket: Any, kind: str, reason: str) -> None:
    storage.faults.add(kind, on="storage.objects.list")
    with pytest.raises(Forbidden) as caught:
        list(bucket.list_blobs(retry=QUICK))
    assert caught.value.errors[0]["reason"] == reason
    assert storage.count() == {"storage.objects.list": 1}


def test_401_is_for_the_credentials(storage: StorageEmulator, bucket: Any) -> None:
    storage.faults.add("401", on="storage.objects.get")
    with pytest.raises((GoogleAuthError, GoogleAPICallError)):
        bucket.blob("a").download_as_bytes(retry=None)


@pytest.mark.parametrize("kind", ["lose-reply", "503-after"])
def test_a_lost_reply_leaves_the_effect(storage: StorageEmulator, bucket: Any, kind: str) -> None:
    """The client's second try of a create finds its own first: 412, though the object is there."""
    storage.faults.add(kind, on="reef/a")
    with pytest.raises(PreconditionFailed):
        put(bucket, if_generation_match=0)
    assert storage.read("reef", "a") == b"hello"


@pytest.mark.parametrize(("kind", "there"), [("stall", False), ("stall-after", True)])
def test_a_stall_ends_by_the_clients_limit(storage: StorageEmulator, bucket: Any, kind: str, there: bool) -> None:
    storage.faults.add(kind, on="storage.objects.insert")
    with pytest.raises(requests.exceptions.Timeout):
        bucket.blob("a").upload_from_string("x", retry=None, timeout=0.2)
    assert ("a" in storage.objects("reef")) is there


def test_a_slow_reply_is_only_late(storage: StorageEmulator, bucket: Any) -> None:
    storage.faults.add("slow", on="storage.objects.insert", seconds=0.2)
    begun = time.monotonic()
    put(bucket)
    assert time.monotonic() - begun >= 0.2


def test_a_hash_that_is_not_the_objects_is_noticed(storage: StorageEmulator, bucket: Any) -> None:
    put(bucket)
    storage.faults.add("wrong-hash", on="storage.objects.get")
    with pytest.raises(DataCorruption):
        bucket.blob("a").download_as_bytes()


def test_a_broken_stream_is_gone_on_with(storage: StorageEmulator, bucket: Any) -> None:
    storage.put("reef", "a", DATA)
    storage.faults.add("broken-stream", at=MIB // 2)
    assert bucket.blob("a").download_as_bytes(retry=QUICK) == DATA
    assert [call.status for call in storage.requests] == [200, 206]


def test_corrupted_bytes_are_caught_and_without_a_checksum_they_are_not(storage: StorageEmulator, bucket: Any) -> None:
    storage.put("reef", "a", DATA)
    storage.faults.add("corrupt", times=2, at=1000)
    with pytest.raises(DataCorruption):
        bucket.blob("a").download_as_bytes(retry=QUICK)
    wrong = bucket.blob("a").download_as_bytes(retry=QUICK, checksum=None)
    assert [index for index in range(len(DATA)) if wrong[index] != DATA[index]] == [1000]


def test_a_truncated_download_is_gone_on_with(storage: StorageEmulator, bucket: Any) -> None:
    """The client holds what came against X-Goog-Stored-Content-Length."""
    storage.put("reef", "a", DATA)
    storage.faults.add("truncated", at=1000)
    assert bucket.blob("a").download_as_bytes(retry=QUICK) == DATA
    assert [(call.status, call.sent) for call in storage.requests] == [(200, 1000), (206, MIB - 1000)]


def test_a_stalled_stream_ends_by_the_clients_limit(storage: StorageEmulator, bucket: Any) -> None:
    storage.put("reef", "a", DATA)
    storage.faults.add("stall-stream", at=1000)
    assert bucket.blob("a").download_as_bytes(retry=QUICK, timeout=0.2) == DATA


def test_a_slow_stream_has_its_rate(storage: StorageEmulator, bucket: Any) -> None:
    storage.put("reef", "a", DATA)
    storage.faults.add("slow-stream", rate=4 * MIB)
    begun = time.monotonic()
    assert bucket.blob("a").download_as_bytes() == DATA
    assert 0.2 < time.monotonic() - begun < 2


@pytest.mark.parametrize("kind", ["cut-upload", "503-upload"])
def test_a_cut_chunk_is_sent_again(storage: StorageEmulator, bucket: Any, kind: str) -> None:
    storage.faults.add(kind, on="storage.objects.insert:resumable-chunk", at=600_000)
    blob = bucket.blob("a", chunk_size=4 * MIB)
    blob.upload_from_file(io.BytesIO(DATA), retry=QUICK)
    assert [call.status for call in storage.requests] == [200, {"cut-upload": 0, "503-upload": 503}[kind], 200]
    assert storage.read("reef", "a") == DATA


def test_what_a_cut_chunk_left_can_be_asked_for(storage: StorageEmulator, bare: Bare) -> None:
    storage.faults.add("cut-upload", at=600_000)
    place = bare.start("a")
    with pytest.raises(urllib3.exceptions.HTTPError):
        bare.ask("PUT", place, DATA, Content_Range=f"bytes 0-{MIB - 1}/{MIB}")
    safe = bare.ask("PUT", place, Content_Range=f"bytes */{MIB}").headers["Range"]
    assert safe == f"bytes=0-{(512 << 10) - 1}"
    rest = bare.ask("PUT", place, DATA[512 << 10 :], Content_Range=f"bytes {512 << 10}-{MIB - 1}/{MIB}")
    assert (rest.status, storage.read("reef", "a")) == (200, DATA)


def test_a_cut_in_one_request_leaves_nothing(storage: StorageEmulator, bucket: Any) -> None:
    storage.faults.add("cut-upload", on="storage.objects.insert:multipart", at=MIB // 2)
    with pytest.raises((requests.exceptions.ConnectionError, RetryError)):
        bucket.blob("a").upload_from_string(DATA, retry=None)
    assert storage.objects("reef") == {}
    assert list((storage.world.folder / "contents").iterdir()) == []
    put(bucket, DATA)
    assert storage.read("reef", "a") == DATA


def test_a_stalled_upload_goes_on_over_another_connection(storage: StorageEmulator, bucket: Any) -> None:
    storage.faults.add("stall-upload", on="storage.objects.insert:resumable-chunk", at=600_000)
    blob = bucket.blob("a", chunk_size=4 * MIB)
    blob.upload_from_file(io.BytesIO(DATA), retry=QUICK, timeout=0.3)
    assert storage.read("reef", "a") == DATA


def test_a_request_that_wakes_up_late_adds_nothing(storage: StorageEmulator, bare: Bare) -> None:
    """What it still brings would otherwise land between the bytes of the request that took over."""
    storage.faults.add("stall-upload", at=600_000, seconds=0.3)
    place, third = bare.start("a"), 256 << 10
    late = threading.Thread(target=_ask_quietly, args=(bare, place, b"z" * MIB))
    late.start()
    time.sleep(0.1)
    assert bare.ask("PUT", place, Content_Range="bytes */*").headers["Range"] == f"bytes=0-{2 * third - 1}"
    more = bare.ask("PUT", place, DATA[2 * third : 3 * third], Content_Range=f"bytes {2 * third}-{3 * third - 1}/*")
    assert more.status == 308
    late.join()
    end = bare.ask("PUT", place, DATA[3 * third :], Content_Range=f"bytes {3 * third}-{MIB - 1}/{MIB}")
    assert (end.status, storage.read("reef", "a")) == (200, b"z" * (2 * third) + DATA[2 * third :])


def _ask_quietly(bare: Bare, place: str, body: bytes) -> None:
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        bare.ask("PUT", place, body, Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}")


def test_bytes_corrupted_on_the_way_are_refused(storage: StorageEmulator, bucket: Any) -> None:
    storage.faults.add("corrupt-upload", times=2)
    with pytest.raises(GoogleAPICallError) as caught:
        put(bucket)
    assert caught.value.code == 400
    blob = bucket.blob("a", chunk_size=4 * MIB)
    storage.faults.clear()
    storage.faults.add("corrupt-upload", on="storage.objects.insert:resumable-chunk")
    with pytest.raises(GoogleAPICallError) as caught:
        blob.upload_from_file(io.BytesIO(DATA), retry=QUICK)
    assert caught.value.code == 400
    assert storage.objects("reef") == {}


def test_a_short_chunk_is_said(storage: StorageEmulator, bucket: Any) -> None:
    """308 with less than was sent is in the protocol; this client does not go on from there by itself."""
    storage.faults.add("short-upload", on="storage.objects.insert:resumable-chunk", at=256 << 10)
    blob = bucket.blob("a", chunk_size=512 << 10)
    with pytest.raises(ValueError, match="Bytes stream is in unexpected state"):
        blob.upload_from_file(io.BytesIO(DATA), retry=QUICK)
    assert storage.objects("reef") == {}


def test_an_expired_upload_says_so(storage: StorageEmulator, bucket: Any) -> None:
    storage.faults.add("expired-upload")
    blob = bucket.blob("a", chunk_size=256 << 10)
    with pytest.raises(GoogleAPICallError) as caught:
        blob.upload_from_file(io.BytesIO(DATA), retry=QUICK)
    assert caught.value.code == 410
    assert storage.objects("reef") == {}


def test_rot_and_swaps_are_what_they_say(storage: StorageEmulator, bucket: Any) -> None:
    storage.put("reef", "a", b"aaaa")
    storage.put("reef", "b", b"bbbb")
    storage.swap("reef", "a", "b")
    assert bucket.blob("a").download_as_bytes() == b"bbbb"
    storage.rot("reef", "a", at=1)
    with pytest.raises(DataCorruption):
        bucket.blob("a").download_as_bytes()


def test_a_closed_emulator_lets_go_of_who_waits(storage: StorageEmulator, bucket: Any) -> None:
    storage.faults.add("stall", on="storage.objects.list")
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(requests.exceptions.ConnectionError):
            list(bucket.list_blobs(retry=None))
        ended.set()

    threading.Thread(target=ask, daemon=True).start()
    while not any(fault.hits for fault in storage.faults._faults):
        time.sleep(0.01)
    storage.close()
    assert ended.wait(5)


def test_there_is_no_other_fault(storage: StorageEmulator) -> None:
    with pytest.raises(ValueError, match="no fault is called 'stale-listing'"):
        storage.faults.add("stale-listing")
    assert {*BEFORE, *AFTER, *DOWNLOAD, *UPLOAD} == KINDS.keys()
