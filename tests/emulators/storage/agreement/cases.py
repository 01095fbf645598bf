"""The cases on which the emulator is compared with Google's storage-testbench: requests, and what counts in replies.

`{name}` in a path, query or header is what an earlier step of the same case saved; `{bucket}` is an empty bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

UPLOAD, DOWNLOAD, B = "/upload/storage/v1/b/{bucket}/o", "/download/storage/v1/b/{bucket}/o/", "/storage/v1/b/{bucket}"
O = B + "/o/"  # noqa: E741
OBJECT = ("name", "size", "crc32c", "md5Hash", "generation", "metageneration", "contentType")
MEDIA = ("content-range", "x-goog-hash", "x-goog-generation", "x-goog-metageneration", "x-goog-stored-content-length")
QUANTUM = 1 << 18
CRC_OF_A = "AoIetA=="  # not the crc32c of anything sent here


@dataclass(frozen=True)
class Step:
    """One request. `look` names fields of a JSON reply (`items.name`: of each), `heads` headers that are compared."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    look: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    media: bool = False
    """Whether the body of a reply that is no refusal is compared as bytes."""
    save: Mapping[str, str] = field(default_factory=dict)
    """Variable to field of the JSON reply, or to `header:NAME`."""


def put(name: str, body: bytes = b"hello", query: str = "", save: str = "") -> Step:
    path = f"{UPLOAD}?uploadType=media&name={name}{query}"
    kept = {save: "generation"} if save else {}
    return Step("POST", path, body, {"Content-Type": "text/plain"}, OBJECT, save=kept)


def multipart(resource: bytes, body: bytes, query: str = "", kind: bytes = b"text/plain") -> Step:
    parts = (b"content-type: application/json\r\n\r\n" + resource, b"content-type: " + kind + b"\r\n\r\n" + body)
    whole = b"".join(b"--mark\r\n" + part + b"\r\n" for part in parts) + b"--mark--"
    headers = {"Content-Type": 'multipart/related; boundary="mark"'}
    return Step("POST", f"{UPLOAD}?uploadType=multipart{query}", whole, headers, (*OBJECT, "metadata.a"))


def start(name: str, query: str = "", size: int | None = None, resource: bytes = b"{}") -> Step:
    headers = {"Content-Type": "application/json", "X-Upload-Content-Type": "text/plain"}
    if size is not None:
        headers["X-Upload-Content-Length"] = str(size)
    path = f"{UPLOAD}?uploadType=resumable&name={name}{query}"
    return Step("POST", path, resource, headers, save={"place": "header:location"})


def chunk(span: str, body: bytes = b"", **headers: str) -> Step:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Step("PUT", "{place}", body, {"Content-Range": f"bytes {span}", **named}, OBJECT, ("range",))


def meta(name: str, query: str = "") -> Step:
    return Step("GET", f"{O}{name}{query}", look=(*OBJECT, "metadata.a", "metadata.b"))


def media(name: str, span: str = "", query: str = "") -> Step:
    headers = {"Range": f"bytes={span}"} if span else {}
    return Step("GET", f"{DOWNLOAD}{name}?alt=media{query}", headers=headers, heads=MEDIA, media=True)


def delete(name: str, query: str = "") -> Step:
    return Step("DELETE", f"{O}{name}{query}")


def patch(name: str, body: bytes, query: str = "") -> Step:
    look = (*OBJECT, "metadata.a", "metadata.b")
    return Step("PATCH", f"{O}{name}{query}", body, {"Content-Type": "application/json"}, look)


def listed(query: str = "", save: str = "") -> Step:
    kept = {save: "nextPageToken"} if save else {}
    return Step("GET", f"{B}/o{query}", look=("items.name", "items.size", "prefixes", "kind"), save=kept)


def post(path: str, body: bytes = b"{}", look: tuple[str, ...] = OBJECT) -> Step:
    return Step("POST", path, body, {"Content-Type": "application/json"}, look)


A, Z = b"a" * QUANTUM, b"z" * 10
TREE = (put("a/1"), put("a/2"), put("b/1"), put("c"), put("d"))
CASES: dict[str, tuple[Step, ...]] = {
    "bucket": (
        Step("GET", B, look=("name", "kind", "metageneration")),
        Step("GET", "/storage/v1/b/no-such-bucket"),
        post("/storage/v1/b?project=p", b'{"name": "{bucket}"}', ()),
        put("a"),
        Step("DELETE", B),
        delete("a"),
        Step("DELETE", B, media=True),
        Step("GET", B),
    ),
    "media upload": (put("a"), meta("a"), media("a"), Step("GET", f"{O}a?alt=media", heads=MEDIA, media=True)),
    "empty object": (put("a", b""), media("a"), media("a", "0-")),
    "no such object": (meta("a"), media("a"), delete("a"), patch("a", b"{}")),
    "multipart": (
        multipart(b'{"name": "a", "contentType": "text/plain", "metadata": {"a": "1"}}', b"he\r\n--marllo"),
        media("a"),
        multipart(b"{}", b"hello", "&name=b"),
        multipart(b'{"name": "b"}', b"hello", "&name=c"),
        multipart(b"{}", b"hello"),
    ),
    "checksums": (
        multipart(b'{"name": "a", "crc32c": "mnG7TA==", "md5Hash": "XUFAKrxLKna5cZ2REBfFkg=="}', b"hello"),
        multipart(b'{"name": "b", "crc32c": "' + CRC_OF_A.encode() + b'"}', b"hello"),
        meta("b"),
        multipart(b'{"name": "b", "md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}', b"hello"),
        meta("b"),
    ),
    "resumable, two chunks": (
        start("a", size=QUANTUM + 10),
        chunk("*/*"),
        chunk(f"0-{QUANTUM - 1}/{QUANTUM + 10}", A),
        chunk("*/*"),
        meta("a"),
        chunk(f"{QUANTUM}-{QUANTUM + 9}/{QUANTUM + 10}", Z),
        chunk("*/*"),
        media("a", f"{QUANTUM - 2}-{QUANTUM + 1}"),
    ),
    "resumable, in one": (start("a"), chunk("0-4/5", b"hello"), media("a")),
    "resumable, without Content-Range": (start("a"), Step("PUT", "{place}", b"hello", look=OBJECT), media("a")),
    "resumable, size not known": (
        start("a"),
        chunk(f"0-{QUANTUM - 1}/*", A),
        chunk(f"{QUANTUM}-{QUANTUM + 9}/{QUANTUM + 10}", Z),
    ),
    "resumable, ended by its size": (start("a"), chunk(f"0-{QUANTUM - 1}/*", A), chunk(f"*/{QUANTUM}")),
    "resumable, empty": (start("a"), chunk("*/0"), media("a")),
    "resumable, bytes sent again": (
        start("a"),
        chunk(f"0-{QUANTUM - 1}/*", A),
        chunk(f"0-{QUANTUM + 9}/{QUANTUM + 10}", A + Z),
        media("a", f"{QUANTUM - 2}-{QUANTUM + 9}"),
    ),
    "resumable, a gap": (start("a"), chunk("10-14/15", b"hello"), meta("a")),
    "resumable, an odd chunk": (start("a"), chunk("0-99/*", b"x" * 100), chunk("*/*")),
    "resumable, another size": (start("a", size=7), chunk("0-4/5", b"hello"), meta("a")),
    "resumable, wrong hash": (
        start("a"),
        chunk("0-4/5", b"hello", x_goog_hash=f"crc32c={CRC_OF_A}"),
        meta("a"),
        start("b", resource=b'{"crc32c": "' + CRC_OF_A.encode() + b'"}'),
        chunk("0-4/5", b"hello"),
        meta("b"),
    ),
    "resumable, right hash": (start("a"), chunk("0-4/5", b"hello", x_goog_hash="crc32c=mnG7TA==")),
    "resumable, given up": (start("a"), Step("DELETE", "{place}"), chunk("*/*")),
    "resumable, no such": (Step("PUT", UPLOAD + "?uploadType=resumable&upload_id=nothing", b"hello"),),
    "resumable, conditions": (
        start("a", "&ifGenerationMatch=0"),
        put("a"),
        chunk("0-4/5", b"other"),
        media("a"),
        start("a", "&ifGenerationMatch=0"),
    ),
    "insert if absent": (
        put("a", query="&ifGenerationMatch=0"),
        put("a", b"other", "&ifGenerationMatch=0"),
        media("a"),
        multipart(b'{"name": "a"}', b"third", "&ifGenerationMatch=0"),
    ),
    "compare and swap": (
        put("a", save="old"),
        put("a", b"second", "&ifGenerationMatch={old}", save="new"),
        put("a", b"zombie", "&ifGenerationMatch={old}"),
        media("a"),
        put("a", b"x", "&ifGenerationNotMatch={new}"),
        put("a", b"x", "&ifMetagenerationMatch=7"),
        put("a", b"x", "&ifMetagenerationMatch=1"),
    ),
    "conditions on what is not there": (
        put("a", query="&ifGenerationMatch=5"),
        put("a", query="&ifGenerationNotMatch=0"),
        meta("a", "?ifGenerationMatch=5"),
        meta("a", "?ifGenerationMatch=0"),
        delete("a", "?ifGenerationMatch=5"),
    ),
    "conditions of reading": (
        put("a", save="now"),
        meta("a", "?ifGenerationMatch={now}"),
        meta("a", "?ifGenerationMatch=5"),
        meta("a", "?ifGenerationMatch=0"),
        meta("a", "?ifGenerationNotMatch={now}"),
        meta("a", "?ifGenerationNotMatch=5"),
        meta("a", "?ifMetagenerationMatch=1"),
        meta("a", "?ifMetagenerationMatch=2"),
        meta("a", "?ifMetagenerationNotMatch=1"),
        media("a", query="&ifGenerationMatch=5"),
        media("a", query="&ifGenerationNotMatch={now}"),
        media("a", query="&ifGenerationMatch={now}"),
    ),
    "conditions of deleting": (
        put("a", save="now"),
        delete("a", "?ifGenerationMatch=5"),
        delete("a", "?ifGenerationNotMatch={now}"),
        delete("a", "?ifMetagenerationMatch=5"),
        delete("a", "?ifGenerationMatch={now}"),
        meta("a"),
        put("a", query="&ifGenerationMatch=0"),
    ),
    "generations": (
        put("a", save="old"),
        put("a", b"second", save="new"),
        media("a", query="&generation={new}"),
        meta("a", "?generation=5"),
        media("a", query="&generation={old}"),
        delete("a", "?generation=5"),
        delete("a", "?generation={new}"),
        meta("a"),
    ),
    "patch": (
        put("a", save="now"),
        patch("a", b'{"metadata": {"a": "1", "b": "2"}}'),
        patch("a", b'{"metadata": {"a": null, "b": "3"}, "contentType": "x/y"}', "?ifMetagenerationMatch=2"),
        patch("a", b'{"contentType": "x/z"}', "?ifMetagenerationMatch=2"),
        patch("a", b'{"contentType": "x/z"}', "?ifGenerationMatch=5"),
        patch("a", b'{"contentType": "x/z"}', "?ifMetagenerationNotMatch=3"),
        meta("a"),
        media("a"),
    ),
    "ranges": (
        put("a", b"0123456789"),
        *(media("a", span) for span in ("0-0", "2-4", "5-", "-3", "-30", "8-30", "10-", "10-12", "0-9", "4-2", "x-2")),
    ),
    "list": (*TREE, listed(), listed("?prefix=a"), listed("?prefix=a/"), listed("?prefix=nothing"), listed("?prefix=")),
    "list by delimiter": (
        *TREE,
        listed("?delimiter=/"),
        listed("?delimiter=/&prefix=a/"),
        listed("?delimiter=/&prefix=a"),
        listed("?startOffset=a/2&endOffset=c"),
        listed("?delimiter=/&startOffset=b"),
    ),
    "list in pages": (
        *TREE,
        listed("?maxResults=2", "more"),
        listed("?maxResults=2&pageToken={more}", "end"),
        listed("?maxResults=2&pageToken={end}"),
    ),
    "list, fields": (
        *TREE,
        Step("GET", B + "/o?fields=items(name),nextPageToken", look=("items.name", "items.size", "kind")),
    ),
    "fields": (
        put("a", query="&fields=name,generation"),
        meta("a", "?fields=size,crc32c"),
        Step("GET", B + "?fields=name", look=("name", "kind")),
    ),
    "names": (
        put("a%2Fb%20c%2B%C3%A9%23%3F"),
        media("a%2Fb%20c%2B%C3%A9%23%3F"),
        put("a%2F..%2Fb"),
        meta("a%2F..%2Fb"),
        put("x/y"),
        meta("x%2Fy"),
        meta("x/y"),
        put(""),
        put("a" * 1025),
    ),
    "compose": (
        put("a", b"he"),
        put("b", b"llo"),
        post(
            O + "c/compose", b'{"sourceObjects": [{"name": "a"}, {"name": "b"}], "destination": {"contentType": "x/y"}}'
        ),
        media("c"),
        post(O + "c/compose?ifGenerationMatch=0", b'{"sourceObjects": [{"name": "a"}]}'),
        post(O + "d/compose", b'{"sourceObjects": [{"name": "zz"}]}'),
    ),
    "copy": (
        put("a", save="now"),
        post(O + "a/rewriteTo/b/{bucket}/o/b", look=("done", "objectSize", "totalBytesRewritten", "resource.crc32c")),
        media("b"),
        post(O + "a/copyTo/b/{bucket}/o/c?ifSourceGenerationMatch={now}"),
        post(O + "a/copyTo/b/{bucket}/o/c?ifGenerationMatch=0"),
        post(O + "a/copyTo/b/{bucket}/o/d?ifSourceGenerationMatch=5"),
        post(O + "zz/copyTo/b/{bucket}/o/d"),
    ),
    "in a bucket that is not there": (
        Step("POST", "/upload/storage/v1/b/no-such-bucket/o?uploadType=media&name=a", b"hello"),
        Step("GET", "/storage/v1/b/no-such-bucket/o"),
        Step("GET", "/storage/v1/b/no-such-bucket/o/a"),
        Step("POST", "/upload/storage/v1/b/no-such-bucket/o?uploadType=resumable&name=a", b"{}"),
    ),
}
