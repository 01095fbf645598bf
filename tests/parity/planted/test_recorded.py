"""Every planted difference that a layer can see is found by it, and no benign pair is called different.

The runs are real small trainings, recorded by `python -m benchmarks.parity_roc --record` without their weights.
"""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pytest

from launcher.parity import Layer, Verdict
from tests.parity.planted import evidence, kinds, roc
from tests.parity.planted.judging import Judge, sees
from tests.parity.planted.kinds import Pair

LARGEST = 1_500_000
PLANTED, BENIGN = kinds.planted(), kinds.benign()
CERTAIN = {
    "the same run twice", "dataset moved", "other harmless arguments", "another machine's name", "another Python",
    "no probe", "resumed thrice, twice", "NMS IoU of both",
}  # fmt: skip
"""Benign pairs that are the same to the bit."""


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    folder: Path = tmp_path_factory.mktemp("recorded")
    probes: dict[str, Any] = evidence.lay(folder / "runs")
    return Judge(folder, probes)


def test_the_table_has_what_the_issue_asks_for() -> None:
    names = [pair.name for pair in PLANTED]
    assert len(set(names)) == len(names) >= 40
    assert len({pair.name for pair in BENIGN}) == len(BENIGN) >= 20
    assert all(pair.sees or pair.blind for pair in PLANTED)
    seen = {layer for pair in PLANTED for layer in pair.sees}
    assert seen == set(Layer)


def test_the_recording_is_small_and_names_nothing_of_the_machine_that_made_it() -> None:
    assert evidence.RECORDED.stat().st_size < LARGEST
    text = lzma.decompress(evidence.RECORDED.read_bytes()).decode()
    assert not any(word in text for word in ("/tmp/", "/home/", "/root/"))


@pytest.mark.parametrize("pair", PLANTED, ids=lambda pair: pair.name)
def test_a_planted_difference_is_found_by_every_layer_that_can_see_it(judge: Judge, pair: Pair) -> None:
    said = judge.judge(pair)
    missed = {layer: said.of(layer).as_json() for layer, wanted in pair.sees.items() if not sees(said, layer, wanted)}
    assert missed == {}
    if kinds.DIFFERENT in pair.sees.values():
        assert said.verdict is Verdict.DIFFERENT
    if pair.quiet:
        assert said.verdict is not Verdict.DIFFERENT, said.reason
    if pair.sees and kinds.DIFFERENT not in pair.sees.values():
        assert said.differences


@pytest.mark.parametrize("pair", BENIGN, ids=lambda pair: pair.name)
def test_a_benign_pair_is_not_called_different(judge: Judge, pair: Pair) -> None:
    said = judge.judge(pair)
    assert [one.decided for one in said.layers if one.verdict is Verdict.DIFFERENT] == []
    assert said.verdict is not Verdict.DIFFERENT
    assert (said.verdict is Verdict.IDENTICAL) == (pair.name in CERTAIN), said.reason


def test_what_no_layer_sees_is_listed_with_why(judge: Judge) -> None:
    rows = [roc.Row(pair, judge.judge(pair), planted=True) for pair in PLANTED if not pair.sees]
    listed = roc.not_seen(rows)
    assert rows
    assert {text.partition(":")[0] for text in listed} == {row.pair.name for row in rows}
    assert not any("NOT EXPLAINED" in text for text in listed)


def test_weights_that_were_exchanged_after_they_came_back_are_told_by_their_digest(judge: Judge) -> None:
    pair = next(pair for pair in PLANTED if pair.name == "weights of another run later")
    told = [one.what for one in judge.judge(pair).of(Layer.WEIGHTS).differences]
    assert [what for what in told if what.startswith("sha256 of best.pt")]
