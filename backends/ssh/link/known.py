"""Which host keys are known: those pinned, or those of known_hosts. A key that is not known is never accepted.

`@revoked` lines, hashed names, patterns and several keys of one kind are understood. A certificate (`@cert-authority`)
is not: such a host counts as unknown.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import CredentialError, Problem, SpecError

DEFAULT_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


@dataclass(frozen=True)
class Key:
    """A public key, and where it is said: `kind` as the line has it, `blob` as it goes over the wire."""

    kind: str
    blob: bytes
    place: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"{self.kind} SHA256:{digest}"


@dataclass(frozen=True)
class Known:
    """The keys of one host. `name` is what known_hosts calls it; `pinned`: they are the user's own word."""

    name: str
    keys: tuple[Key, ...]
    revoked: tuple[Key, ...] = ()
    pinned: bool = False

    def check(self, kind: str, blob: bytes, login: str) -> None:
        """Raises CredentialError for a key that is not one of them; `login`: the ssh command that reaches the host."""
        shown = Key(kind, blob, "")
        if any(key.blob == blob for key in self.revoked):
            raise CredentialError(f"{self.name} shows a revoked host key: {shown.fingerprint}", remedy="do not use it")
        if any(key.blob == blob for key in self.keys):
            return
        look = (
            "compare it on the machine itself: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` (or _rsa_, _ecdsa_)"
        )
        if self.pinned:
            raise CredentialError(
                f"{self.name} shows {shown.fingerprint}, which is not the pinned host key: nothing was sent",
                remedy=f"{look}; the pinned one is {', '.join(key.fingerprint for key in self.keys)}",
            )
        if self.keys:
            raise CredentialError(
                f"the host key of {self.name} has changed: it shows {shown.fingerprint}, and "
                f"{self.keys[0].place} has {self.keys[0].fingerprint}. Nothing was sent: "
                "someone may stand between, or the machine was set up anew",
                remedy=f"{look}; if it is right: `ssh-keygen -R '{self.name}'`, then `{login}` once and answer yes",
            )
        raise CredentialError(
            f"the host key of {self.name} is not known: it shows {shown.fingerprint}. Nothing was sent",
            remedy=f"{look}; if it is right: `{login}` once and answer yes, or pin it (a host_key setting takes "
            f"`{kind} {base64.b64encode(blob).decode()}`)",
        )


def pinned(name: str, lines: Sequence[str]) -> Known:
    """The keys of these lines, `ssh-ed25519 AAAA...`. Raises SpecError for what is no public key."""
    keys = [_key(line.split(), "pinned") for line in lines]
    if bad := [line for line, key in zip(lines, keys, strict=True) if key is None]:
        remedy = "a line of `ssh-keyscan` without the host, or /etc/ssh/ssh_host_ed25519_key.pub of the machine"
        raise SpecError([Problem(f"{line[:60]!r} is no public key", field="host_key", remedy=remedy) for line in bad])
    return Known(name, tuple(key for key in keys if key is not None), pinned=True)


def from_files(host: str, port: int, files: Iterable[Path]) -> Known:
    """What known_hosts files say of a host: of `[host]:port`, and where they do not, of `host`, as OpenSSH does."""
    names = [host] if port == 22 else [f"[{host}]:{port}", host]
    lines = [(f"{file}:{at}", line.split()) for file in files for at, line in enumerate(_lines(file), 1)]
    keys: list[Key] = []
    for name in names:
        keys = keys or [key for place, words in lines if (key := _said(name, "", words, place)) is not None]
    revoked = [
        key for name in names for place, words in lines if (key := _said(name, "@revoked", words, place)) is not None
    ]
    return Known(names[0], tuple(keys), tuple(revoked))


def _lines(file: Path) -> list[str]:
    try:
        return file.expanduser().read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, RuntimeError):
        return []


def _said(name: str, marker: str, words: list[str], place: str) -> Key | None:
    """The key of a line, when it has this marker (or none) and is about this host."""
    if not words or words[0].startswith("#"):
        return None
    found = words[0] if words[0].startswith("@") else ""
    rest = words[1:] if found else words
    if found != marker or len(rest) < 3 or not _names(rest[0], name):
        return None
    return _key(rest[1:], place)


def _names(patterns: str, name: str) -> bool:
    """Whether the first field of a line means this host (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    if patterns.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part) for part in patterns[3:].split("|"))
        except (ValueError, binascii.Error):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
    found = False
    for pattern in patterns.lower().split(","):
        plain = pattern.removeprefix("!").replace("[", "[[]")  # the brackets of [host]:port are no pattern
        if fnmatch.fnmatchcase(name.lower(), plain):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _key(words: Sequence[str], place: str) -> Key | None:
    """The key of `kind base64 ...`; None for what is none."""
    if len(words) < 2:
        return None
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (ValueError, binascii.Error):
        return None
    if not blob.startswith(len(words[0]).to_bytes(4, "big") + words[0].encode()):
        return None
    return Key(words[0], blob, place)
