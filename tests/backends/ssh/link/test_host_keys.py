"""Which hosts are let near: known keys alone, by known_hosts or pinned, and what the configuration of ssh says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from backends.ssh.link import Link, Where, known
from launcher.errors import CredentialError, RemoteError, SpecError
from tests.emulators.ssh import Sshd


@pytest.fixture
def home() -> Path:
    """~/.ssh of this test."""
    folder = Path(os.environ["HOME"], ".ssh")
    folder.mkdir()
    return folder


def configure(home: Path, server: Sshd, name: str = "gpubox", *more: str) -> None:
    lines = [f"Host {name}", f"HostName {server.address}", f"Port {server.port}", f"User {server.user}"]
    with (home / "config").open("a") as stream:
        stream.write("\n  ".join([*lines, f"IdentityFile {server.identity}", *more]) + "\n")


def greet(text: str, **more: object) -> bytes:
    with Link(Where.of(text, **more), seconds=5) as link:
        return link.run(["echo", "hello"]).out


def test_a_host_of_known_hosts_is_let_in_as_the_configuration_says(home: Path, sshd: Sshd) -> None:
    configure(home, sshd)
    (home / "known_hosts").write_text(sshd.known_hosts)
    assert greet("gpubox") == b"hello\n"


def test_a_hashed_known_hosts_works(home: Path, sshd: Sshd) -> None:
    configure(home, sshd)
    (home / "known_hosts").write_text(sshd.known_hosts)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", home / "known_hosts"], check=True, capture_output=True)
    assert "|1|" in (home / "known_hosts").read_text()
    assert greet("gpubox") == b"hello\n"


def test_an_unknown_key_is_refused_with_how_to_accept_it_and_nothing_is_sent(home: Path, sshd: Sshd) -> None:
    configure(home, sshd, "gpubox", "StrictHostKeyChecking no")
    with pytest.raises(CredentialError, match="is not known") as caught:
        greet("gpubox")
    printed = subprocess.run(
        ["ssh-keygen", "-lf", sshd.folder / "host_ed25519.pub"], capture_output=True, text=True, check=True
    )
    assert printed.stdout.split()[1] in caught.value.message
    assert caught.value.remedy is not None
    assert sshd.host_key in caught.value.remedy
    assert f"ssh -p {sshd.port} {sshd.user}@gpubox" in caught.value.remedy
    assert_nothing_was_sent(sshd)
    assert not (home / "known_hosts").exists()


def test_a_changed_key_is_refused_and_nothing_is_sent(home: Path, sshd: Sshd, tmp_path: Path) -> None:
    other = Sshd(tmp_path / "other")
    configure(home, sshd)
    (home / "known_hosts").write_text(f"[{sshd.address}]:{sshd.port} {other.host_key}\n")
    with pytest.raises(CredentialError, match="has changed"):
        greet("gpubox")
    assert_nothing_was_sent(sshd)


def test_a_pinned_key_counts_alone(home: Path, sshd: Sshd, tmp_path: Path) -> None:
    other = Sshd(tmp_path / "other")
    configure(home, sshd)
    assert greet("gpubox", host_keys=(other.host_key, sshd.host_key)) == b"hello\n"
    (home / "known_hosts").write_text(sshd.known_hosts)
    with pytest.raises(CredentialError, match="not the pinned host key"):
        greet("gpubox", host_keys=(other.host_key,))


def test_bulk_knows_the_same_keys(home: Path, sshd: Sshd, tmp_path: Path) -> None:
    """The `ssh` command is given the keys that were checked: an impostor on its connection is refused."""
    configure(home, sshd)
    (home / "known_hosts").write_text(sshd.known_hosts)
    with Link(Where.of("gpubox"), seconds=5) as link:
        link.run(["true"])
        sshd._host_key = Sshd(tmp_path / "other")._host_key
        sshd.stop(kill_sessions=False)
        sshd.start()
        with Link(Where.of("gpubox"), seconds=5) as fresh, pytest.raises(CredentialError, match="has changed"):
            fresh.draw(["true"], lambda _: None, bulk=True)
        before = sshd.log.count("Accepted")
        assert link.draw(["echo", "x"], lambda _: None, bulk=True).code == 0  # by the connection that was there
        assert sshd.log.count("Accepted") == before


def test_revoked_keys_patterns_and_several_keys_are_understood(sshd: Sshd, tmp_path: Path) -> None:
    other = Sshd(tmp_path / "other").host_key
    file = tmp_path / "known_hosts"

    def check(text: str) -> None:
        file.write_text(text)
        kind, blob = sshd.host_key.split()
        key = known.pinned("x", [sshd.host_key]).keys[0]
        known.from_files("box.lab", 2222, [file]).check(kind, key.blob, "ssh box.lab")
        assert blob

    check(f"box.lab {sshd.host_key}\n")  # the name alone, as OpenSSH takes it for any port
    check(f"[box.lab]:2222 {other}\n[box.lab]:2222 {sshd.host_key}\n")
    check(f"# comment\n*.lab,!no.lab {sshd.host_key}\n")
    for text in (
        f"box.lab {sshd.host_key}\n@revoked * {sshd.host_key}\n",
        f"[box.lab]:2222 {other}\nbox.lab {sshd.host_key}\n",
        f"*.lab,!box.lab {sshd.host_key}\n",
        f"@cert-authority *.lab {sshd.host_key}\n",
        "box.lab ssh-ed25519 garbage\n",
        "",
    ):
        with pytest.raises(CredentialError):
            check(text)


def test_a_proxy_command_leads_there_and_its_failure_is_told(home: Path, sshd: Sshd, tmp_path: Path) -> None:
    through = tmp_path / "through"
    code = (
        "import socket, sys, threading, os\n"
        "open(sys.argv[3], 'a').write('on the way\\n')\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def back():\n    while d := s.recv(65536): os.write(1, d)\n    os._exit(0)\n"
        "threading.Thread(target=back, daemon=True).start()\n"
        "while d := os.read(0, 65536): s.sendall(d)\n"
    )
    through.write_text(code)
    configure(home, sshd, "gpubox", f"ProxyCommand python3 {through} %h %p '{tmp_path}/50%% seen'")
    (home / "known_hosts").write_text(sshd.known_hosts)
    assert greet("gpubox") == b"hello\n"
    with Link(Where.of("gpubox"), seconds=5) as link:
        assert link.draw(["cat"], lambda _: None, feed=b"x" * 100_000, bulk=True).code == 0
    assert (tmp_path / "50% seen").read_text().count("on the way") == 3
    with pytest.raises(RemoteError, match="no way there"):
        greet("gpubox", gateway="sh -c 'echo no way there >&2; exit 1'")


def test_jumps_are_made_in_order_and_each_host_key_is_checked(home: Path, sshd: Sshd, tmp_path: Path) -> None:
    with Sshd(tmp_path / "first") as first, Sshd(tmp_path / "second") as second:
        configure(home, first, "first")
        configure(home, second, "second")
        configure(home, sshd, "gpubox", "ProxyJump first,second")
        (home / "known_hosts").write_text(first.known_hosts + second.known_hosts + sshd.known_hosts)
        assert greet("gpubox") == b"hello\n"
        assert f"port {second.port}" in first.log or "Accepted publickey" in first.log
        with Link(Where.of("gpubox"), seconds=5) as link:
            assert link.draw(["cat"], lambda _: None, feed=b"x" * 100_000, bulk=True).code == 0
        second.stop()
        with pytest.raises(RemoteError):
            greet("gpubox")
        second.start()
        (home / "known_hosts").write_text(first.known_hosts + sshd.known_hosts)
        accepted = first.log.count("Accepted publickey")
        with pytest.raises(CredentialError, match=f"\\[127.0.0.1\\]:{second.port} is not known"):
            greet("gpubox")
        assert first.log.count("Accepted publickey") == accepted + 1  # the first hop leads to the second


def test_a_jump_in_a_circle_is_an_error_of_the_spec(home: Path) -> None:
    (home / "config").write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(SpecError, match="circle"):
        greet("a")


def test_included_configuration_is_read(home: Path, sshd: Sshd) -> None:
    (home / "conf.d").mkdir()
    (home / "config").write_text("Include conf.d/*.conf\nHost other\n  Port 1\n")
    configure(home / "conf.d", sshd)
    (home / "conf.d" / "config").rename(home / "conf.d" / "box.conf")
    (home / "known_hosts").write_text(sshd.known_hosts)
    assert greet("gpubox") == b"hello\n"


def test_keys_of_the_agent_are_used(home: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    words = dict(part.split("=") for part in started.replace("\n", ";").split(";") if "=" in part)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", words["SSH_AUTH_SOCK"])
        subprocess.run(["ssh-add", "-q", sshd.identity], check=True)
        sshd.identity.rename(sshd.folder / "hidden")
        (home / "known_hosts").write_text(sshd.known_hosts)
        assert greet(f"{sshd.user}@{sshd.address}:{sshd.port}") == b"hello\n"
    finally:
        os.kill(int(words["SSH_AGENT_PID"]), 15)


def assert_nothing_was_sent(server: Sshd) -> None:
    """Not even who wants in: the server has heard of no user and of no key."""
    assert "Connection from" in server.log
    assert "Accepted" not in server.log
    assert "Failed" not in server.log
    assert server.user not in server.log.replace("Connection", "")
