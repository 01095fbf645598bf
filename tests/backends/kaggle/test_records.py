"""What a log is made of: records in two wrappings, cut anywhere, and the lines that they make."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.kaggle.client import records
from backends.kaggle.client.records import Lines, Mark, array, events

END = b"data: END_OF_LOG\n\n"
texts = st.text(st.one_of(st.sampled_from('ab\n\r {}"\\é☃😀'), st.characters(exclude_categories=["Cs"])), max_size=200)


def record(data: str, stream: str = "stdout") -> dict[str, Any]:
    return {"stream_name": stream, "time": 1.5, "data": data}


def sse(*found: dict[str, Any], ascii_only: bool = True) -> bytes:
    lines = (json.dumps(each, ensure_ascii=ascii_only) for each in found)
    return b"".join(b"data: " + line.encode("utf-8", "surrogateescape") + b"\n\n" for line in lines)


def cut(data: bytes | str, places: list[int]) -> list[Any]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


def lines_of(found: Iterator[Any]) -> list[str]:
    made = Lines()
    lines = [line for each in found if isinstance(each, dict) for _, line in made.feed(each["data"])]
    return lines + [line for _, line in made.last()]


def expected(text: str) -> list[str]:
    *whole, rest = text.split("\n")
    return [line.removesuffix("\r") for line in (*whole, *([rest] if rest else []))]


places = st.lists(st.integers(0, 10_000), max_size=12)


@given(texts, places, places, st.booleans())
def test_a_text_cut_into_records_and_the_stream_cut_into_pieces_give_the_same_lines(
    text: str, in_text: list[int], in_stream: list[int], ascii_only: bool
) -> None:
    wire = sse(*map(record, cut(text, in_text)), ascii_only=ascii_only) + END
    assert lines_of(events(cut(wire, in_stream))) == expected(text)


@given(texts, places, places, st.sampled_from([None, 1]))
def test_a_finished_log_cut_into_pieces_gives_the_same_lines(
    text: str, in_text: list[int], in_stream: list[int], indent: int | None
) -> None:
    wire = json.dumps([record(each) for each in cut(text, in_text)], indent=indent).encode()
    found = list(array(cut(wire, in_stream)))
    assert found[-1] is Mark.END
    assert lines_of(iter(found)) == expected(text)


@given(texts, places, st.booleans())
def test_a_character_cut_between_two_records_is_whole_again(text: str, inside: list[int], pairs: bool) -> None:
    if pairs:  # cut between the halves of a surrogate pair, as a server does that counts in UTF-16
        units = text.encode("utf-16-le")
        data = [part.decode("utf-16-le", "surrogatepass") for part in cut_even(units, inside)]
        wire = sse(*map(record, data))
    else:  # cut between the bytes of a character
        data = [part.decode("utf-8", "surrogateescape") for part in cut(text.encode(), inside)]
        wire = sse(*map(record, data), ascii_only=False)
    assert lines_of(events([wire, END])) == expected(text)


def cut_even(units: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(units), *(2 * (place % (len(units) // 2 + 1)) for place in places)})
    return [units[start:end] for start, end in itertools.pairwise(at)]


@given(st.binary(max_size=300), places)
def test_no_bytes_break_the_readers(data: bytes, inside: list[int]) -> None:
    for reader in (events, array):
        for found in reader(cut(data, inside)):
            assert isinstance(found, (dict, Mark))


@given(st.lists(st.sampled_from(["ok", "{", "data", "[]", "dsta: x", "5", '{"data": ']), max_size=8))
def test_garbage_between_records_costs_only_itself(garbage: list[str]) -> None:
    wire = b"".join(b"data: " + each.encode() + b"\n\n" + sse(record(f"{i}\n")) for i, each in enumerate(garbage))
    found = list(events([wire, END]))
    assert lines_of(iter(found)) == [str(i) for i in range(len(garbage))]
    assert found.count(Mark.GARBAGE) == len(garbage)


@pytest.mark.parametrize("broken", ["{", "xx", '{"data": ', '{"data": "a', "nan nan", "{{"])
def test_garbage_in_a_finished_log_costs_only_itself(broken: str) -> None:
    wire = f"[{json.dumps(record('a'))},{broken},\n{json.dumps(record('b'))}]".encode()
    found = list(array([wire]))
    assert lines_of(iter(found)) == ["ab"]
    assert Mark.GARBAGE in found
    assert found[-1] is Mark.END


def test_an_event_of_several_lines_is_one_record_and_comments_are_none() -> None:
    wire = b': ping\r\n\r\nevent: log\r\nid: 7\r\ndata: {"data":\r\ndata: "a\\n"}\r\n\r\n' + END
    assert list(events([wire])) == [{"data": "a\n"}, Mark.END]


def test_a_record_without_an_end_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RECORD_LIMIT", 1000)
    long = sse(record("x" * 5000))
    pieces = [*(long[i : i + 100] for i in range(0, len(long), 100)), sse(record("a\n")), END]
    assert list(events(pieces)) == [Mark.GARBAGE, record("a\n"), Mark.END]


def test_a_line_without_an_end_is_cut_off_and_the_next_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LINE_LIMIT", 10)
    made = Lines()
    assert [each for _ in range(9) for each in made.feed("abc")] == []
    assert list(made.feed("\nnext\n")) == [(0, "abcabcabca"), (1, "next")]


@pytest.mark.parametrize("page", [b"", b"   ", b"<html>", b'{"code": 404}', b"null"])
def test_what_is_no_array_is_no_finished_log(page: bytes) -> None:
    assert list(array([page])) == []
