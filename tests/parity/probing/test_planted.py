"""A probe answered by the real worker with something broken: each fault is recognised, nothing benign is called one.

Really computes, with Ultralytics: two processes for all of it (see conftest).
"""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500), pytest.mark.xdist_group("planted-probe")]


@pytest.mark.parametrize(
    ("name", "verdict", "kind"),
    [
        ("again", "identical", ""),
        ("without sent weights", "identical", ""),
        ("no onednn", "within-noise", "kernel-noise"),
        ("noise 1e-07", "within-noise", "kernel-noise"),
        ("other decoder", "within-noise", "decoder"),
    ],
)
def test_what_is_benign_is_not_called_different(planted: dict[str, Any], name: str, verdict: str, kind: str) -> None:
    result = planted[name]["result"]
    assert (result["verdict"], result["kind"], result["stops"]) == (verdict, kind, False), result["reason"]


def test_another_number_of_threads_is_the_same_or_noise(planted: dict[str, Any]) -> None:
    assert planted["two threads"]["machine"]["threads"] == 2
    assert planted["two threads"]["result"]["verdict"] in ("identical", "within-noise")


@pytest.mark.parametrize(
    ("name", "kind", "quantity"),
    [
        ("noise 1e-05", "kernel-noise", "first_values"),
        ("noise 0.001", "precision", "first_values"),
        ("half precision", "precision", "first_values"),
        ("assigner drops 10 %", "assigner", "assigned"),
        ("box loss zero", "loss-zero", "box_loss"),
        ("box loss times 2/3", "loss-gain", "box_loss"),
        ("box gain", "loss-gain", "box_loss"),
        ("nan", "not-finite", "dfl_loss"),
        ("gradient noise 1e-2", "gradient", "gradient_values"),
        ("update doubled", "update", "weights_values"),
        ("jpeg re-encoded", "images", "images"),
        ("channels swapped", "channels", "channels"),
        ("colours not shifted", "augmentation", "augmentation"),
        ("never flipped", "augmentation", "augmentation"),
    ],
)
def test_what_is_planted_is_found_named_and_stops(planted: dict[str, Any], name: str, kind: str, quantity: str) -> None:
    result = planted[name]["result"]
    assert (result["verdict"], result["kind"], result["stops"]) == ("different", kind, True), result["reason"]
    assert (result["decided"]["quantity"], result["decided"]["run"]) == (quantity, result["decided"]["run"])


@pytest.mark.parametrize("name", ["jpeg re-encoded", "channels swapped", "colours not shifted", "never flipped"])
def test_what_is_the_loaders_leaves_the_kernels_identical(planted: dict[str, Any], name: str) -> None:
    assert planted[name]["result"]["kernel"]["verdict"] == "identical"


def test_another_seed_is_another_stream_and_the_weights_that_were_sent_are_taken(planted: dict[str, Any]) -> None:
    found = planted["other seed"]
    assert (found["weights"]["taken"], found["weights"]["own"] == planted["again"]["weights"]["own"]) == ("sent", False)
    assert (found["result"]["kind"], found["result"]["kernel"]["verdict"]) == ("order", "identical")
    assert not found["result"]["stops"]


def test_the_loader_gives_what_the_training_gets_first(planted: dict[str, Any]) -> None:
    seen = [image["pixels"] for image in planted["again"]["loader"]["images"]]
    first = planted["the training itself"]["pixels"]
    assert len(first) == 8
    assert seen[:8] == first


def test_other_weights_that_were_not_sent_are_not_comparable(planted: dict[str, Any]) -> None:
    result = planted["other seed, weights not sent"]["result"]
    assert result["kernel"]["verdict"] == "not-comparable"
    assert "other weights" in result["kernel"]["reason"]
