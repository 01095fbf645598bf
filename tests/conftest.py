"""What holds for every test: nothing leaves loopback, nothing touches the user's folders."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DEAD_PROXY = "http://127.0.0.1:9"  # the discard port: a client in a child process that tries to leave is refused


def _stays_here(family: int, address: Any) -> bool:
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    host = str(address[0]).split("%", 1)[0]
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Refuse every connection that would leave this machine, and every look-up of a name but localhost."""
    patch = pytest.MonkeyPatch()
    connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded(original: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if not _stays_here(self.family, address):
                raise RuntimeError(f"a test tried to reach {address}")
            return original(self, address)

        return call

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is not None and not _stays_here(socket.AF_INET, (host.decode() if isinstance(host, bytes) else host,)):
            raise socket.gaierror(socket.EAI_NONAME, f"a test tried to look up {host!r}")
        return lookup(host, *args, **kwargs)

    patch.setattr(socket.socket, "connect", guarded(connect))
    patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    patch.setattr(socket, "getaddrinfo", look_up)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        patch.setenv(name, DEAD_PROXY)
    patch.setenv("YOLO_OFFLINE", "1")
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME, configuration, cache and runs of each test are its own; variables of the user's settings are not seen."""
    for name in [name for name in os.environ if name.startswith("SAMERUN_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name, folder in (("HOME", ""), ("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache")):
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.setenv("SAMERUN_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SAMERUN_CACHE_DIR", str(tmp_path / "cache"))
