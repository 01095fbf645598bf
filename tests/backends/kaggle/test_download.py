"""Downloads: a file under its name is whole; what is not whole has no name."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backends.kaggle.client.download import Patience, fetch, is_safe
from backends.kaggle.client.refusals import UnansweredError
from launcher.errors import CredentialError, StorageError
from tests.backends.kaggle.scripted import Reply, Request, Server, serving

QUICK = Patience(connect=2, silence=0.5, tries=4, pauses=(0.01,), retry_after=0.1)
DATA = bytes(range(256)) * 1000


class Bucket:
    """Serves files as storage does, with ranges and tags; `faults` are taken one a request, by path."""

    def __init__(self, server: Server, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.faults: dict[str, list[Any]] = {}
        self.generation = 1
        self.tags = True
        self.listings = 0
        self._url = server.url
        server.answer = self.answer
        self.asked: list[tuple[str, str]] = []
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def listing(self) -> dict[str, str]:
        self.listings += 1
        return {path: f"{self._url}/{path}?sig=5ecre7-{self.generation}" for path in self.files}

    @property
    def sizes(self) -> dict[str, int]:
        return {path: len(data) for path, data in self.files.items()}

    def answer(self, request: Request) -> Reply:
        path, _, query = request.path[1:].partition("?")
        with self._lock:
            self.asked.append((path, request.headers.get("Range", "")))
            left = self.faults.get(path, [])
            fault = left.pop(0) if left else None
        if callable(fault):
            fault = fault(request)
        if isinstance(fault, Reply):
            return fault
        if not query.endswith(f"-{self.generation}"):
            return Reply(403, b"<Error>expired</Error>", {"Content-Type": "application/xml"})
        data = self.files[path]
        headers = {"ETag": f'"{hash(data)}"'} if self.tags else {}
        cut = fault if isinstance(fault, int) else None
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if found and request.headers.get("If-Range") == headers.get("ETag"):
            at = int(found[1])
            if at >= len(data):
                return Reply(416)
            headers["Content-Range"] = f"bytes {at}-{len(data) - 1}/{len(data)}"
            headers["Content-Length"] = str(len(data) - at)
            return Reply(206, data[at:], headers, cut)
        headers["Content-Length"] = str(len(data))
        return Reply(200, data, headers, cut)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as started:
        yield started


def bring(bucket: Bucket, to: Path, *paths: str, **options: Any) -> dict[str, str]:
    given: dict[str, Any] = {"sizes": bucket.sizes, "patience": QUICK, **options}
    return fetch(paths or list(bucket.files), to, bucket.listing, **given)


def present(to: Path) -> dict[str, bytes]:
    return {path.relative_to(to).as_posix(): path.read_bytes() for path in to.rglob("*") if path.is_file()}


def test_files_come_with_their_folders_and_nothing_else_is_left(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"train/weights/best.pt": DATA, "log.txt": b"x", "empty": b"", "odd name?#%.csv": b"y"})
    bucket.files.pop("odd name?#%.csv")
    assert bring(bucket, tmp_path) == {}
    assert present(tmp_path) == bucket.files
    assert not any("Authorization" in request.headers for request in server.requests)
    assert bucket.listings == 1


def test_weights_and_results_come_first_and_then_small_before_large(server: Server, tmp_path: Path) -> None:
    names = ["z.png", "big.bin", "train/weights/best.pt", "train/results.csv"]
    bucket = Bucket(server, dict(zip(names, (b"12", DATA, b"1234567", b"123"), strict=True)))
    bring(bucket, tmp_path, patience=replace(QUICK, parallel=1))
    assert [path for path, _ in bucket.asked] == ["train/results.csv", "train/weights/best.pt", "z.png", "big.bin"]


def test_up_to_four_come_side_by_side(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {f"f{i}": b"x" for i in range(8)})
    four = threading.Barrier(4, timeout=5)
    plain = bucket.answer

    def together(request: Request) -> Reply:
        four.wait()
        return plain(request)

    server.answer = together
    assert bring(bucket, tmp_path) == {}


def test_a_connection_that_drops_is_gone_on_with_where_it_stopped(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"best.pt": DATA})
    bucket.faults = {"best.pt": [100_000, 50_000]}
    assert bring(bucket, tmp_path) == {}
    assert present(tmp_path) == bucket.files
    assert bucket.asked == [("best.pt", ""), ("best.pt", "bytes=100000-"), ("best.pt", "bytes=150000-")]


def test_a_file_that_changed_meanwhile_is_begun_anew(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"best.pt": DATA})

    def change(request: Request) -> Reply:
        old = Reply(200, DATA, {"ETag": f'"{hash(DATA)}"', "Content-Length": str(len(DATA))}, cut=5)
        bucket.files["best.pt"] = b"\2" * len(DATA)
        return old

    bucket.faults = {"best.pt": [change]}
    assert bring(bucket, tmp_path) == {}
    assert present(tmp_path) == {"best.pt": b"\2" * len(DATA)}


def test_without_a_tag_a_break_begins_anew(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"best.pt": DATA})
    bucket.tags = False
    bucket.faults = {"best.pt": [100]}
    assert bring(bucket, tmp_path) == {}
    assert present(tmp_path) == bucket.files
    assert bucket.asked == [("best.pt", ""), ("best.pt", "")]


def test_an_address_that_has_ended_is_listed_anew_and_the_download_goes_on(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"best.pt": DATA, "a": b"1", "b": b"2"})

    def expire(request: Request) -> Reply:
        bucket.generation += 1
        return Reply(200, DATA, {"ETag": f'"{hash(DATA)}"', "Content-Length": str(len(DATA))}, cut=1000)

    bucket.faults = {"best.pt": [expire, None]}
    assert bring(bucket, tmp_path, patience=replace(QUICK, parallel=1)) == {}
    assert present(tmp_path) == bucket.files
    assert bucket.listings == 2
    assert bucket.asked[1] == ("best.pt", "bytes=1000-")  # refused: the address has ended
    assert bucket.asked[2] == ("best.pt", "bytes=1000-")


PAGES = {
    "a page with 200": Reply(200, b"<html>Sign in</html>", {"Content-Type": "text/html; charset=utf-8"}),
    "403": Reply(403, b"<Error>no</Error>", {"Content-Type": "application/xml"}),
    "404": Reply(404, b"not found"),
    "500": Reply(500, b"oops"),
    "an error as JSON with 200": Reply(200, b'{"code": 403}', {"Content-Type": "application/json"}),
    "a shorter file": Reply(200, DATA[:-1]),
    "a longer file": Reply(200, DATA + b"x"),
    "204": Reply(204),
    "another part": Reply(206, DATA[7:], {"Content-Range": f"bytes 7-{len(DATA) - 1}/{len(DATA)}"}),
    "cut at once": Reply(cut=-1),
    "less than announced": Reply(200, DATA, {"Content-Length": str(len(DATA))}, cut=5),
}


@pytest.mark.parametrize("page", PAGES)
def test_what_is_no_file_never_gets_its_name_and_once_is_forgiven(server: Server, tmp_path: Path, page: str) -> None:
    bucket = Bucket(server, {"best.pt": DATA, "ok.txt": b"ok"})
    bucket.faults = {"best.pt": [PAGES[page]]}
    assert bring(bucket, tmp_path / "once") == {}
    assert present(tmp_path / "once") == bucket.files
    if page == "a longer file":  # believed when it comes twice: see below
        return
    bucket.faults = {"best.pt": [PAGES[page]] * 30}
    left = bring(bucket, tmp_path / "ever")
    assert set(left) == {"best.pt"}
    assert "5ecre7" not in str(left)
    assert present(tmp_path / "ever") == {"ok.txt": b"ok"}


def test_a_file_that_is_listed_smaller_than_the_server_announces_twice_is_the_callers_to_judge(
    server: Server, tmp_path: Path
) -> None:
    bucket = Bucket(server, {"best.pt": DATA, "empty": b""})
    assert bring(bucket, tmp_path / "zero", sizes={"best.pt": 0, "empty": 0}) == {}  # 0: what JSON leaves out
    assert bring(bucket, tmp_path / "packed", sizes={"best.pt": len(DATA) // 2}) == {}
    assert present(tmp_path / "zero") == present(tmp_path / "packed") == bucket.files
    assert bucket.listings == 4  # each time from a fresh address
    other = iter(range(1, 100))
    server.answer = lambda request: Reply(200, DATA + b"x" * next(other))  # never the same twice
    assert set(bring(bucket, tmp_path / "odd", "best.pt")) == {"best.pt"}
    server.answer = lambda request: Reply(200, pieces=iter([DATA, b"x"]))  # no length announced
    assert set(bring(bucket, tmp_path / "cut", "best.pt")) == {"best.pt"}
    assert present(tmp_path / "odd") == present(tmp_path / "cut") == {}


def test_a_page_is_no_file_even_where_no_size_is_known(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"best.pt": DATA})
    bucket.faults = {"best.pt": [PAGES["a page with 200"]]}
    assert bring(bucket, tmp_path, sizes={}) == {}
    assert present(tmp_path) == bucket.files


def test_another_part_than_was_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"best.pt": DATA})
    size = len(DATA)
    wrong = Reply(206, b"\0" * (size - 100), {"Content-Range": f"bytes 90-{size - 11}/{size}"})
    bucket.faults = {"best.pt": [100, wrong]}
    assert bring(bucket, tmp_path) == {}
    assert present(tmp_path) == bucket.files


def test_an_html_file_may_be_html(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"report.html": b"<html>"})
    bucket.faults = {"report.html": [Reply(200, b"<html>", {"Content-Type": "text/html"})]}
    assert bring(bucket, tmp_path) == {}
    assert present(tmp_path) == {"report.html": b"<html>"}


def test_a_body_without_a_length_is_held_against_the_listing(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"a": b"12345"})
    bucket.faults = {"a": [Reply(200, pieces=iter([b"123"])), Reply(200, pieces=iter([b"123", b"45"]))]}
    assert bring(bucket, tmp_path) == {}
    assert present(tmp_path) == bucket.files
    assert len(bucket.asked) == 2


def test_a_compressed_answer_is_unpacked_and_measured_after(server: Server, tmp_path: Path) -> None:
    import gzip

    bucket = Bucket(server, {"a": DATA})
    bucket.faults = {"a": [Reply(200, gzip.compress(DATA), {"Content-Encoding": "gzip"})]}
    assert bring(bucket, tmp_path) == {}
    assert present(tmp_path) == bucket.files


def test_a_server_that_hangs_or_drips_holds_up_only_its_file_and_not_for_ever(server: Server, tmp_path: Path) -> None:
    gate = threading.Event()

    def hang(request: Request) -> Reply:
        gate.wait(5)
        return Reply(503)

    def drip() -> Iterator[bytes]:
        while not gate.wait(0.1):
            yield b"x"

    bucket = Bucket(server, {"hangs.pt": DATA, "drips.pt": DATA, "a": b"1"})
    bucket.faults = {"hangs.pt": [hang] * 9, "drips.pt": [lambda request: Reply(200, pieces=drip()) for _ in range(9)]}
    started = time.monotonic()
    left = bring(bucket, tmp_path, patience=replace(QUICK, tries=2, silence=0.3))
    gate.set()
    assert set(left) == {"hangs.pt", "drips.pt"}
    assert present(tmp_path) == {"a": b"1"}
    assert time.monotonic() - started < 4


def test_retry_after_is_waited_for_up_to_a_cap(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"a": b"1"})
    bucket.faults = {"a": [Reply(429, headers={"Retry-After": "3600"})]}
    slept: list[float] = []
    assert bring(bucket, tmp_path, sleep=slept.append) == {}
    assert slept == [QUICK.retry_after]


def test_names_that_are_not_in_the_listing_are_left_out(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"a": b"1"})
    assert bring(bucket, tmp_path, "a", "b", "b") == {"b": "it is not in the listing"}
    assert present(tmp_path) == {"a": b"1"}
    assert bucket.listings == 1


HOSTILE = ["../evil", "/etc/evil", "a/../../evil", "..", ".", "", "a//b", "a/", "C:evil", "a\\..\\..\\evil", "a\0b"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leads_out_is_left_out_and_not_asked_for(server: Server, tmp_path: Path, name: str) -> None:
    bucket = Bucket(server, {name: b"evil", "a": b"1"})
    assert set(bring(bucket, tmp_path / "in")) == {name}
    assert present(tmp_path) == {"in/a": b"1"}
    assert [path for path, _ in bucket.asked] == ["a"]


@given(st.text(st.sampled_from("./\\a:\0"), max_size=12))
@example("a/b")
def test_a_safe_name_stays_within_the_folder(name: str) -> None:
    if is_safe(name):
        inside = os.path.normpath(os.path.join("/base", name))  # noqa: PTH118
        assert inside.startswith("/base/")
        assert inside == f"/base/{name}"


def test_a_name_that_is_too_long_is_left_out(server: Server, tmp_path: Path) -> None:
    long = "x" * 255
    bucket = Bucket(server, {long: b"1", "a": b"1"})
    assert "too long" in bring(bucket, tmp_path)[long]
    assert present(tmp_path) == {"a": b"1"}


def test_a_disk_that_cannot_be_written_is_a_storage_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a file where a folder is needed")
    bucket = Bucket(server, {"train/a": b"1"})
    with pytest.raises(StorageError):
        bring(bucket, tmp_path)


def failing(error: Exception) -> Callable[[], dict[str, str]]:
    def listing() -> dict[str, str]:
        raise error

    return listing


def test_a_listing_that_fails_at_first_is_raised_and_later_only_leaves_out(server: Server, tmp_path: Path) -> None:
    bucket = Bucket(server, {"a": b"1", "b": b"2"})
    for error in (UnansweredError("no"), CredentialError("no")):
        with pytest.raises(type(error)):
            fetch(["a"], tmp_path, failing(error), patience=QUICK)
    bucket.faults = {"a": [Reply(403)] * 20}
    plain = bucket.listing

    def once() -> dict[str, str]:
        if bucket.listings:
            raise UnansweredError("the service is away")
        return plain()

    left = fetch(["a", "b"], tmp_path, once, patience=QUICK)
    assert "the service is away" in left["a"]
    assert present(tmp_path) == {"b": b"2"}


def test_a_disk_that_gives_up_ends_the_other_downloads_at_once(server: Server, tmp_path: Path) -> None:
    gate = threading.Event()
    begun = threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"x" * 10
        begun.set()
        gate.wait(10)

    bucket = Bucket(server, {"a.pt": DATA, "b": b"1"})
    bucket.faults = {"a.pt": [Reply(200, pieces=slow())]}

    def fail(request: Request) -> Reply:
        begun.wait(5)
        (tmp_path / ".b.part").unlink(missing_ok=True)
        (tmp_path / ".b.part").mkdir()  # this disk does not take b
        return Reply(200, b"1")

    bucket.faults["b"] = [fail]
    started = time.monotonic()
    with pytest.raises(StorageError):
        fetch(["a.pt", "b"], tmp_path, bucket.listing, bucket.sizes, patience=replace(QUICK, silence=8, parallel=2))
    gate.set()
    assert time.monotonic() - started < 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.part", "home"]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(min_size=1, max_size=3000),
    st.lists(st.one_of(st.integers(0, 3000), st.sampled_from(sorted(PAGES))), max_size=5),
    st.booleans(),
)
def test_whatever_breaks_the_file_is_whole_or_is_not_there(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, broken: list[Any], tags: bool
) -> None:
    to = tmp_path_factory.mktemp("to")
    with serving() as server:
        bucket = Bucket(server, {"a": data})
        bucket.tags = tags
        bucket.faults = {"a": [PAGES.get(fault, fault) for fault in broken]}
        left = bring(bucket, to)
    # What comes whole and larger twice is handed over: the caller has its digest.
    twice = {PAGES[fault].body for fault in broken if fault in PAGES and broken.count(fault) > 1}
    larger = [{"a": body} for body in twice if len(body) > len(data)]
    assert present(to) in ([{}] if left else [{"a": data}, *larger])
