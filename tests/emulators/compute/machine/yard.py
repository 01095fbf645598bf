"""Where the machines of one emulator stand: their addresses and folders, and the keeper that outlives a crash."""

from __future__ import annotations

import os
import pwd
import random
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.emulators.compute.faults import Faults
from tests.emulators.compute.machine.host import Host, Place
from tests.emulators.compute.settings import World
from tests.emulators.compute.wire.tokens import Tokens
from tests.emulators.ssh import need_sshd

if TYPE_CHECKING:
    from tests.emulators.compute.service.vm import Vm

KEEPER = Path(__file__).with_name("keeper.py")
TRIES = 50


class Yard:
    """`mark` is in the environment of every process of every machine."""

    def __init__(self, world: World, tokens: Tokens, faults: Faults) -> None:
        self._world, self._tokens, self._faults = world, tokens, faults
        self.mark = uuid.uuid4().hex
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.ssh_port = 0
        self._keeper: subprocess.Popen[bytes] | None = None
        self._hosts: list[Host] = []
        self._own = world.settings.own_addresses and _has_addresses()
        self._random = random.Random()

    def open(self) -> None:
        """Before the first machine. Skips the test that runs where there is no OpenSSH server."""
        if self._own:
            self.ssh_port = self._world.settings.ssh_port or _free_port("127.0.0.1", 0)
        if not self._world.settings.sshd:
            return
        need_sshd()
        argv = [sys.executable, "-I", str(KEEPER), self.mark, str(self._world.root)]
        self._keeper = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)

    def address(self) -> str:
        """A loopback address for one more machine, at which the port is free."""
        if not self._own:
            return "127.0.0.1"
        for _ in range(TRIES):
            found = ".".join(["127", *(str(self._random.randint(16, 250)) for _ in range(3))])
            try:
                _free_port(found, self.ssh_port)
            except OSError:
                continue
            return found
        raise RuntimeError(f"port {self.ssh_port} is free at none of {TRIES} addresses 127.x.y.z")

    def make(self, vm: Vm) -> Host:
        folder = self._world.root / "machines" / vm.zone / f"{vm.name}-{vm.message.id}"
        place = Place(folder, vm.message.network_interfaces[0].network_i_p, self.ssh_port, self.mark)
        host = Host(self._world, vm, place, self._tokens, self._faults)
        self._hosts.append(host)
        return host

    def processes(self) -> list[psutil.Process]:
        return [process for host in self._hosts for process in host.processes()]

    def close(self) -> None:
        """All machines are off. May be repeated."""
        for host in self._hosts:
            host.kill()
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
            self._keeper.wait(10)
            self._keeper = None


def _free_port(address: str, port: int) -> int:
    """The port, or a free one for 0. Raises OSError where it is taken or there is no such address."""
    with socket.create_server((address, port)) as taken:
        return int(taken.getsockname()[1])


def _has_addresses() -> bool:
    """Whether all of 127.0.0.0/8 is this machine (Linux), not only 127.0.0.1 (macOS)."""
    try:
        _free_port("127.16.16.16", 0)
    except OSError:
        return False
    return True
