"""What a run's record knows of data that is not here: what its first worker said of it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.backend import Attached, DataSource
from launcher.runs import attached
from launcher.runs.driving import attempts
from launcher.runs.events import Event
from launcher.runs.record import AttemptRecord
from launcher.runs.store import Store
from tests.runs.scripted import Machine, State, World

AWAY: dict[str, Any] = {"kind": "kaggle-dataset", "name": "alice/reef", "fingerprint": None}
SAID: dict[str, Any] = {
    "fingerprint": "a" * 64, "images": "b" * 64, "labels": "c" * 64, "splits": "d" * 64,
    "n_train": 3, "n_val": 2, "classes": 1, "bytes": 100, "yaml": "x/data.yaml",
}  # fmt: skip


def event(**fields: Any) -> Event:
    return Event("run-abc-a1", 1, 1.0, "dataset", fields)


def test_what_the_worker_says_is_kept() -> None:
    assert attached.learnt(AWAY, event(**SAID)) == {
        **AWAY, **{key: SAID[key] for key in ("fingerprint", "images", "labels", "splits", "yaml")},
        "facts": {"n_train": 3, "n_val": 2, "classes": 1, "bytes": 100},
    }  # fmt: skip


def test_what_the_first_worker_said_stays() -> None:
    known = attached.learnt(AWAY, event(**SAID))
    assert attached.learnt(known, event(**{**SAID, "fingerprint": "e" * 64})) == known


@pytest.mark.parametrize("data", [None, {"root": "/data", "fingerprint": "f" * 64}])
def test_what_is_known_here_is_not_a_workers_to_say(data: Any) -> None:
    assert attached.learnt(data, event(**SAID)) is data


@given(st.dictionaries(st.sampled_from(sorted(SAID)), st.none() | st.integers() | st.text() | st.lists(st.integers())))
def test_whatever_a_worker_says_nothing_but_digests_and_counts_is_kept(fields: dict[str, Any]) -> None:
    found = attached.learnt(AWAY, event(**{**SAID, **fields}))
    assert found is not None
    if found["fingerprint"] is not None:
        assert all(len(found[name]) == 64 for name in ("fingerprint", "images", "labels", "splits"))
        assert all(type(count) is int and count >= 0 for count in found["facts"].values())
        assert len(found["yaml"]) <= attached.YAML_LIMIT


def test_a_digest_that_is_none_is_not_kept() -> None:
    for name in ("fingerprint", "images", "labels", "splits"):
        for wrong in ("", "A" * 64, "a" * 63, "a" * 65, 3, None, "../" + "a" * 61):
            assert attached.learnt(AWAY, event(**{**SAID, name: wrong})) == AWAY


def test_what_an_attempt_is_given() -> None:
    assert attached.source(None) is None
    assert attached.source({"root": "/data", "fingerprint": "f"}) == DataSource(Path("/data"), "f")
    assert attached.source(AWAY) == Attached("kaggle-dataset", "alice/reef")


def test_a_line_about_it() -> None:
    assert attached.described(AWAY).startswith("kaggle-dataset:alice/reef, fingerprint not known")
    assert attached.described({"root": "/data", "fingerprint": "f" * 64}) == f"/data, fingerprint {'f' * 12}"


def test_the_next_attempt_expects_what_the_first_one_found(tmp_path: Path) -> None:
    machine = Machine(ends=((1, State.LOST), (3, State.SUCCEEDED)))
    world = World(tmp_path, machine, data=AWAY)
    accept = machine.accept

    def accept_and_say(attempt: Any) -> None:
        accept(attempt)
        machine.work[attempt.id].event("dataset", **SAID)

    machine.accept = accept_and_say  # type: ignore[method-assign]
    world.launch().drive()
    first, second = (machine.work[name].attempt for name in machine.accepted)
    assert "expect_fingerprint" not in first.describe
    assert second.describe["expect_fingerprint"] == "a" * 64
    for attempt in (first, second):
        assert attempt.data == attempt.need.attached == Attached("kaggle-dataset", "alice/reef")
    assert world.record.data is not None
    assert world.record.data["fingerprint"] == "a" * 64


def test_data_that_is_here_is_no_need_of_the_machine(tmp_path: Path) -> None:
    world = World(tmp_path, Machine(), data={"root": str(tmp_path), "fingerprint": "f" * 64})
    store = Store(world.settings.runs_dir)
    made = attempts.build(world.settings, store, world.record, AttemptRecord("run-abc-a1", 1, "s", 1.0), world.backend)
    assert made.need.attached is None
    assert "expect_fingerprint" not in made.describe
