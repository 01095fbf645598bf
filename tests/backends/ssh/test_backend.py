"""What the suite does not ask: hosts that lack something, what is told before a launch, large inputs, several hosts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from backends.ssh import CANCEL_S, SshBackend, place_of, training_of
from backends.ssh.host import agent
from backends.ssh.host.machine import INLINE_BYTES, Machine
from backends.ssh.link import Link, Where
from backends.ssh.remembered import Memory
from launcher.backend import DataSource, Handle, InputFile, Need, State
from launcher.errors import NotFoundError, RemoteError, SamerunError, SpecError
from launcher.finding import Severity
from launcher.settings import Settings
from launcher.testing import watched
from tests.backends.ssh import world
from tests.backends.ssh.world import Host, Maker


def need(device: str = "cpu", **more: Any) -> Need:
    return Need(device, None, world.options(**more))


def codes(backend: SshBackend, asked: Need) -> dict[str, Severity]:
    return {finding.code: finding.severity for finding in backend.offer(asked).findings}


def never(*_: object) -> None:
    raise AssertionError("nothing should be sent")


# Before a launch.


def test_an_offer_names_the_machine_and_what_the_named_python_has(backend: SshBackend, host: Host) -> None:
    offer = backend.offer(need("auto"))
    assert offer.machine.startswith("gpubox: ")
    assert offer.findings == ()
    assert offer.installs == ()
    assert offer.versions is not None
    assert offer.versions["ultralytics"] == "8.4.190"
    assert (offer.free_memory or 0) > 1 << 28
    made = backend.offer(need("cpu", python="3.12"))
    assert (made.installs, made.versions) == (("ultralytics", "torch"), {})


def test_an_offer_says_what_is_wrong(backend: SshBackend, host: Host) -> None:
    assert codes(backend, Need()) == {"ssh.no-host": Severity.ERROR}
    assert codes(backend, need(host="-oProxyCommand=x")) == {"ssh.host": Severity.ERROR}
    assert codes(backend, need("mps")) == {"ssh.no-device": Severity.ERROR}
    assert codes(backend, need(python="/no/such/python")) == {"ssh.no-python": Severity.ERROR}
    assert codes(backend, need(host="nobody@127.0.0.1:1")) in (
        {"ssh.silent": Severity.WARNING},
        {"ssh.no-credentials": Severity.ERROR},
    )


def test_a_host_without_any_python_is_told_apart_and_a_tilde_is_its_home(backend: SshBackend, host: Host) -> None:
    host.sshd.stop()
    (host.home / "empty").mkdir()
    for name in ("sh", "env"):
        (host.home / "empty" / name).symlink_to(shutil.which(name) or name)
    host.sshd.environment["PATH"] = str(host.home / "empty")
    host.sshd.start()
    with pytest.raises(NotFoundError, match=r"no Python 3.10 or newer") as refused:
        backend._machine(place_of({"host": "gpubox"})).facts()
    assert "uv python install" in (refused.value.remedy or "")
    world.wrapper(host)
    facts = backend._machine(place_of({"host": "gpubox", "python": "~/bin/python3"})).facts()
    assert facts.python == f"{host.home}/bin/python3"


def test_doctor_says_how_to_forget_a_host_that_is_gone(backend: SshBackend, host: Host, settings: Settings) -> None:
    assert [finding.code for finding in backend.check()] == ["ssh.hosts"]
    Memory(settings.cache_dir / "ssh").remember(world.place())
    assert [finding.code for finding in backend.check()] == ["ssh.host"]
    host.proxy.swallow(forget=True)
    (found,) = backend.check()
    assert found.code == "ssh.silent"
    (file,) = (settings.cache_dir / "ssh").iterdir()
    assert str(file) in found.remedy


def test_an_unheard_of_place_asks_nobody_and_leaves_nothing(
    backend: SshBackend, host: Host, make_attempt: Maker
) -> None:
    attempt = make_attempt()
    handle = Handle("ssh", attempt.id, world.place().to_json())
    assert backend.find(attempt) is None
    assert backend.poll([handle])[attempt.id].state is State.UNKNOWN
    assert backend.lines(handle, "", 0.0).lines == ()
    assert backend.files(handle) is None
    with pytest.raises(RemoteError, match="not mounted"):
        backend.cancel(handle)
    assert backend.release(handle) == []
    assert (backend.owned(), backend.stored()) == ([], [])
    assert list(host.home.iterdir()) == []


def test_what_an_attempt_will_do_before_it_trains(make_attempt: Maker) -> None:
    prove = ["{python}", "{worker}", "prove", "{box}"]
    own, made = (
        training_of(make_attempt(need=need("cuda"))),
        training_of(make_attempt(need=need("auto", python="3.12"))),
    )
    assert own == {"python": "{host_python}", "before": [prove]}
    assert [command[1:] for command in made["before"]] == [["-I", "{agent}", "environment", "{box}"], prove[1:]]
    assert made["check_pins"] is True
    assert made["environment"]["python"] == "3.12"
    assert training_of(make_attempt(need=need("cpu")))["before"] == []


def test_a_host_with_a_driver_is_asked_for_its_gpu(
    backend: SshBackend, host: Host, make_attempt: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` on it is cuda: the worker then refuses to train on the CPU, which nobody would notice for hours."""
    sign = host.home / "nvidia0"
    sign.touch()
    monkeypatch.setattr(agent, "asking", _asking(str(sign)))
    attempt = make_attempt(need=need("auto"))
    assert backend.offer(attempt.need).device == "cuda"
    handle = watched.submitted(backend, attempt)
    status = watched.ended(backend, handle, 60)
    assert status.state is State.FAILED
    assert "asks for cuda, and this machine has none" in status.reason


def _asking(sign: str) -> Any:
    source = agent.asking().replace(b"/dev/nvidia0", sign.encode())
    return lambda: source


# Large inputs and datasets.


def test_a_large_input_is_sent_before_and_not_again(backend: SshBackend, host: Host, make_attempt: Maker) -> None:
    attempt = make_attempt(model="a.pt")
    data = os.urandom(3 * INLINE_BYTES)
    source = make_attempt._file(attempt.id, "big.pt", data)
    big = InputFile("resume/last.pt", source, hashlib.sha256(data).hexdigest(), len(data))
    request = backend.prepare(dataclasses.replace(attempt, inputs=(*attempt.inputs, big)))
    told: list[tuple[str, int, int]] = []
    backend.stage(request, lambda *step: told.append(step))
    assert told[-1] == ("sending the run's input", len(data), len(data))
    before = host.proxy.carried
    backend.stage(request, never)
    handle = backend.submit(request)
    assert host.proxy.carried - before < INLINE_BYTES
    assert (host.box(attempt.id) / "in/resume/last.pt").read_bytes() == data
    watched.ended(backend, handle, 20)
    assert backend.release(handle) == []
    assert list((host.root / "incoming").iterdir()) == []


def test_a_dataset_that_two_launches_want_at_once_is_sent_once(
    settings: Settings, host: Host, make_attempt: Maker
) -> None:
    files = {f"images/{number}.png": os.urandom(100_000) for number in range(20)}
    attempts = [make_attempt(data=files), make_attempt(data=files)]
    host.proxy.throttle(4_000_000)
    told: list[str] = []
    failed: list[BaseException] = []

    def stage(attempt: Any) -> None:
        try:
            backend = SshBackend(settings)
            backend.stage(backend.prepare(attempt), lambda what, done, of: told.append(what))
        except BaseException as error:  # noqa: BLE001  told by the test
            failed.append(error)

    threads = [threading.Thread(target=stage, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert any("another launch" in what for what in told)
    assert host.proxy.carried < 3_500_000


def test_a_dataset_that_is_there_is_one_question(backend: SshBackend, host: Host, make_attempt: Maker) -> None:
    attempt = make_attempt(data={"a.txt": b"a"})
    machine = backend._machine(world.place())
    assert isinstance(attempt.data, DataSource)
    listing = next(file.source for file in attempt.inputs if file.path == "data.json")
    assert machine.data(attempt.data, listing, lambda *_: None) == f"{{root}}/data/{attempt.data.fingerprint}"
    with patch.object(machine.link, "run", wraps=machine.link.run) as asked:
        machine.data(attempt.data, listing, never)
    assert asked.call_count == 1


# What others do to the host.


def test_an_agent_that_was_deleted_is_brought_again(backend: SshBackend, host: Host, make_attempt: Maker) -> None:
    handle = watched.submitted(backend, make_attempt())
    shutil.rmtree(host.root / "agents")
    assert watched.ended(backend, handle, 20).state is State.SUCCEEDED


@pytest.mark.parametrize("gone", ["*.py", "box.py", "__main__.py"])
def test_an_agent_of_which_a_tidied_disk_left_the_folders_is_brought_again(
    backend: SshBackend, host: Host, make_attempt: Maker, gone: str
) -> None:
    handle = watched.submitted(backend, make_attempt())
    deleted = list((host.root / "agents").rglob(gone))
    assert deleted
    for path in deleted:
        path.unlink()
    shutil.rmtree(next((host.root / "agents").rglob("__pycache__")), ignore_errors=True)
    assert watched.ended(backend, handle, 20).state is State.SUCCEEDED
    assert all(path.is_file() for path in deleted)


def test_a_folder_that_is_gone_may_be_a_disk_that_is_not_mounted(
    backend: SshBackend, host: Host, make_attempt: Maker
) -> None:
    handle = watched.submitted(backend, make_attempt())
    watched.ended(backend, handle, 20)
    host.root.rename(host.home / "unmounted")
    for each in (SshBackend(backend._settings), backend, backend):
        assert each.poll([handle])[handle.attempt].state is State.UNKNOWN
        assert each.stored() == []
    assert not host.root.exists(), "the agent was put where the disk belongs"
    (host.home / "unmounted").rename(host.root)
    assert [each.attempt for each in SshBackend(backend._settings).owned()] == [handle.attempt]
    assert backend.poll([handle])[handle.attempt].state is State.SUCCEEDED


def test_a_host_that_was_emptied_has_lost_the_attempt(backend: SshBackend, host: Host, make_attempt: Maker) -> None:
    handle = watched.submitted(backend, make_attempt())
    watched.ended(backend, handle, 20)
    shutil.rmtree(host.root)
    host.root.mkdir(0o700)
    assert SshBackend(backend._settings).poll([handle])[handle.attempt].state is State.LOST
    assert backend.poll([handle])[handle.attempt].state is State.LOST


def test_nothing_is_run_from_a_folder_in_which_others_may_write(
    backend: SshBackend, host: Host, make_attempt: Maker
) -> None:
    host.root.mkdir()
    host.root.chmod(0o777)
    with pytest.raises(SamerunError, match="others may write") as refused:
        watched.submitted(backend, make_attempt())
    assert "chmod go-w" in (refused.value.remedy or "")
    assert list(host.root.iterdir()) == []
    assert "ssh.shared-root" in [each.code for each in backend.offer(Need("cpu", None, world.options())).findings]


def test_a_root_that_cannot_be_made_is_said(backend: SshBackend, host: Host, make_attempt: Maker) -> None:
    (host.home / ".samerun").write_text("in the way")
    with pytest.raises(SamerunError, match=r"cannot be written.*exists|Not a directory|File exists") as refused:
        watched.submitted(backend, make_attempt())
    assert "resources.root" in (refused.value.remedy or "")
    assert not isinstance(refused.value, RemoteError)


def test_of_several_hosts_a_silent_one_holds_up_nobody(backend: SshBackend, host: Host, make_attempt: Maker) -> None:
    handle = watched.submitted(backend, make_attempt())
    watched.ended(backend, handle, 20)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, and says nothing
        where = {**world.place().where.to_json(), "host": "127.0.0.1", "port": deaf.getsockname()[1]}
        data = [{**world.place().to_json(), "where": where, "root": f"~/{number}"} for number in range(4)]
        others = [Handle("ssh", f"other-{number}-a1", each) for number, each in enumerate(data)]
        begun = time.monotonic()
        found = backend.poll([*others, handle])
        assert time.monotonic() - begun < 2 * world.SECONDS + 1
    assert found[handle.attempt].state is State.SUCCEEDED
    assert {found[other.attempt].state for other in others} == {State.UNKNOWN}


def test_a_cancel_that_nobody_answers_kills_the_session(
    backend: SshBackend, host: Host, make_attempt: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.ssh.CANCEL_S", 0.2)
    assert CANCEL_S == 30.0
    attempt = make_attempt(stub={"epoch_s": 30})
    handle = watched.submitted(backend, attempt)
    watched.wait_until(lambda: bool(make_attempt.alive(attempt)), 10, "it has not started")
    os.kill(host.leader(attempt.id), signal.SIGSTOP)
    assert backend.cancel(handle).state is State.CANCELLED
    watched.wait_until(lambda: not make_attempt.alive(attempt), 1.0, "the training is alive")


def test_a_machine_can_be_used_without_this_backend(host: Host, make_attempt: Maker) -> None:
    """As a cloud's backend does: a pinned key, one Link, one Machine."""
    where = Where("127.0.0.1", host.sshd.user, host.proxy.port, (str(host.sshd.identity),), None, (host.sshd.host_key,))
    attempt = make_attempt()
    with Link(where, seconds=5) as link:
        machine = Machine(link, "~/.samerun", python=str(world.options()["python"]))
        described = {**attempt.describe, "data_root": "{root}/data/none"}
        assert machine.lay_out(attempt.id, attempt.inputs, described) is True
        assert machine.lay_out(attempt.id, attempt.inputs, described) is False
        assert machine.started([attempt.id]) == []
        machine.start(attempt.id, {})
        assert machine.started([attempt.id]) == [attempt.id]
        watched.wait_until(lambda: machine.status([attempt.id])[attempt.id].state.ended, 20, "it does not end")
        assert machine.boxes() == [attempt.id]
        assert machine.release(attempt.id) == []


def test_a_host_is_read_or_refused() -> None:
    assert place_of({"host": "me@box:2222", "python": "3.12"}).python == ""
    assert place_of({"host": "me@box:2222", "python": "/usr/bin/python3"}).python == "/usr/bin/python3"
    with pytest.raises(SpecError, match="needs a host"):
        place_of({})


WORKER = """
import json, os, sys
state = os.path.join(sys.argv[1], "state")
with open(os.path.join(state, "seen.json"), "w") as out:
    json.dump(dict(os.environ), out)
open(os.path.join(state, "started"), "w").close()
"""
ODD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30).map(
    lambda text: f"{text}'\"$(touch pwned)`touch pwned`;touch pwned\n\\!*~"
)


@settings_of(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=ODD, name=ODD)
def test_shell_metacharacters_in_values_and_names_are_inert(
    host: Host, tmp_path_factory: pytest.TempPathFactory, value: str, name: str
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    name = name.replace("/", "_").replace("\n", "_")[-60:].encode()[-200:].decode("utf-8", "ignore")
    with zipfile.ZipFile(folder / "worker.pyz", "w") as archive:
        archive.writestr("__main__.py", WORKER)
    (folder / name).write_bytes(b"x")
    inputs = [
        InputFile(path, file, hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size)
        for path, file in (("worker.pyz", folder / "worker.pyz"), (f"model/{name}", folder / name))
    ]
    attempt = f"odd {uuid.uuid4().hex} $(touch pwned);'\""
    where = Where("127.0.0.1", host.sshd.user, host.proxy.port, (str(host.sshd.identity),), None, (host.sshd.host_key,))
    with Link(where, seconds=10) as link:
        machine = Machine(link, "~/r '$(touch pwned)\"; *", python=sys.executable)
        machine.lay_out(attempt, inputs, {"said": value})
        machine.start(attempt, {"ODD": value})
        box = Path(machine.ready().root) / "boxes" / attempt
    assert json.loads((box / "state/seen.json").read_text())["ODD"] == value
    assert json.loads((box / "in/attempt.json").read_text()) == {"said": value}
    assert (box / "in/model" / name).read_bytes() == b"x"
    assert not list(host.home.rglob("pwned"))
