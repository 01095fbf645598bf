"""What this computer knows of an attempt's machine: written before each call that has an effect, and the SSH key.

A folder each, `<runs>/.gcp/<attempt>`, for this user's eyes only. Whoever has lost it finds the machine by its labels.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.errors import RemoteError
from launcher.files import storage, try_lock, write_atomic

KEY = "key"
BUSY_S = 120.0  # that another process may keep an attempt to itself before this one gives up
_FILE = "machine.json"


class Journal:
    """One attempt's. Constructing has no side effect."""

    def __init__(self, runs: Path, attempt: str) -> None:
        self.folder = runs / ".gcp" / attempt

    @property
    def key(self) -> Path:
        """The file of the private key."""
        return self.folder / KEY

    @contextlib.contextmanager
    def held(self, patience_s: float = BUSY_S) -> Iterator[None]:
        """One process of this computer at a time. Raises StorageError, and RemoteError when another keeps it."""
        until = time.monotonic() + patience_s
        with contextlib.ExitStack() as stack:
            with storage("noting what is made", self.folder):
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                while not stack.enter_context(try_lock(self.folder / "lock")):
                    stack.close()
                    if time.monotonic() > until:
                        message = f"another process is making the machine of {self.folder.name} on this computer"
                        raise RemoteError(message, remedy="wait for it, or end it")
                    time.sleep(0.05)
            yield

    def read(self) -> dict[str, Any]:
        """What was written last; nothing where nothing was, or it cannot be read."""
        try:
            value = json.loads((self.folder / _FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def write(self, **values: Any) -> None:
        """Change these. Raises StorageError."""
        self._save({**self.read(), **values})

    def turn(self, zone: str) -> int:
        """How many machines this zone has had, and has no more."""
        return int(self._turns().get(zone, 0))

    def emptied(self, zone: str) -> None:
        """The zone was looked up to hold nothing: what is made there next is another machine."""
        self.write(turns={**self._turns(), zone: self.turn(zone) + 1}, pending=None)

    @property
    def spent(self) -> list[float]:
        """US dollars and hours of the attempt's machines that are gone already."""
        found = self.read().get("spent")
        return [float(each) for each in found] if isinstance(found, list) and len(found) == 2 else [0.0, 0.0]

    def public_key(self) -> str:
        """The line for `authorized_keys`; the key is made at the first call. Raises StorageError."""
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        with storage("keeping the machine's SSH key", self.folder):
            if not self.key.exists():
                made = Ed25519PrivateKey.generate()
                text = made.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
                part = self.key.with_name(f".{KEY}.part-{os.getpid()}")
                part.unlink(missing_ok=True)
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                    stream.write(text)
                part.replace(self.key)
            found = form.load_ssh_private_key(self.key.read_bytes(), None)
        public = found.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
        return public.decode()

    def remove(self) -> None:
        """Forget it: the machine is gone. Raises StorageError."""
        with storage("forgetting a machine", self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _turns(self) -> Mapping[str, int]:
        turns = self.read().get("turns")
        return turns if isinstance(turns, dict) else {}

    def _save(self, values: Mapping[str, Any]) -> None:
        with storage("noting what is made", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(self.folder / _FILE, json.dumps(values, sort_keys=True).encode(), durable=True)
