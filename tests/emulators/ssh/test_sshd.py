"""The emulated machine and network, tested with the unmodified `ssh` and `sftp` commands."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.emulators.ssh import Sshd, SwallowingProxy, need_sshd


def command(server: Sshd, folder: Path, *, port: int | None = None, program: str = "ssh") -> list[str]:
    """A client that knows this host's key, and reads nothing of the user's."""
    known = folder / "known_hosts"
    known.write_text(f"[{server.address}]:{port or server.port} {server.host_key}\n")
    options = [f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes"]
    options += ["BatchMode=yes", "IdentitiesOnly=yes", f"User={server.user}"]
    words = [word for option in options for word in ("-o", option)]
    return [program, "-F", "/dev/null", *words, "-i", str(server.identity), "-oPort=" + str(port or server.port)]


def ssh(
    server: Sshd, folder: Path, remote: str, *more: str, port: int | None = None
) -> subprocess.CompletedProcess[str]:
    argv = [*command(server, folder, port=port), *more, server.address, remote]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def wait_for(what: object, seconds: float = 5.0) -> bool:
    assert callable(what)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return bool(what())


def test_a_login_runs_commands_as_this_user_in_the_home_folder_with_its_environment(tmp_path: Path) -> None:
    given = {"GREETING": 'it\'s "quoted"; $HOME\nsecond line'}
    with Sshd(tmp_path / "a machine", environment=given) as server:
        done = ssh(server, tmp_path, 'id -un; pwd; echo "$HOME"; printf %s "$GREETING"; exit 3')
    home = str(server.home)
    assert (done.returncode, done.stdout) == (3, f"{server.user}\n{home}\n{home}\n{given['GREETING']}")


def test_a_file_goes_over_sftp(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(bytes(range(256)) * 100)
    argv = [*command(sshd, tmp_path, program="sftp"), "-b", "-", sshd.address]
    subprocess.run(argv, input=f"put {tmp_path / 'sent'} got", text=True, check=True, capture_output=True, timeout=30)
    assert (sshd.home / "got").read_bytes() == (tmp_path / "sent").read_bytes()


def test_a_key_that_was_not_let_in_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger], check=True)
    argv = [word.replace(str(sshd.identity), str(stranger)) for word in command(sshd, tmp_path)]
    refused = subprocess.run([*argv, sshd.address, "true"], capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr
    sshd.authorize(stranger.with_suffix(".pub").read_text())
    assert subprocess.run([*argv, sshd.address, "true"], timeout=30, check=False).returncode == 0


def test_a_client_that_knows_another_key_refuses_this_host(sshd: Sshd, tmp_path: Path) -> None:
    with Sshd(tmp_path / "other") as other:
        argv = command(other, tmp_path, port=sshd.port)
        argv[argv.index("-i") + 1] = str(sshd.identity)
    done = subprocess.run([*argv, sshd.address, "touch ran"], capture_output=True, text=True, timeout=30, check=False)
    assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert not (sshd.home / "ran").exists()


@pytest.mark.parametrize("detach", ["setsid -f sleep 300", "setsid -f env -i sleep 300", "nohup sleep 300 &"])
def test_stop_kills_what_was_started_detached_or_not(sshd: Sshd, tmp_path: Path, detach: str) -> None:
    ssh(sshd, tmp_path, f"{{ {detach}\n}} </dev/null >/dev/null 2>&1")
    with subprocess.Popen([*command(sshd, tmp_path), sshd.address, "exec sleep 301"]) as attached:
        assert wait_for(lambda: sorted(sleeping(sshd)) == ["300", "301"])
        found = sshd.processes()
        sshd.stop()
        assert attached.wait(10) == 255
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in found)


def test_a_dropped_connection_ends_and_what_was_detached_lives_on(sshd: Sshd, tmp_path: Path) -> None:
    ssh(sshd, tmp_path, "setsid -f sleep 302 </dev/null >/dev/null 2>&1")
    with subprocess.Popen([*command(sshd, tmp_path), sshd.address, "exec sleep 303"]) as attached:
        assert wait_for(lambda: sorted(sleeping(sshd)) == ["302", "303"])
        sshd.drop()
        assert attached.wait(10) == 255
    assert "302" in sleeping(sshd)


def test_started_again_it_is_the_same_machine(sshd: Sshd, tmp_path: Path) -> None:
    port, key = sshd.port, sshd.host_key
    ssh(sshd, tmp_path, "echo kept >file")
    sshd.stop()
    with pytest.raises(OSError):
        socket.create_connection((sshd.address, port), timeout=1)
    sshd.start()
    assert (sshd.port, sshd.host_key) == (port, key)
    assert ssh(sshd, tmp_path, "cat file").stdout == "kept\n"


def test_a_swallowed_connection_is_silent_and_goes_on_afterwards(
    sshd: Sshd, proxy: SwallowingProxy, tmp_path: Path
) -> None:
    argv = [*command(sshd, tmp_path, port=proxy.port), sshd.address, "cat"]
    with talking(argv) as client:
        assert say(client, b"one\n") == b"one\n"
        proxy.swallow()
        carried = proxy.carried
        send(client, b"two\n")
        time.sleep(0.3)
        assert (client.poll(), proxy.carried) == (None, carried)
        proxy.let_through()
        assert client.stdout is not None
        assert client.stdout.readline() == b"two\n"


def test_a_client_with_time_limits_sees_that_the_network_is_silent(
    sshd: Sshd, proxy: SwallowingProxy, tmp_path: Path
) -> None:
    argv = [*command(sshd, tmp_path, port=proxy.port), "-oServerAliveInterval=1", "-oServerAliveCountMax=1"]
    with talking([*argv, sshd.address, "cat"]) as client:
        assert say(client, b"one\n") == b"one\n"
        proxy.swallow()
        assert client.wait(10) == 255
    refused = ssh(sshd, tmp_path, "true", "-oConnectTimeout=1", port=proxy.port)
    assert "timed out" in refused.stderr
    proxy.let_through()
    assert ssh(sshd, tmp_path, "echo back", port=proxy.port).stdout == "back\n"


def test_a_forgotten_connection_stays_silent_while_new_ones_work(
    sshd: Sshd, proxy: SwallowingProxy, tmp_path: Path
) -> None:
    argv = [*command(sshd, tmp_path, port=proxy.port), sshd.address, "cat"]
    with talking(argv) as client:
        assert say(client, b"one\n") == b"one\n"
        proxy.swallow(forget=True)
        proxy.let_through()
        assert ssh(sshd, tmp_path, "echo new", port=proxy.port).stdout == "new\n"
        carried = proxy.carried
        send(client, b"two\n")
        time.sleep(0.2)
        assert (client.poll(), proxy.carried) == (None, carried)


def test_a_cut_resets_the_connection(sshd: Sshd, proxy: SwallowingProxy, tmp_path: Path) -> None:
    with talking([*command(sshd, tmp_path, port=proxy.port), sshd.address, "cat"]) as client:
        assert say(client, b"one\n") == b"one\n"
        proxy.cut()
        assert client.wait(10) == 255


def test_a_throttled_network_is_slow(sshd: Sshd, proxy: SwallowingProxy, tmp_path: Path) -> None:
    proxy.throttle(400_000)
    begun = time.monotonic()
    done = ssh(sshd, tmp_path, "head -c 300000 /dev/zero", port=proxy.port)
    assert len(done.stdout) == 300_000
    assert 0.5 < time.monotonic() - begun < 5


def test_without_a_server_tests_are_skipped_here_and_fail_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.emulators.ssh.server.shutil.which", lambda *_, **__: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception):
        need_sshd()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception):
        need_sshd()


def sleeping(server: Sshd) -> list[str]:
    """The arguments of the machine's `sleep` processes."""
    found = []
    for one in server.processes():
        with contextlib.suppress(psutil.Error):
            if (line := one.cmdline()) and line[0] == "sleep":
                found.append(line[1])
    return found


@contextlib.contextmanager
def talking(argv: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        try:
            yield client
        finally:
            client.kill()


def send(client: subprocess.Popen[bytes], line: bytes) -> None:
    assert client.stdin is not None
    client.stdin.write(line)
    client.stdin.flush()


def say(client: subprocess.Popen[bytes], line: bytes) -> bytes:
    """What comes back for a line."""
    send(client, line)
    assert client.stdout is not None
    return client.stdout.readline()
