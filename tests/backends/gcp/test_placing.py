"""A machine put into the first zone that takes it: fault by fault, and never two of one attempt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.gcp.compute import names
from backends.gcp.compute.client import Compute
from backends.gcp.compute.instance import Birth, Candidate
from backends.gcp.compute.journal import Journal
from backends.gcp.compute.limits import Limits
from backends.gcp.compute.placing import clear_all, place
from backends.gcp.compute.seen import Seen
from backends.gcp.planning import wish
from launcher.backend import Need
from launcher.errors import CapacityError, CredentialError, QuotaError, RemoteError, SamerunError, SpecError
from launcher.settings import Settings
from tests.emulators.compute import ComputeEmulator

A, B, C = "us-central1-a", "us-central1-b", "europe-west4-a"
ATTEMPT = "Smoke_Run-a1"
LIMITS = Limits(poll=0.02, call=0.5, again=1.5, operation=1.0, gone=2.0, boot=1.0)


class Place:
    """One attempt's way to a machine."""

    def __init__(self, emulator: ComputeEmulator, folder: Path) -> None:
        self.emulator = emulator
        self.compute = Compute(emulator.project, emulator.endpoint, LIMITS)
        self.journal = Journal(folder, ATTEMPT)
        settings = Settings(runs_dir=folder, cache_dir=folder, gcp_project=emulator.project, gcp_bucket="reef")
        self.shape = wish(Need("cpu"), settings, "").shape
        self.most = 0

    def __call__(self, zones: tuple[str, ...] = (A, B, C), spot: bool = False) -> Seen:
        image = self.compute.image("ubuntu-os-cloud", "ubuntu-2404-lts-amd64")
        candidates = [Candidate(zone, spot, 0.3, 3600, 0.5) for zone in zones]

        def birth(candidate: Candidate, at: float) -> Birth:
            self.most = max(self.most, len(self.emulator.instances))  # before this one
            return Birth(ATTEMPT, "run", at + 3600, image, "ssh-ed25519 AAAA", "#!/bin/sh", {}, {})

        return place(self.compute, self.journal, self.shape, candidates, birth)


@pytest.fixture
def putting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ComputeEmulator(tmp_path / "gce", sshd=False, wait_real_seconds=0.3) as emulator:
        yield Place(emulator, tmp_path / "runs")


def test_the_machine_ends_by_itself_and_takes_its_disk_along(putting: Place) -> None:
    found = putting((A,))
    made = putting.emulator.instances[found.name].message
    assert (found.zone, found.attempt, len(found.name) <= 63) == (A, ATTEMPT, True)
    assert made.scheduling.max_run_duration.seconds == 3600
    assert made.scheduling.instance_termination_action == "DELETE"
    assert not made.scheduling.automatic_restart
    putting.emulator.clock.advance(3700)
    assert putting.emulator.leftovers() == []


@pytest.mark.parametrize(
    ("fault", "options", "zone"),
    [
        ("stockout", {"zone": A}, B),
        ("stockout-details", {"zone": A}, B),
        ("preempted-at-birth", {"zone": A}, B),
        ("error-but-up", {"zone": A}, B),
        ("stuck", {"zone": A}, B),
        ("quota-async", {"zone": A, "metric": "CPUS"}, C),
        ("quota", {"zone": A, "on": "instances.insert"}, C),
        ("404", {"zone": A, "on": "instances.insert"}, B),
        ("lose-reply", {"zone": A, "on": "instances.insert"}, A),
        ("503-after", {"zone": A, "on": "instances.insert"}, A),
        ("503", {"zone": A, "on": "instances.insert", "times": 2}, A),
        ("rate", {"zone": A, "on": "instances.insert"}, A),
        ("hang-after", {"zone": A, "on": "instances.insert"}, A),
    ],
)
def test_what_a_refusal_means_for_the_next_zone(putting: Place, fault: str, options: dict[str, Any], zone: str) -> None:
    putting.emulator.faults.add(fault, **options)
    assert putting().zone == zone
    assert putting.most == 0 if zone != A else putting.most <= 1, "a zone was tried while another held a machine"
    assert len(putting.emulator.leftovers()) == 2


@pytest.mark.parametrize(
    ("fault", "options", "error"),
    [
        ("stockout", {}, CapacityError),
        ("quota", {"on": "instances.insert"}, QuotaError),
        ("quota-async", {"metric": "GPUS_ALL_REGIONS"}, QuotaError),
        ("permission", {"on": "instances.insert"}, CredentialError),
        ("401", {"on": "instances.insert"}, CredentialError),
        ("error", {"code": "VPC_NOT_FOUND", "message": "no such network"}, SpecError),
        ("error", {"code": "A_NEW_WORD", "message": "?"}, RemoteError),
    ],
)
def test_where_no_zone_takes_it_the_error_says_what_is_missing(
    putting: Place, fault: str, options: dict[str, Any], error: type[SamerunError]
) -> None:
    putting.emulator.faults.add(fault, times=None, **options)
    with pytest.raises(error):
        putting()
    assert putting.emulator.leftovers() == []


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("503", {"on": "instances.delete", "times": 3}),
        ("lose-reply", {"on": "instances.delete"}),
        ("delete-error", {}),
        ("done-early", {"seconds": 0.3}),
        ("disk-stays", {}),
        ("delete-stuck", {}),
    ],
)
def test_a_deletion_is_not_believed_and_looked_up(putting: Place, fault: str, options: dict[str, Any]) -> None:
    found = putting((A,))
    putting.emulator.faults.add(fault, **options)
    assert clear_all(putting.compute, putting.journal, found.name) == []
    assert putting.emulator.leftovers() == []


def test_a_machine_that_does_not_go_is_an_error_and_no_other_zone_is_tried(putting: Place) -> None:
    putting.emulator.faults.add("error-but-up", zone=A)
    putting.emulator.faults.add("permission", on="instances.delete", times=None)
    with pytest.raises(SamerunError):
        putting()
    assert [line.split()[1].split("/")[0] for line in putting.emulator.leftovers()] == [A, A]
    left = clear_all(putting.compute, putting.journal, names.name_of(ATTEMPT))
    assert len(left) == 1
    assert names.name_of(ATTEMPT) in left[0] or "permission" in left[0].lower()


def test_a_machine_that_is_there_is_gone_on_with_whoever_made_it(putting: Place) -> None:
    first = putting((B,))
    putting.journal.remove()
    assert putting((A, B, C)) == replace(first, status="RUNNING")
    assert putting.emulator.count("instances.insert") == 1


def test_what_was_asked_for_when_it_was_broken_off_is_asked_for_first(putting: Place) -> None:
    putting.emulator.faults.add("stockout", zone=A)
    assert putting().zone == B
    assert clear_all(putting.compute, None, names.name_of(ATTEMPT)) == []
    assert putting.journal.read()["pending"]["zone"] == B
    putting.journal.emptied(B)
    assert putting.journal.read()["pending"] is None
    assert putting().zone == A
