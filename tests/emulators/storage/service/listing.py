"""One page of a bucket's objects: prefix, delimiter, offsets, page tokens."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from tests.emulators.storage.service.buckets import Bucket
from tests.emulators.storage.settings import ApiError, invalid, not_emulated

PARAMETERS = ("prefix", "delimiter", "startOffset", "endOffset", "pageToken", "maxResults", "projection")
FLAGS = ("includeTrailingDelimiter", "versions", "softDeleted", "includeFoldersAsPrefixes")


def page(bucket: Bucket, query: Mapping[str, str], limit: int) -> dict[str, Any]:
    """storage#objects. `items` and `prefixes` are missing where there are none, as in GCS's.

    A page token says after which name (or prefix) to go on: it stays good whatever is written or deleted meanwhile.
    """
    for flag in FLAGS[1:]:
        if _yes(query, flag):
            raise not_emulated(f"listing with {flag}")
    most = min(limit, _number(query.get("maxResults", str(limit))))
    items: list[dict[str, Any]] = []
    prefixes: list[str] = []
    last = ""
    reply: dict[str, Any] = {"kind": "storage#objects"}
    with bucket.lock:
        for name, group in _entries(bucket, query):
            if len(items) + len(prefixes) == most:
                reply["nextPageToken"] = _token(last)
                break
            last = group or name
            if group:
                prefixes.append(group)
            if not group or (name == group and _yes(query, "includeTrailingDelimiter")):
                version = bucket.live(name)
                assert version is not None
                items.append(version.resource(bucket.world.endpoint))
    return {**reply, **({"prefixes": prefixes} if prefixes else {}), **({"items": items} if items else {})}


def _entries(bucket: Bucket, query: Mapping[str, str]) -> Any:
    """(name, ""), or (first name, prefix) once for each group that the delimiter makes, in order."""
    prefix, delimiter, end = query.get("prefix", ""), query.get("delimiter", ""), query.get("endOffset", "")
    after = _after(query["pageToken"]) if query.get("pageToken") else None
    start = max(prefix, query.get("startOffset", ""), after or "", key=str.encode)
    seen = None
    for name in bucket.names(start):
        if (end and name.encode() >= end.encode()) or not name.startswith(prefix):
            return
        at = name.find(delimiter, len(prefix)) if delimiter else -1
        group = name[: at + len(delimiter)] if at >= 0 else ""
        if after is not None and (name == after or group == after):
            continue
        if not group or group != seen:
            yield name, group
        seen = group or seen


def _yes(query: Mapping[str, str], flag: str) -> bool:
    return query.get(flag, "false").lower() == "true"  # the client writes True


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise invalid(f"Invalid value for maxResults: {text!r}")
    return int(text)


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(b"\x0a" + name.encode()).decode()


def _after(token: str) -> str:
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        if raw[:1] != b"\x0a":
            raise ValueError(token)
        return raw[1:].decode()
    except (ValueError, binascii.Error) as error:
        raise ApiError(400, "invalid", "Invalid argument.", location=("parameter", "pageToken")) from error
