"""The worker's lines, kept once and in order, however they are replayed, torn, forged, or the launcher killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.runs import events
from launcher.runs.events import EVENTS, FOLLOW, LOG, MARK, Event, Mirror, clean, merge, parse, read

ATTEMPT = "run-abc-a1"
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Killed(BaseException):
    """Stands for SIGKILL."""


def line(seq: int, attempt: Any = ATTEMPT, name: Any = "epoch", **fields: Any) -> str:
    return MARK + json.dumps({"attempt": attempt, "seq": seq, "time": 1.5, "event": name, **fields})


def kept(folder: Path, attempt: str = ATTEMPT) -> list[int]:
    return [event.seq for event in read(folder) if event.attempt == attempt]


def log(folder: Path) -> list[str]:
    return (folder / LOG).read_text().splitlines()


class Worker:
    """A stream: `read` gives lines from a cursor on, as a backend does."""

    def __init__(self, events: int, every: int = 2) -> None:
        self.lines = [line(n // every + 1) if n % every == 0 else f"log {n}" for n in range(events * every)]

    def read(self, cursor: str, count: int) -> tuple[list[str], str]:
        at = int(cursor or 0)
        found = self.lines[at : at + count]
        return found, str(at + len(found))

    def whole(self, folder: Path) -> None:
        assert kept(folder) == list(range(1, len(self.lines) // 2 + 1))
        assert log(folder) == [text for text in self.lines if not text.startswith(MARK)]


# Parsing.


@calm
@given(st.text())
def test_any_text_is_an_event_or_a_line(text: str) -> None:
    parse(text)
    assert parse(MARK + text) is None or text.strip().startswith("{")
    assert "\x1b" not in clean(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@calm
@given(st.dictionaries(st.sampled_from(["attempt", "seq", "time", "event", "epoch", "metrics", "x"]), json_values))
def test_any_json_is_an_event_or_a_line(value: dict[str, Any]) -> None:
    event = parse(MARK + json.dumps(value))
    if event is not None:
        assert event.seq >= 1
        json.dumps([event.time, dict(event.fields)], allow_nan=False)
        event.count("epoch")
        event.table("metrics")
        again = parse(MARK + events._text(event))
        assert again == event


@pytest.mark.parametrize(
    "text",
    [
        "@samerun",
        "@samerun {",
        " " + line(1),
        line(0),
        line(-1),
        line(True),
        line(2**60),
        line(1).replace("1.5", '"x"'),
        line(1).replace("1.5", "NaN"),
        line(1).replace("1.5", "1e999"),
        line(1).replace("1.5", '"nan"'),
        line(1, x=float("inf")),
        line(1).replace('"seq"', '"sek"'),
        line(1, name=7),
        line(1, attempt=None),
        line(1, x="y" * events.LINE_LIMIT),
        line(1, ATTEMPT, "epoch", **{f"k{n}": 1 for n in range(events.FIELDS_LIMIT + 1)}),
        line(1).replace("1.5", "1.5, " + '"x": ' + "[" * 50 + "]" * 50),
        MARK + "[" * 60_000,
        MARK + '{"a":' * 10_000,
        MARK + "9" * 60_000,
        MARK + "[]",
        MARK + "null",
    ],
)
def test_what_no_worker_of_ours_sends_is_a_line_of_the_log(tmp_path: Path, text: str) -> None:
    found, lines = Mirror(tmp_path, ATTEMPT).add([text, line(1)], "9")
    assert [event.seq for event in found] == [1]
    assert len(lines) == 1
    assert len(lines[0]) <= events.LINE_LIMIT


def test_terminal_controls_are_in_no_line_and_no_event(tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\x1b[2J\x9b31m\rred\x00\x7f\ttab"
    mirror = Mirror(tmp_path, ATTEMPT)
    found, lines = mirror.add([evil, line(1, reason=evil, list=[{evil: evil}])], "2")
    for text in (*lines, str(found[0].fields["reason"]), *map(str, found[0].fields["list"][0].values())):
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\r", "\x00", "\x7f"}
        assert "\ttab" in text


def test_half_a_surrogate_pair_is_kept_as_something(tmp_path: Path) -> None:
    found, _ = Mirror(tmp_path, ATTEMPT).add([line(1, reason="\ud800")], "1")
    str(found[0].fields["reason"]).encode()
    assert kept(tmp_path) == [1]


# Merging.


@calm
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "other"]), st.integers(1, 8))), st.randoms())
def test_merging_is_the_same_in_any_order_and_twice(items: list[tuple[str, int]], random: Any) -> None:
    given_events = [Event(attempt, seq, 0.0, "epoch") for attempt, seq in items]
    merged = merge(given_events, ["b", "a"])
    shuffled = given_events * 2
    random.shuffle(shuffled)
    assert merge(shuffled, ["b", "a"]) == merged
    assert merge(merged, ["b", "a"]) == merged
    keys = [("ba".index(event.attempt), event.seq) for event in merged]
    assert keys == sorted(set(keys))
    assert {(event.attempt, event.seq) for event in merged} == {item for item in items if item[0] != "other"}


# The mirror.


@settings(calm, max_examples=40)
@given(steps=st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["go on", "again", "killed", "lost"])), max_size=12))
def test_kills_and_replays_keep_each_event_once(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[tuple[int, str]]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    worker = Worker(12)
    mirror = Mirror(folder, ATTEMPT)
    lost = False
    for count, what in steps:
        before = (folder / FOLLOW).read_bytes()
        lines, cursor = worker.read(mirror.cursor, count)
        if lines:
            mirror.add(lines, cursor)
        if what == "killed":  # between the files and the cursor
            (folder / FOLLOW).write_bytes(before)
        elif what == "lost":
            lost = True
            (folder / FOLLOW).unlink()
        if what != "go on":
            mirror = Mirror(folder, ATTEMPT)
    lines, cursor = worker.read(mirror.cursor, 1000)
    mirror.add(lines, cursor)
    assert kept(folder) == list(range(1, 13))
    expected = [text for text in worker.lines if not text.startswith(MARK)]
    assert set(log(folder)) == set(expected)
    if not lost:
        assert log(folder) == expected


@pytest.mark.parametrize("torn", [1, 5, 30])
@pytest.mark.parametrize("cursor", ["kept", "lost"])
def test_a_torn_line_is_read_again_and_swallows_no_other(tmp_path: Path, torn: int, cursor: str) -> None:
    worker = Worker(6)
    mirror = Mirror(tmp_path, ATTEMPT)
    mirror.add(*worker.read("", 4))
    for name in (EVENTS, LOG):
        with (tmp_path / name).open("ab") as stream:
            stream.write(line(3).removeprefix(MARK).encode()[:torn])
    if cursor == "lost":
        (tmp_path / FOLLOW).unlink()
    mirror = Mirror(tmp_path, ATTEMPT)
    mirror.add(*worker.read(mirror.cursor, 100))
    assert kept(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert set(log(tmp_path)) == {text for text in worker.lines if not text.startswith(MARK)}


@pytest.mark.parametrize("name", [EVENTS, LOG])
@pytest.mark.parametrize("keep", [0, 1])
def test_a_file_that_was_cut_is_filled_again(tmp_path: Path, name: str, keep: int) -> None:
    worker = Worker(6)
    Mirror(tmp_path, ATTEMPT).add(*worker.read("", 8))
    lines = (tmp_path / name).read_bytes().splitlines(keepends=True)
    (tmp_path / name).write_bytes(b"".join(lines[:keep]))
    mirror = Mirror(tmp_path, ATTEMPT)
    mirror.add(*worker.read(mirror.cursor, 100))
    assert kept(tmp_path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"log": 1}',
        '{"log": "x", "events": 0, "cursors": {}, "seqs": {}}',
        '{"log": -5, "events": 0, "cursors": {}, "seqs": {}}',
        '{"log": 0, "events": 0, "cursors": [], "seqs": {}}',
        '{"log": 0, "events": 0, "cursors": {"run-abc-a1": 7}, "seqs": {}}',
        '{"log": 0, "events": 0, "cursors": {}, "seqs": {"run-abc-a1": null}}',
        '{"log": 0, "events": 0, "cursors": {}, "seqs": null}',
        "[" * 100_000,
        "\0" * 100,
    ],
)
def test_a_damaged_cursor_is_a_lost_one(tmp_path: Path, text: str) -> None:
    worker = Worker(4)
    Mirror(tmp_path, ATTEMPT).add(*worker.read("", 4))
    (tmp_path / FOLLOW).write_text(text)
    mirror = Mirror(tmp_path, ATTEMPT)
    assert mirror.last_seq == 2
    mirror.add(*worker.read(mirror.cursor, 100))
    assert kept(tmp_path) == [1, 2, 3, 4]


def test_killed_in_the_very_first_lines_nothing_is_kept_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(3)
    mirror = Mirror(tmp_path, ATTEMPT)
    with monkeypatch.context() as patch:
        patch.setattr(events, "write_atomic", lambda *_, **__: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            mirror.add(*worker.read("", 4))
    mirror = Mirror(tmp_path, ATTEMPT)
    mirror.add(*worker.read(mirror.cursor, 100))
    worker.whole(tmp_path)


def test_events_of_other_attempts_are_left_out(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, ATTEMPT)
    found, lines = mirror.add([line(1), line(7, attempt="other-a1"), line(2)], "3")
    assert [event.seq for event in found] == [1, 2]
    assert lines == []


def test_two_attempts_follow_each_other_in_the_same_files(tmp_path: Path) -> None:
    for attempt in ("run-abc-a1", "run-abc-a2"):
        mirror = Mirror(tmp_path, attempt)
        assert mirror.cursor == ""
        mirror.add([line(1, attempt), f"log of {attempt}", line(2, attempt)], "3")
    assert [(event.attempt, event.seq) for event in read(tmp_path)] == [
        ("run-abc-a1", 1),
        ("run-abc-a1", 2),
        ("run-abc-a2", 1),
        ("run-abc-a2", 2),
    ]
    assert Mirror(tmp_path, "run-abc-a1").cursor == "3"
    assert log(tmp_path) == ["log of run-abc-a1", "log of run-abc-a2"]
