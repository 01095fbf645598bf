"""One verdict of four layers; taking evidence away never claims more."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.parity.curves.layer import curves_layer
from launcher.parity.curves.series import Table, needed
from launcher.parity.inputs.evidence import Evidence
from launcher.parity.inputs.layer import inputs_layer
from launcher.parity.inputs.table import expected
from launcher.parity.model import Layer, LayerResult, Verdict
from launcher.parity.verdict import combine
from tests.parity.made import changed, known, lacking, trained, without

IDENTICAL, EQUIVALENT, CONSISTENT, INCONCLUSIVE, DIFFERENT = Verdict
STRENGTH = {IDENTICAL: 3, EQUIVALENT: 2, CONSISTENT: 1, INCONCLUSIVE: 0, DIFFERENT: 0}
WEAKER: dict[Verdict | None, tuple[Verdict | None, ...]] = {
    None: (),
    INCONCLUSIVE: (None,),
    DIFFERENT: (None, INCONCLUSIVE),
    CONSISTENT: (None, INCONCLUSIVE),
    EQUIVALENT: (None, INCONCLUSIVE, CONSISTENT),
    IDENTICAL: (None, INCONCLUSIVE, CONSISTENT, EQUIVALENT),
}


def layers(*verdicts: Verdict | None) -> list[LayerResult]:
    return [LayerResult(layer, one, str(one)) for layer, one in zip(Layer, verdicts, strict=True)]


@pytest.mark.parametrize(
    ("verdicts", "verdict", "layer"),
    [
        ((IDENTICAL, None, IDENTICAL, IDENTICAL), IDENTICAL, Layer.WEIGHTS),
        ((CONSISTENT, EQUIVALENT, IDENTICAL, IDENTICAL), IDENTICAL, Layer.WEIGHTS),
        ((IDENTICAL, None, EQUIVALENT, IDENTICAL), EQUIVALENT, Layer.CURVES),
        ((CONSISTENT, None, EQUIVALENT, EQUIVALENT), EQUIVALENT, Layer.CURVES),
        ((CONSISTENT, None, EQUIVALENT, CONSISTENT), CONSISTENT, Layer.CURVES),
        ((CONSISTENT, None, None, CONSISTENT), INCONCLUSIVE, Layer.WEIGHTS),
        ((CONSISTENT, None, EQUIVALENT, INCONCLUSIVE), INCONCLUSIVE, Layer.CURVES),
        ((INCONCLUSIVE, EQUIVALENT, IDENTICAL, IDENTICAL), INCONCLUSIVE, Layer.INPUTS),
        ((None, None, None, CONSISTENT), INCONCLUSIVE, Layer.INPUTS),
        ((None, None, None, None), INCONCLUSIVE, None),
        ((DIFFERENT, None, IDENTICAL, IDENTICAL), DIFFERENT, Layer.INPUTS),
        ((IDENTICAL, DIFFERENT, IDENTICAL, IDENTICAL), DIFFERENT, Layer.PROBE),
        ((IDENTICAL, None, DIFFERENT, CONSISTENT), DIFFERENT, Layer.WEIGHTS),
        ((None, None, None, DIFFERENT), DIFFERENT, Layer.CURVES),
    ],
)
def test_the_verdict_and_the_layer_that_decided_it(
    verdicts: tuple[Verdict | None, ...], verdict: Verdict, layer: Layer | None
) -> None:
    assert combine(layers(*verdicts))[:2] == (verdict, layer)


def test_a_probe_that_was_planned_and_is_not_there_keeps_every_claim_back() -> None:
    found = layers(IDENTICAL, None, IDENTICAL, IDENTICAL)
    assert combine(found, planned=True)[:2] == (INCONCLUSIVE, Layer.PROBE)


def test_what_the_curves_say_alone_is_said_where_another_layer_is_missing() -> None:
    assert combine(layers(IDENTICAL, None, None, CONSISTENT))[2].endswith("The curves alone are consistent")


def test_equal_weights_beside_other_numbers_are_different() -> None:
    found = layers(IDENTICAL, None, IDENTICAL, CONSISTENT)
    found[-1] = replace(found[-1], evidence={"first_other": "mAP50 of epoch 3 is 0.4, 0.3 in the reference"})
    verdict, layer, reason = combine(found)
    assert (verdict, layer) == (DIFFERENT, Layer.WEIGHTS)
    assert "mAP50 of epoch 3" in reason


@pytest.mark.parametrize("planned", [True, False])
def test_a_layer_that_says_less_never_makes_the_whole_claim_more(planned: bool) -> None:
    """Every combination of layers, and every way for one layer to say less: some 4,000 pairs."""
    options: list[Verdict | None] = [None, *Verdict]
    for verdicts in itertools.product(options, repeat=4):
        before = combine(layers(*verdicts), planned=planned)[0]
        for at, one in enumerate(verdicts):
            if not planned and at == list(Layer).index(Layer.PROBE) and one is DIFFERENT:
                continue  # what has no plan can say different, but nobody can tell that it is gone: see `combine`
            for less in WEAKER[one]:
                after = combine(layers(*verdicts[:at], less, *verdicts[at + 1 :]), planned=planned)[0]
                assert STRENGTH[after] <= STRENGTH[before], (verdicts, at, less)
                assert after is not DIFFERENT or before is DIFFERENT


@dataclass(frozen=True)
class Case:
    """Everything that is known of two runs."""

    run: Evidence
    reference: Evidence
    tables: tuple[Table, Table]
    seeds: tuple[Table, ...]
    probe: Verdict | None
    weights: Verdict | None

    def verdict(self) -> Verdict:
        """What parity says, with a probe planned: that it was is no evidence."""
        found = [
            inputs_layer(self.run, self.reference),
            LayerResult(Layer.PROBE, self.probe, "probe"),
            LayerResult(Layer.WEIGHTS, self.weights, "weights"),
            curves_layer(*self.tables, self.seeds, margin={"mAP50-95": 0.2}),
        ]
        return combine(found, planned=True)[0]


@functools.cache
def base() -> Table:
    return trained(0, "base")


def alone(column: str, factor: float) -> Table:
    """Another seed, of which one column alone is off: whoever takes that away takes all that speaks against it."""
    table = trained(99, "run")
    return replace(table, columns={**table.columns, column: tuple(factor * one for one in table.columns[column])})


SEEDS = tuple(trained(seed) for seed in range(1, 5))
RUNS = (
    replace(base(), run="run"),
    trained(99, "run"),
    trained(99, "run", shift=-0.4),
    trained(99, "run", loss=1.6),
    changed(base(), "metrics/recall(B)", 6, 0.5),
    changed(base(), "train/cls_loss", 6, 0.0),
    alone("metrics/recall(B)", 0.5),
    alone("train/dfl_loss", 1.8),
)
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"train__seed": 3, "initial weights": "x" * 64},
    {"train__box": 5.0},
    {"data__labels": "x" * 64},
    {"had__optimizer": "SGD", "train__optimizer": "SGD"},
    {"initial weights": "x" * 64},
    {"had__threads": 1},
    {"file__train/results.csv": "changed since"},
)
FIELDS = expected(known(), known())
COLUMNS = needed([base()])
cases = st.builds(
    lambda change, run, seeds, probe, weights: Case(
        known("run", **change), known("base"), (run, base()), SEEDS[:seeds], probe, weights
    ),
    # Mostly one thing alone speaks against the run: what is taken away is then all that did.
    st.one_of(st.just(CHANGES[0]), st.sampled_from(CHANGES)),
    st.sampled_from(RUNS),
    st.one_of(st.just(4), st.integers(0, 4)),
    st.one_of(st.just(EQUIVALENT), st.sampled_from([IDENTICAL, DIFFERENT, INCONCLUSIVE, None])),
    st.one_of(st.just(EQUIVALENT), st.sampled_from([IDENTICAL, DIFFERENT, INCONCLUSIVE, None])),
)
takings = st.lists(
    st.one_of(
        st.tuples(st.just("field"), st.sampled_from(FIELDS), st.sampled_from(["run", "reference", "both"])),
        st.tuples(st.just("column"), st.sampled_from(COLUMNS), st.sampled_from(["run", "reference", "both"])),
        st.tuples(st.just("epoch"), st.integers(1, 10), st.sampled_from(["run", "reference", "both"])),
        st.tuples(st.just("layer"), st.sampled_from(["probe", "weights"]), st.just("both")),
    ),
    min_size=1,
    max_size=3,
)


def taken(case: Case, takings: Sequence[tuple[str, str | int, str]]) -> Case:
    """The case with evidence taken away."""
    for what, name, side in takings:
        sides = {"run": (0,), "reference": (1,), "both": (0, 1)}[side]
        if what == "field":
            if 0 in sides:
                case = replace(case, run=lacking(case.run, str(name)))
            if 1 in sides:
                case = replace(case, reference=lacking(case.reference, str(name)))
        elif what == "layer":
            case = replace(case, probe=None) if name == "probe" else replace(case, weights=None)
        else:
            gone = {"column": str(name)} if what == "column" else {"epochs": [int(name)]}
            one, other = (without(table, **gone) if at in sides else table for at, table in enumerate(case.tables))
            case = replace(case, tables=(one, other))
    return case


@given(cases, takings)
@settings(max_examples=250, deadline=None)
def test_taking_evidence_away_never_claims_more(case: Case, away: list[tuple[str, str | int, str]]) -> None:
    before, after = case.verdict(), taken(case, away).verdict()
    assert STRENGTH[after] <= STRENGTH[before], (before, after)


@given(cases, st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_fewer_seeds_never_make_anything_identical(case: Case, left: int) -> None:
    before, after = case.verdict(), replace(case, seeds=case.seeds[:left]).verdict()
    assert after is not IDENTICAL or before is IDENTICAL


def test_the_strongest_case_is_identical_and_the_property_has_something_to_lose() -> None:
    strongest = Case(known("run"), known("base"), (RUNS[0], base()), SEEDS, EQUIVALENT, IDENTICAL)
    assert strongest.verdict() is IDENTICAL
    assert replace(strongest, tables=(RUNS[1], base()), weights=EQUIVALENT).verdict() is EQUIVALENT
    assert {replace(strongest, tables=(one, base()), weights=EQUIVALENT).verdict() for one in RUNS} >= {DIFFERENT}


@pytest.mark.parametrize("side", ["run", "reference", "both"])
def test_taking_the_very_evidence_away_that_said_different_leaves_no_claim(side: str) -> None:
    fine = Case(known("run"), known("base"), (RUNS[1], base()), SEEDS, EQUIVALENT, EQUIVALENT)
    assert fine.verdict() is EQUIVALENT
    for change in CHANGES:
        case = replace(fine, run=known("run", **change))
        if case.verdict() is DIFFERENT:
            away = [("field", name.replace("__", "."), side) for name in change]
            assert taken(case, away).verdict() in (INCONCLUSIVE, DIFFERENT), change
    for column, factor in (("metrics/recall(B)", 0.5), ("train/dfl_loss", 1.8)):
        case = replace(fine, tables=(alone(column, factor), base()))
        assert case.verdict() is DIFFERENT
        assert taken(case, [("column", column, side)]).verdict() is INCONCLUSIVE
    case = replace(fine, tables=(changed(RUNS[1], "train/cls_loss", 6, 0.0), base()))
    assert case.verdict() is DIFFERENT
    assert taken(case, [("epoch", 6, side)]).verdict() is INCONCLUSIVE
    for layer in ("probe", "weights"):
        case = replace(fine, probe=DIFFERENT) if layer == "probe" else replace(fine, weights=DIFFERENT)
        assert taken(case, [("layer", layer, side)]).verdict() is INCONCLUSIVE
