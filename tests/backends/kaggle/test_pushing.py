"""A push is one kernel, or none and an error that says why: refusals, what Kaggle takes otherwise than asked."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from backends.kaggle import KaggleBackend, account
from backends.kaggle.account import Account
from backends.kaggle.kernel import source
from launcher.backend import Attached, Attempt, Need, State
from launcher.cli.planning import refusal
from launcher.errors import CapacityError, Exit, QuotaError, RemoteError, SamerunError, SpecError
from launcher.finding import Severity
from launcher.runs.events import read as read_events
from launcher.runs.state import RunState
from launcher.settings import Settings
from launcher.testing import watched
from launcher.testing.attempts import AttemptMaker
from tests.backends.kaggle.world import Launch, meanwhile, slow
from tests.emulators.kaggle import KaggleEmulator

NAMED = {"options": {"wheels": "alice/no-such-wheels"}}


@pytest.mark.parametrize(
    "kind", ["cut-before", "lose-reply", *slow("429", "503", "500-after", "cut-middle", "short-body")]
)
def test_a_push_whose_answer_is_lost_is_one_kernel(
    backend: KaggleBackend, make_attempt: AttemptMaker, kaggle: KaggleEmulator, kind: str
) -> None:
    attempt = make_attempt(epochs=1)
    kaggle.faults.add(kind, on="SaveKernel")
    handle = None
    while handle is None:
        with contextlib.suppress(RemoteError):  # nothing is known: who submits again must not make two
            handle = watched.submitted(backend, attempt)
    assert watched.ended(backend, handle, 30).state is State.SUCCEEDED
    assert [len(kernel.versions) for kernel in kaggle.kernels] == [1]
    assert kaggle.counters.calls["SaveKernel"] == (2 if kind in ("cut-before", "429", "503") else 1)


def killed_after_the_push(backend: KaggleBackend, attempt: Attempt) -> None:
    """As a launcher that is gone before it looks at the answer."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Account, "_as_asked", killed)
        with pytest.raises(KeyboardInterrupt):
            watched.submitted(backend, attempt)


def test_a_kernel_that_shows_late_is_waited_for(
    backend: KaggleBackend, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    kaggle.faults.add("lose-reply", on="SaveKernel")
    kaggle.faults.add("404", on="GetKernel", times=3)
    handle = watched.submitted(backend, make_attempt(epochs=1))
    assert watched.ended(backend, handle, 30).state is State.SUCCEEDED
    assert kaggle.counters.calls["SaveKernel"] == 1


def test_a_second_session_under_the_name_is_deleted_with_the_first(
    backend: KaggleBackend, settings: Settings, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    """Another machine has pushed the same attempt in the moment between the look and the push."""
    attempt = make_attempt(epochs=1, hold=1)
    request = backend.prepare(attempt)
    watched.submitted(KaggleBackend(settings), attempt)
    with pytest.raises(RemoteError, match="two sessions"):
        Account.sign_in(settings)._push(request)
    assert len(kaggle.kernels) == 0
    assert kaggle.processes_alive == 0


def test_another_name_than_was_asked_for_is_deleted_and_an_error(launch: Launch, kaggle: KaggleEmulator) -> None:
    kaggle.faults.add("wrong-slug", on="alice/*")
    assert launch.run() == 1
    assert "it was deleted again" in launch.record.reason
    assert len(kaggle.kernels) == 0
    assert kaggle.processes_alive == 0


def test_a_kernel_at_another_name_is_owned_so_that_it_can_be_reaped(
    backend: KaggleBackend, settings: Settings, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    """Its launcher was killed before it saw where the kernel had landed."""
    attempt = make_attempt(epochs=1)
    kaggle.faults.add("wrong-slug", on="alice/*")
    killed_after_the_push(backend, attempt)
    (handle,) = KaggleBackend(settings).owned()
    assert handle.attempt == attempt.id
    other = KaggleBackend(settings)
    assert watched.ended(other, watched.handed_over(handle), 30).state is State.SUCCEEDED
    assert other.release(handle) == []
    assert len(kaggle.kernels) == 0


def test_a_source_that_kaggle_leaves_out_ends_the_run_and_the_kernel(
    launch: Launch, kaggle: KaggleEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.run("resources.wheels=alice/no-such-wheels") == 2
    assert "Kaggle left out alice/no-such-wheels; the kernel was deleted again" in capsys.readouterr().err
    assert launch.record.state is RunState.FAILED
    assert len(kaggle.kernels) == 0
    assert kaggle.processes_alive == 0


def test_a_source_that_was_left_out_is_noticed_by_the_next_launch_too(
    backend: KaggleBackend, settings: Settings, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    attempt = make_attempt(epochs=1, hold=1, need=Need("cpu", **NAMED))  # type: ignore[arg-type]
    killed_after_the_push(backend, attempt)
    assert len(kaggle.kernels) == 1
    with pytest.raises(SpecError, match="no-such-wheels"):
        KaggleBackend(settings).find(attempt)
    assert len(kaggle.kernels) == 0


@pytest.mark.parametrize(
    ("asked", "listed", "is_it"),
    [
        ("alice/reef", "alice/reef", True),
        ("alice/reef/3", "alice/reef", True),
        ("alice/reef/3", "alice/reef/3", True),
        ("Alice/reef", "datasets/alice/reef/versions/3", True),
        ("alice/k", "code/alice/k", True),
        ("titanic", "competitions/titanic", True),
        ("titanic", "titanic", True),
        ("alice/reef", "alice/reef-2", False),
        ("alice/reef", "malice/reef", False),
    ],
)
def test_kaggle_may_name_a_source_in_other_ways(asked: str, listed: str, is_it: bool) -> None:
    """Kaggle's own metadata have a kind before the name (kaggle-cli#433); a kernel is not deleted for that."""
    assert account._is_of(asked, listed) is is_it


def test_a_third_session_is_a_lack_of_capacity(
    backend: KaggleBackend, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    for _ in range(2):
        watched.submitted(backend, make_attempt(epochs=1, hold=1, need=Need("auto")))
    with pytest.raises(CapacityError, match="session count of 2"):
        watched.submitted(backend, third := make_attempt(epochs=1, need=Need("auto")))
    assert backend.find(third) is None
    assert len(kaggle.kernels) == 2


def test_without_a_free_session_a_run_ends_with_4(launch: Launch, kaggle: KaggleEmulator) -> None:
    kaggle.settings.max_cpu_sessions = 0
    assert launch.run() == 4
    assert "session count of 0" in launch.record.reason
    assert launch.record.state is RunState.FAILED


@pytest.mark.slow
def test_a_run_that_had_a_session_waits_for_the_next(launch: Launch, kaggle: KaggleEmulator) -> None:
    """A session that was lost still counts for a while (kaggle-cli#185)."""
    kaggle.settings.linger_seconds, kaggle.settings.max_cpu_sessions = 2.0, 1
    launch.slow(0.1)
    kaggle.faults.add("lost", on="alice/samerun-*", seconds=0.7)
    assert launch.run() == 0
    assert len(launch.record.attempts) == 2
    assert kaggle.counters.sessions_started == 2
    assert kaggle.counters.calls["SaveKernel"] > 2, "it was refused meanwhile"


def test_gpu_time_that_is_used_up_is_said_before_anything_is_sent(
    launch: Launch, backend: KaggleBackend, kaggle: KaggleEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle.accounts["alice"].gpu_used = kaggle.accounts["alice"].gpu_total
    assert launch.run("resources.device=cuda") != 0
    assert "0.0 of 30 h of GPU time are left" in capsys.readouterr().err
    assert kaggle.counters.calls["StartBlobUpload"] == 0


def test_gpu_time_that_is_used_up_is_exit_3(
    launch: Launch, backend: KaggleBackend, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    kaggle.accounts["alice"].gpu_used = kaggle.accounts["alice"].gpu_total
    with pytest.raises(QuotaError):
        watched.submitted(backend, make_attempt(need=Need("cuda")))
    kaggle.faults.add("503", on="GetAcceleratorQuotaStatistics", times=None)  # so that the plan cannot know
    assert launch.run("resources.device=cuda") == 3
    assert launch.record.state is RunState.FAILED
    assert len(kaggle.kernels) == 0


def test_the_wrong_accelerator_ends_it_before_anything_is_installed_or_read(
    launch: Launch, kaggle: KaggleEmulator
) -> None:
    """This machine stands for a kernel that Kaggle gave no GPU."""
    assert launch.run("resources.device=cuda") == 1
    record = launch.record
    assert record.state is RunState.FAILED
    assert len(record.attempts) == 1
    assert "asks for cuda, and this machine has none" in record.reason
    (failed,) = (event for event in read_events(launch.folder) if event.name == "failed")
    assert failed.fields["code"] == "wrong-device"
    assert not launch.logged("attaching")
    assert not launch.logged("installing")
    (session,) = kaggle.kernels.sessions
    assert session.plan.shape == "NvidiaTeslaT4"


def test_a_dataset_that_kaggle_cannot_process_ends_the_run(
    launch: Launch, kaggle: KaggleEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle.faults.add("dataset-failed", on="alice/samerun-*")
    assert launch.run() == 2
    assert "could not process it" in capsys.readouterr().err
    assert kaggle.counters.calls["SaveKernel"] == 0


def test_a_dataset_that_lost_a_file_is_made_again(launch: Launch, kaggle: KaggleEmulator) -> None:
    kaggle.faults.add("dataset-missing-file", on="alice/samerun-*")
    assert launch.run() == 0
    assert kaggle.counters.calls["CreateDatasetVersion"] == 1


def test_unchanged_data_is_not_sent_again(launch: Launch, kaggle: KaggleEmulator) -> None:
    spec = ["data={reef: {seed: 1, train_videos: 1, val_videos: 1, frames: 3, width: 640, height: 360}}"]
    assert launch.run(*spec) == 0
    first = kaggle.counters.bytes_in
    uploads = kaggle.counters.calls["upload"]
    assert first > 200_000, "the reef is large enough for the test to mean something"
    assert launch.run(*spec) == 0
    assert kaggle.counters.bytes_in - first < 100_000
    assert kaggle.counters.calls["upload"] == uploads


def test_large_inputs_travel_in_a_dataset_and_what_is_for_one_attempt_goes_with_it(
    backend: KaggleBackend, make_attempt: AttemptMaker, kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "INLINE_BYTES", 0)
    attempt = make_attempt(epochs=3, model="m.pt", resume=2, data={"a.txt": b"1"}, stub={"data": 1})
    request = backend.prepare(attempt)
    assert sorted(wanted.temporary for wanted in request.datasets) == [False, False, True]
    handle = watched.submitted(backend, attempt)
    assert len(kaggle.datasets) == 3
    assert watched.ended(backend, handle, 30).state is State.SUCCEEDED
    assert backend.release(handle) == []
    assert len(kaggle.datasets) == 2
    assert {stored.key for stored in backend.stored()} == {dataset.ref for dataset in kaggle.datasets}


def test_a_kernel_is_private_and_asks_for_what_the_spec_says(
    backend: KaggleBackend, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    kaggle.datasets.add("alice/reef", Path(__file__).parent)
    need = Need("auto", 1.0, {"internet": False})
    request = backend.prepare(make_attempt(need=need))
    assert (request.accelerator, request.internet, request.timeout_s) == ("NvidiaTeslaT4", False, 3600 + 1200)
    assert request.show()["private"] is True
    request = backend.prepare(make_attempt(need=Need("cpu", attached=Attached("kaggle-dataset", "alice/reef"))))
    assert (request.accelerator, request.internet) == (None, True)
    assert request.timeout_s == 11.5 * 3600 + 1200


def test_the_dry_run_sends_nothing(launch: Launch, kaggle: KaggleEmulator, capsys: pytest.CaptureFixture[str]) -> None:
    before = kaggle.snapshot()["calls"]
    assert launch(str(launch.spec), "--backend", "kaggle", "--dry-run") == 0
    assert '"kernel": "alice/samerun-tiny-' in capsys.readouterr().out
    calls = {name: count - before.get(name, 0) for name, count in kaggle.snapshot()["calls"].items()}
    assert not {name for name in calls if name.startswith(("Save", "Create", "Delete", "Start", "upload"))}


def test_a_run_that_is_given_up_while_data_is_sent_sends_no_more(launch: Launch, kaggle: KaggleEmulator) -> None:
    kaggle.faults.add("dataset-never-ready", on="alice/samerun-*")

    def give_up() -> None:
        launch.store.wish_cancelled(launch.record.id)

    with meanwhile(lambda: kaggle.counters.calls["CreateDataset"] > 0, give_up):
        launch.run()
    assert launch.record.state is RunState.CANCELLED
    assert kaggle.counters.calls["SaveKernel"] == 0


def test_an_unknown_refusal_is_told_in_kaggles_words(
    backend: KaggleBackend, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    kaggle.faults.add("error-200", on="SaveKernel", message="The moon is in the wrong place.")
    with pytest.raises(SamerunError, match="moon"):
        watched.submitted(backend, make_attempt())


def test_a_plan_asks_for_what_is_to_be_attached_and_says_what_the_session_is_short_of(
    backend: KaggleBackend, kaggle: KaggleEmulator
) -> None:
    kaggle.datasets.add("alice/there", {"data.yaml": b""})
    for name, codes in (("alice/there", set()), ("alice/nothere", {"kaggle.no-dataset"})):
        offer = backend.offer(Need("cpu", attached=Attached("kaggle-dataset", name)))
        assert {finding.code for finding in offer.findings if finding.severity is Severity.ERROR} == codes
    assert "kaggle.session-shorter" in {finding.code for finding in backend.offer(Need("cpu", 20.0)).findings}
    offer = backend.offer(Need())
    assert {"kaggle.quota", "kaggle.sessions", "kaggle.phone"} <= {finding.code for finding in offer.findings}
    assert offer.output_limit == 20 * 10**9
    assert "kaggle.session-shorter" not in {finding.code for finding in backend.offer(Need("cpu", 5.0)).findings}


def test_a_wrong_key_and_a_used_up_quota_are_known_at_plan_time_and_are_errors_of_access(
    backend: KaggleBackend, kaggle: KaggleEmulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.accounts.add("broke", gpu_total=3600, gpu_used=3600)
    for name, value in kaggle.env_of("broke").items():
        monkeypatch.setenv(name, value)
    errors = [f for f in KaggleBackend(settings).offer(Need()).findings if f.severity is Severity.ERROR]
    assert [(finding.code, finding.is_access) for finding in errors] == [("kaggle.no-quota", True)]
    monkeypatch.setenv("KAGGLE_KEY", "wrong")
    errors = [f for f in KaggleBackend(settings).offer(Need("cpu")).findings if f.severity is Severity.ERROR]
    assert [(finding.code, finding.is_access) for finding in errors] == [("kaggle.no-credentials", True)]
    assert refusal(errors) is Exit.ACCESS


def test_a_deletion_that_nobody_answers_is_not_said_to_have_failed(
    backend: KaggleBackend, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    handle = watched.submitted(backend, make_attempt(epochs=1, hold=1))
    kaggle.faults.add("503", on="DeleteKernel", times=None)
    with pytest.raises(RemoteError, match="may still run") as caught:
        backend.cancel(handle)
    assert "listed" not in caught.value.message
