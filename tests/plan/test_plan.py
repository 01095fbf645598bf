"""A plan puts the findings of all together, stops at errors, and knows the limits of time."""

from __future__ import annotations

import json
import subprocess
import sys

from launcher.backend import Offer
from launcher.finding import Finding, Severity
from launcher.plan.estimate import Past
from launcher.plan.plan import Plan, make_plan
from launcher.spec.arguments import Arguments
from launcher.spec.model import JobSpec, Resources, Resume
from tests.plan.conftest import COTS, HERE

PAST = Past("yolo11n.pt", 640, 16, "cuda", COTS.n_train, 360.0, "T4", COTS.n_val)


def plan(arguments: Arguments, hours: float | None = None, attempts: int = 3, **train: int) -> Plan:
    spec = JobSpec(
        name="job", model="yolo11n.pt", data="/d.yaml", train=dict(train),
        resources=Resources(max_hours=hours), resume=Resume(attempts=attempts),
    )  # fmt: skip
    return make_plan(spec, Offer("T4", "cuda"), COTS, HERE, arguments, history=[PAST])


def test_everyones_findings_are_in_it_once_and_errors_first(arguments: Arguments) -> None:
    backends = Finding("local.disk", Severity.WARNING, "little is free")
    offers = Finding("local.options", Severity.ERROR, "no such option")
    spec = JobSpec(name="job", model="yolo11n.yaml", data="/d.yaml", train={"epochs": 10})
    offer = Offer("box", "cpu", findings=(offers, backends))
    made = make_plan(spec, offer, COTS, HERE, arguments, findings=[backends])
    said = [finding.code for finding in made.findings]
    assert said[0] == "local.options"
    assert said.count("local.disk") == 1
    assert "train.close-mosaic-covers-run" in said
    assert made.errors == (offers,)


def test_time_that_does_not_suffice_is_told(arguments: Arguments) -> None:
    def codes(*limits: float | int | None) -> set[str]:
        hours, attempts = limits
        made = plan(arguments, hours, int(attempts or 1), epochs=100, patience=0)  # 10 hours
        return {finding.code for finding in made.findings if finding.code.startswith("plan.")}

    assert codes(11.0, 1) == codes(None, 1) == set()
    assert codes(4.0, 3) == {"plan.several-attempts"}
    assert codes(3.0, 3) == {"plan.too-long"}


def test_money_that_does_not_suffice_is_told(arguments: Arguments) -> None:
    def made(price: float | None, limit: float | None, hours: float | None = None) -> Plan:
        spec = JobSpec(
            name="job", model="yolo11n.pt", data="/d.yaml", train={"epochs": 100, "patience": 0},
            resources=Resources(max_cost=limit, max_hours=hours), resume=Resume(attempts=2),
        )  # fmt: skip
        offer = Offer("T4", "cuda", price_per_hour=price, price_basis="a list of 2026-11-01")
        return make_plan(spec, offer, COTS, HERE, arguments, history=[PAST])  # 10 hours

    def codes(price: float | None, limit: float | None) -> set[str]:
        return {finding.code for finding in made(price, limit).findings if finding.code.startswith("plan.")}

    assert codes(0.5, None) == codes(0.5, 6.0) == codes(0.0, 0.01) == codes(None, None) == set()
    assert codes(0.5, 1.0) == {"plan.too-expensive"}
    assert codes(None, 1.0) == {"plan.no-price"}
    assert [finding.code for finding in made(0.5, 1.0).errors] == ["plan.too-expensive"]
    cost = made(0.5, None).estimate.cost_dollars
    assert cost is not None
    assert "2026-11-01" in cost.basis
    between = (cost.low + cost.high) / 2
    assert cost.low == cost.high or codes(0.5, between) == {"plan.may-be-too-expensive"}
    assert made(0.5, None).estimate.most_dollars is None
    assert made(0.5, None, hours=11).estimate.most_dollars == 11.0, "two attempts of 11 hours"
    assert made(0.5, 7.0, hours=11).estimate.most_dollars == 7.0


def test_checkpoints_that_do_not_fit_are_told(arguments: Arguments) -> None:
    def codes(free: int, **train: int | str) -> set[str]:
        spec = JobSpec(name="job", model="yolo11n.pt", data="/d.yaml", train={"optimizer": "AdamW", **train})
        made = make_plan(spec, Offer("T4", "cuda", free_disk=free), COTS, HERE, arguments)
        return {finding.code for finding in made.findings}

    assert "plan.disk-too-small" in codes(158_000_000)
    assert "plan.disk-too-small" not in codes(159_000_000)
    assert "plan.disk-too-small" in codes(159_000_000, save_period=1)
    assert "train.cache-disk-does-not-fit" in codes(20 * 10**9, cache="disk")  # the offer's word counts
    assert "plan.disk-too-small" not in codes(20 * 10**9, cache="disk")


def test_rows_sum_the_spec_up(arguments: Arguments) -> None:
    rows = dict(plan(arguments, epochs=39, seed=3).rows)
    assert rows["epochs"] == "39"
    assert rows["imgsz"] == "640 (the default)"
    assert rows["optimizer"] == "auto: MuSGD, lr0 0.01"
    assert rows["train.seed"] == "3"
    what = "16,793 to train on, 6,708 to validate on, 1 class, 11,898 boxes, 18,582 images without one"
    assert rows["images"] == what


def test_it_is_json(arguments: Arguments) -> None:
    made = plan(arguments, 1.0).as_json()
    assert json.loads(json.dumps(made)) == made
    assert made["offer"]["machine"] == "T4"
    assert "findings" not in made["offer"]
    assert made["estimate"]["epoch_seconds"]["low"] == 360.0


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys, launcher.plan.plan\n"
        "print([name for name in ('numpy', 'torch', 'ultralytics', 'cv2', 'PIL', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_run_leaves_is_held_against_what_the_machine_hands_over(arguments: Arguments) -> None:
    spec = JobSpec(name="job", model="yolo11n.yaml", data="/data.yaml", train={"epochs": 3000, "save_period": 1})
    codes = [
        [finding.code for finding in make_plan(spec, offer, COTS, HERE, arguments).findings]
        for offer in (Offer("box", "cuda", output_limit=20 * 10**9), Offer("box", "cuda"))
    ]
    assert "plan.output-too-large" in codes[0]
    assert "plan.output-too-large" not in codes[1]
