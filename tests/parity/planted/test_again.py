"""The recording still tells the truth: a few of its pairs are trained, validated and probed again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.parity import Layer
from tests.parity.planted import evidence, kinds
from tests.parity.planted.judging import Judge, found
from tests.parity.planted.making.lab import elsewhere
from tests.parity.planted.making.recipes import REFERENCE, recipes

SAMPLE = ("metrics divided by 2.6, as on MPS", "NMS IoU other than recorded", "one label file changed", "resumed")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_pairs_that_are_made_anew_are_judged_as_those_of_the_recording(tmp_path: Path) -> None:
    pairs = [pair for pair in kinds.planted() if pair.name in SAMPLE]
    assert len(pairs) == len(SAMPLE)
    recorded = Judge(tmp_path / "recorded", probes := evidence.lay(tmp_path / "recorded" / "runs"))
    names = (REFERENCE, "again", *(pair.run for pair in pairs))
    lab = elsewhere(tmp_path / "lab", *names)
    made = [lab.run(recipes()[name]) for name in names]
    evidence.record(made, probes, lab.folder, tmp_path / "evidence.xz")
    anew = Judge(tmp_path / "anew", evidence.lay(tmp_path / "anew" / "runs", tmp_path / "evidence.xz"))
    for pair in (kinds.benign()[0], *pairs):
        alone = replace(pair, seeds=())  # they are not trained again
        before, now = recorded.judge(alone), anew.judge(alone)
        assert now.verdict is before.verdict, (pair.name, now.reason, before.reason)
        assert {layer: found(now, layer) for layer in Layer} == {layer: found(before, layer) for layer in Layer}
