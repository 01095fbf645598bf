"""Commands over a real sshd: what comes back, what is refused, and what happens when the connection breaks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from hypothesis import HealthCheck, given, settings

from backends.ssh.link import Link, Where, connect
from launcher.errors import CredentialError, RemoteError, SpecError
from tests.backends.ssh.link.test_words import SHOW, WORDS
from tests.emulators.ssh import Sshd, SwallowingProxy

Linked = Callable[..., Link]


def test_a_command_has_its_code_its_output_and_its_errors(linked: Linked) -> None:
    done = linked().run(["sh", "-c", "cat; echo wrong >&2; exit 7"], feed=b"fed")
    assert (done.code, done.out, done.err) == (7, b"fed", b"wrong\n")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=WORDS)
def test_shell_metacharacters_are_inert(words: list[str], linked: Linked, sshd: Sshd) -> None:
    link = LINKS.setdefault(sshd.mark, linked())
    assert link.run([*SHOW, *words]).out == b"\0".join(word.encode("utf-8", "surrogateescape") for word in words)
    assert not (sshd.home / "PWN").exists()


LINKS: dict[str, Link] = {}


def test_a_login_that_prints_is_no_output_of_the_command(linked: Linked, sshd: Sshd) -> None:
    (sshd.home / ".bashrc").write_text("echo Welcome\necho to >&2\n")
    assert linked().run(["echo", "x"]).out == b"x\n"


def test_a_login_that_refuses_with_code_0_is_no_success(tmp_path: Path, sshd: Sshd) -> None:
    with Sshd(tmp_path / "refusing", options=("Match all", "ForceCommand echo not now; exit 0")) as refusing:
        config = refusing.folder / "config"
        text = config.read_text().replace("ForceCommand /bin/sh", "#")
        refusing.stop()
        config.write_text(text)
        refusing._configure = lambda port: None  # type: ignore[method-assign]
        refusing.start()
        where = Where(
            refusing.address, refusing.user, refusing.port, (str(refusing.identity),), None, (refusing.host_key,)
        )
        with Link(where, seconds=5) as link, pytest.raises(RemoteError, match="not now"):
            link.run(["true"])


def test_big_streams_go_both_ways(linked: Linked) -> None:
    link, data, got = linked(), os.urandom(3 << 20), bytearray()
    assert link.pour(["wc", "-c"], (data[at : at + 70_000] for at in range(0, len(data), 70_000))).out.split() == [
        str(len(data)).encode()
    ]
    assert link.draw(["cat"], got.extend, feed=data).code == 0
    assert got == data


@pytest.mark.parametrize("bulk", [False, True])
def test_bulk_by_the_ssh_command_is_the_same(linked: Linked, sshd: Sshd, bulk: bool) -> None:
    link, got = linked(), bytearray()
    moved: list[int] = []
    done = link.pour(
        ["sh", "-c", "cat >file; echo err >&2; exit 3"], [b"x" * 500_000] * 3, moved=moved.append, bulk=bulk
    )
    assert (done.code, done.err, sum(moved)) == (3, b"err\n", 1_500_000)
    assert link.draw(["cat", "file"], got.extend, bulk=bulk).code == 0
    assert got == b"x" * 1_500_000
    assert sshd.log.count("Accepted publickey") == (3 if bulk else 1)  # the link, and one for each stream


@pytest.mark.parametrize(
    "program", ["exit 255", "echo Welcome; sleep 0.3; exit 1", "echo no >&2; exit 1", "exec sleep 0.1"]
)
def test_where_the_ssh_command_cannot_get_in_bulk_goes_by_the_connection(
    linked: Linked, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho tried >>{tmp_path}/tried\n{program}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    link = linked()
    for _ in range(2):
        done = link.pour(["cat"], iter([b"a" * 300_000, b"b"]), bulk=True)
        assert (done.code, done.out, done.err) == (0, b"a" * 300_000 + b"b", b"")
    assert (tmp_path / "tried").read_text() == "tried\n"


def test_too_long_an_answer_is_an_error(linked: Linked) -> None:
    with pytest.raises(RemoteError, match="more than 1000 bytes"):
        linked().run(["head", "-c", "5000", "/dev/zero"], most=1000)


def test_what_the_source_raises_is_raised_and_the_link_goes_on(linked: Linked) -> None:
    def source() -> Iterator[bytes]:
        yield b"x"
        raise LookupError("the file is gone")

    link = linked()
    with pytest.raises(LookupError, match="gone"):
        link.pour(["cat"], source())
    assert link.run(["echo", "on"]).out == b"on\n"


def test_a_command_that_does_not_read_its_input_ends_all_the_same(linked: Linked) -> None:
    assert linked().run(["sh", "-c", "exit 4"], feed=b"x" * (6 << 20)).code == 4


def test_a_command_that_is_killed_has_no_exit_code_of_ours(linked: Linked) -> None:
    assert linked().run(["sh", "-c", "kill -9 $$"]).code == 137  # the shell around it says so
    with pytest.raises(RemoteError, match="connection ended"):
        linked().run(["sh", "-c", "kill -9 $PPID; sleep 1"])


def test_a_command_over_its_limit_is_an_error_within_it_and_the_next_one_works(linked: Linked, sshd: Sshd) -> None:
    link, begun = linked(), time.monotonic()
    with pytest.raises(RemoteError, match="did not answer"):
        link.run(["sleep", "30"], limit=1)
    assert time.monotonic() - begun < 2
    assert link.run(["echo", "on"]).out == b"on\n"
    assert sshd.log.count("Accepted publickey") == 2  # not by the connection that may be dead


def test_another_call_goes_on_while_one_overruns(linked: Linked) -> None:
    link, got = linked(), []
    link.run(["true"])
    other = threading.Thread(target=lambda: got.append(link.run(["sh", "-c", "sleep 2; echo done"]).out))
    other.start()
    with pytest.raises(RemoteError):
        link.run(["sleep", "30"], limit=0.7)
    other.join()
    assert got == [b"done\n"]


def test_a_dropped_connection_is_no_exit_code_and_the_next_call_connects_again(linked: Linked, sshd: Sshd) -> None:
    link = linked()
    threading.Timer(0.7, sshd.drop).start()
    with pytest.raises(RemoteError, match="connection ended"):
        link.run(["sleep", "20"])
    assert link.run(["echo", "on"]).out == b"on\n"


def test_a_connection_cut_between_two_calls_is_made_again_unseen(linked: Linked, proxy: SwallowingProxy) -> None:
    link = linked(port=proxy.port)
    link.run(["true"])
    proxy.cut()
    assert link.run(["echo", "on"]).out == b"on\n"


def test_many_threads_share_a_link(linked: Linked, sshd: Sshd) -> None:
    link, got = linked(30), []

    def ask(number: int) -> None:
        got.append((number, link.run(["sh", "-c", f"sleep 0.2; echo {number}"]).out))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [(number, f"{number}\n".encode()) for number in range(20)]
    assert sshd.log.count("Accepted publickey") == 1


def test_making_a_link_does_nothing_and_imports_no_client() -> None:
    code = (
        "import sys; from backends.ssh.link import Link, Where; Link(Where('nowhere.invalid'), seconds=1); "
        "print({'paramiko', 'fabric', 'invoke'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_host_that_is_not_there_is_an_error_within_the_limit(sshd: Sshd) -> None:
    sshd.stop()
    with pytest.raises(RemoteError, match="no connection to"):
        Link(Where(sshd.address, "u", sshd.port, host_keys=(sshd.host_key,)), seconds=3).run(["true"])
    with pytest.raises(RemoteError, match="no connection to"):
        Link(Where("nowhere.invalid", "u"), seconds=3).run(["true"])


def test_a_login_with_a_key_that_is_not_let_in_is_a_matter_of_credentials(sshd: Sshd, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger], check=True)
    where = Where(sshd.address, sshd.user, sshd.port, (str(stranger),), host_keys=(sshd.host_key,))
    with pytest.raises(CredentialError, match="lets none of the keys here in"):
        Link(where, seconds=5).run(["true"])
    with pytest.raises(CredentialError, match="no private key"):
        Link(Where(sshd.address, identity=(str(tmp_path / "none"),)), seconds=5).run(["true"])


def test_a_connection_that_breaks_while_logging_in_is_no_matter_of_credentials() -> None:
    transport = paramiko.Transport(socket.socketpair()[0])
    error = paramiko.AuthenticationException("Authentication failed: transport shut down or saw EOF")
    assert not connect._refused(error, [transport])
    assert not connect._refused(paramiko.AuthenticationException("Authentication timeout."), [])
    transport.active = True
    assert connect._refused(error, [transport])
    transport.active = False
    transport.close()


def test_a_pinned_key_that_is_none_is_an_error_of_the_spec(sshd: Sshd) -> None:
    with pytest.raises(SpecError, match="no public key"):
        Link(Where(sshd.address, "u", sshd.port, host_keys=("ssh-ed25519 nonsense",)), seconds=5).run(["true"])
