"""What is said, and refused, before anything is made: machine, zones, price, quota, money, and what is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backends.gcp import GcpBackend, hands, planning
from backends.gcp.compute.instance import Candidate
from backends.gcp.compute.names import region_of
from backends.gcp.compute.seen import Seen
from backends.gcp.offering import REGIONS_ASKED
from backends.gcp.planning import END_S, LAG_S, SHORTEST_S, START_UP_S
from launcher.backend import Need, Offer
from launcher.errors import Exit, SpecError
from launcher.finding import Severity
from launcher.settings import Settings
from tests.backends.gcp import world
from tests.backends.gcp.world import Cloud, Launch, Maker
from tests.emulators.compute import ComputeEmulator

US, EUROPE = "us-central1-a", "europe-west4-a"
UNPRICED = "me-central1-a"
L4 = "NVIDIA_L4_GPUS"
SETTINGS = Settings(runs_dir=Path(), cache_dir=Path(), gcp_project="reef", gcp_bucket="reef")
NEEDS = {
    "device": st.sampled_from(["cpu", "cuda", "auto"]),
    "spot": st.sampled_from(["no", "yes", "prefer"]),
    "machine": st.sampled_from([None, "g2-standard-4", "a2-highgpu-1g", "n1-standard-8"]),
    "zones": st.sampled_from([None, US, f"{EUROPE},{US}", f"{US},{UNPRICED}", UNPRICED]),
    "disk_gb": st.sampled_from([None, 10, 2000]),
}


@pytest.fixture
def compute(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[ComputeEmulator]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with ComputeEmulator(tmp_path_factory.mktemp("gce"), sshd=False) as emulator:
        yield emulator


def offered(compute: ComputeEmulator | None, need: Need, **settings: Any) -> Offer:
    """What the backend says of a need; without an emulator nobody may be asked."""
    where = {} if compute is None else {"gce_endpoint": compute.endpoint, "gcp_project": compute.project}
    values = {"gcp_project": "reef", "gcp_bucket": "reef", "gce_poll_seconds": 0.05, **where, **settings}
    return GcpBackend(Settings(runs_dir=Path(), cache_dir=Path(), **values)).offer(need)


def codes(offer: Offer, severity: Severity = Severity.ERROR) -> list[str]:
    return [finding.code for finding in offer.findings if finding.severity is severity]


def needed(**given: Any) -> Need:
    """A need from what hypothesis drew."""
    options = {
        name: value for name, value in given.items() if name not in ("device", "max_hours", "max_cost") and value
    }
    return Need(given.get("device", "auto"), given.get("max_hours"), options, None, given.get("max_cost"))


# The machine.


@pytest.mark.parametrize(
    ("device", "machine", "proved", "image", "disk_gb"),
    [
        ("cpu", "e2-standard-8", "cpu", "ubuntu-2404-lts-amd64", 30),
        ("cuda", "g2-standard-8", "cuda", "ubuntu-accelerator-2404-amd64-with-nvidia-580", 100),
        ("auto", "g2-standard-8", "cuda", "ubuntu-accelerator-2404-amd64-with-nvidia-580", 100),
    ],
)
def test_what_a_spec_that_names_no_machine_gets(
    device: str, machine: str, proved: str, image: str, disk_gb: int
) -> None:
    wished = planning.wish(Need(device), SETTINGS, "")
    shape = wished.shape
    assert (shape.machine, wished.device, shape.image, shape.disk_gb) == (machine, proved, image, disk_gb)
    assert shape.service_account == "samerun@reef.iam.gserviceaccount.com"
    assert not any(candidate.spot for candidate in wished.candidates)


def test_auto_on_a_machine_without_a_gpu_is_the_cpu() -> None:
    assert planning.wish(needed(machine="e2-standard-4"), SETTINGS, "").device == "cpu"


@pytest.mark.parametrize(
    ("device", "options", "field"),
    [
        ("mps", {}, "resources.device"),
        ("cuda", {"machine": "e2-standard-8"}, "resources.machine"),
        ("cuda", {"machine": "g2-standard-8", "accelerator": "nvidia-tesla-t4"}, "resources.accelerator"),
        ("cpu", {"os_login": "a b; reboot"}, "resources.os_login"),
        ("cpu", {"frobnicate": "1"}, "resources.options"),
    ],
)
def test_a_need_that_no_machine_meets_is_an_error_in_plan_and_in_prepare(
    device: str, options: dict[str, Any], field: str
) -> None:
    need = Need(device, None, options)
    assert f"gcp.{field.rpartition('.')[2]}" in codes(offered(None, need))
    with pytest.raises(SpecError) as refused:
        planning.refuse(planning.wish(need, SETTINGS, ""))
    assert field in [problem.field for problem in refused.value.problems]


def test_spot_comes_before_on_demand_where_it_is_preferred_and_zones_keep_their_order() -> None:
    tried = planning.wish(needed(spot="prefer", zones=f"{EUROPE}, {US},{EUROPE}"), SETTINGS, "").candidates
    assert [(each.zone, each.spot) for each in tried] == [(EUROPE, True), (US, True), (EUROPE, False), (US, False)]
    prices = [each.price for each in tried]
    assert None not in prices
    assert prices[0] < prices[2]  # type: ignore[operator]


def test_plan_names_the_dearest_of_the_zones_and_the_day_of_its_price(compute: ComputeEmulator) -> None:
    offer = offered(compute, needed(device="cpu", spot="prefer", zones=f"{US},{EUROPE}"))
    assert offer.machine == f"e2-standard-8, spot, then on demand in {US}, {EUROPE}"
    dearest = max(
        each.price or 0 for each in planning.wish(needed(device="cpu", zones=EUROPE), SETTINGS, "").candidates
    )
    assert offer.price_per_hour == pytest.approx(dearest)
    assert "2026-07-30" in offer.price_basis


def test_a_zone_without_a_price_makes_the_price_unknown_and_says_so(compute: ComputeEmulator) -> None:
    offer = offered(compute, needed(device="cpu", zones=f"{US},{UNPRICED}"))
    assert offer.price_per_hour is None
    assert codes(offer, Severity.INFO) == ["gcp.no-price"]
    assert codes(offer) == []


# Quotas.


def test_no_quota_in_any_region_is_an_error_of_access(compute: ComputeEmulator) -> None:
    compute.catalogue.quotas["us-central1", L4] = 0
    offer = offered(compute, needed(device="cuda", zones=US))
    assert codes(offer) == ["gcp.no-quota"]
    assert all(finding.is_access for finding in offer.findings if finding.severity is Severity.ERROR)


def test_no_quota_in_one_of_two_regions_is_a_warning(compute: ComputeEmulator) -> None:
    compute.catalogue.quotas["us-central1", L4] = 0
    offer = offered(compute, needed(device="cuda", zones=f"{US},{EUROPE}"))
    assert (codes(offer), codes(offer, Severity.WARNING)) == ([], ["gcp.quota"])


def test_where_not_all_regions_were_asked_nothing_is_refused(compute: ComputeEmulator) -> None:
    for region in compute.catalogue.regions:
        compute.catalogue.quotas[region, L4] = 0
    offer = offered(compute, needed(device="cuda"))
    assert codes(offer) == []
    assert codes(offer, Severity.WARNING) == ["gcp.quota"] * REGIONS_ASKED
    assert compute.count("regions.get") == REGIONS_ASKED


def test_where_no_quota_for_spot_was_ever_granted_the_standard_one_counts(compute: ComputeEmulator) -> None:
    compute.catalogue.quotas["us-central1", f"PREEMPTIBLE_{L4}"] = 0
    assert codes(offered(compute, needed(device="cuda", zones=US, spot="yes"))) == []


def test_a_machine_without_a_gpu_has_no_quota_that_would_keep_it_from_being_tried(compute: ComputeEmulator) -> None:
    compute.catalogue.quotas["us-central1", "CPUS"] = 0
    assert codes(offered(compute, needed(device="cpu", zones=US))) == []


def test_spot_machines_have_a_quota_of_their_own(compute: ComputeEmulator) -> None:
    compute.catalogue.quotas["us-central1", L4] = 0
    assert codes(offered(compute, needed(device="cuda", zones=US, spot="yes"))) == []
    compute.catalogue.quotas["us-central1", f"PREEMPTIBLE_{L4}"] = 0
    assert codes(offered(compute, needed(device="cuda", zones=US, spot="prefer"))) == ["gcp.no-quota"]


@pytest.mark.parametrize(
    ("machine", "accelerator", "metric"),
    [
        ("a2-highgpu-1g", None, "NVIDIA_A100_GPUS"),
        ("a2-ultragpu-1g", None, "NVIDIA_A100_80GB_GPUS"),
        ("n1-standard-8", "nvidia-tesla-t4", "NVIDIA_T4_GPUS"),
        ("n1-standard-8", "nvidia-tesla-v100", "NVIDIA_V100_GPUS"),
    ],
)
def test_the_quota_that_is_asked_for_is_that_of_the_gpu(
    compute: ComputeEmulator, machine: str, accelerator: str | None, metric: str
) -> None:
    compute.catalogue.quotas["us-central1", metric] = 0
    offer = offered(compute, needed(device="cuda", machine=machine, accelerator=accelerator, zones=US))
    assert codes(offer) == ["gcp.no-quota"]
    assert metric in " ".join(finding.message for finding in offer.findings)


@pytest.mark.parametrize(("fault", "code"), [("permission", "gcp.no-credentials"), ("401", "gcp.no-credentials")])
def test_an_account_that_may_not_ask_is_told_what_it_lacks(compute: ComputeEmulator, fault: str, code: str) -> None:
    compute.faults.add(fault, on="regions.get", times=None)
    offer = offered(compute, needed(device="cuda", zones=US))
    assert codes(offer) == [code]
    assert [finding.remedy for finding in offer.findings if finding.code == code] != [""]


def test_a_service_that_does_not_answer_is_a_warning(compute: ComputeEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    from backends.gcp.compute import limits

    quick = limits.Limits(poll=0.02, call=0.2, again=0.3)
    monkeypatch.setattr(limits.Limits, "of", classmethod(lambda cls, poll: quick))
    compute.faults.add("503", on="regions.get", times=None)
    offer = offered(compute, needed(device="cuda", zones=US))
    assert (codes(offer), codes(offer, Severity.WARNING)) == ([], ["gcp.quota"])


# Money and time.


def paid(candidate: Candidate) -> float:
    """What a machine costs that the service deletes as late as it may."""
    assert candidate.price is not None
    return candidate.price * (candidate.lasts_s + LAG_S) / 3600


@given(max_cost=st.floats(0, 200), max_hours=st.none() | st.floats(0.01, 100), **NEEDS)
def test_no_machine_may_cost_more_than_max_cost_and_the_training_leaves_before_it_ends(
    max_cost: float, max_hours: float | None, **drawn: Any
) -> None:
    wished = planning.wish(needed(max_cost=max_cost, max_hours=max_hours, **drawn), SETTINGS, "")
    for each in wished.candidates:
        assert paid(each) <= max_cost + 1e-9
        assert each.lasts_s >= START_UP_S + END_S + min(SHORTEST_S, (max_hours or 24) * 3600 - 1)
        assert 0 < each.max_hours * 3600 <= each.lasts_s - START_UP_S - END_S + 1e-6
        assert max_hours is None or each.max_hours <= max_hours + 1e-3
    assert bool(wished.candidates) != any(problem.field == "resources.max_cost" for problem in wished.why_not)


@given(max_hours=st.none() | st.floats(0.01, 1000), **NEEDS)
def test_without_max_cost_every_machine_has_an_end_that_leaves_the_training_all_its_hours(
    max_hours: float | None, **drawn: Any
) -> None:
    wished = planning.wish(needed(max_hours=max_hours, **drawn), SETTINGS, "")
    hours = max_hours or planning.DEFAULT_HOURS
    assert wished.candidates
    for each in wished.candidates:
        assert hours - 1e-6 <= each.max_hours <= hours + 1 / 3600
        assert each.lasts_s == math.ceil(hours * 3600 + START_UP_S + END_S)


@given(max_cost=st.floats(0, 3), **NEEDS)
def test_what_the_refusal_says_is_enough_is_enough(max_cost: float, **drawn: Any) -> None:
    wished = planning.wish(needed(max_cost=max_cost, **drawn), SETTINGS, "")
    problem = next((each for each in wished.why_not if each.field == "resources.max_cost"), None)
    assume(problem is not None and "allow $" in (problem.remedy or ""))
    assert problem is not None
    assert problem.remedy is not None
    enough = float(problem.remedy.partition("$")[2].split()[0])
    assert planning.wish(needed(max_cost=enough, **drawn), SETTINGS, "").candidates
    assert not wished.candidates


@given(
    hours=st.none() | st.floats(0.01, 100), lasts=st.integers(1800, 10**6), gone=st.floats(0, 10**6), now=st.just(1.7e9)
)
def test_a_training_that_is_begun_late_leaves_before_its_machine_is_deleted(
    hours: float | None, lasts: int, gone: float, now: float
) -> None:
    found = Seen("sr-x", US, "RUNNING", "x", made=now - gone - 20, started=now - gone, lasts=lasts)
    left = hands._left(hours, found, now)
    assert left is not None
    assert 0 < left * 3600 <= max(36.0, lasts - gone - END_S) + 1e-3
    assert hours is None or left <= hours


def test_the_box_is_told_the_trainings_share_of_its_own_machine(backend: GcpBackend, make_attempt: Maker) -> None:
    options = {**make_attempt.resources, "zones": f"{US},{EUROPE}"}
    request = backend.prepare(make_attempt(need=Need("cpu", None, options, None, 1.0)))
    shares = [request.hours_of(each.lasts_s) for each in request.candidates]
    assert shares == [each.max_hours for each in request.candidates]
    assert shares[0] != shares[1], "the prices differ, and so does what the money pays for"
    assert request.hours_of(None) == min(shares), "a machine of which nothing is known"
    assert request.work({}, {}, shares[0]).attempt_json["max_hours"] == shares[0]
    assert [place["max_run_duration_s"] for place in request.show()["places"]] == [
        each.lasts_s for each in request.candidates
    ]


def test_max_cost_cannot_be_held_where_no_price_is_known(compute: ComputeEmulator) -> None:
    offer = offered(compute, needed(device="cpu", zones=UNPRICED, max_cost=100.0))
    assert codes(offer) == ["gcp.max_cost"]
    assert "us-central1" in next(each.remedy for each in offer.findings if each.code == "gcp.max_cost")


def test_with_max_cost_only_zones_with_a_price_are_tried() -> None:
    tried = planning.wish(needed(device="cpu", zones=f"{UNPRICED},{US}", max_cost=5.0), SETTINGS, "").candidates
    assert [each.zone for each in tried] == [US]


def test_what_is_spent_is_not_spent_again() -> None:
    assert codes(offered(None, needed(device="cpu", max_cost=0.0))) == ["gcp.max_cost"]


# By `launch plan`.


def planned(launch: Launch, capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, dict[str, Any]]:
    """Exit code and what it says, as JSON."""
    words = [word for each in overrides for word in ("--set", each)]
    capsys.readouterr()
    code = launch(str(launch.spec), "--backend", "gcp", "--json", *words, command="plan")
    out = capsys.readouterr().out.strip()
    return code, json.loads(out) if out else {}


def errors(plan: dict[str, Any]) -> list[str]:
    return [each["code"] for each in plan["findings"] if each["severity"] == "error"]


def test_launch_plan_shows_the_machine_and_what_it_may_cost_and_makes_nothing(
    launch: Launch, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    zones = ("resources.device=cuda", f"resources.zones={US}", "resources.max_cost=2")
    code = launch(str(launch.spec), "--backend", "gcp", *[w for z in zones for w in ("--set", z)], command="plan")
    told = capsys.readouterr().out
    assert code == 0
    for words in (f"g2-standard-8, on demand in {US}", "$0.87", "2026-07-30", "at most $2.00"):
        assert words in told, told
    assert cloud.compute.count("instances.insert") == 0
    assert cloud.storage.objects(world.BUCKET) == {}


@pytest.mark.parametrize(
    ("missing", "overrides", "code", "finding"),
    [
        ("SAMERUN_GCP_BUCKET", (), Exit.USAGE, "gcp.no-bucket"),
        ("SAMERUN_GCP_PROJECT", (), Exit.USAGE, "gcp.no-project"),
        ("SAMERUN_GCE_ENDPOINT", ("resources.device=cuda",), Exit.ACCESS, "gcp.no-credentials"),
        ("SAMERUN_GCE_ENDPOINT", ("resources.device=cpu",), Exit.ACCESS, "gcp.no-credentials"),
        ("", ("resources.max_cost=0.01",), Exit.USAGE, "gcp.max_cost"),
        ("", ("resources.device=mps",), Exit.USAGE, "gcp.device"),
    ],
)
def test_what_is_missing_is_a_finding_and_an_exit_code(
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
    overrides: tuple[str, ...],
    code: Exit,
    finding: str,
) -> None:
    monkeypatch.delenv(missing or "NOTHING", raising=False)
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    told, plan = planned(launch, capsys, *overrides)
    assert errors(plan) == [finding]
    assert told == code


def test_no_quota_is_exit_code_3(launch: Launch, cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.compute.catalogue.quotas["us-central1", L4] = 0
    code, plan = planned(launch, capsys, "resources.device=cuda", f"resources.zones={US}")
    assert (code, errors(plan)) == (Exit.ACCESS, ["gcp.no-quota"])
    assert plan["findings"][0]["remedy"]


def test_the_zones_of_one_region_are_asked_for_once(compute: ComputeEmulator) -> None:
    zones = f"{US},us-central1-b,us-central1-c"
    offered(compute, needed(device="cuda", zones=zones))
    assert {region_of(zone) for zone in zones.split(",")} == {"us-central1"}
    assert compute.count("regions.get") == 1
