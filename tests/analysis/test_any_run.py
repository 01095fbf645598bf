"""Whatever the files of a run hold, analysing it raises nothing and is plain JSON."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.analysis import analyse, compare, markdown
from launcher.analysis.model import Kind, Moment, RunView
from launcher.analysis.reading.results import read_results
from tests.analysis.published import HEADER
from tests.analysis.views import view

NUMBERS = st.one_of(st.floats(), st.sampled_from([0.0, -1.0, 1e308, -1e308, 5e-324]), st.floats(0, 1))
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10), st.lists(st.integers(), max_size=2)
)
NAMES = (
    *("epochs", "close_mosaic", "mosaic", "box", "cls", "dfl", "optimizer", "lr0", "seed", "imgsz", "patience"),
    *("batch", "model", "data", "device", "plots", "rect", "hsv_s", "no_such"),
)
OTHERS = (
    *("train/giou_loss", "val/l1_loss", "val/seg_loss", "metrics/mAP50-95(M)", "metrics/mAP_0.5"),
    *("metrics/accuracy_top1", "metrics/accuracy_top5"),
)
"""Columns of other tasks and of YOLOv5."""


@st.composite
def runs(draw: st.DrawFn) -> RunView:
    """A run with a table of any numbers, any arguments, any events."""
    columns = draw(st.lists(st.sampled_from((*HEADER[2:], *OTHERS)), unique=True, max_size=13))
    rows = draw(st.lists(st.tuples(NUMBERS, *[NUMBERS for _ in columns]), max_size=12))
    lines = [",".join(("epoch", "time", *columns))]
    lines += [",".join(map(str, (number, *row))) for number, row in enumerate(rows, draw(st.integers(0, 3)))]
    arguments = draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
    had = draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=2))
    fields = draw(st.dictionaries(st.sampled_from(["code", "reason", "seconds", "remedy"]), VALUES))
    base = view("run", positives=draw(st.one_of(st.none(), st.integers(0, 500))))
    config = replace(base.config, values={**base.config.values, **arguments}, effective=had)
    return replace(
        base,
        results=read_results("\n".join([*lines, ""]).encode()),
        config=draw(st.sampled_from([config, replace(config, values={}, effective={}), base.config])),
        kind=draw(st.sampled_from(list(Kind))),
        spec_text=draw(
            st.sampled_from(["", "model: a\ndata: b\ntrain: [1]\n", "model: a\ndata: b\ntrain: {seed: x}\n"])
        ),
        moments=tuple(
            Moment(name, 0.0, "a1", 1, fields) for name in draw(st.sets(st.sampled_from(["warning", "failed"])))
        ),
    )


def is_plain(said: Any) -> bool:
    return bool(json.dumps(said.as_json(), allow_nan=False))


@settings(deadline=None, max_examples=25)
@given(runs(), st.lists(runs(), max_size=3))
def test_any_run_is_analysed_against_any_others(run: RunView, others: list[RunView]) -> None:
    told = analyse(run, others)
    assert is_plain(told)
    assert markdown(told).startswith("# run")
    assert is_plain(compare([run, *others]))


def test_twenty_runs_of_a_thousand_epochs_are_read_and_compared_in_a_moment() -> None:
    """Measured: 0.4 to 0.9 s on two shared cores; the limit is in time of this process."""
    random = Random(0)
    names = HEADER[2:]
    tables = [
        "\n".join(
            [
                ",".join(HEADER),
                *(
                    f"{epoch},{31 * epoch},{','.join(f'{random.random():.6g}' for _ in names)}"
                    for epoch in range(1, 1001)
                ),
                "",
            ]
        ).encode()
        for _ in range(20)
    ]
    begun = time.process_time()
    runs_ = [replace(view(f"run{index}"), results=read_results(table)) for index, table in enumerate(tables)]
    assert len(compare(runs_).rows) == 20
    assert analyse(runs_[0], runs_[1:]).summary.epochs_done == 1000
    assert time.process_time() - begun < 1.5
