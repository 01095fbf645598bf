"""The curve layer: the same, inside, within a margin, outside, and what keeps it from saying so."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from launcher.analysis.model import MAP50, MAP5095, PRECISION, RECALL
from launcher.parity.curves.bands import bands
from launcher.parity.curves.layer import curves_layer
from launcher.parity.curves.series import Table, needed
from launcher.parity.model import Kind, Verdict
from tests.parity.made import changed, trained, without

REFERENCE = trained(0, "base")
SEEDS = [trained(seed) for seed in range(1, 6)]


def test_the_same_numbers_are_identical_without_any_seed() -> None:
    said = curves_layer(replace(REFERENCE, run="run"), REFERENCE)
    assert said.verdict is Verdict.IDENTICAL
    assert "10 epochs" in said.decided


@pytest.mark.parametrize("column", [MAP50, "train/dfl_loss", "val/cls_loss"])
def test_one_changed_number_is_not_identical(column: str) -> None:
    run = changed(REFERENCE, column, 4, REFERENCE.columns[column][3] * 1.01)
    said = curves_layer(run, REFERENCE)
    assert said.verdict is Verdict.INCONCLUSIVE
    assert "of epoch 4 is" in said.evidence["first_other"]


def test_one_reference_is_inconclusive_and_says_how_many_more_would_settle_it() -> None:
    said = curves_layer(trained(7, shift=-0.2), REFERENCE)
    assert said.verdict is Verdict.INCONCLUSIVE
    assert "more seeds of the reference would settle it" in said.decided or "1 more seed" in said.decided
    assert said.evidence["seeds_needed"]["seeds"] >= 2
    close = curves_layer(changed(REFERENCE, MAP5095, 10, REFERENCE.columns[MAP5095][9] + 0.001), REFERENCE)
    assert "no number of seeds of the reference alone would" in close.decided


def test_another_seed_is_consistent_and_says_what_could_not_have_been_seen() -> None:
    said = curves_layer(trained(99), REFERENCE, SEEDS)
    assert said.verdict is Verdict.CONSISTENT
    assert "inside what 6 seeds give" in said.decided
    assert "no difference below ±0.1" in said.decided


def test_a_worse_run_is_different_and_its_differences_are_listed() -> None:
    said = curves_layer(trained(99, shift=-0.3), REFERENCE, SEEDS)
    assert said.verdict is Verdict.DIFFERENT
    assert "after Holm's correction" in said.decided
    assert any(one.what.startswith("mAP50") for one in said.differences)
    assert {one.kind for one in said.differences} == {Kind.MUST_EQUAL}


def test_losses_tell_what_metrics_do_not() -> None:
    said = curves_layer(trained(99, loss=1.5), REFERENCE, SEEDS)
    assert said.verdict is Verdict.DIFFERENT
    assert any("loss, train" in one.what for one in said.differences)


def test_losses_under_other_gains_are_divided_first() -> None:
    doubled = trained(99)
    doubled = replace(
        doubled,
        columns={**doubled.columns, "train/box_loss": tuple(2 * value for value in doubled.columns["train/box_loss"])},
        per_gain={"train/box_loss": trained(99).columns["train/box_loss"]},
    )
    seeds = [replace(one, per_gain={"train/box_loss": one.columns["train/box_loss"]}) for one in SEEDS]
    reference = replace(REFERENCE, per_gain={"train/box_loss": REFERENCE.columns["train/box_loss"]})
    assert curves_layer(doubled, reference, seeds).verdict is Verdict.CONSISTENT
    raw = [replace(one, per_gain={}) for one in (doubled, reference, *seeds)]
    assert curves_layer(raw[0], raw[1], raw[2:]).verdict is Verdict.DIFFERENT
    said = curves_layer(raw[0], reference, seeds)
    assert said.verdict is Verdict.INCONCLUSIVE
    assert "what it was multiplied by is known of one side only" in said.not_checked[0]


def test_a_margin_that_is_shown_makes_it_equivalent() -> None:
    said = curves_layer(trained(99), REFERENCE, SEEDS, margin={"mAP50-95": 0.2, "mAP50": 0.1})
    assert said.verdict is Verdict.EQUIVALENT
    assert "two one-sided tests against 6 seeds" in said.decided


def test_a_metric_that_never_moves_is_said_to_say_nothing() -> None:
    def flat(table: Table) -> Table:
        return replace(table, columns={**table.columns, RECALL: (0.0,) * 10})

    said = curves_layer(flat(trained(99)), flat(REFERENCE), [flat(one) for one in SEEDS], margin={"recall": 0.1})
    assert said.verdict is Verdict.CONSISTENT
    assert said.not_checked == ("recall, last epochs: one value in all seeds and the run, which says nothing",)
    assert "one value in all seeds" in said.decided


def test_a_margin_that_is_not_shown_is_said_with_the_interval() -> None:
    said = curves_layer(trained(99), REFERENCE, SEEDS, margin=0.001)
    assert said.verdict is Verdict.CONSISTENT
    assert "Equivalence is not shown" in said.decided
    assert "the margin is ±0.001" in said.decided


def test_no_margin_makes_a_different_run_equivalent() -> None:
    assert curves_layer(trained(99, loss=2.0), REFERENCE, SEEDS, margin=1.0).verdict is Verdict.DIFFERENT


def test_a_margin_of_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="no metric 'map'"):
        curves_layer(trained(99), REFERENCE, SEEDS, margin={"map": 0.1})


def test_a_loss_of_zero_is_different_without_any_seed() -> None:
    said = curves_layer(changed(REFERENCE, "train/box_loss", 3, 0.0), REFERENCE)
    assert said.verdict is Verdict.DIFFERENT
    assert "box loss, train, epoch 3" in said.decided


@pytest.mark.parametrize("column", needed([REFERENCE]))
def test_a_column_that_is_gone_keeps_every_claim_back(column: str) -> None:
    for run, reference in ((without(trained(99), column), REFERENCE), (trained(99), without(REFERENCE, column))):
        said = curves_layer(run, reference, SEEDS)
        assert said.verdict is Verdict.INCONCLUSIVE
        assert any("has no such column" in text for text in said.not_checked)
    gone = without(REFERENCE, column)
    assert curves_layer(gone, gone, [without(one, column) for one in SEEDS]).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("epochs", [(1,), (5,), (10,), (8, 9, 10)])
def test_rows_that_are_gone_keep_every_claim_back(epochs: tuple[int, ...]) -> None:
    said = curves_layer(without(trained(99), epochs=epochs), REFERENCE, SEEDS)
    assert said.verdict is Verdict.INCONCLUSIVE
    assert any(one.what == "epochs in the table" for one in said.differences)
    both = without(REFERENCE, epochs=epochs)
    assert curves_layer(both, both).verdict is Verdict.INCONCLUSIVE


def test_a_number_that_is_missing_is_listed() -> None:
    said = curves_layer(changed(trained(99), RECALL, 6, float("nan")), REFERENCE, SEEDS)
    assert said.verdict is Verdict.INCONCLUSIVE
    assert [one.what for one in said.differences] == ["values in the table"]


def test_an_early_stop_that_the_table_bears_out_can_be_consistent() -> None:
    stopped = replace(without(trained(99), epochs=(9, 10)), by_patience=True)
    assert curves_layer(stopped, REFERENCE, SEEDS).verdict is Verdict.CONSISTENT


def test_a_learning_rate_that_took_another_course_is_listed() -> None:
    said = curves_layer(changed(trained(99), "lr/pg0", 2, 0.02), REFERENCE, SEEDS)
    assert "lr/pg0, epoch 2" in [one.what for one in said.differences]


def test_a_reference_without_its_rows_is_no_seed() -> None:
    said = curves_layer(trained(99), REFERENCE, [SEEDS[0], without(SEEDS[1], epochs=(4,))])
    assert said.evidence["references"] == 2
    assert any(text.startswith("seed2 as a seed") for text in said.not_checked)


def test_a_table_without_epochs_is_not_compared() -> None:
    assert curves_layer(without(REFERENCE, epochs=range(1, 11)), REFERENCE).verdict is None


def test_a_band_has_the_run_the_reference_and_where_a_seed_would_lie() -> None:
    drawn = {one.column: one for one in bands(without(trained(99), epochs=(10,)), REFERENCE, SEEDS)}
    band = drawn[MAP5095]
    assert band.epochs == REFERENCE.epochs
    assert band.reference == REFERENCE.columns[MAP5095]
    assert all(low < mean < high for low, mean, high in zip(band.low, band.mean, band.high, strict=True))
    assert band.run[-1] != band.run[-1]  # no number
    assert bands(trained(99), REFERENCE)[0].low == ()


@pytest.mark.parametrize("gone", [[1, 2, 3, 4, 5], [2]])
@pytest.mark.parametrize("side", ["run", "reference"])
def test_a_row_that_is_lost_does_not_move_later_epochs_beside_earlier_ones(gone: list[int], side: str) -> None:
    """Losses fall from epoch to epoch: by the number of the row a lost one makes every later loss another."""
    for seed in (41, 42, 43, 44):
        run, reference = trained(seed, "run"), REFERENCE
        if curves_layer(run, reference, SEEDS).verdict is Verdict.DIFFERENT:
            continue  # by chance, and no less with fewer rows
        if side == "run":
            run = without(run, epochs=gone)
        else:
            reference = without(reference, epochs=gone)
        assert curves_layer(run, reference, SEEDS).verdict is Verdict.INCONCLUSIVE, seed


def saturated(seed: int, name: str = "") -> Table:
    """A seed whose precision, recall and mAP50 are 1, or a little less."""
    table, draw = trained(seed, name), random.Random(seed)
    flat = {column: 1 - draw.choice((0, 1)) * draw.expovariate(1 / 0.003) for column in (PRECISION, RECALL, MAP50)}
    return replace(table, columns={**table.columns, **{column: (value,) * 10 for column, value in flat.items()}})


def test_metrics_near_1_make_no_other_seed_different() -> None:
    """They are not normally distributed: among few seeds that all but agree a sound one looks far away."""
    said = []
    for first in range(0, 4000, 100):
        reference, *seeds = (saturated(seed) for seed in range(first, first + 5))
        said.append(curves_layer(saturated(first + 50, "run"), reference, seeds))
    wrong = [one.decided for one in said if one.verdict is Verdict.DIFFERENT]
    assert len(wrong) <= 1, wrong  # at 1 % of them
