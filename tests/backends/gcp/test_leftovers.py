"""What is there is found and deleted, whatever else cannot be asked; and what is not ours is left alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud import compute_v1

from backends.gcp import GcpBackend, account, planning, starting
from backends.gcp.account import Account
from backends.gcp.compute import names
from backends.gcp.compute.client import Compute
from backends.gcp.compute.instance import Birth, Candidate, message
from backends.gcp.compute.journal import Journal
from backends.gcp.compute.limits import Limits
from backends.gcp.compute.placing import clear_all, place
from backends.gcp.compute.seen import Seen
from backends.gcp.hands import Hands, Reach, TakenAwayError, Work
from backends.gcp.planning import END_S, wish
from launcher.backend import Handle, Need, State
from launcher.errors import CredentialError, RemoteError, SpecError
from launcher.settings import Settings
from tests.backends.gcp import world
from tests.backends.gcp.world import Cloud, Launch
from tests.emulators.compute import ComputeEmulator
from tests.emulators.storage import StorageEmulator

A, B = "us-central1-a", "us-central1-b"
ATTEMPT = "run-abc123-a1"
NAME = names.name_of(ATTEMPT)
LIMITS = Limits(poll=0.02, call=0.5, again=1.0, operation=1.0, gone=1.5, boot=1.0)


class Project:
    """A project whose machines have no inside."""

    def __init__(self, emulator: ComputeEmulator, storage: StorageEmulator, folder: Path) -> None:
        self.emulator, self.storage = emulator, storage
        self.settings = Settings(
            runs_dir=folder,
            cache_dir=folder,
            gcp_project=emulator.project,
            gcp_bucket=world.BUCKET,
            gce_endpoint=emulator.endpoint,
            gce_poll_seconds=0.05,
        )
        self.compute = Compute(emulator.project, emulator.endpoint, LIMITS)
        self.journal = Journal(folder, ATTEMPT)
        self.shape = wish(Need("cpu"), self.settings, "").shape

    def birth(self, attempt: str = ATTEMPT) -> Birth:
        image = self.compute.image("ubuntu-os-cloud", "ubuntu-2404-lts-amd64")
        return Birth(attempt, "run-abc123", time.time() + 3600, image, "ssh-ed25519 AAAA", "#!/bin/sh", {}, {})

    def place(self, *zones: str) -> Seen:
        candidates = [Candidate(zone, False, 0.3, 3600, 0.5) for zone in zones]
        return place(self.compute, self.journal, self.shape, candidates, lambda candidate, at: self.birth())

    def account(self) -> Account:
        found = Account(self.settings, self.emulator.project)
        found.compute = self.compute
        return found

    def handle(self, **more: Any) -> Handle:
        key = {"project": self.emulator.project, "bucket": world.BUCKET, "run": "run-abc123", "number": 1}
        return Handle("gcp", ATTEMPT, {**key, **more})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with (
        StorageEmulator(tmp_path / "storage") as storage,
        ComputeEmulator(tmp_path / "gce", sshd=False, wait_real_seconds=0.3) as emulator,
    ):
        storage.bucket(world.BUCKET)
        for name, value in {**storage.env, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}.items():
            monkeypatch.setenv(name, value)
        yield Project(emulator, storage, tmp_path / "runs")


@pytest.fixture
def make(project: Project, tmp_path: Path) -> world.Maker:
    return world.Maker(tmp_path / "made", project.settings.cache_dir, device="cpu", resources={})


def test_a_machine_is_deleted_though_nobody_may_list_disks(project: Project) -> None:
    project.place(A)
    project.emulator.faults.add("permission", on="disks.aggregatedList", times=None)
    (left,) = clear_all(project.compute, project.journal, NAME)
    assert left.startswith(f"the disk {NAME} may be there still")
    assert project.emulator.leftovers() == []


def test_a_machine_is_deleted_by_its_handle_when_lists_are_refused(project: Project) -> None:
    found = project.place(A)
    project.emulator.faults.add("permission", on="instances.aggregatedList", times=None)
    with pytest.raises(RemoteError, match="may be there still"):
        project.account().take_off(project.handle(zone=found.zone))
    assert project.emulator.leftovers() == []


@pytest.mark.parametrize("where", ["a zone", "the page", "unreachables"])
def test_a_list_that_leaves_a_zone_out_is_no_answer(project: Project, where: str) -> None:
    warning = compute_v1.Warning(code="UNREACHABLE")
    page = {
        "a zone": compute_v1.InstanceAggregatedList(
            items={f"zones/{A}": compute_v1.InstancesScopedList(warning=warning)}
        ),
        "the page": compute_v1.InstanceAggregatedList(warning=warning),
        "unreachables": compute_v1.InstanceAggregatedList(unreachables=[f"zones/{A}"]),
    }[where]
    client = SimpleNamespace(aggregated_list=lambda **asked: SimpleNamespace(pages=[page]))
    project.compute.__dict__["_instances"] = client
    with pytest.raises(RemoteError, match="nobody can say"):
        project.compute.machines()


def test_an_empty_zone_is_an_answer(project: Project) -> None:
    none = compute_v1.InstancesScopedList(warning=compute_v1.Warning(code="NO_RESULTS_ON_PAGE"))
    page = compute_v1.InstanceAggregatedList(items={f"zones/{A}": none})
    project.compute.__dict__["_instances"] = SimpleNamespace(
        aggregated_list=lambda **asked: SimpleNamespace(pages=[page])
    )
    assert project.compute.machines() == []


def test_a_machine_that_the_list_has_forgotten_is_not_lost(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = project.place(A), project.account()
    monkeypatch.setattr(project.compute, "machines", lambda name="": [])
    assert asked.poll([project.handle(zone=found.zone)])[ATTEMPT].state is State.UNKNOWN


def test_a_machine_that_is_gone_is_lost_though_nobody_may_ask_why(project: Project) -> None:
    project.emulator.faults.add("permission", on="zoneOperations.list", times=None)
    assert project.account().poll([project.handle(zone=A)])[ATTEMPT].state is State.LOST


def test_a_second_machine_of_the_name_does_not_speak_for_the_first() -> None:
    other, own = (Seen(NAME, zone, "RUNNING", ATTEMPT) for zone in (A, B))
    assert account._of([other, own], Handle("gcp", ATTEMPT, {"zone": B})).seen is own
    assert account._of([other], Handle("gcp", ATTEMPT, {"zone": B})).seen is None


def test_somebody_elses_machine_of_our_name_is_neither_used_nor_deleted(project: Project) -> None:
    theirs = message(project.shape, Candidate(A, False, 0.3, 3600, 0.5), project.birth("another-a1"))
    theirs.name = NAME
    project.compute.wait(A, project.compute.insert(A, theirs, "5b6c2a1e-0d0f-4a6e-9d59-5b2f2f3f7a10"))
    with pytest.raises(RemoteError, match="samerun has not made it"):
        project.place(A, B)
    (left,) = clear_all(project.compute, project.journal, NAME)
    assert "samerun has not made it" in left
    assert project.emulator.instances[NAME].status == "RUNNING"


@pytest.mark.parametrize("fault", ["gone", "refused"])
def test_machines_are_found_whatever_becomes_of_the_bucket(project: Project, fault: str) -> None:
    project.place(A)
    project.journal.remove()
    backend = GcpBackend(project.settings)
    if fault == "gone":
        object.__setattr__(project.settings, "gcp_bucket", "no-such-bucket")
    else:
        project.storage.faults.add("403", on="*", times=None)
    assert [handle.attempt for handle in backend.owned()] == [ATTEMPT]


def test_without_machines_a_bucket_that_cannot_be_read_is_an_error(project: Project) -> None:
    project.storage.faults.add("403", on="*", times=None)
    with pytest.raises(CredentialError):
        GcpBackend(project.settings).owned()


def test_reap_without_a_project_says_that_it_did_not_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SAMERUN_GCP_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("SAMERUN_RUNS_DIR", str(tmp_path / "runs"))
    launch = object.__new__(Launch)
    assert launch("--backend", "gcp", command="reap") == 3
    assert "0 attempt(s) held" not in capsys.readouterr().out


def test_a_login_that_has_run_out_is_loud_where_a_machine_may_be_left(project: Project) -> None:
    project.place(A)
    project.journal.write(project=project.emulator.project, bucket=world.BUCKET, run="run-abc123", number=1)
    project.emulator.settings.anonymous = False
    with pytest.raises(RemoteError, match="may have machines"):
        GcpBackend(project.settings).owned()


def test_whoever_finds_an_attempt_in_use_does_not_wait_for_ever(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ATTEMPT)
    with journal.held(), pytest.raises(RemoteError, match="another process"), Journal(tmp_path, ATTEMPT).held(0.1):
        pass
    with journal.held(0.1):
        pass


def test_a_refused_upload_leaves_no_machine_of_the_try_before(
    cloud: Cloud, backend: GcpBackend, make_attempt: world.Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: Hands, work: Work, found: Seen) -> None:
        raise RemoteError("the link is dead")

    request = backend.prepare(make_attempt())
    backend.stage(request, lambda what, done, of: None)
    with monkeypatch.context() as patch:
        patch.setattr(Hands, "begin", cut)
        with pytest.raises(RemoteError):
            backend.submit(request)
    assert cloud.compute.leftovers() != []
    cloud.storage.faults.add("403", on="*", times=None)
    with pytest.raises(CredentialError):
        GcpBackend(cloud.settings()).stage(request, lambda what, done, of: None)
    assert cloud.compute.leftovers() == []


class Wire:
    """In the place of a link: what each command is answered, and what it was fed."""

    seconds = 1.0

    def __init__(self, clock: float, laid: tuple[int, bytes] = (0, b"")) -> None:
        self.clock, self.laid, self.fed = clock, laid, b""

    def run(self, argv: Sequence[str], *, feed: bytes = b"", limit: float | None = None) -> Any:
        if "blobs" in argv:
            self.fed = feed
            return SimpleNamespace(code=self.laid[0], out=b"", err=self.laid[1])
        return SimpleNamespace(code=0, out=b"%d\n" % self.clock if argv[0] == "date" else b"", err=b"")


def begun(wire: Wire, found: Seen, tmp_path: Path) -> Mapping[str, Any]:
    """The attempt.json that a machine is given."""
    python = "/usr/bin/python3"
    facts = SimpleNamespace(root="/r", python=python, platform="linux")
    on = Hands(Reach(tmp_path / "key", "reef", python=python), found, ["ssh-ed25519 AAAA"], 1.0)
    on._link = wire  # type: ignore[assignment]
    on.machine = SimpleNamespace(ready=lambda: facts, start=lambda attempt, env: None)  # type: ignore[assignment]
    on.begin(Work(ATTEMPT, {}, {"max_hours": 2.0}, {}, ""), found)
    described: Mapping[str, Any] = json.loads(wire.fed)["attempt_json"]
    return described


@pytest.mark.parametrize("off", [-86400.0, 86400.0])
def test_the_trainings_time_does_not_hang_on_this_computers_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    truly = time.time()
    found = Seen(NAME, A, "RUNNING", ATTEMPT, "127.0.0.1", made=truly - 3600, started=truly - 3600, lasts=7200)
    monkeypatch.setattr(time, "time", lambda: truly + off)
    hours = begun(Wire(truly), found, tmp_path)["max_hours"]
    assert hours == pytest.approx((3600 - END_S) / 3600, abs=0.01)


def test_a_machine_whose_account_may_not_read_the_bucket_is_a_refusal(tmp_path: Path) -> None:
    wire = Wire(time.time(), (1, b"carrier: blobs: RefusedError: 403 denied"))
    with pytest.raises(CredentialError) as caught:
        begun(wire, Seen(NAME, A, "RUNNING", ATTEMPT, "127.0.0.1"), tmp_path)
    assert "service_account" in str(caught.value.remedy)


def test_a_project_that_is_not_there_is_said_at_once(
    launch: Launch, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    for on in ("instances.aggregatedList", "disks.aggregatedList", "instances.insert"):
        cloud.compute.faults.add("404", on=on, times=None)
    begun = time.monotonic()
    assert launch.run() == 3
    assert time.monotonic() - begun < 10, "the run's patience is for what may pass"
    assert "SAMERUN_GCP_PROJECT" in capsys.readouterr().err
    assert cloud.compute.leftovers() == []


def test_a_bucket_that_is_not_there_is_said_before_anything_is_begun(
    launch: Launch, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.run("resources.bucket=no-such-bucket") == 2
    assert "there is no bucket gs://no-such-bucket" in capsys.readouterr().err
    assert cloud.compute.count("instances.insert") == 0


def test_the_money_of_a_machine_that_was_taken_away_is_not_spent_again(
    project: Project, make: world.Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(compute: Compute, found: Seen, hands: Any) -> Any:
        if len(project.emulator.instances.ever) > 1:
            raise RemoteError("far enough")
        project.emulator.clock.advance(1800)
        compute.delete(found.zone, found.name)
        raise TakenAwayError("it was taken away")

    monkeypatch.setattr(starting, "ready", taken)
    monkeypatch.setattr(starting, "MACHINES", 2)
    backend = GcpBackend(project.settings)
    request = backend.prepare(make(need=Need("cpu", 10.0, {"zones": A, "python": "/usr/bin/python3"}, max_cost=0.5)))
    backend.stage(request, lambda what, done, of: None)
    with pytest.raises(RemoteError, match="far enough"):
        backend.submit(request)
    first, second = (vm.message.scheduling.max_run_duration.seconds for vm in project.emulator.instances.ever)
    assert 1800 <= first - second < 1800 + 120
    (price,) = {each.price for each in request.candidates}
    handle = backend._account(project.emulator.project).handle(
        Journal(project.settings.runs_dir, request.attempt.id), request.attempt.id
    )
    cost = backend.cost(handle)
    assert cost is not None
    assert price is not None
    assert cost.dollars > 0.5 * price


def test_what_too_little_money_is_left_for_is_refused() -> None:
    candidate = Candidate(A, False, 1.0, 7000, 1.5)
    need = Need("cpu", max_cost=2.0)
    (shorter,) = planning.affordable(need, [candidate], 1.0)
    assert shorter.lasts_s + 60 == 3600
    with pytest.raises(SpecError, match="too little is left"):
        planning.affordable(need, [candidate], 1.6)
    assert planning.affordable(Need("cpu"), [candidate], 5.0) == (candidate,)
