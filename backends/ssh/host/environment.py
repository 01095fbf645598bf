"""The environment that a run's pins ask for: what is in it, what it is called, and how an attempt has it made.

Promises: the name follows from what is asked for and from the host's Python and platform alone, so the same pins are
the same environment; nothing is installed into the host's own Python.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SCHEME = 1
"""Part of the name: raised when environments are made in another way."""
REQUIRED = ("ultralytics", "torch")
"""What must have the run's version. The others of its pins are taken where they go together with these."""
OWN = ("samerun",)


@dataclass(frozen=True)
class Environment:
    """`python`: a version for uv to find or get, empty for the host's own; `wheels`: a folder on the host, or empty."""

    requirements: tuple[str, ...]
    preferred: tuple[str, ...] = ()
    python: str = ""
    wheels: str = ""
    torch_backend: str = "auto"

    @classmethod
    def of(cls, pins: Mapping[str, str], **more: str) -> Environment:
        """For a run's pins, without the part of a version that names a build (`+cu132`): uv picks that of the host."""
        plain = {name: version.split("+")[0] for name, version in pins.items() if name not in OWN and version}
        required = [name if name not in plain else f"{name}=={plain[name]}" for name in REQUIRED]
        others = sorted(f"{name}=={version}" for name, version in plain.items() if name not in REQUIRED)
        return cls(tuple(required), tuple(others), **more)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of what is asked for."""
        text = json.dumps([SCHEME, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def describe(self) -> dict[str, Any]:
        """What attempt.json needs: `python`, `environment` and the command for `before`, filled in by `Machine`."""
        return {
            "python": f"{{root}}/envs/{self.digest}-{{platform}}/bin/python",
            "environment": asdict(self),
            "check_pins": True,
            "before": [["{host_python}", "-I", "{agent}", "environment", "{box}"]],
        }
