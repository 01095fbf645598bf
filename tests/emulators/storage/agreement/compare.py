"""Runs the cases against a server, and says in what two servers, or a server and a record, differ."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

from tests.emulators.storage.agreement.cases import CASES, Step

Seen = dict[str, Any]
"""What counts of one reply: `status`, `header NAME`, the names of fields, `body`. Generations are g1, g2, ..."""


def run(endpoint: str, name: str) -> list[Seen]:
    """What a server answers to the steps of one case, in a bucket of its own."""
    values = {"bucket": f"case-{uuid.uuid4().hex[:12]}"}
    generations: dict[str, str] = {}
    with urllib3.PoolManager(retries=False, timeout=20) as pool:
        made = json.dumps({"name": values["bucket"]})
        headers = {"Content-Type": "application/json"}
        reply = pool.request("POST", f"{endpoint}/storage/v1/b?project=p", body=made, headers=headers)
        if reply.status != 200:
            raise RuntimeError(f"{endpoint} makes no bucket: {reply.status} {reply.data[:200]!r}")
        return [_one(pool, endpoint, step, values, generations) for step in CASES[name]]


def differences(ours: list[Seen], theirs: list[Seen]) -> Iterator[tuple[int, str, Any, Any]]:
    """(number of the step, from 1; what; ours; theirs), for each thing in which they differ."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True), 1):
        if one["status"] != other["status"]:
            yield number, "status", one["status"], other["status"]  # the rest of two such replies says nothing
            continue
        for what in sorted(one.keys() | other.keys()):
            if one.get(what) != other.get(what):
                yield number, what, one.get(what), other.get(what)


def _one(
    pool: urllib3.PoolManager, endpoint: str, step: Step, values: dict[str, str], generations: dict[str, str]
) -> Seen:
    path = _filled(step.path, values)
    url = path if path.startswith("http") else endpoint + path
    headers = {name: _filled(value, values) for name, value in step.headers.items()}
    body = step.body.replace(b"{bucket}", values["bucket"].encode())
    reply = pool.request(step.method, url, body=body, headers=headers, redirect=False)
    good = reply.status in (200, 206)
    shown = _json(reply.data) if good else {}
    for variable, source in step.save.items():
        head = source.removeprefix("header:")
        values[variable] = str(reply.headers.get(head, "")) if head != source else str(shown.get(source, "0"))
    seen: Seen = {"status": reply.status}
    for name in step.heads:
        if reply.status in (200, 206, 308) and name in reply.headers:
            seen[f"header {name}"] = _plain(name, reply.headers[name], generations)
    for name in step.look if good else ():
        value = _field(shown, name.split("."))
        if value not in (None, []):
            seen[name] = "{bucket}" if value == values["bucket"] else _plain(name, value, generations)
    if step.media and good:
        seen["body"] = reply.data.decode() if len(reply.data) < 80 else hashlib.sha256(reply.data).hexdigest()
    return seen


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def _json(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _field(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_field(one, names) for one in value]
    if not names:
        return value
    return _field(value.get(names[0]), names[1:]) if isinstance(value, dict) else None


def _plain(name: str, value: Any, generations: dict[str, str]) -> Any:
    """Generations by the order in which they were seen; the parts of x-goog-hash in one order."""
    if name.endswith("generation") and not name.endswith("metageneration"):
        return generations.setdefault(str(value), f"g{len(generations) + 1}")
    if name == "x-goog-hash":
        return ",".join(sorted(part.strip() for part in value.split(",")))
    return value
