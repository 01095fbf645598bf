"""The few things a carrier knows of a box: where they lie in it, and whether its supervisor lives.

The rule is that of `backends.local.box.status_of`: supervisor and training hold a lock together, which is free only
when both are gone. Looking at it takes a shared lock for a moment, so it is looked at only once the box was started.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

WAITING, RUNNING, ENDED, LOST, GONE = "waiting", "running", "ended", "lost", "gone"


@dataclass(frozen=True)
class Box:
    """Paths of an attempt's folder."""

    root: str

    @property
    def out(self) -> str:
        """The outbox."""
        return os.path.join(self.root, "out")

    @property
    def stream(self) -> str:
        """What the worker prints."""
        return os.path.join(self.out, "stream.log")

    @property
    def config(self) -> str:
        """What the carrier is told."""
        return os.path.join(self.root, "in", "carrier.json")

    def state(self, name: str) -> str:
        """A file in state/."""
        return os.path.join(self.root, "state", name)

    def exit(self) -> Json | None:
        """The worker's last word; None where there is none, or what is no JSON object."""
        try:
            with open(self.state("exit.json"), "rb") as stream:
                value = json.loads(stream.read())
        except (OSError, ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def look(self) -> str:
        """One of the words above. `ENDED` and `LOST` are for ever: nothing in the box changes any more."""
        if not os.path.isdir(self.root):
            return GONE
        if self.exit() is not None:
            return ENDED
        if not os.path.exists(self.state("started")):
            return WAITING
        if self._is_held():
            return RUNNING
        return ENDED if self.exit() is not None else LOST  # it may have been written meanwhile

    def _is_held(self) -> bool:
        fd = os.open(self.state("lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False
