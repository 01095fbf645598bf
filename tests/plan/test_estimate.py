"""An estimate has a basis or is none, and more work never takes less time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.backend import Offer
from launcher.data.check import DatasetFacts
from launcher.plan.estimate import MEASURED, Past, Range, estimate, of
from launcher.spec.arguments import Arguments
from launcher.spec.model import JobSpec
from tests.plan.conftest import COTS, MakeCase

ARGUMENTS = Arguments()
OWN = Past("yolo11n.pt", 640, 16, "cuda", 16_793, 300.0, "Kaggle, T4", 6_708, "baseline-1", 3.1)


def seconds(found: Range | None) -> tuple[float, float]:
    assert found is not None
    return found.low, found.high


def job(**train: int) -> JobSpec:
    return JobSpec(name="job", model="yolo11n.pt", data="/d.yaml", train=dict(train))


def with_images(train: int, val: int) -> DatasetFacts:
    return replace(COTS, n_train=train, n_val=val)


def test_without_history_a_gpu_is_not_known(make: MakeCase) -> None:
    found = of(make("cuda", model="yolo11n.pt"), [])
    assert (found.epoch_seconds, found.total_seconds, found.cost_dollars, found.memory_gb) == (None,) * 4


@pytest.mark.parametrize("facts", [None])
def test_without_a_dataset_nothing_is_known(make: MakeCase, facts: None) -> None:
    assert of(make("cpu", model="yolo11n.pt", facts=facts), [OWN]).epoch_seconds is None


def test_another_model_is_no_basis(make: MakeCase) -> None:
    assert of(make("cuda", machine=OWN.machine, model="yolo11s.pt"), [OWN]).epoch_seconds is None


def test_the_same_run_takes_the_same_time(make: MakeCase) -> None:
    found = of(
        make("cuda", machine=OWN.machine, model="yolo11n.yaml", epochs=10), [OWN, replace(OWN, seconds_per_epoch=320.0)]
    )
    assert seconds(found.epoch_seconds) == (300.0, 320.0)
    assert seconds(found.total_seconds) == (3000.0, 3200.0)
    assert found.epoch_seconds is not None
    assert found.epoch_seconds.basis == "2 epochs of run baseline-1 on this machine, scaled by images"
    assert seconds(found.memory_gb) == (3.1, 3.1)


def test_one_epoch_is_no_epochs(make: MakeCase) -> None:
    found = of(make("cuda", machine=OWN.machine, model="yolo11n.pt", epochs=1), [OWN]).total_seconds
    assert found is not None
    assert found.basis.startswith("1 epoch, training and validation only; 1 epoch of run baseline-1")


def test_the_start_up_is_known_where_it_was_measured(make: MakeCase) -> None:
    case = make("cuda", machine=OWN.machine, model="other.pt")
    runs = [replace(OWN, run=name, start_up_seconds=seconds) for name, seconds in (("a", 9.0), ("a", 9.0), ("b", 14.0))]
    found = of(case, [*runs, OWN, replace(OWN, machine="another", start_up_seconds=99.0)]).start_up_seconds
    assert found is not None
    assert seconds(found) == (9.0, 14.0)
    assert found.basis == "2 runs on this machine, from the worker's start to the training's"
    assert of(case, [OWN]).start_up_seconds is None


def test_pixels_and_validation_open_the_range(make: MakeCase) -> None:
    found = of(make("cuda", machine=OWN.machine, model="yolo11n.pt", imgsz=1280), [OWN])
    assert seconds(found.epoch_seconds) == (300.0, 1200.0)
    half = of(make("cuda", machine=OWN.machine, model="yolo11n.pt", facts=with_images(16_793, 0)), [OWN])
    assert seconds(half.epoch_seconds) == pytest.approx((300.0 * 16_793 / 23_501, 300.0))


def test_the_nearest_image_size_is_the_basis(make: MakeCase) -> None:
    other = replace(OWN, imgsz=1280, seconds_per_epoch=900.0)
    found = of(make("cuda", machine=OWN.machine, model="yolo11n.pt", imgsz=1280), [OWN, other])
    assert seconds(found.epoch_seconds) == (900.0, 900.0)


def test_another_machines_past_is_an_assumption(make: MakeCase) -> None:
    here = replace(OWN, machine="here", seconds_per_epoch=100.0)
    elsewhere = of(make("cuda", machine="new", model="yolo11n.pt"), [OWN]).epoch_seconds
    assert elsewhere is not None
    assert elsewhere.basis.startswith("assumption: this machine is as fast as Kaggle, T4: 1 epoch of run baseline-1")
    assert seconds(of(make("cuda", machine="here", model="yolo11n.pt"), [OWN, here]).epoch_seconds) == (100.0, 100.0)


def test_a_cpu_has_the_table_and_says_so(make: MakeCase) -> None:
    found = of(make("cpu", model="yolo11n.yaml", imgsz=96, epochs=10, facts=with_images(320, 96)), [])
    low, high = seconds(found.total_seconds)
    assert low <= 105.0 <= high  # measured: about 105 s
    assert found.total_seconds is not None
    assert "assumption: " in found.total_seconds.basis
    assert {one.device for one in MEASURED} == {"cpu"}


def test_early_stop_and_time_bound_the_total(make: MakeCase) -> None:
    def total(**train: Any) -> tuple[float, float]:
        return seconds(of(make("cuda", machine=OWN.machine, model="yolo11n.pt", **train), [OWN]).total_seconds)

    assert total(epochs=50, patience=9) == (3000.0, 15000.0)
    assert total(epochs=50, patience=0) == total(epochs=50, patience=9, val=False) == (15000.0, 15000.0)
    assert total(epochs=50, time=2.0) == (7200.0, 7200.0)


def test_cost_is_time_by_price(make: MakeCase) -> None:
    case = make("cuda", machine=OWN.machine, model="yolo11n.pt", epochs=12)
    priced = replace(case, offer=replace(case.offer, price_per_hour=0.5))
    assert seconds(of(priced, [OWN]).cost_dollars) == (0.5, 0.5)
    assert of(case, [OWN]).cost_dollars is None


@pytest.mark.parametrize(
    ("model", "train", "back", "scratch"),
    [
        ("yolo11n.pt", {"optimizer": "AdamW"}, (10.8e6, 10.8e6), (158.4e6, 158.4e6)),
        ("yolo11n.pt", {"optimizer": "SGD"}, (10.8e6, 10.8e6), (64.2e6, 64.2e6)),
        ("yolo11n.pt", {"optimizer": "AdamW", "epochs": 10, "save_period": 4}, (90e6, 90e6), (237.6e6, 237.6e6)),
        ("yolo11n.pt", {"epochs": 39}, (10.8e6, 10.8e6), (95.4e6, 95.4e6)),  # auto is MuSGD
        ("yolo11n.pt", {"optimizer": "Adam"}, (10.8e6, 10.8e6), (64.2e6, 158.4e6)),
    ],
)
def test_checkpoints_have_the_measured_size(
    make: MakeCase, model: str, train: dict[str, Any], back: tuple[float, float], scratch: tuple[float, float]
) -> None:
    found = of(make(model=model, **train), [])
    assert seconds(found.weights_bytes) == pytest.approx(back)
    assert seconds(found.scratch_bytes) == pytest.approx(scratch)


def test_the_cache_is_part_of_the_scratch(make: MakeCase) -> None:
    found = of(make(model="yolo11n.pt", optimizer="AdamW", cache="disk"), [])
    assert seconds(found.scratch_bytes)[0] == pytest.approx(158.4e6 + 23_501 * 1280 * 720 * 3)


def test_an_unknown_model_has_no_size(make: MakeCase) -> None:
    assert of(make(model="/w/mine.pt"), []).weights_bytes is None
    assert of(make(model="yolov8n.pt"), []).scratch_bytes is None


def test_it_is_json(make: MakeCase) -> None:
    found = of(make(model="yolo11n.pt"), []).as_json()
    assert json.loads(json.dumps(found)) == found
    assert set(found["epoch_seconds"]) == {"low", "high", "basis"}


counts = st.integers(1, 50_000)
pasts = st.lists(
    st.builds(
        Past, st.just("yolo11n.pt"), st.sampled_from([96, 320, 640]), st.just(16), st.just("cpu"), counts,
        st.floats(0.01, 1e5), st.sampled_from(["box", "other"]), st.integers(0, 50_000),
    ),
    max_size=4,
)  # fmt: skip


@given(pasts, counts, counts, counts, counts, st.integers(1, 300), st.integers(1, 300), st.integers(0, 400))
def test_more_images_or_epochs_never_take_less(
    history: list[Past], train: int, more: int, val: int, more_val: int, epochs: int, more_epochs: int, patience: int
) -> None:
    offer = Offer("box", "cpu", price_per_hour=1.0)
    small = estimate(job(epochs=epochs, patience=patience), offer, with_images(train, val), history, ARGUMENTS)
    large = estimate(
        job(epochs=epochs + more_epochs, patience=patience), offer,
        with_images(train + more, val + more_val), history, ARGUMENTS,
    )  # fmt: skip
    for name in ("epoch_seconds", "total_seconds", "cost_dollars"):
        (low, high), (more_low, more_high) = seconds(getattr(small, name)), seconds(getattr(large, name))
        assert 0 < low <= high
        assert low <= more_low * (1 + 1e-9)
        assert high <= more_high * (1 + 1e-9)
