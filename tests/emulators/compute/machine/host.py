"""A machine: a real sshd with a home of its own, a metadata server, and the startup script as a real process.

What is started on it, in sessions or by the script, detached or not, is dead when `kill` returns, and its folder gone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.emulators.compute.faults import Faults
from tests.emulators.compute.machine.commands import write_commands
from tests.emulators.compute.machine.metadata import MetadataServer
from tests.emulators.compute.settings import World
from tests.emulators.compute.wire.tokens import Tokens
from tests.emulators.ssh import Sshd
from tests.emulators.ssh.server import MARK as SSHD_MARK

if TYPE_CHECKING:
    from tests.emulators.compute.service.vm import Vm

MARK = "SAMERUN_TEST_COMPUTE"
DEAD_PROXY = "http://127.0.0.1:9"  # the discard port
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KILL_SECONDS = 20.0
"""Assumption: what does not die by then cannot be killed."""
ADOPT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Makes the process that follows the parent of its orphans (Linux: PR_SET_CHILD_SUBREAPER is 36), so none can hide."""


@dataclass(frozen=True)
class Place:
    """Where a machine stands. `port` 0: one of its own. `mark` is the emulator's."""

    folder: Path
    address: str
    port: int
    mark: str


class Host:
    """One machine, made when its instance is RUNNING."""

    def __init__(self, world: World, vm: Vm, place: Place, tokens: Tokens, faults: Faults) -> None:
        self._world, self._vm, self._place = world, vm, place
        self._metadata = MetadataServer(world, vm, place.address, tokens, faults)
        self._startup: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._dead = False
        self.home = place.folder / "home"
        self.sshd: Sshd | None = None
        """None until it has booted."""

    @property
    def address(self) -> str:
        return self._place.address

    @property
    def port(self) -> int:
        return self.sshd.port if self.sshd is not None else self._place.port

    @property
    def host_keys(self) -> dict[str, str]:
        """Guest attributes as Google's guest agent writes them: `hostkeys/ssh-ed25519` to the key in base64."""
        assert self.sshd is not None
        kind, _, key = self.sshd.host_key.partition(" ")
        return {f"hostkeys/{kind}": key}

    def start(self) -> None:
        """Boot. Returns when it listens; the startup script is running then."""
        self.home.mkdir(parents=True)
        self._metadata.start()
        bin_folder = write_commands(self._place.folder / "bin", self._metadata.netloc)
        environment = self._environment(bin_folder)
        sshd = Sshd(
            self._place.folder / "sshd",
            address=self.address,
            port=self._place.port,
            home=self.home,
            environment=environment,
        )
        self.sshd = sshd
        self.authorize()
        sshd.start()
        self._run_startup({**environment, "HOME": str(self.home), SSHD_MARK: sshd.mark})

    def authorize(self) -> None:
        """Let in exactly the holders of the keys that metadata names now, or OS Login."""
        assert self.sshd is not None
        settings, metadata = self._world.settings, self._vm.metadata
        login = metadata.get("enable-oslogin", settings.project_metadata.get("enable-oslogin", ""))
        if login.upper() == "TRUE":
            keys = list(settings.oslogin_keys)
        else:
            keys = _keys(metadata.get("ssh-keys", ""))
            if metadata.get("block-project-ssh-keys", "").upper() != "TRUE":
                keys += _keys(settings.project_metadata.get("ssh-keys", ""))
        (self.sshd.folder / "authorized_keys").write_text("".join(f"{key}\n" for key in keys))

    def _environment(self, bin_folder: Path) -> dict[str, str]:
        """Of sessions and the startup script: nothing of this process's own environment is in it."""
        given = self._world.settings.environment
        proxies = {} if self._world.settings.internet else {"HTTP_PROXY": DEAD_PROXY, "HTTPS_PROXY": DEAD_PROXY}
        proxies |= {name.lower(): value for name, value in proxies.items()}
        none = f"127.0.0.1,localhost,{self.address}"
        return {
            MARK: self._place.mark,
            "GCE_METADATA_HOST": self._metadata.netloc,
            "GCE_METADATA_IP": self._metadata.netloc,
            "LANG": "C.UTF-8",
            **proxies,
            **({"NO_PROXY": none, "no_proxy": none} if proxies else {}),
            **given,
            "PATH": f"{bin_folder}:{given.get('PATH', PATH)}",
        }

    def _run_startup(self, environment: dict[str, str]) -> None:
        text = self._vm.metadata.get("startup-script")
        if text is None:
            return
        script = self._place.folder / "startup-script"
        script.write_text(text if text.startswith("#!") else f"#!/bin/bash\n{text}")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        run = f"{script}; echo startup-script exit status $?; exec sleep 2147483647"
        argv = ["/bin/sh", "-c", run.replace(str(script), '"$0"'), str(script)]
        if sys.platform == "linux":
            argv = [sys.executable, "-I", "-S", "-c", ADOPT, *argv]
        with (self._place.folder / "serial").open("ab") as out, self._lock:
            if not self._dead:
                self._startup = subprocess.Popen(
                    argv,
                    cwd=self.home,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def serial(self) -> str:
        """What the startup script has printed so far, its exit status last."""
        with contextlib.suppress(FileNotFoundError):
            return (self._place.folder / "serial").read_text(errors="replace")
        return ""

    def processes(self) -> list[psutil.Process]:
        """What lives on it, without the server that listens."""
        found: dict[int, psutil.Process] = {}
        if self.sshd is not None:
            found = {one.pid: one for one in self.sshd.processes()}
        if self._startup is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                top = psutil.Process(self._startup.pid)
                found |= {one.pid: one for one in (top, *top.children(recursive=True))}
        return [one for one in found.values() if _alive(one)]

    def soft_off(self) -> None:
        """SIGTERM for all but the connections, as systemd does when the button is pressed."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if not process.name().startswith("sshd"):
                    process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Switch it off. Raises RuntimeError for processes that do not die. May be repeated, also from two threads."""
        with self._lock:
            if self._dead:
                return
            self._metadata.stop()
            end = time.monotonic() + KILL_SECONDS
            while found := self.processes():
                if time.monotonic() > end:
                    raise RuntimeError(f"these processes of {self._vm.name} do not die: {found}")
                for process in found:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                time.sleep(0.005)
            if self.sshd is not None:
                self.sshd.stop()
            if self._startup is not None:
                self._startup.wait(KILL_SECONDS)
            self._dead = True
            shutil.rmtree(self._place.folder, onerror=_force)


def _keys(text: str) -> list[str]:
    """The keys of `user:ssh-ed25519 AAAA... comment` lines. The user is not looked at: there is only one here."""
    return [line.split(":", 1)[1].strip() for line in text.splitlines() if ":" in line]


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _force(function: object, path: str, error: object) -> None:
    """Remove also what stands in a folder that may not be written."""
    parent = Path(path).parent
    with contextlib.suppress(OSError):
        parent.chmod(0o700)
        os.chmod(path, 0o700)  # noqa: PTH101
        if Path(path).is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink()
