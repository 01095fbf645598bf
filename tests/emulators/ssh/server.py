"""A real OpenSSH server on a loopback port, with its own configuration, host key, home folder and environment.

It works as root and as an ordinary user; whoever logs in is the user who runs it, in the home folder given here. What
was started in its sessions, detached or not, ends with `stop`: the server adopts orphans (Linux), and each process of
a session carries the server's mark in its environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import psutil
import pytest

MARK = "SAMERUN_TEST_SSHD"
START_SECONDS = 10.0
"""Assumption: a server that does not listen by then never will."""
STOP_SECONDS = 10.0
"""Assumption, likewise."""
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
_PLACES = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"


def need_sshd() -> str:
    """The path of sshd. Without one the test is skipped; under CI it fails, so that nothing is skipped there unseen."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{_PLACES}")
    if found is None or shutil.which("ssh-keygen") is None:
        text = "no OpenSSH server is installed (Debian: apt-get install openssh-server)"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    return str(Path(found).absolute())  # sshd runs itself again, and wants an absolute path for that


class Sshd:
    """One machine. `start` again after `stop` is the same machine: same port, host key and home folder.

    `folder` holds its configuration and log, and `home` (default: a folder in it) is where sessions begin;
    `environment` is what sessions find beside HOME. `identity` is the path of a private key that may log in, `options`
    are more lines of its configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        home: Path | None = None,
        environment: Mapping[str, str] | None = None,
        host_key: str = "ed25519",
        options: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.address, self.port = folder.absolute(), address, port
        self.home = (home or folder / "home").absolute()
        self.environment = dict(environment or {})
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.identity = self.folder / "identity"
        self.mark = uuid.uuid4().hex
        self._program, self._host_key, self._options = need_sshd(), self.folder / f"host_{host_key}", options
        self._process: subprocess.Popen[bytes] | None = None
        for made in (self.folder, self.home):
            made.mkdir(parents=True, exist_ok=True)
        _make_key(self._host_key, host_key)
        _make_key(self.identity, "ed25519")
        self.authorize(self.identity.with_suffix(".pub").read_text())

    @property
    def host_key(self) -> str:
        """The host's public key as a line: `ssh-ed25519 AAAA...`."""
        return " ".join(self._host_key.with_suffix(".pub").read_text().split()[:2])

    @property
    def known_hosts(self) -> str:
        """A line for a known_hosts file."""
        return f"[{self.address}]:{self.port} {self.host_key}\n"

    @property
    def log(self) -> str:
        """What the server has logged, at level VERBOSE: each login with its key's fingerprint."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "log").read_text(errors="replace")
        return ""

    def authorize(self, public: str) -> None:
        """Let the holder of this public key (a line) log in."""
        with (self.folder / "authorized_keys").open("a") as stream:
            stream.write(f"{public.strip()}\n")

    def start(self) -> Sshd:
        """Listen. Raises RuntimeError with the log's end when the server does not."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its chroot: a constant of Debian's build
        for _ in range(5):  # a port that was free a moment ago may be taken
            port = self.port or _free_port(self.address)
            self._configure(port)
            argv = [self._program, "-D", "-f", str(self.folder / "config"), "-E", str(self.folder / "log")]
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                preexec_fn=_adopting(),
                start_new_session=True,
            )
            if self._listens(port):
                self.port = port
                return self
        raise RuntimeError(f"sshd did not start: {self.log[-2000:]}")

    def stop(self, *, kill_sessions: bool = True) -> None:
        """Stop listening; with `kill_sessions` all that was started in sessions is killed too, detached or not."""
        end = time.monotonic() + STOP_SECONDS
        while kill_sessions and (found := self.processes()):
            if time.monotonic() > end:
                raise RuntimeError(f"these processes of a session do not die: {found}")
            for one in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            time.sleep(0.01)
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(STOP_SECONDS)

    def drop(self) -> None:
        """End every connection as a server that crashed would; what was detached lives on."""
        if self._process is not None:
            for one in psutil.Process(self._process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if one.name().startswith("sshd"):
                        _end_connection(one)

    def processes(self) -> list[psutil.Process]:
        """What lives of this machine's sessions, connections included and the server itself not."""
        server = self._process
        found: dict[int, psutil.Process] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            if server is not None:
                found = {one.pid: one for one in psutil.Process(server.pid).children(recursive=True)}
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if one.environ().get(MARK) == self.mark:
                    found[one.pid] = one
        return [one for one in found.values() if _alive(one)]

    def __enter__(self) -> Sshd:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _configure(self, port: int) -> None:
        """Write the configuration, and the command that every session goes through: it sets up the environment."""
        given = {"HOME": str(self.home), MARK: self.mark, **self.environment}
        login = self.folder / "login"
        login.write_text(
            "".join(f"export {name}={shlex.quote(value)}\n" for name, value in given.items())
            + f"cd {shlex.quote(str(self.home))} || exit 1\n"
            + "command=$SSH_ORIGINAL_COMMAND\nunset SSH_ORIGINAL_COMMAND\n"
            + '[ -n "$command" ] || exec "$SHELL" -l\nexec "$SHELL" -c "$command"\n'
        )
        lines = [
            f"ListenAddress {self.address}:{port}",
            f"HostKey {_quoted(self._host_key)}",
            f"AuthorizedKeysFile {_quoted(self.folder / 'authorized_keys')}",
            f"PidFile {_quoted(self.folder / 'pid')}",
            f"SetEnv {_quoted(f'HOME={self.home}')} {MARK}={self.mark}",  # the outer shell reads no file of the user's
            f"ForceCommand /bin/sh {shlex.quote(str(login))}",
            f"AllowUsers {self.user}",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",
            "LogLevel VERBOSE",
            f"Subsystem sftp {_sftp_server()}",
            *self._options,
        ]
        config = self.folder / "config"
        config.write_text("\n".join([*lines, "PerSourcePenalties no", ""]))
        if subprocess.run([self._program, "-t", "-f", config], check=False, capture_output=True).returncode:
            config.write_text("\n".join([*lines, ""]))  # before OpenSSH 9.8 there are no penalties to turn off

    def _listens(self, port: int) -> bool:
        assert self._process is not None
        end = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection((self.address, port), timeout=1):
                return True
            time.sleep(0.02)
        self._process.kill()
        self._process.wait()
        return False


def _make_key(path: Path, kind: str) -> None:
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", path], check=True)


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as taken:
        return int(taken.getsockname()[1])


def _quoted(text: object) -> str:
    """A word of sshd_config."""
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _sftp_server() -> str:
    places = ("/usr/lib/openssh", "/usr/libexec", "/usr/libexec/openssh", "/usr/lib/ssh")
    return next((f"{place}/sftp-server" for place in places if Path(place, "sftp-server").exists()), "internal-sftp")


def _adopting() -> Callable[[], None] | None:
    """What makes the child the parent of its orphaned grandchildren (Linux): none of them can hide from `stop`."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_SUBREAPER, 1, 0, 0, 0)


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _end_connection(process: psutil.Process) -> None:
    """Kill the processes of one connection: the privileged one and, below it, the user's."""
    below = [one for one in process.children() if one.name().startswith("sshd")]
    for one in (*below, process):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
