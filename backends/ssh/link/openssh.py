"""The `ssh` command as a channel for bulk: what paramiko moves at 140 MB/s here, it moves at the disk's speed.

It goes to the host that paramiko's connection was resolved to, logs in with the same keys, and knows the same host keys
and no others; no configuration file is read anew. Where there is no such command, where the host is reached by a
ProxyJump, or where it cannot log in (a key whose passphrase nobody can be asked for), bulk goes by paramiko too.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from backends.ssh.link.connect import CIPHERS, Target

PIPE = 1 << 20
"""Bytes that a pipe should hold, where the system can be asked for it: what Linux allows an ordinary user."""
_NAME = "samerun"  # under which the temporary known_hosts file has the keys


class Pipe:
    """A command on the host, with the part of paramiko's Channel that this package uses."""

    def __init__(self, target: Target, seconds: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="samerun-ssh-", ignore_cleanup_errors=True)
        known_hosts = Path(self._folder.name) / "known_hosts"
        revoked = {key.blob for key in target.keys.revoked}
        keys = [key for key in target.keys.keys if key.blob not in revoked]
        known_hosts.write_text("".join(f"{_NAME} {key.kind} {base64.b64encode(key.blob).decode()}\n" for key in keys))
        self._argv = command(target, seconds, known_hosts)
        self._process: subprocess.Popen[bytes] | None = None
        self.closed = False

    def exec_command(self, line: str) -> None:
        """Start it. Raises OSError."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [*self._argv, line], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, pipesize=PIPE
        )

    def send(self, data: memoryview) -> int:
        """Raises OSError when the command reads no more."""
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin.write(data) or 0

    def shutdown_write(self) -> None:
        """Its input is at its end."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()

    def recv(self, size: int) -> bytes:
        """Empty at the end."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.read(size) or b""

    def recv_stderr(self, size: int) -> bytes:
        """Empty at the end."""
        assert self._process is not None
        assert self._process.stderr is not None
        return self._process.stderr.read(size) or b""

    def recv_exit_status(self) -> int:
        """The command's, or 255 when the connection failed."""
        return self._process.wait() if self._process is not None else -1

    def close(self) -> None:
        """Kill it."""
        self.closed = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError, ValueError):
                        stream.close()
        self._folder.cleanup()


def available(target: Target | None) -> bool:
    """Whether the command is here and can go this way."""
    return target is not None and not target.jumps and shutil.which("ssh") is not None


def command(target: Target, seconds: float, known_hosts: Path) -> list[str]:
    """The `ssh` command up to the host: nothing is asked, nothing is forwarded, no key is accepted."""
    options = {
        "HostName": target.host,
        "Port": str(target.port),
        "User": target.user,
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": _NAME,
        "UpdateHostKeys": "no",
        "Ciphers": f"^{','.join(CIPHERS)}",
        "ConnectTimeout": str(max(1, int(seconds))),
        "ServerAliveInterval": str(max(1, int(seconds / 3))),
        "ServerAliveCountMax": "2",
        "ClearAllForwardings": "yes",
        "EscapeChar": "none",
        "LogLevel": "ERROR",
        **({"ProxyCommand": target.proxy.replace("%", "%%")} if target.proxy else {}),
    }
    keys = list(target.identity)
    if target.defaults:  # as paramiko looks for them: in HOME, where OpenSSH asks the system for the home folder
        home = Path("~/.ssh").expanduser()
        keys += [str(home / name) for name in ("id_ed25519", "id_ecdsa", "id_rsa") if (home / name).is_file()]
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", "-T", *words, *(word for key in keys for word in ("-i", key)), target.host]
