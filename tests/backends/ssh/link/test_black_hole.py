"""A network that swallows: every call ends within its limit as RemoteError, and works again afterwards.

The limits of the default tests are a tenth of the real ones, and so are the outages; the slow ones last 60 s.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends.ssh.link import Link
from backends.ssh.link.tree import Entry, fetch, send
from launcher.errors import RemoteError
from tests.backends.ssh.link.conftest import AGENT
from tests.emulators.ssh import Sshd, SwallowingProxy

Linked = Callable[..., Link]


@dataclass(frozen=True)
class Scale:
    """Seconds: the limit of a question and of a stall, and how long the network is silent."""

    limit: float
    outage: float


SCALES = [
    pytest.param(Scale(1.0, 2.0), id="short"),
    pytest.param(Scale(20.0, 60.0), id="60 s", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
]
GRACE = 1.0
"""Seconds that a call may take longer than its limit, on a machine that is busy with other tests."""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, list[Entry]]:
    """Six megabytes in three files."""
    root, entries = tmp_path / "tree", []
    for number in range(3):
        data = os.urandom(2 << 20)
        path = root / "data" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        entries.append(Entry(f"data/{number}.bin", len(data), hashlib.sha256(data).hexdigest()))
    return root, entries


def fails_in_time(call: Callable[[], object], scale: Scale) -> None:
    """It raises RemoteError no earlier than its limit says and not much later."""
    begun = time.monotonic()
    with pytest.raises(RemoteError):
        call()
    assert time.monotonic() - begun < scale.limit + GRACE


@pytest.mark.parametrize("forget", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_a_question_into_silence_ends_and_is_answered_afterwards(
    linked: Linked, proxy: SwallowingProxy, scale: Scale, forget: bool
) -> None:
    link = linked(scale.limit, port=proxy.port)
    assert link.run(["echo", "before"]).out == b"before\n"
    proxy.swallow(forget=forget)
    end = time.monotonic() + scale.outage
    while time.monotonic() < end:
        fails_in_time(lambda: link.run(["echo", "during"]), scale)
    proxy.let_through()
    assert link.run(["echo", "after"]).out == b"after\n"


@pytest.mark.parametrize("scale", SCALES)
def test_silence_while_a_command_runs_ends_the_call(linked: Linked, proxy: SwallowingProxy, scale: Scale) -> None:
    link = linked(scale.limit, port=proxy.port)
    link.run(["true"])
    threading.Timer(scale.limit / 3, proxy.swallow).start()
    fails_in_time(lambda: link.run(["sh", "-c", f"sleep {scale.limit / 2}; echo x"]), scale)
    proxy.let_through()
    assert link.run(["echo", "after"]).out == b"after\n"


@pytest.mark.parametrize("scale", SCALES)
def test_silence_while_connecting_ends_the_call(linked: Linked, proxy: SwallowingProxy, scale: Scale) -> None:
    proxy.swallow()
    link = linked(scale.limit, port=proxy.port)
    fails_in_time(lambda: link.run(["true"]), scale)
    proxy.let_through()
    assert link.run(["echo", "after"]).out == b"after\n"


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_an_upload_into_silence_ends_and_goes_on_where_it_was(
    linked: Linked,
    proxy: SwallowingProxy,
    sshd: Sshd,
    files: tuple[Path, list[Entry]],
    monkeypatch: pytest.MonkeyPatch,
    scale: Scale,
    bulk: bool,
) -> None:
    monkeypatch.setattr("backends.ssh.link.tree.BULK", 0 if bulk else 1 << 40)
    root, entries = files
    link = linked(scale.limit, port=proxy.port)
    link.run(["true"])
    proxy.throttle(2_000_000)  # a bit slower than what fits into buffers: the silence falls into the sending
    begun: list[float] = []

    def silence(done: int, _: int) -> None:
        if done > 3_500_000 and not begun:
            begun.append(time.monotonic())
            proxy.swallow()

    with pytest.raises(RemoteError):
        send(link, AGENT, root, entries, str(sshd.home / "to"), silence)
    assert time.monotonic() - begun[0] < scale.limit + GRACE
    time.sleep(max(0.0, scale.outage - (time.monotonic() - begun[0])))
    proxy.let_through()
    proxy.throttle(None)
    sent = send(link, AGENT, root, entries, str(sshd.home / "to"))
    assert 0 < sent.bytes < 6 << 20
    for entry in entries:
        assert (sshd.home / "to" / entry.path).read_bytes() == (root / entry.path).read_bytes()


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_a_fetch_out_of_silence_ends_and_works_afterwards(
    linked: Linked,
    proxy: SwallowingProxy,
    files: tuple[Path, list[Entry]],
    tmp_path: Path,
    scale: Scale,
    bulk: bool,
) -> None:
    root, entries = files
    link, paths, expected = linked(scale.limit, port=proxy.port), [entry.path for entry in entries], bulk << 40
    link.run(["true"])
    proxy.throttle(2_000_000)
    begun: list[float] = []

    def silence(done: int, _: int) -> None:
        if done > 3_000_000 and not begun:
            begun.append(time.monotonic())
            proxy.swallow()

    with pytest.raises(RemoteError):
        fetch(link, AGENT, str(root), paths, tmp_path / "to", silence, expected=expected)
    assert time.monotonic() - begun[0] < scale.limit + GRACE
    came = {str(file.relative_to(tmp_path / "to")) for file in (tmp_path / "to").rglob("*") if file.is_file()}
    assert came == {"data/0.bin"}
    proxy.let_through()
    proxy.throttle(None)
    assert fetch(link, AGENT, str(root), paths, tmp_path / "to", expected=expected) == {}
    for entry in entries:
        assert (tmp_path / "to" / entry.path).read_bytes() == (root / entry.path).read_bytes()
