"""One run against one is an anecdote, several seeds are a spread, and the same run again is neither."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest

from launcher.analysis import analyse, compare
from launcher.analysis.model import MAP50, Config, Status
from launcher.analysis.seeds import largest_noise, t975
from tests.analysis.views import compared, said, scored


def test_two_single_runs_are_an_anecdote() -> None:
    told = said(scored("b", 0.30), scored("a", 0.40))["one-seed"]
    assert "below 0.036" in told.evidence
    assert largest_noise(0.1) == pytest.approx(0.1 / 1.959964 / math.sqrt(2))


def test_more_seeds_of_the_reference_give_an_interval_that_a_run_is_inside_or_outside_of() -> None:
    seeds = [scored(f"s{index}", value, seed=index) for index, value in enumerate((0.70, 0.72, 0.74))]
    # 4.303 * 0.02 * sqrt(4/3) = 0.099
    inside = said(scored("b", 0.64, box=5.0), *seeds)["within-seeds"]
    assert "0.720 ± 0.099" in inside.message
    outside = said(scored("b", 0.61, box=5.0), *seeds)
    assert "outside" in outside["beyond-seeds"].message
    assert "one-seed" not in outside


def test_a_run_again_number_for_number_is_no_other_seed_nor_is_one_that_was_cut_short() -> None:
    one, again = scored("a", 0.7), scored("again", 0.7)
    assert "one-seed" in said(scored("b", 0.71, box=5.0), one, again)
    crashed = replace(scored("crashed", 0.2, seed=1), status=Status.CRASHED)
    assert "one-seed" in said(scored("b", 0.71, box=5.0), one, crashed)
    told = compare([one, again, crashed, scored("b", 0.71, box=5.0)])
    assert [s.runs for s in told.spreads if s.metric == MAP50] == [("a",), ("b",)]
    assert "beyond-seeds" not in {finding.code for finding in told.findings}


def test_many_runs_against_one_are_one_statement_and_the_luck_of_many_is_said() -> None:
    runs = [scored(f"r{index}", 0.3 + index / 100, box=5.0 + index) for index in range(8)]
    told = [one for one in compare(runs).findings if one.code == "one-seed"]
    assert len(told) == 1
    assert told[0].message.startswith("7 of these runs")
    assert "about 0.4" in compared(*runs)["many-comparisons"].evidence


def test_references_of_another_configuration_are_no_seeds() -> None:
    assert "one-seed" in said(scored("c", 0.6), scored("a", 0.7), scored("b", 0.72, box=5.0))


def test_a_group_of_seeds_tells_its_spread_and_what_another_run_must_exceed() -> None:
    values = (0.70, 0.72, 0.74, 0.71, 0.73)
    runs = [scored(f"s{index}", value, seed=index) for index, value in enumerate(values)]
    told = compare([*runs, scored("other", 0.9, box=5.0)])
    assert [row.group for row in told.rows] == [1, 1, 1, 1, 1, 2]
    spread = next(one for one in told.spreads if one.metric == MAP50 and one.group == 1)
    deviation = statistics.stdev(values)
    assert spread.deviation == pytest.approx(deviation)
    assert spread.needed == pytest.approx(3.04 * deviation, rel=0.001)  # the multiplier of n = 5
    codes = {one.code: one for one in told.findings}
    assert "0.016" in codes["seed-spread"].message
    assert "more than seeds do" in codes["beyond-seeds"].message
    near = compared(*runs, scored("near", 0.76, box=5.0))["within-seeds"]
    assert "+0.040, no more than seeds do (± 0.048)" in near.message


def test_a_run_whose_configuration_is_not_known_is_no_seed_of_another() -> None:
    unknown = replace(scored("b", 0.7), config=Config())
    told = compare([scored("a", 0.3), unknown, unknown])
    assert [row.group for row in told.rows] == [1, 2, 3]
    assert "config-unknown" in {one.code for one in told.findings}


def test_two_groups_of_seeds_are_compared_by_welch() -> None:
    ones = [scored(f"a{index}", value, seed=index) for index, value in enumerate((0.70, 0.72, 0.74))]
    others = [scored(f"b{index}", value, seed=index, box=5.0) for index, value in enumerate((0.71, 0.73, 0.75))]
    # s = 0.02 each: half width t(4) * 0.02 * sqrt(2/3) = 0.045
    told = compared(*ones, *others)["within-seeds"]
    assert "+0.010" in told.message
    assert "± 0.045" in told.message


def test_students_t_is_that_of_the_table() -> None:
    assert [t975(freedom) for freedom in (1, 2, 4, 7, 30)] == [12.706, 4.303, 2.776, 2.365, 2.042]
    # R: qt(0.975, c(31, 60, 1000))
    assert [t975(freedom) for freedom in (31, 60, 1000)] == pytest.approx([2.0395, 2.0003, 1.9623], abs=0.0002)


def test_a_run_that_is_another_one_again_is_said_to_be_and_nothing_is_weighed() -> None:
    one, again = scored("first", 0.3), scored("second", 0.3)
    told = {finding.code for finding in analyse(again, one).sections[1].findings}
    assert "reproduced" in told
    assert not told & {"one-seed", "moving-threshold", "change.mAP50", "few-positives"}
    assert analyse(again, one).key[1].code == "reproduced"
    assert "reproduced" not in {finding.code for finding in analyse(scored("third", 0.31), one).key}
    assert "highest" not in compared(one, again)
