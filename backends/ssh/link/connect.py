"""Makes the connection: fabric's, with known host keys alone, limits on every step and real sockets for proxies.

fabric alone accepts any host key, takes the hops of a ProxyJump in the wrong order, and reads a ProxyCommand that has
died for ever (paramiko's wrapper of it); this module is what differs.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fabric
import paramiko

from backends.ssh.link import config as configuration
from backends.ssh.link import known
from backends.ssh.link.where import Where
from launcher.errors import CredentialError, Problem, RemoteError, SamerunError, SpecError

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""Tried first: 214 MB/s up on loopback (2 cores), where paramiko's first choice, aes128-ctr, made 183."""
JUMPS = 8
"""The most machines on the way to a host. Assumption: more is a ProxyJump that leads in a circle."""
_REJECTED = "too many authentication failures"


@dataclass(frozen=True)
class Target:
    """The host as it was resolved. `proxy`: its ProxyCommand, filled in; `jumps`: it is reached through other hosts."""

    host: str
    port: int
    user: str
    identity: tuple[str, ...]
    defaults: bool
    keys: known.Known
    proxy: str | None
    jumps: bool


def connect(where: Where, seconds: float) -> Connection:
    """Open a connection within `seconds`, or raise CredentialError, RemoteError or SpecError.

    It is made in a thread that is left behind when it does not come back: looking a name up cannot be interrupted.
    """
    made = Connection(where, seconds)
    failed: list[BaseException] = []
    finished = threading.Event()

    def work() -> None:
        try:
            made.open()
        except BaseException as error:  # noqa: BLE001  handed to the caller
            failed.append(error)
        finally:
            finished.set()
            if made.abandoned:
                made.close()

    threading.Thread(target=work, name="ssh-connect", daemon=True).start()
    if not finished.wait(seconds):
        made.abandoned = True
        if not finished.is_set():
            threading.Thread(target=made.close, name="ssh-close", daemon=True).start()
            raise RemoteError(f"{where} did not answer within {seconds:g} s", remedy="look at the network to it")
    if failed:
        made.close()
        raise failed[0]
    return made


class Connection:
    """One connection, with the hops that lead to it. `open` once; `close` as often as you like."""

    def __init__(self, where: Where, seconds: float) -> None:
        self.where, self.seconds = where, seconds
        self.abandoned = False
        self._proxies: list[_Proxy] = []
        self._hops: list[Any] = []
        self.transport: Any = None
        self.target: Target | None = None

    def open(self) -> None:
        """Connect, check host keys, log in. Raises CredentialError, RemoteError or SpecError."""
        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else it prints tracebacks on stderr
        setup = fabric.Config(ssh_config=configuration.read(), lazy=True)
        target = self._connection(self.where, setup, self._gateway, JUMPS)
        with self._explained(target):
            target.open()
        self.transport = target.transport
        self.transport.set_keepalive(max(1, int(self.seconds / 2)))

    def close(self) -> None:
        """End it, and the programs of its ProxyCommands. Blocks on nothing."""
        for one in reversed(self._hops):
            with contextlib.suppress(Exception):
                one.client.close()
        for proxy in self._proxies:
            proxy.close()

    def _connection(self, where: Where, setup: Any, find_gateway: Any, depth: int) -> Any:
        """A fabric.Connection, not open yet, that does what this module promises."""
        try:
            found = fabric.Connection(where.host, where.user, where.port, config=setup, gateway=False)
        except (ValueError, paramiko.ssh_exception.ConfigParseError) as error:
            raise SpecError([Problem(f"{where}: {error}", remedy="look at ~/.ssh/config")]) from error
        gateway = where.gateway or find_gateway(found, setup, depth)
        proxy = self._proxy(found, gateway) if isinstance(gateway, str) else None
        found.gateway = gateway or False
        keys = _host_keys(where, found)
        found.client.set_missing_host_key_policy(_Only(keys, _login(found)))
        only = where.identity or tuple(found.ssh_config.get("identityfile", ()))
        files = [str(Path(name).expanduser()) for name in only]
        found.connect_timeout = None
        found.connect_kwargs = {
            "key_filename": [file for file in files if Path(file).is_file()],
            "look_for_keys": not where.identity,
            "timeout": self.seconds,
            "banner_timeout": self.seconds,
            "auth_timeout": self.seconds,
            "channel_timeout": self.seconds,
            "transport_factory": _transport(keys),
        }
        if missing := [file for file in where.identity if not Path(file).expanduser().is_file()]:
            raise CredentialError(f"there is no private key {missing[0]}", remedy="name another one, or make it")
        self._hops.append(found)
        jumps = gateway is not None and proxy is None
        files = found.connect_kwargs["key_filename"]
        defaults = not where.identity
        self.target = Target(found.host, found.port, found.user, tuple(files), defaults, keys, proxy, jumps)
        return found

    def _gateway(self, found: Any, setup: Any, depth: int) -> Any:
        """The way that the configuration says: a ProxyCommand, a connection to jump from, or None."""
        jump = found.ssh_config.get("proxyjump", "none")
        if jump.lower() == "none":
            return found.ssh_config.get("proxycommand") if "proxyjump" not in found.ssh_config else None
        if depth == 0:
            raise SpecError([Problem(f"the ProxyJump of {found.host} leads in a circle", remedy="mend ~/.ssh/config")])
        before: Any = None
        for hop in jump.split(","):  # visited in this order: only the first one is reached by its own configuration
            gateway = before
            find = self._gateway if before is None else (lambda *_, way=gateway: way)
            before = self._connection(Where.of(hop.strip()), setup, find, depth - 1)
        return before

    def _proxy(self, found: Any, command: str) -> str:
        """Take the place of fabric's gateway by ProxyCommand; the command with `%h`, `%p` and the others filled in."""
        dummy = paramiko.SSHConfig.from_text(f"Host *\n HostName {found.host}\n Port {found.port}\n")
        lines = f"Host *\n User {found.user}\n ProxyCommand {command}\n"
        dummy.parse(iter(lines.splitlines(keepends=True)))
        proxy = _Proxy(dummy.lookup(found.host)["proxycommand"].replace("%%", "%"))
        self._proxies.append(proxy)
        found.open_gateway = proxy.open
        return proxy.command

    @contextlib.contextmanager
    def _explained(self, target: Any) -> Iterator[None]:
        """Map what paramiko, fabric and the system raise."""
        name = f"{target.user}@{target.host}:{target.port}"
        try:
            yield
        except SamerunError:
            raise
        except (paramiko.SSHException, OSError, EOFError) as error:
            if _refused(error, [hop.client.get_transport() for hop in self._hops]):
                raise CredentialError(
                    f"{name} lets none of the keys here in: {error}",
                    remedy="load a key into the agent (`ssh-add`), or name one: IdentityFile in ~/.ssh/config",
                ) from error
            said = " ".join(proxy.said for proxy in self._proxies)
            text = str(error) or type(error).__name__
            raise RemoteError(
                f"no connection to {name}: {text}{f' ({said})' if said.strip() else ''}",
                remedy=f"try `{_login(target)}`",
            ) from error


class _Only(paramiko.MissingHostKeyPolicy):  # type: ignore[misc, unused-ignore]  # paramiko carries no types
    """Lets none but the known keys pass. The client holds no keys itself, so each key comes here."""

    def __init__(self, keys: known.Known, login: str) -> None:
        self._keys, self._login = keys, login

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        """Raises CredentialError before anything but the key exchange has been sent."""
        self._keys.check(key.get_name(), key.asbytes(), self._login)


def _host_keys(where: Where, found: Any) -> known.Known:
    alias = found.ssh_config.get("hostkeyalias")
    if where.host_keys:
        name = found.host if found.port == 22 else f"[{found.host}]:{found.port}"
        return known.pinned(name, where.host_keys)
    named = " ".join(found.ssh_config.get(key, "") for key in ("userknownhostsfile", "globalknownhostsfile")).split()
    user = [] if "userknownhostsfile" in found.ssh_config else list(known.DEFAULT_FILES[:2])
    system = [] if "globalknownhostsfile" in found.ssh_config else list(known.DEFAULT_FILES[2:])
    files = [Path(name) for name in (*user, *named, *system)]
    return known.from_files(alias or found.host, 22 if alias else found.port, files)


def _transport(keys: known.Known) -> Any:
    """Makes the transport: the fast ciphers first, and of the host's keys one that is known."""

    def make(sock: Any, **options: Any) -> Any:
        if isinstance(sock, socket.socket) and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a question took 53 ms without, 8 ms with it
        transport = paramiko.Transport(sock, **options)
        security = transport.get_security_options()
        security.ciphers = (*CIPHERS, *(name for name in security.ciphers if name not in CIPHERS))
        kinds = {key.kind for key in keys.keys}
        wanted = [name for name in security.key_types if _kind(name) in kinds]
        security.key_types = (*wanted, *(name for name in security.key_types if name not in wanted))
        return transport

    return make


def _kind(algorithm: str) -> str:
    """The kind of key that signs by this algorithm (RFC 8332: one RSA key, several signatures)."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def _login(found: Any) -> str:
    return f"ssh {'' if found.port == 22 else f'-p {found.port} '}{found.user}@{found.original_host}"


def _refused(error: BaseException, transports: list[Any]) -> bool:
    """Whether the host has looked at the keys and let none in: a connection that broke meanwhile looks alike."""
    if _REJECTED in str(error).lower() or "no authentication methods available" in str(error).lower():
        return True
    if not isinstance(error, paramiko.AuthenticationException) or "timeout" in str(error).lower():
        return False
    if any(_REJECTED in str(one.saved_exception).lower() for one in transports if one is not None):
        return True
    return all(one.is_active() for one in transports if one is not None)


class _Proxy:
    """A ProxyCommand on a socket pair, as OpenSSH runs it: by the shell, its end seen as the connection's end."""

    def __init__(self, command: str) -> None:
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def open(self) -> socket.socket:
        """Start it; the socket that leads through it."""
        ours, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the program runs
        with theirs:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {self.command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
            )
        return ours

    @property
    def said(self) -> str:
        """The end of what it printed on its standard error."""
        if self._stderr is None or self._stderr.closed:
            return ""
        self._stderr.seek(0)
        return self._stderr.read()[-300:].decode(errors="replace").strip()

    def close(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._stderr is not None:
            self._stderr.close()
