"""What a host says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Facts:
    """Sizes in bytes; None, or empty, for what was not asked for or is not known."""

    python: str
    """The Python that answered."""
    called: str
    """As it was called: a name for it, or a script that prepares its surroundings."""
    version: tuple[int, ...]
    platform: str
    """What environments are made for: `cp312-linux-x86_64-gpu`."""
    root: str
    """Our folder, as an absolute path."""
    exists: bool
    """Whether that folder is there."""
    shared: str
    """Why what lies there need not be ours: another user could have put it there. Empty when nobody could."""
    agent: bool
    """Whether this version of the agent is there."""
    node: str
    system: str
    machine: str
    cuda: bool
    """Whether a driver for NVIDIA's GPUs is there."""
    boot: str
    user: str
    cpus: int | None = None
    memory: int | None = None
    disk: int | None = None
    writable: bool = True
    gpus: tuple[str, ...] = ()
    uv: str = ""
    pip: bool = True
    """Whether this Python could make an environment to get uv into."""
    ends_at_logout: bool = False
    """Whether the system ends the user's processes when the last login is over."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the training's packages, in this very Python."""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Facts:
        """From the host's answer. Raises TypeError for one that lacks something."""
        known = {each.name for each in fields(cls)}
        values = ((name, tuple(value) if isinstance(value, list) else value) for name, value in said.items())
        kept: dict[str, Any] = {name: value for name, value in values if name in known}
        return cls(**kept)

    @property
    def device(self) -> str:
        """What `device: auto` will most likely be there."""
        if self.cuda:
            return "cuda"
        return "mps" if (self.system, self.machine) == ("Darwin", "arm64") else "cpu"

    def __str__(self) -> str:
        parts = [f"{self.system} {self.machine}", *([f"{self.cpus} CPUs"] if self.cpus else []), *self.gpus]
        return f"{self.node} ({', '.join(parts)})"
