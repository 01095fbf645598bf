"""A kernel's log: cut anywhere, replayed, broken off, garbled; and still each line once, in order."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.kaggle.client.logs import REPLAYS, LogReader
from backends.kaggle.client.refusals import UnansweredError
from backends.kaggle.client.wire import Limits, LogStream, Wire
from launcher.errors import CredentialError
from tests.backends.kaggle.scripted import Reply, Request, in_turn, says, serving
from tests.backends.kaggle.test_records import END, cut, expected, places, record, sse, texts

NO_PAUSE = (0.0, 0.01)
LIMITS = Limits(connect=2, silence=30, answer=30, total=5, log_silence=0.5, pauses=())


def stream(*pieces: bytes, live: bool = True) -> LogStream:
    return LogStream(live, iter(pieces), lambda: None)


def all_lines(reader: LogReader, wait: float = 2.0) -> list[str]:
    found: list[str] = []
    until = time.monotonic() + wait
    while time.monotonic() < until:
        more = reader.lines(len(found), 0.5)
        found += more
        if not more and reader.ended:
            return found
    raise AssertionError(f"the log did not end: {found}, {reader.problem}")


# The reader.


def reading(*connections: Callable[[], LogStream] | LogStream, **options: Any) -> LogReader:
    left = list(connections)

    def connect() -> LogStream:
        following = left.pop(0) if len(left) > 1 else left[0]
        return following if isinstance(following, LogStream) else following()

    return LogReader(connect, **{"pauses": NO_PAUSE, **options})


@settings(deadline=None, max_examples=40)
@given(texts, st.lists(places, min_size=1, max_size=4), st.data())
def test_replays_repeat_nothing_and_skip_nothing_however_they_are_cut(
    text: str, cuts: list[list[int]], data: st.DataObject
) -> None:
    broken = []
    for inside in cuts:
        whole = sse(*map(record, cut(text, inside)))
        broken.append(stream(whole[: data.draw(st.integers(0, len(whole)))]))
    last = json.dumps([record(text)]).encode() if data.draw(st.booleans()) else None
    final = stream(last, live=False) if last else stream(sse(record(text)), END)
    reader = reading(*broken, final)
    try:
        assert all_lines(reader) == expected(text)
    finally:
        reader.close()


def test_lines_that_are_there_are_answered_at_once_and_others_within_the_wait() -> None:
    more = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield sse(record("a\nb"))
        more.wait(5)
        yield sse(record("\n"))
        more.wait(5)

    reader = reading(LogStream(True, pieces(), more.set))
    assert reader.lines(0, 5) == ["a"]
    started = time.monotonic()
    assert reader.lines(0, 5) == ["a"]
    assert time.monotonic() - started < 0.1
    started = time.monotonic()
    assert reader.lines(1, 0.2) == []
    assert 0.15 < time.monotonic() - started < 0.5
    threading.Timer(0.1, more.set).start()
    started = time.monotonic()
    assert reader.lines(1, 5) == ["b"]
    assert time.monotonic() - started < 1
    reader.close()


def test_lines_before_the_cursor_are_dropped_and_read_again_when_asked_for() -> None:
    connections = itertools.count()

    def connect() -> LogStream:
        next(connections)
        return stream(sse(*(record(f"{i}\n") for i in range(100))), END)

    reader = LogReader(connect, pauses=NO_PAUSE)
    assert all_lines(reader) == [str(i) for i in range(100)]
    assert reader.lines(98, 1) == ["98", "99"]
    assert next(connections) == 1 + 1  # for 98: everything before 100 had been dropped
    assert reader.lines(0, 1)[:1] == ["0"]
    reader.close()


def test_a_reader_that_starts_late_begins_at_its_cursor() -> None:
    reader = reading(stream(sse(*(record(f"{i}\n") for i in range(10))), END))
    assert reader.lines(7, 1) in (["7"], ["7", "8"], ["7", "8", "9"])
    assert reader.lines(10, 1) == []
    reader.close()


def test_memory_holds_no_more_than_it_may_and_nothing_is_lost() -> None:
    taken = itertools.count()
    reached = [0]

    def pieces() -> Iterator[bytes]:
        for i in range(2000):
            reached[0] = next(taken)
            yield sse(record(f"{i:099d}\n"))
        yield END

    reader = reading(LogStream(True, pieces(), lambda: None), keep=1000)
    assert reader.lines(0, 1)
    time.sleep(0.1)
    assert reached[0] < 30
    assert all_lines(reader) == [f"{i:099d}" for i in range(2000)]
    reader.close()


def test_the_last_line_comes_without_its_end_only_when_the_log_is_complete() -> None:
    reader = reading(stream(sse(record("a\nb"))), stream(sse(record("a\nbc")), END))
    assert all_lines(reader) == ["a", "bc"]
    reader.close()


def test_standard_error_is_kept_apart() -> None:
    reader = reading(stream(sse(record("a"), record("warn", "stderr"), record("b\n"), record("ing\n", "stderr")), END))
    assert all_lines(reader) == ["ab"]
    assert reader.stderr() == ["warning"]
    reader.close()


def test_garbage_on_one_connection_only_is_read_from_the_next() -> None:
    good = [sse(record(f"{i}\n")) for i in range(5)]
    torn = b"".join((*good[:2], b"data: {torn\n\n", *good[3:]))
    reader = reading(stream(torn, END), stream(b"".join(good), END))
    assert all_lines(reader) == ["0", "1", "2", "3", "4"]
    reader.close()


def test_garbage_on_every_connection_is_passed_over() -> None:
    torn = b"".join(sse(record(f"{i}\n")) + b"data: {torn\n\n" for i in range(3 * REPLAYS))
    reader = reading(lambda: stream(torn, END))
    assert all_lines(reader) == [str(i) for i in range(3 * REPLAYS)]
    reader.close()


def timed(*texts: str) -> list[bytes]:
    return [sse({"stream_name": "stdout", "time": 0.5 * i, "data": text}) for i, text in enumerate(texts)]


@pytest.mark.parametrize("torn", [False, True])
def test_a_replay_on_the_same_connection_repeats_nothing(torn: bool) -> None:
    steps = timed("a\n", "b\n", "c\n", "d\n")
    begun = b"".join(steps[:3])
    again = [stream((begun[:-9] if torn else begun) + b"".join(steps), END) for _ in range(2)]
    reader = reading(*again, stream(b"".join(steps), END))
    assert all_lines(reader) == ["a", "b", "c", "d"]
    reader.close()


def test_clocks_that_go_back_for_ever_cost_some_connections_and_no_lines() -> None:
    wire = sse(*({"stream_name": "stdout", "time": 9.0 - i, "data": f"{i}\n"} for i in range(9)))
    connections = itertools.count()
    reader = reading(lambda: (next(connections), stream(wire, END))[1])
    assert all_lines(reader) == [str(i) for i in range(9)]
    assert next(connections) <= REPLAYS + 1
    reader.close()


def test_a_finished_log_that_never_ends_is_taken_as_it_is_after_some_tries() -> None:
    half = json.dumps([record("a\nb")]).encode()[:-1]
    tries = itertools.count()
    reader = reading(lambda: (next(tries), stream(half, live=False))[1])
    assert all_lines(reader) == ["a", "b"]
    assert next(tries) == REPLAYS
    reader.close()


@pytest.mark.parametrize("early", [stream(END), stream(b"[]", live=False), stream(sse(record("starting\n")), END)])
def test_a_log_that_ends_before_its_kernel_has_begun_is_looked_at_again(early: LogStream) -> None:
    whole = stream(sse(record("starting\nepoch 1\n"), record("!\n", "stderr")), END)
    reader = reading(early, whole, reopen=0.05)
    found: list[str] = []
    until = time.monotonic() + 2
    while len(found) < 2 and time.monotonic() < until:
        found += reader.lines(len(found), 0.1)
        time.sleep(0.01)
    assert found == ["starting", "epoch 1"]
    time.sleep(0.06)
    assert reader.lines(2, 0.1) == []
    assert reader.stderr() == ["!"]
    reader.close()


def test_a_log_that_has_ended_is_not_read_again_in_a_circle() -> None:
    connections = itertools.count()
    reader = reading(lambda: (next(connections), stream(sse(record("a\n")), END))[1], reopen=0.2)
    assert all_lines(reader) == ["a"]
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        assert reader.lines(1, 0.01) == []
    assert next(connections) <= 4
    reader.close()


def test_a_kernel_without_a_log_yet_is_asked_again_and_says_why_nothing_comes() -> None:
    def none() -> LogStream:
        raise UnansweredError("no session")

    reader = reading(none, none, none, stream(sse(record("a\n")), END))
    assert all_lines(reader) == ["a"]
    reader.close()
    silent = reading(none)
    assert silent.lines(0, 0.05) == []
    assert silent.problem == "no session"
    assert not silent.ended
    silent.close()


def test_a_refused_credential_is_raised_and_heals() -> None:
    def refused() -> LogStream:
        raise CredentialError("no")

    gate = threading.Event()

    def later() -> LogStream:
        if not gate.is_set():
            return refused()
        return stream(sse(record("a\n")), END)

    reader = reading(later)
    with pytest.raises(CredentialError):
        reader.lines(0, 5)
    gate.set()
    until = time.monotonic() + 2
    found: list[str] = []
    while not found and time.monotonic() < until:
        try:
            found = reader.lines(0, 0.5)
        except CredentialError:
            time.sleep(0.01)
    assert found == ["a"]
    reader.close()


# Over real sockets.


def real(url: str) -> LogReader:
    signed = Wire(None, endpoint=url, limits=LIMITS)
    return LogReader(lambda: signed.open_log("alice", "x"), pauses=NO_PAUSE)


def live(pieces: Iterator[bytes], **faults: Any) -> Reply:
    return Reply(200, headers={"Content-Type": "text/event-stream"}, pieces=pieces, **faults)


def test_lines_come_while_the_kernel_runs_and_over_cuts_and_silences() -> None:
    steps = [sse(record(f"epoch {i}\n")) for i in range(6)]

    gate = threading.Event()

    def silent() -> Iterator[bytes]:
        yield from steps[:4]
        gate.wait(20)  # longer than our own limit

    replies = (
        live(iter(steps[:2]), cut=0),
        Reply(503),
        live(iter([b"".join(steps[:3])[:-7]]), cut=0),
        live(silent()),
        says([record(f"epoch {i}\n") for i in range(6)]),
    )
    with serving(in_turn(*replies)) as server:
        reader = real(server.url)
        assert all_lines(reader, 5) == [f"epoch {i}" for i in range(6)]
        assert len(server.requests) == 5
        reader.close()
        gate.set()


def test_a_line_is_handed_on_when_it_comes_and_not_when_a_buffer_is_full() -> None:
    sent: list[float] = []

    def slowly() -> Iterator[bytes]:
        for i in range(3):
            time.sleep(0.15)
            sent.append(time.monotonic())
            yield sse(record(f"{i}\n"))
        yield END

    with serving(in_turn(live(slowly()))) as server:
        reader = real(server.url)
        for i in range(3):
            assert reader.lines(i, 2) == [str(i)]
            assert time.monotonic() - sent[i] < 0.1
        reader.close()


def test_a_stream_without_chunks_is_handed_on_at_once_too() -> None:
    def answer(request: Request) -> Reply:
        return Reply(200, sse(record("a\n")), {"Content-Type": "text/event-stream", "Content-Length": "100000"})

    with serving(answer) as server:
        reader = real(server.url)
        started = time.monotonic()
        assert reader.lines(0, 2) == ["a"]
        assert time.monotonic() - started < 0.4
        reader.close()


def test_close_ends_a_thread_that_waits_for_the_server() -> None:
    gate = threading.Event()

    def hang() -> Iterator[bytes]:
        yield sse(record("a\n"))
        gate.wait(5)

    with serving(in_turn(live(hang()))) as server:
        signed = Wire(None, endpoint=server.url, limits=Limits(log_silence=30))
        reader = LogReader(lambda: signed.open_log("alice", "x"))
        assert reader.lines(0, 2) == ["a"]
        assert reader._reading is not None
        thread = reader._reading.thread
        started = time.monotonic()
        reader.close()
        assert time.monotonic() - started < 0.5
        assert not thread.is_alive()
        assert reader.lines(0, 5) == []
        gate.set()
