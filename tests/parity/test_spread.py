"""The statistics keep their word: false alarms at the stated level, equivalence claimed wrongly at most as often."""

from __future__ import annotations

import random
import statistics

import pytest

from launcher.parity.curves.layer import curves_layer
from launcher.parity.curves.spread import (
    BY_EPOCH,
    LEVEL,
    SHARE,
    SUMMARY,
    Test,
    against,
    corrected,
    equivalence,
    reach,
    seeds_needed,
)
from launcher.parity.model import Verdict
from tests.parity.made import trained

COUNTS = (3, 5, 8)
TRIALS = 250


def drawn(value: float, p: float, family: str = SUMMARY) -> Test:
    return Test("x", "x", family, value, 0.0, 1.0, 5, -1.0, 1.0, p)


def test_the_interval_is_the_one_of_the_textbooks() -> None:
    multipliers = [reach(1.0, count) for count in COUNTS]
    assert multipliers == pytest.approx([4.97, 3.04, 2.51], abs=0.005)


def test_one_value_is_outside_its_interval_five_times_in_a_hundred() -> None:
    draw = random.Random(1)
    for count in COUNTS:
        outside = 0
        for _ in range(2000):
            made = against("x", "x", SUMMARY, draw.gauss(0, 1), [draw.gauss(0, 1) for _ in range(count)])
            assert made is not None
            assert (made.p < 0.05) == (not made.low <= made.value <= made.high)
            outside += made.p < 0.05
        assert outside / 2000 == pytest.approx(0.05, abs=0.016)  # three standard deviations of the simulation


def test_holm_is_stricter_with_more_tests_and_never_out_of_order() -> None:
    made = corrected([drawn(1, 0.01), drawn(2, 0.02), drawn(3, 0.03)])
    assert [one.adjusted for one in made] == pytest.approx([0.03, 0.04, 0.04])
    assert corrected([drawn(1, 0.01)])[0].adjusted == pytest.approx(0.01)


def test_both_families_together_have_the_stated_level() -> None:
    assert sum(SHARE.values()) == pytest.approx(1.0)
    just = SHARE[SUMMARY] * LEVEL
    inside, outside = corrected([drawn(1, just + 1e-6)]), corrected([drawn(1, just - 1e-6)])
    assert (inside[0].outside, outside[0].outside) == (False, True)
    assert corrected([drawn(1, SHARE[BY_EPOCH] * LEVEL + 1e-6, BY_EPOCH)])[0].outside is False


def test_references_that_are_all_equal_have_no_spread_to_speak_of() -> None:
    assert against("x", "x", SUMMARY, 0.4, [0.5, 0.5, 0.5]) is None
    same = against("x", "x", SUMMARY, 0.5, [0.5, 0.5, 0.5])
    assert same is not None
    assert same.p == 1.0
    assert not equivalence(same, 0.1).shown
    assert against("x", "x", SUMMARY, 0.5, [0.5]) is None


def test_equivalence_is_claimed_of_a_run_at_the_margin_five_times_in_a_hundred_at_most() -> None:
    draw, margin, wrong = random.Random(2), 6.0, 0
    for _ in range(2000):
        made = against("x", "x", SUMMARY, draw.gauss(margin, 1), [draw.gauss(0, 1) for _ in range(5)])
        assert made is not None
        wrong += equivalence(made, margin).shown
    assert 0 < wrong / 2000 <= 0.05 + 0.015


def test_more_seeds_settle_a_large_difference_and_none_a_small_one() -> None:
    counts = [seeds_needed(difference, 0.016) for difference in (0.3, 0.1, 0.05, 0.04)]
    assert counts == [3, 5, 17, None]
    assert seeds_needed(0.02, 0.016) is None


@pytest.mark.parametrize("count", COUNTS)
def test_a_whole_table_of_another_seed_is_a_false_alarm_at_most_at_the_stated_level(count: int) -> None:
    alarms = 0
    for trial in range(TRIALS):
        run, *references = (trained(1000 * trial + number) for number in range(count + 1))
        said = curves_layer(run, references[0], references[1:])
        assert said.verdict in (Verdict.CONSISTENT, Verdict.DIFFERENT)
        alarms += said.verdict is Verdict.DIFFERENT
    deviation = (LEVEL * (1 - LEVEL) / TRIALS) ** 0.5
    assert alarms / TRIALS <= LEVEL + 2.5 * deviation


@pytest.mark.parametrize(
    ("count", "shift", "loss", "least"),
    [(3, -0.3, 1.0, 0.5), (5, -0.12, 1.0, 0.9), (8, -0.06, 1.0, 0.9), (5, 0.0, 1.2, 0.9), (8, 0.0, 1.1, 0.9)],
)
def test_the_power_is_what_the_documents_say(count: int, shift: float, loss: float, least: float) -> None:
    found = 0
    for trial in range(60):
        run = trained(1000 * trial, shift=shift, loss=loss)
        references = [trained(1000 * trial + number) for number in range(1, count + 1)]
        found += curves_layer(run, references[0], references[1:]).verdict is Verdict.DIFFERENT
    assert found / 60 >= least


def test_the_simulated_spread_is_the_one_that_was_measured() -> None:
    finals = [one for seed in range(200) if (one := trained(seed).last("metrics/mAP50-95(B)", (8, 9, 10))) is not None]
    assert statistics.stdev(finals) == pytest.approx(0.016, rel=0.15)
