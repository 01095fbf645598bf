"""A network that falls silent between the launcher and everybody: one machine, one attempt, and it is verified.

The launcher's ways to the machine, to Compute Engine and to Cloud Storage each lead through a proxy that swallows. The
silence is longer than any question may take, and shorter than the run's patience, unless a test says otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from backends.gcp import account, birth
from backends.gcp.compute.limits import USUAL_POLL_S, Limits
from backends.gcp.compute.seen import Seen
from backends.gcp.hands import Hands, Reach
from backends.gcp.store import Store
from launcher.runs.state import RunState
from tests.backends.gcp import world
from tests.backends.gcp.test_end_to_end import meanwhile
from tests.backends.gcp.world import Cloud, Launch
from tests.emulators.ssh import SwallowingProxy

ASK_S = 1.5  # every limit of one question, and of a transfer that stands still
HOLE_S = 2.5 * ASK_S
RUN_HOLE_S = 6 * ASK_S  # lines are asked for at the machine, then in the bucket, then the state: none can be had
LONG_S = 60.0
PATIENT_S = 1.2 + 8 * ASK_S  # the patience of 0.02 minutes, and what was asked just before it was over
EPOCHS = 6
SMALL = "data: {reef: {seed: 1, train_videos: 1, val_videos: 1, frames: 2, width: 48, height: 48}}"
BIG = "data: {reef: {seed: 1, train_videos: 2, val_videos: 1, frames: 6, width: 320, height: 320}}"
SPEC = f"""
model: yolo11n.yaml
{SMALL}
train: {{epochs: {EPOCHS}}}
resources: {{device: cpu}}
sync: {{patience_minutes: 3}}
"""


class Network:
    """Of the launcher alone: the machine's own ways to Google stay open."""

    def __init__(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cloud = cloud
        self.silent = False
        self.storage, self.compute = (
            SwallowingProxy(("127.0.0.1", int(urlsplit(url).port or 0)))
            for url in (cloud.storage.endpoint, cloud.compute.endpoint)
        )
        self.all = [self.storage, self.compute]
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{self.storage.port}")
        monkeypatch.setenv("SAMERUN_GCE_ENDPOINT", f"http://127.0.0.1:{self.compute.port}")
        monkeypatch.setenv("SAMERUN_SSH_SECONDS", str(ASK_S))
        limits = Limits(poll=world.POLL_S, call=ASK_S, again=ASK_S, operation=ASK_S, gone=5.0, boot=60.0)
        monkeypatch.setattr(Limits, "of", classmethod(lambda cls, poll: limits))
        monkeypatch.setattr(account, "Store", lambda bucket, **more: Store(bucket, **{**more, "seconds": ASK_S}))
        monkeypatch.setattr(account, "SSH_PAUSE_S", 1.0)
        for name in ("CLAIM_S", "IDLE_S"):  # the real ones: the machine must not take the silence for its end
            monkeypatch.setattr(birth, name, getattr(birth, name) * USUAL_POLL_S / world.POLL_S)
        monkeypatch.setattr(account, "Hands", self._hands)

    def _hands(self, reach: Reach, found: Seen, host_keys: Sequence[str], seconds: float) -> Hands:
        """The machine by a proxy of its own."""
        proxy = SwallowingProxy((found.address, self.cloud.compute.ssh_port))
        self.all.append(proxy)
        if self.silent:
            proxy.swallow()
        return Hands(replace(reach, port=proxy.port), replace(found, address="127.0.0.1"), host_keys, seconds)

    def swallow(self, *, forget: bool = False) -> None:
        self.silent = True
        for proxy in list(self.all):
            proxy.swallow(forget=forget)

    def let_through(self) -> None:
        self.silent = False
        for proxy in list(self.all):
            proxy.let_through()

    def hole(self, seconds: float, *, forget: bool) -> None:
        self.swallow(forget=forget)
        time.sleep(seconds)
        self.storage.throttle(None)
        self.let_through()


@pytest.fixture
def network(launch: Launch, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    network = Network(cloud, monkeypatch)
    launch.spec.write_text(SPEC)
    cloud.compute.settings.environment["SAMERUN_STUB_EPOCH_S"] = "0.4"
    yield network
    network.let_through()
    for proxy in network.all:
        proxy.close()


def has(cloud: Cloud, part: str) -> bool:
    return any(part in name for name in cloud.storage.objects(world.BUCKET))


MOMENTS: dict[str, Callable[[Cloud, Network, Launch], bool]] = {
    "upload": lambda cloud, network, launch: network.storage.carried > 100_000,
    "begin": lambda cloud, network, launch: len(network.all) > 2 and network.all[2].carried > 3_000,
    "run": lambda cloud, network, launch: has(cloud, "/records/"),
    "fetch": lambda cloud, network, launch: launch.record.state is RunState.COLLECTING,
}


@contextmanager
def breaking(
    cloud: Cloud, network: Network, launch: Launch, moment: str, seconds: float, *, forget: bool
) -> Iterator[None]:
    """While the block runs: the network falls silent at the moment, for so long. Fails when it did not come to it."""
    done: list[float] = []

    def come() -> bool:
        try:
            return MOMENTS[moment](cloud, network, launch)
        except IndexError:  # there is no run yet
            return False

    def act() -> None:
        assert come(), f"{moment} has not come"
        network.hole(seconds, forget=forget)
        done.append(time.monotonic())

    thread = meanwhile(come, act)
    yield
    thread.join(5)
    assert done, "the launch was over before the silence was"


def sound(launch: Launch, cloud: Cloud) -> None:
    """Verified, in one attempt on one machine, each epoch once; nothing is left."""
    record = launch.record
    assert record.state is RunState.VERIFIED
    assert len(record.attempts) == 1
    assert launch.epochs() == list(range(1, EPOCHS + 1))
    assert len(cloud.compute.instances.ever) == 1
    assert cloud.compute.leftovers() == []


def outlived(cloud: Cloud, network: Network, launch: Launch, moment: str, seconds: float, *, forget: bool) -> None:
    if moment == "upload":
        launch.spec.write_text(SPEC.replace(SMALL, BIG))
        network.storage.throttle(150_000)
    if moment == "run":
        seconds = max(seconds, RUN_HOLE_S)
    with breaking(cloud, network, launch, moment, seconds, forget=forget):
        assert launch.run() == 0
    sound(launch, cloud)


@pytest.mark.parametrize(("moment", "forget"), [pytest.param("upload", True, marks=pytest.mark.slow), ("fetch", False)])
def test_a_silence_is_waited_out(launch: Launch, cloud: Cloud, network: Network, moment: str, *, forget: bool) -> None:
    outlived(cloud, network, launch, moment, HOLE_S, forget=forget)


def test_in_a_silence_while_it_trains_its_state_is_unknown_and_nothing_else(
    launch: Launch, cloud: Cloud, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    outlived(cloud, network, launch, "run", RUN_HOLE_S, forget=True)
    assert f"{RunState.UNKNOWN} " in capsys.readouterr().err, "nobody has asked for the state in the silence"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "forget"), [("upload", False), ("begin", False), ("begin", True), ("run", False), ("fetch", True)]
)
def test_a_silence_of_the_other_kind(
    launch: Launch, cloud: Cloud, network: Network, moment: str, *, forget: bool
) -> None:
    outlived(cloud, network, launch, moment, HOLE_S, forget=forget)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_silence_of_a_minute(launch: Launch, cloud: Cloud, network: Network, moment: str) -> None:
    outlived(cloud, network, launch, moment, LONG_S, forget=True)


@pytest.mark.slow
def test_attach_goes_on_with_a_training_that_the_silence_has_not_ended(
    launch: Launch, cloud: Cloud, network: Network
) -> None:
    thread = meanwhile(lambda: has(cloud, "/records/"), lambda: network.swallow(forget=True))
    cloud.compute.settings.environment["SAMERUN_STUB_EPOCH_S"] = "4"
    assert launch.run("sync.patience_minutes=0.02") == 7
    thread.join(5)
    assert not launch.record.state.ended
    network.let_through()
    assert launch(launch.record.id, command="attach") == 0
    sound(launch, cloud)


@pytest.mark.slow
def test_a_training_that_ends_in_the_silence_is_brought_home_by_attach_though_its_machine_is_gone(
    launch: Launch, cloud: Cloud, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    """The laptop sleeps. Its machine carries all of it to the bucket, and deletes itself."""
    begun: list[float] = []

    def sleep() -> None:
        begun.append(time.monotonic())
        network.swallow(forget=True)

    thread = meanwhile(lambda: has(cloud, "/records/"), sleep)
    assert launch.run("sync.patience_minutes=0.02") == 7
    assert time.monotonic() - begun[0] < PATIENT_S
    thread.join(5)
    assert "may still be going on" in capsys.readouterr().err
    assert not launch.record.state.ended
    network.compute.let_through()  # the machine's way to delete itself, which leads through this proxy here
    end = time.monotonic() + 40
    while cloud.compute.leftovers() and time.monotonic() < end:
        time.sleep(0.1)
    assert cloud.compute.leftovers() == []
    network.let_through()
    assert launch(launch.record.id, command="attach") == 0
    sound(launch, cloud)


@pytest.mark.slow
def test_cancel_in_the_silence_says_that_it_is_not_known_and_cancel_again_ends_it(
    launch: Launch, cloud: Cloud, network: Network
) -> None:
    cloud.compute.settings.environment["SAMERUN_STUB_EPOCH_S"] = "30"
    words: list[Any] = ["--set", f"resources.python={cloud.python}"]
    assert launch(str(launch.spec), "--backend", "gcp", "--detach", *words) == 0
    network.swallow(forget=True)
    begun = time.monotonic()
    assert launch(launch.record.id, "--yes", command="cancel") == 7
    assert time.monotonic() - begun < 10 * ASK_S
    assert not launch.record.state.ended
    network.let_through()
    assert launch(launch.record.id, "--yes", command="cancel") == 0
    assert launch.record.state is RunState.CANCELLED
    assert cloud.compute.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of", "fault", "options"),
    [
        ("compute", "hang-after", {"on": "instances.insert"}),
        ("storage", "stall", {"on": "storage.objects.insert", "times": 2}),
        ("compute", "hang", {"on": "instances.aggregatedList", "times": 2}),
        ("storage", "stall-after", {"on": "storage.objects.get*", "times": 2}),
        pytest.param(
            "storage",
            "stall-stream",
            {"on": "storage.objects.get:download", "at": 10, "times": 3},
            marks=pytest.mark.slow,
        ),
        ("compute", "hang", {"on": "instances.get", "times": 2}),
        ("compute", "hang", {"on": "instances.delete", "times": 1}),
        ("storage", "stall", {"on": "storage.objects.list", "times": 2}),
        ("storage", "stall", {"times": 6}),
    ],
)
def test_a_question_that_is_never_answered_is_asked_again(
    launch: Launch, cloud: Cloud, network: Network, of: str, fault: str, options: dict[str, Any]
) -> None:
    cloud.compute.settings.environment["SAMERUN_STUB_EPOCH_S"] = "0.05"
    added = (cloud.compute if of == "compute" else cloud.storage).faults.add(fault, **options)
    assert launch.run() == 0
    assert added.hits > 0, "the fault never happened"
    sound(launch, cloud)
