"""The price table: whole, dated, of known sources, and there for what is tried where a spec says nothing."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backends.gcp
from backends.gcp import planning, prices
from backends.gcp.compute.names import region_of
from launcher.backend import Need
from launcher.settings import Settings

TABLE: dict[str, Any] = json.loads((Path(backends.gcp.__file__).parent / "prices.json").read_bytes())
MACHINES: dict[str, dict[str, list[float]]] = TABLE["machines"]
DEAREST = 100.0  # US dollars an hour: a slip of the decimal point is above it
SETTINGS = Settings(runs_dir=Path(), cache_dir=Path(), gcp_project="reef", gcp_bucket="reef")


def pairs() -> Iterator[tuple[str, list[float]]]:
    """Every price on demand and spot, and what it is for."""
    yield "address", TABLE["address"]
    yield from TABLE["gpus"].items()
    for machine, regions in MACHINES.items():
        yield from ((f"{machine} in {region}", both) for region, both in regions.items())


def test_the_table_has_a_day_a_currency_a_source_and_its_assumptions() -> None:
    day = date.fromisoformat(TABLE["date"])
    assert date(2026, 1, 1) < day <= datetime.now(UTC).date()
    assert TABLE["currency"] == "USD"
    assert re.search(r"[a-z]+\.[a-z]+/\S+", TABLE["source"])
    assert len(TABLE["assumptions"]) >= 1
    assert TABLE["date"] in prices.basis()
    assert prices.date() == TABLE["date"]


def test_every_price_is_positive_and_spot_is_cheaper() -> None:
    wrong = [what for what, (on_demand, spot) in pairs() if not 0 < spot < on_demand < DEAREST]
    assert wrong == []


def test_every_region_with_machines_has_a_price_for_disks() -> None:
    regions = {region for by_region in MACHINES.values() for region in by_region}
    assert regions <= TABLE["disk_gb_month"].keys()
    assert all(0 < price < 1 for price in TABLE["disk_gb_month"].values())


@pytest.mark.parametrize("family", ["e2", "n1", "g2", "a2"])
def test_a_bigger_machine_of_a_family_costs_more_where_it_has_no_more_gpus(family: str) -> None:
    ones = {"g2": ["g2-standard-4", "g2-standard-8", "g2-standard-12", "g2-standard-16", "g2-standard-32"]}
    names = ones.get(family) or [name for name in MACHINES if name.startswith(family)]
    for small, big in itertools.pairwise(names):
        for region in MACHINES[small].keys() & MACHINES[big].keys():
            assert MACHINES[small][region][0] < MACHINES[big][region][0], (small, big, region)


@pytest.mark.parametrize("spot", ["no", "yes", "prefer"])
@pytest.mark.parametrize(
    ("device", "options"),
    [
        ("cpu", {}),
        ("cuda", {}),
        ("auto", {}),
        ("cuda", {"machine": "g2-standard-4"}),
        ("cuda", {"machine": "a2-highgpu-1g"}),
        ("cuda", {"machine": "a2-ultragpu-1g"}),
        ("cuda", {"machine": "n1-standard-8", "accelerator": "nvidia-tesla-t4"}),
    ],
)
def test_every_zone_that_is_tried_by_default_has_a_price(device: str, options: dict[str, str], spot: str) -> None:
    wished = planning.wish(Need(device, options={**options, "spot": spot}), SETTINGS, "")
    assert wished.why_not == ()
    assert [each.zone for each in wished.candidates if each.price is None] == []
    assert {each.spot for each in wished.candidates} == {"no": {False}, "yes": {True}, "prefer": {True, False}}[spot]


def test_a_price_is_the_sum_of_machine_gpu_disk_and_address() -> None:
    found = prices.price("n1-standard-4", "nvidia-tesla-t4", "us-central1", spot=False, disk_gb=730, external_ip=True)
    assert found is not None
    assert found.hour == pytest.approx(0.19 + 0.35 + 0.1 + 0.005)
    inside = prices.price("n1-standard-4", "", "us-central1", spot=True, disk_gb=730, external_ip=False)
    assert inside is not None
    assert inside.hour == pytest.approx(0.06701 + 0.1)


@given(
    machine=st.sampled_from([*MACHINES, "z9-standard-8", ""]),
    accelerator=st.sampled_from(["", *TABLE["gpus"], "nvidia-none"]),
    region=st.sampled_from([*TABLE["disk_gb_month"], "mars-north1"]),
    spot=st.booleans(),
    disk_gb=st.integers(10, 65536),
    external_ip=st.booleans(),
)
def test_a_price_is_whole_or_not_known(
    machine: str, accelerator: str, region: str, *, spot: bool, disk_gb: int, external_ip: bool
) -> None:
    found = prices.price(machine, accelerator, region, spot=spot, disk_gb=disk_gb, external_ip=external_ip)
    known = region in MACHINES.get(machine, {}) and accelerator != "nvidia-none"
    assert (found is not None) == known
    if found is not None:
        assert found.hour >= MACHINES[machine][region][int(spot)]
        assert (found.gpu > 0) == bool(accelerator)
        assert (found.address > 0) == external_ip


def test_the_zones_of_the_default_lists_are_of_regions_that_the_table_names() -> None:
    for zones in planning.ZONES.values():
        assert {region_of(zone) for zone in zones.split()} <= TABLE["disk_gb_month"].keys()
        assert len(set(zones.split())) == len(zones.split())
