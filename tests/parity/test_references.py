"""Runs of ours: what is known of them, and which of those in the store are one run again with another seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.analysis import load_run
from launcher.analysis.reading.run import defaults
from launcher.files import sha256_file
from launcher.parity import Kind, Layer, Verdict, compare
from launcher.parity.inputs.evidence import CHANGED, INTACT, gather
from launcher.parity.references import is_repeat, repeats
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings
from tests.parity.made import lacking, trained, written

FILES = ("results.csv", "weights/best.pt", "weights/last.pt")
Make = Callable[..., Path]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SAMERUN_RUNS_DIR", str(tmp_path / "runs"))
    return Settings.load()


@pytest.fixture
def make(settings: Settings) -> Make:
    """`make(name, seed, state, data, had, **arguments)`: a run of ours, as it would lie there when it has ended."""

    def call(
        name: str, seed: int, state: RunState = RunState.VERIFIED, labels: str = "l", had: Any = None, **arguments: Any
    ) -> Path:
        store = Store(settings.runs_dir)
        trainer = {"device": "cpu", "batch": 16, "workers": 0, "threads": 2, "optimizer": "AdamW", "lr0": 0.002}
        trainer |= {"momentum": 0.9, "images": {"train": 8, "val": 8}, **(had or {})}
        versions = {"ultralytics": "8.4.190", "torch": "2.15.0"}
        values = {**defaults(), "seed": seed, "epochs": 10, **arguments}
        started = {"arguments": values, **trainer, "versions": versions, "initial_weights": f"{seed:064d}"}
        record = RunRecord(
            id=name,
            name="job",
            backend="local",
            state=state,
            key="k",
            bundle="b" * 64,
            created=float(seed),
            updated=1.0,
            model="yolo11n.yaml",
            epochs=10,
            data={"root": "/data", "images": "i" * 64, "labels": labels * 64, "splits": "s" * 64},
            attempts=(AttemptRecord(f"{name}-a1", 1, "local", 1.0, started=started),),
            checked={"files": 3},
        )
        store.create(record, {})
        folder = store.folder(name)
        train = written(folder / "train", trained(seed), [b"%d" % seed], seed=seed, **arguments)
        digests = [{"path": f"train/{one}", "sha256": sha256_file(train / one), "size": 1} for one in FILES]
        (folder / "manifest.json").write_text(json.dumps({"files": digests}))
        events = [
            {"attempt": f"{name}-a1", "seq": 1, "time": 1.0, "event": "started", **started},
            {"attempt": f"{name}-a1", "seq": 2, "time": 2.0, "event": "epoch", "epoch": 1, "batch": 16},
        ]
        (folder / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
        return folder

    return call


def test_everything_that_must_be_known_is_known_of_a_run_of_ours(make: Make, settings: Settings) -> None:
    said = compare(make("run", 0), make("base", 0), validate=False, settings=settings)
    assert said.of(Layer.INPUTS).verdict is Verdict.IDENTICAL, said.of(Layer.INPUTS).decided
    assert said.verdict is Verdict.IDENTICAL, said.reason


def test_an_edited_file_is_another_than_the_one_that_came_back(make: Make, settings: Settings) -> None:
    folder = make("run", 0)
    known = gather(load_run(folder, settings))
    assert {known[f"file.train/{name}"] for name in FILES} == {INTACT}
    table = folder / "train" / "results.csv"
    table.write_text(table.read_text().replace("1", "2", 1))
    assert gather(load_run(folder, settings))["file.train/results.csv"] == CHANGED
    said = compare(folder, make("base", 0), validate=False, settings=settings)
    assert (said.verdict, said.layer) == (Verdict.DIFFERENT, Layer.INPUTS)


def test_a_batch_that_was_halved_on_the_way_is_known(make: Make, settings: Settings) -> None:
    folder = make("run", 0)
    epoch = {"attempt": "run-a1", "seq": 3, "time": 3.0, "event": "epoch", "epoch": 2, "batch": 8}
    with (folder / "events.jsonl").open("a") as stream:
        stream.write(json.dumps(epoch) + "\n")
    said = compare(folder, make("base", 0), validate=False, settings=settings)
    found = {one.what: (one.kind, one.run) for one in said.differences}
    assert found["batch by epoch"] == (Kind.CHANGES_STREAM, [16, 8])
    assert found["had.batch"] == (Kind.CHANGES_STREAM, 8)
    assert "comparable by its curves only" in said.of(Layer.INPUTS).decided


def test_repeats_are_the_verified_runs_that_differ_in_the_seed_alone(make: Make, settings: Settings) -> None:
    base = make("base", 0)
    make("seed1", 1)
    make("seed2", 2)
    make("threads", 3, had={"threads": 4})
    make("same-seed", 0)
    make("failed", 4, state=RunState.FAILED)
    make("workers", 5, had={"workers": 2})
    make("box", 6, box=5.0)
    make("labels", 7, labels="x")
    view = load_run(base, settings)
    assert [one.id for one, _ in repeats(view, gather(view), settings)] == ["threads", "seed2", "seed1"]


def test_seeds_are_found_in_the_store_and_the_run_itself_is_none(make: Make, settings: Settings) -> None:
    base, run = make("base", 0), make("run", 1)
    for seed in range(2, 5):
        make(f"seed{seed}", seed)
    said = compare(run, base, validate=False, settings=settings)
    assert said.references == ("base", "seed4", "seed3", "seed2")
    assert said.of(Layer.CURVES).verdict is Verdict.CONSISTENT
    assert compare(run, base, [], validate=False, settings=settings).references == ("base",)


def test_a_run_that_cannot_be_read_is_no_repeat(make: Make, settings: Settings) -> None:
    base, other = make("base", 0), make("seed1", 1)
    (other / "run.json").write_text("{")
    view = load_run(base, settings)
    assert repeats(view, gather(view), settings) == []
    assert repeats(replace(view, where=other), gather(view), settings) == []


def test_a_run_that_has_lost_what_the_reference_tells_is_no_repeat(make: Make, settings: Settings) -> None:
    """Another experiment without its arguments has no difference that can be seen, and would widen every interval."""
    base, other = make("base", 0), make("seed1", 1, box=5.0)
    view = load_run(base, settings)
    known, held = gather(view), gather(load_run(other, settings))
    assert not is_repeat(held, known)
    assert not is_repeat(lacking(held, "train.box"), known)


def test_a_seed_that_was_trained_on_apples_gpu_is_none(make: Make, settings: Settings) -> None:
    base, other = make("base", 0), make("seed1", 1)
    known, held = gather(load_run(base, settings)), gather(load_run(other, settings))
    assert is_repeat(held, known)
    there = replace(held, fields={**held.fields, "had.device": "mps"})
    assert not is_repeat(there, known)
