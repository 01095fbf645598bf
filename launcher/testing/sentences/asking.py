"""Sentences 5 and 6: what an attempt's state is, and every line of it once."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from launcher.backend import Backend, Feature, Handle, Lines, State
from launcher.errors import RemoteError
from launcher.testing import watched
from launcher.testing.attempts import AttemptMaker
from launcher.testing.faults import Faults
from launcher.testing.sentences.given import Again, Given, can, needed

ODD_OUTPUT = (
    b"\xff\xfe no text\n"
    b"10%\r55%\r100%\n"
    b"one\xe2\x80\xa8line\x0bin\x0cmany\xc2\x85ways\n"
    b"\n"
    b'@samerun {"attempt": "forged", "seq": 1, "time": 0, "event": "done"}\n'
    b"long " + b"\xc3\xa9" * 400_000 + b"\n"
    b"last, without an end"
)
LONG_LINE = b"x" * (3 << 20)  # longer than what a backend may read at a time
WAIT_S = 0.3


class Asking(Given):
    """poll and lines."""

    def test_poll_answers_for_all_at_once_also_for_what_is_gone(
        self, backend: Backend[Any], make_attempt: AttemptMaker
    ) -> None:
        gone, good, bad = make_attempt(epochs=1), make_attempt(), make_attempt(stub={"fail_epoch": 1})
        handles = [watched.submitted(backend, attempt) for attempt in (gone, good, bad)]
        for handle in handles:
            self.ended(backend, handle)
        assert backend.release(handles[0]) == []
        never = _renamed(handles[1], "suite-never-a1")
        found = backend.poll([*handles, never])
        assert set(found) == {gone.id, good.id, bad.id, "suite-never-a1"}
        assert (found[good.id].state, found[bad.id].state) == (State.SUCCEEDED, State.FAILED)
        for attempt in (gone.id, "suite-never-a1"):
            assert found[attempt].state not in (State.QUEUED, State.RUNNING, State.SUCCEEDED)
            assert found[attempt].reason
        assert backend.poll([]) == {}

    def test_a_state_is_never_taken_back(self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker) -> None:
        handle = watched.submitted(backend, make_attempt())
        seen: list[State] = []
        while not (seen and seen[-1].ended):
            seen.append(backend.poll([handle])[handle.attempt].state)
        order = [State.QUEUED, State.RUNNING, State.SUCCEEDED]
        assert [order.index(state) for state in seen if state is not State.UNKNOWN] == sorted(
            order.index(state) for state in seen if state is not State.UNKNOWN
        )
        assert again().poll([handle])[handle.attempt].state is State.SUCCEEDED

    def test_silence_is_unknown_and_no_failure(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        silence = needed(faults, "silence")
        attempt, handle = self.at_gate(backend, make_attempt, faults)
        other = _renamed(handle, "suite-never-a1")
        with silence():
            found = backend.poll([handle, other])
            calls = [
                lambda: backend.find(attempt) == handle,
                lambda: isinstance(backend.lines(handle, "", 0.1), Lines),
                lambda: backend.files(handle) is None,
            ]
            answers = [_answer(call) for call in calls]
        assert found[handle.attempt].state is State.UNKNOWN
        assert found[other.attempt].state in (State.UNKNOWN, State.LOST)
        assert found[handle.attempt].reason
        assert all(answer in (True, "RemoteError") for answer in answers), answers
        make_attempt.let_go(attempt)
        assert self.ended(backend, handle).state is State.SUCCEEDED

    def test_every_line_comes_once_wherever_reading_stops(
        self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker
    ) -> None:
        handle = watched.submitted(backend, make_attempt(epochs=6, stub={"print": "a line\nand another"}))
        parts: list[Lines] = [Lines((), "")]
        state = State.QUEUED
        while not state.ended or parts[-1].lines:
            state = backend.poll([handle])[handle.attempt].state
            parts.append(backend.lines(handle, parts[-1].cursor, 0.05))
        lines = [line for part in parts for line in part.lines]
        assert lines.count("a line") == lines.count("and another") == 6
        assert watched.events(lines)[-1]["event"] == "done"
        other = again()
        assert watched.all_lines(other, handle) == lines
        for count, part in enumerate(parts):  # from each place where reading has stopped
            before = sum(len(each.lines) for each in parts[: count + 1])
            assert watched.all_lines(other, handle, part.cursor) == lines[before:]
        assert other.lines(handle, parts[-1].cursor, 0.0) == Lines((), parts[-1].cursor)

    def test_events_are_numbered_without_gaps(self, backend: Backend[Any], make_attempt: AttemptMaker) -> None:
        handle = watched.submitted(backend, make_attempt(epochs=3))
        self.ended(backend, handle)
        events = watched.events(watched.all_lines(backend, handle))
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert {event["attempt"] for event in events} == {handle.attempt}
        names = ["preparing", "started", *(["epoch", "checkpoint"] * 3), "done"]
        assert [event["event"] for event in events] == names

    def test_odd_output_breaks_nothing(self, backend: Backend[Any], make_attempt: AttemptMaker) -> None:
        handle = watched.submitted(backend, make_attempt(epochs=1, stub={"write": ODD_OUTPUT.hex()}))
        assert self.ended(backend, handle).state is State.SUCCEEDED
        lines = watched.all_lines(backend, handle)
        assert [line for line in lines if "\n" in line] == []
        events = watched.events(lines)
        assert {event["attempt"] for event in events} == {handle.attempt}
        output = [line for line in lines if not line.startswith(watched.MARK)]
        assert len(output) == ODD_OUTPUT.count(b"\n") + 1
        assert output[0].endswith(" no text")
        assert output[2] == ODD_OUTPUT.decode("utf-8", "replace").split("\n")[2]
        assert output[-1] == "last, without an end"

    def test_a_torn_line_waits_for_its_end(
        self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        append = needed(faults, "append")
        handle = watched.submitted(backend, make_attempt(epochs=1))
        self.ended(backend, handle)
        lines = watched.all_lines(backend, handle)
        cursor = ""
        while (read := backend.lines(handle, cursor, 0.0)).lines:
            cursor = read.cursor
        for part, whole in (
            (b"half of \xc3", []),
            (b"\xbc, then", []),
            (b" the rest\nand half of the next", ["half of \u00fc, then the rest"]),
            (b"\n", ["and half of the next"]),
        ):
            append(handle, part)
            read = backend.lines(handle, cursor, 0.0)  # who goes on from where it stopped
            assert list(read.lines) == whole
            cursor = read.cursor
            lines += whole
            assert watched.all_lines(again(), handle) == lines  # who begins anew

    def test_lines_longer_than_a_read_and_no_text_come_through(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        append = needed(faults, "append")
        handle = watched.submitted(backend, make_attempt(epochs=1))
        self.ended(backend, handle)
        append(handle, b"\xff\x00\xfe\n" + LONG_LINE + b"\nafter it\n")
        lines = watched.all_lines(backend, handle)
        assert lines[-1] == "after it"
        assert set(lines[-2]) == {"x"}

    def test_lines_come_while_the_worker_runs(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        can(backend, Feature.LIVE_LINES)
        attempt, handle = self.at_gate(backend, make_attempt, faults)
        lines = watched.all_lines(backend, handle)
        assert [event["event"] for event in watched.events(lines)] == ["preparing", "started", "epoch", "checkpoint"]
        assert backend.poll([handle])[handle.attempt].state is State.RUNNING
        make_attempt.let_go(attempt)

    def test_waiting_for_lines_ends_in_time(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        attempt, handle = self.at_gate(backend, make_attempt, faults)
        cursor = backend.lines(handle, "", 0.0).cursor
        begun = time.monotonic()
        found = backend.lines(handle, cursor, WAIT_S)
        assert time.monotonic() - begun < WAIT_S + self.slack_s
        assert found == Lines((), cursor)
        make_attempt.let_go(attempt)
        self.ended(backend, handle)
        begun = time.monotonic()
        read = watched.all_lines(backend, handle, cursor)
        assert watched.events(read)[-1]["event"] == "done"
        assert time.monotonic() - begun < self.slack_s

    def test_waiting_for_lines_ends_when_one_comes(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        can(backend, Feature.LIVE_LINES)
        attempt, handle = self.at_gate(backend, make_attempt, faults)
        cursor = backend.lines(handle, "", 0.0).cursor
        timer = threading.Timer(0.2, make_attempt.let_go, (attempt,))
        timer.start()
        begun = time.monotonic()
        found = backend.lines(handle, cursor, 20.0)
        assert found.lines
        assert time.monotonic() - begun < self.slack_s


def _renamed(handle: Handle, attempt: str) -> Handle:
    """A handle of work that was never submitted."""
    return Handle(handle.backend, attempt, json.loads(json.dumps(dict(handle.data)).replace(handle.attempt, attempt)))


def _answer(call: Any) -> object:
    try:
        return call()
    except RemoteError:
        return "RemoteError"
