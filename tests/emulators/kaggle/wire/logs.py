"""The log of a session: a live stream (server-sent events) while it runs, the persisted array when it has ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from tests.emulators.kaggle.faults import STREAM, Fault, Faults
from tests.emulators.kaggle.machine.session import QUEUED, Session
from tests.emulators.kaggle.settings import RpcError, World
from tests.emulators.kaggle.wire.reply import Reply, StreamReply

END = b"data: END_OF_LOG\n\n"
CUT = b""
STEP = 0.2  # seconds between looks whether the emulator is being closed


def persisted(session: Session) -> str:
    """The log as it is kept: a JSON array, one record a line."""
    return "[" + "\n,".join(json.dumps(record) for record in session.log) + "\n]"


def answer(session: Session | None, ref: str, world: World, faults: Faults) -> Reply | StreamReply:
    """The reply to a GET of the stream. Raises RpcError where there is no log to be had."""
    if session is None:
        raise RpcError(404, "The notebook has no session.")
    if session.finished:
        return Reply(body=persisted(session).encode(), kind="application/json")
    if session.status == QUEUED and world.settings.logs_while_queued == "404":
        raise RpcError(404, "The session has not started.")
    pieces = _events(session, world)
    fault = faults.take(STREAM, "logs", ref)
    return StreamReply("text/event-stream", pieces if fault is None else _wrong(pieces, fault, world))


def _events(session: Session, world: World) -> Iterator[bytes]:
    """From the first record on, however often a client connects again."""
    seen, spoke = 0, time.monotonic()
    while not world.closing.is_set():
        records, no_more = session.follow(seen, STEP)
        for record in records:
            yield f"data: {json.dumps(record)}\n\n".encode()
        seen += len(records)
        if no_more and len(session.log) == seen:
            yield END
            return
        if records:
            spoke = time.monotonic()
        elif time.monotonic() - spoke > world.settings.log_idle_seconds:
            break
    yield CUT


def _wrong(pieces: Iterator[bytes], fault: Fault, world: World) -> Iterator[bytes]:
    left, sent = int(fault.number("at")), b""
    for piece in pieces:
        if len(piece) < left:
            left -= len(piece)
            sent += piece
            yield piece
            continue
        if fault.kind == "replay-log":
            yield piece
            yield sent + piece
            yield from pieces
            return
        if left:
            yield piece[:left]
        if fault.kind == "idle-log":
            world.closing.wait(world.settings.log_idle_seconds)
        break
    yield CUT
