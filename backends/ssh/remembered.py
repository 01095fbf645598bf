"""Hosts that this machine's runs have used, and the attempts they may still hold: what `launch reap` goes through.

Promises: an attempt is written down before anything of it is left on a host; a host is forgotten when it was asked and
nothing of ours is left there. One small file for each, in the cache folder, so that no two processes write the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.ssh.link.where import Where
from launcher.files import storage, try_lock, write_atomic

HOST = "host.json"
ATTEMPTS = "attempts"
TURN_LOOK_S = 0.2


@dataclass(frozen=True)
class Place:
    """Our folder on a host, and the Python there that asks after it (empty: the first that is new enough)."""

    where: Where
    root: str
    python: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: what a handle holds."""
        return {"where": self.where.to_json(), "root": self.root, "python": self.python}

    @classmethod
    def from_json(cls, value: Any) -> Place:
        """What `to_json` made. Raises KeyError or TypeError."""
        return cls(Where.from_json(value["where"]), str(value["root"]), str(value["python"]))

    @property
    def key(self) -> str:
        """The same for the same place."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{self.where}:{self.root}"


@dataclass(frozen=True)
class Remembered:
    """A place, the file that remembers it, and attempts that may be there."""

    place: Place
    file: Path = field(repr=False)
    attempts: tuple[str, ...] = ()


class Memory:
    """Below `folder`. Constructing it does nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def remember(self, place: Place, attempt: str = "") -> None:
        """Write the place down, and that it may hold the attempt. Raises StorageError."""
        folder = self._folder / place.key
        with storage("remembering the host", folder):
            (folder / ATTEMPTS).mkdir(parents=True, exist_ok=True)
            if not (folder / HOST).exists():
                write_atomic(folder / HOST, json.dumps(place.to_json(), indent=1).encode())
            if attempt:
                (folder / ATTEMPTS / attempt).touch()

    @contextmanager
    def turn(self, place: Place, what: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the right to send this to the place: launches of one dataset at once would send it twice.

        `waiting` is called a few times a second while another launch of this machine has it; it may raise.
        """
        lock = self._folder / place.key / f"sending-{what}"
        while True:
            with storage("waiting for another launch", lock), try_lock(lock) as free:
                if free:
                    yield
                    return
            waiting()
            time.sleep(TURN_LOOK_S)

    def gone(self, place: Place, attempt: str) -> None:
        """The attempt is no longer there."""
        (self._folder / place.key / ATTEMPTS / attempt).unlink(missing_ok=True)

    def forget(self, place: Place) -> None:
        """Nothing of ours is there any more."""
        shutil.rmtree(self._folder / place.key, ignore_errors=True)

    def __iter__(self) -> Iterator[Remembered]:
        """Every place, sorted; a file that cannot be read is left out."""
        found = []
        for file in self._folder.glob(f"*/{HOST}"):
            try:
                place = Place.from_json(json.loads(file.read_bytes()))
                attempts = tuple(sorted(each.name for each in (file.parent / ATTEMPTS).iterdir()))
            except (OSError, ValueError, KeyError, TypeError):
                continue
            found.append(Remembered(place, file, attempts))
        return iter(sorted(found, key=lambda each: str(each.place)))
