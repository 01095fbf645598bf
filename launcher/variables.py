"""`${env:NAME}` in texts of a spec: named there, looked up at the last moment, stored nowhere."""

from __future__ import annotations

import re
from collections.abc import Mapping

from launcher.errors import Problem, SpecError

REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


def names(text: str) -> list[str]:
    """The variables that a text names."""
    return REFERENCE.findall(text)


def expand(text: str, env: Mapping[str, str]) -> str:
    """The text with each reference replaced. Raises SpecError that names variables which are not set."""
    if absent := sorted({name for name in names(text) if name not in env}):
        remedy = f"export {absent[0]}=..."
        raise SpecError([Problem(f"the environment variable {name} is not set", remedy=remedy) for name in absent])
    return REFERENCE.sub(lambda match: env[match.group(1)], text)
