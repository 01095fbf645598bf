"""Who to reach by SSH: a host, or a name of ~/.ssh/config, and what differs from what is said there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from launcher.errors import Problem, SpecError

_FORM = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s:/]+)@)?(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^@\s:/\[\]]+))(?::(?P<port>\d+))?/?"
)

_SHELL = frozenset("'`\"$\\;&<>|(){}")
"""What no host and no user has: OpenSSH too refuses it, because a ProxyCommand's %h and %r go through a shell
(CVE-2023-51385)."""


@dataclass(frozen=True)
class Where:
    """A machine. What is None or empty here is as ~/.ssh/config says, and then as OpenSSH does it.

    `identity`: files of private keys; `gateway`: a ProxyCommand; `host_keys`: public keys as lines (`ssh-ed25519
    AAAA...`), of which the host must show one; without them it must show one of known_hosts.
    """

    host: str
    user: str | None = None
    port: int | None = None
    identity: tuple[str, ...] = ()
    gateway: str | None = None
    host_keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str, **more: Any) -> Where:
        """Read `user@host:port`, `user@[IPv6]:port` or `ssh://...`; user and port may be left out. Raises SpecError."""
        found = _FORM.fullmatch(text)
        user, host = (found["user"], found["six"] or found["host"]) if found else (None, "")
        odd = not text.isprintable() or not _SHELL.isdisjoint(text)
        if found is None or host.startswith("-") or (user or "").startswith("-") or odd:
            raise SpecError(
                [Problem(f"{text!r} is no host", remedy="write user@host, user@host:port or a Host of ssh")]
            )
        port = int(found["port"]) if found["port"] else None
        if port is not None and not 0 < port < 1 << 16:
            raise SpecError([Problem(f"{text!r}: {port} is no port", remedy="a port is a number from 1 to 65535")])
        return cls(host, user, port, **more)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Where:
        """What `to_json` made."""
        fields: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return cls(**fields)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {key: list(item) if isinstance(item, tuple) else item for key, item in asdict(self).items()}

    def __str__(self) -> str:
        """`user@host:port`, as far as it is said."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{f'{self.user}@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"
