"""Whatever a writer could leave is read without a crash; no value is made up, and what was repaired is said."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from launcher.analysis import read_results
from launcher.analysis.model import Results
from launcher.errors import DataError
from tests.analysis.published import HEADER, csv_text, phase2_rows

ROWS = phase2_rows()
TRUE = {int(row["epoch"]): {name: float(f"{row[name]:.6g}") for name in HEADER} for row in ROWS}
DATA = csv_text(ROWS).encode()


def read(data: bytes) -> Results | None:
    """The table, or None where there is none."""
    try:
        return read_results(data)
    except DataError:
        return None


def is_consistent(results: Results) -> bool:
    """Series of one length, epochs ascending and unique, and plain JSON."""
    json.dumps(results.as_json(), allow_nan=False)
    lengths = {len(series) for series in (*results.columns.values(), results.seconds)}
    return lengths <= {len(results.epochs)} and list(results.epochs) == sorted(set(results.epochs))


def is_true(results: Results) -> bool:
    """Every value is the one that was written, or missing."""
    return all(
        math.isnan(value) or value == TRUE[epoch][name]
        for name, series in results.columns.items()
        if name in HEADER
        for epoch, value in zip(results.epochs, series, strict=True)
    )


@given(st.integers(0, len(DATA)), st.permutations(HEADER), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_table_cut_at_any_byte_has_no_value_that_was_not_written(
    cut: int, header: list[str], end: str, marked: bool
) -> None:
    text = csv_text(ROWS, header).replace("\n", end)
    data = text.encode("utf-8-sig" if marked else "utf-8")[:cut]
    results = read(data)
    if results is None:
        assert cut < len(f"{','.join(header)}") + 3
        return
    assert is_consistent(results)
    assert set(results.epochs) <= TRUE.keys()
    assert is_true(results)
    whole = data.endswith((b"\n", b"\r"))
    assert whole or not results.epochs or results.repairs


@given(st.integers(0, len(DATA) * 2), st.sampled_from(["utf-16", "utf-16-le", "utf-16-be"]))
def test_so_does_one_in_another_encoding(cut: int, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    results = read((mark + DATA.decode()).encode(encoding)[:cut])
    assert results is None or (is_consistent(results) and is_true(results))


@given(st.lists(st.sampled_from(range(1, 16)), max_size=40))
def test_rows_repeated_and_in_any_order_give_each_epoch_once(order: list[int]) -> None:
    lines = DATA.decode().splitlines()
    results = read("\n".join([lines[0], *(lines[epoch] for epoch in order), ""]).encode())
    assert results is not None
    assert set(results.epochs) == set(order)
    assert is_consistent(results)
    assert is_true(results)
    assert not results.rewritten
    said = {repair.code for repair in results.repairs}
    assert ("line-twice" in said) == (len(order) > len(set(order)))
    firsts = list(dict.fromkeys(order))
    assert ("out-of-order" in said) == (firsts != sorted(firsts))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(5, 60))
def test_processes_that_resume_leave_each_epoch_once_with_its_own_seconds(kept: list[int], seconds: int) -> None:
    """Each process goes on after the checkpoint: the last row of the one before may be written again."""
    lines, epoch, last = ["epoch,time,train/box_loss"], 1, {}
    for process, count in enumerate(kept, 1):
        for step in range(1, count + 1):
            lines.append(f"{epoch + step - 1},{seconds * step + process},{process}")
            last[epoch + step - 1] = process
        epoch += max(1, count - 1)
    results = read("\n".join([*lines, ""]).encode())
    assert results is not None
    assert is_consistent(results)
    assert results.epochs == tuple(range(1, max(last) + 1))
    assert results.column("train/box_loss") == tuple(float(last[one]) for one in results.epochs)
    again = len(lines) - 1 - len(results.epochs)
    assert sum(results.rewritten.values()) == again
    assert bool(again) == any(repair.code == "epoch-again" for repair in results.repairs)
    for one in results.rewritten:
        assert results.seconds[one - 1] == results.at("time", one)
        assert one in results.restarts


@given(st.integers(0, len(DATA)), st.binary(min_size=1, max_size=200))
def test_spoilt_bytes_crash_nothing(at: int, junk: bytes) -> None:
    results = read(DATA[:at] + junk + DATA[at + len(junk) :])
    assert results is None or is_consistent(results)


@given(st.binary(max_size=400))
def test_any_bytes_crash_nothing(data: bytes) -> None:
    results = read(data)
    assert results is None or is_consistent(results)


@given(st.text(alphabet="0123456789,.;\t eE+-naif\n\repochtrainbox_/", max_size=300))
def test_anything_like_a_table_crashes_nothing(text: str) -> None:
    results = read(f"epoch,time,lr/pg0\n{text}".encode())
    assert results is not None
    assert is_consistent(results)
