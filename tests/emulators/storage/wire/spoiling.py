"""What the faults do to a request's body and to a reply."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from tests.emulators.storage.faults import Fault
from tests.emulators.storage.settings import ApiError
from tests.emulators.storage.wire.reply import TEXT, AnyReply, Cut, CutShort, FileReply, Reply, refusal
from tests.emulators.storage.wire.request import PIECE, Body

FOREVER = 1e6  # seconds: until the emulator is closed
_WRONG_CRC32C = base64.b64encode(b"\xde\xad\xbe\xef").decode()
_WRONG_MD5 = base64.b64encode(b"\xde\xad\xbe\xef" * 4).decode()
_REFUSALS = {
    "401": (401, "authError", "Invalid Credentials"),
    "403": (
        403,
        "forbidden",
        "The caller does not have the permission for this on the resource (or it may not exist).",
    ),
    "403-quota": (403, "quotaExceeded", "Quota exceeded for this project."),
    "403-billing": (403, "accountDisabled", "The billing account for the owning project is disabled in state closed"),
    "408": (408, "uploadBrokenConnection", "Request Timeout"),
    "429": (429, "rateLimitExceeded", "The rate of requests is too high. Please reduce your request rate."),
    "500": (500, "internalError", "We encountered an internal error. Please try again."),
    "503": (503, "backendError", "Backend Error"),
    "504": (504, "gatewayTimeout", "Gateway Timeout"),
}


def instead(fault: Fault) -> AnyReply:
    """The reply of a fault that happens before anything was done."""
    if fault.kind == "reset":
        return Cut()
    if fault.kind == "stall":
        return Cut(fault.number("seconds", FOREVER))
    if fault.kind == "502":
        return Reply(502, b"<!DOCTYPE html><html><title>502</title><h1>Bad Gateway</h1></html>", TEXT)
    reply = refusal(ApiError(*_REFUSALS[fault.kind]))
    after = fault.options.get("retry_after")
    return reply if after is None else replace(reply, headers={"Retry-After": str(after)})


def after(reply: AnyReply, fault: Fault | None) -> AnyReply:
    """The reply as a fault that happens after the work makes it."""
    if fault is None:
        return reply
    if fault.kind == "slow":
        time.sleep(fault.number("seconds"))
    elif fault.kind == "lose-reply":
        return Cut()
    elif fault.kind == "stall-after":
        return Cut(fault.number("seconds", FOREVER))
    elif fault.kind == "503-after":
        return refusal(ApiError(*_REFUSALS["503"]))
    elif isinstance(reply, FileReply):
        return replace(reply, headers={**reply.headers, "X-Goog-Hash": f"crc32c={_WRONG_CRC32C},md5={_WRONG_MD5}"})
    elif isinstance(reply, Reply):
        body = re.sub(rb'("crc32c": )"[^"]*"', rb'\1"' + _WRONG_CRC32C.encode() + b'"', reply.body)
        return replace(reply, body=re.sub(rb'("md5Hash": )"[^"]*"', rb'\1"' + _WRONG_MD5.encode() + b'"', body))
    return reply


def broken(body: Body, fault: Fault, closing: threading.Event) -> Body:
    """An upload's body that ends, fails or stalls after `at` bytes; as it is, for faults of another kind."""
    if fault.kind not in ("cut-upload", "503-upload", "stall-upload"):
        return body
    left = int(fault.number("at"))
    done = False

    def pull(most: int) -> bytes:
        nonlocal left, done
        if left > 0:
            piece = body.pull(min(most, left))
            left -= len(piece)
            return piece
        if not done:
            done = True
            if fault.kind == "cut-upload":
                raise CutShort
            if fault.kind == "503-upload":
                raise ApiError(*_REFUSALS["503"])
            closing.wait(fault.number("seconds", FOREVER))
        return body.pull(most)

    return Body(pull, body.length)


def pieces(reply: FileReply, fault: Fault, closing: threading.Event) -> Iterator[bytes]:
    """The bytes of a reply with something wrong with them. Raises CutShort where they break off."""
    at = min(int(fault.number("at", reply.size // 2)), reply.size)
    rate = fault.number("rate", 1 << 20)
    most = max(1, int(rate / 20)) if fault.kind == "slow-stream" else PIECE
    place = 0
    reply.file.seek(reply.start)
    while place < reply.size:
        until = at if place < at else reply.size
        piece = reply.file.read(min(most, until - place))
        if not piece:
            raise CutShort
        if place == at and fault.kind == "corrupt":
            piece = bytes([piece[0] ^ 0xFF]) + piece[1:]
        if place == at and fault.kind == "broken-stream":
            raise CutShort
        if place == at and fault.kind == "stall-stream":
            closing.wait(fault.number("seconds", FOREVER))
        if fault.kind == "slow-stream":
            closing.wait(len(piece) / rate)
        yield piece
        place += len(piece)
