"""`${env:NAME}` in texts of a spec: named there, looked up at the last moment, stored nowhere.

`expand` is the one place where a value comes in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from launcher.errors import Problem, SpecError

REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


def references(text: str) -> tuple[str, ...]:
    """The names of the variables that a text refers to, each once, in order."""
    return tuple(dict.fromkeys(REFERENCE.findall(text)))


def not_set(variable: str) -> Problem:
    """What to say of a variable that has no value."""
    return Problem(f"environment variable {variable} is not set", remedy=f"export {variable}=... and run again")


def expand(text: str, env: Mapping[str, str]) -> str:
    """The text with each reference replaced. Raises SpecError that names the variables which are not set."""
    if missing := [name for name in references(text) if name not in env]:
        raise SpecError([not_set(name) for name in missing])
    return REFERENCE.sub(lambda found: env[found[1]], text)
