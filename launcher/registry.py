"""Backends by name: built-in and third-party ones are found the same way, by the entry points `launcher.backends`.

Nothing is imported before it is asked for. A backend whose client is not installed says how to install it.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from launcher.backend import Backend
from launcher.errors import NotFoundError
from launcher.installed import installed
from launcher.settings import Settings

INSTALL_HINTS: dict[str, str] = {}
"""Backend name → how to install what it needs, for backends whose client is an extra."""


def names(settings: Settings) -> list[str]:
    """Names of all installed backends, sorted. Imports none of them."""
    return sorted(installed(settings).backends)


def load(name: str, settings: Settings) -> Backend[Any]:
    """Import and build the backend. Raises NotFoundError for a name that is not installed."""
    known = installed(settings).backends
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise NotFoundError(f"there is no backend {name!r}", remedy=f"{hint}installed: {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        hint = INSTALL_HINTS.get(name, "install the package that provides it")
        raise NotFoundError(f"backend {name!r} needs the module {error.name!r}", remedy=hint) from error
    backend: Backend[Any] = factory(settings)
    return backend
