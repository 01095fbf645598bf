"""Backends by name: built-in and third-party ones are found the same way, by the entry points `launcher.backends`.

Nothing is imported before it is asked for. A backend whose client is not installed says how to install it.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
from typing import Any

from launcher.backend import Backend, Option
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
    backend: Backend[Any] = _factory(name, settings)(settings)
    return backend


def options(settings: Settings) -> dict[str, Option]:
    """What the installed backends declare for `resources`, by name."""
    found: dict[str, Option] = {}
    for factory in _factories(settings).values():
        found.update(getattr(factory, "options", {}))
    return found


def attaching(settings: Settings, kind: str) -> list[str]:
    """The installed backends that can attach data of this kind."""
    return [name for name, factory in _factories(settings).items() if kind in getattr(factory, "attaches", ())]


def _factories(settings: Settings) -> dict[str, Any]:
    """The classes of all installed backends, by name. Imports them; one that cannot be is left out."""
    found: dict[str, Any] = {}
    for name in names(settings):
        with contextlib.suppress(NotFoundError):
            found[name] = _factory(name, settings)
    return found


def _factory(name: str, settings: Settings) -> Any:
    known = installed(settings).backends
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise NotFoundError(f"there is no backend {name!r}", remedy=f"{hint}installed: {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        hint = INSTALL_HINTS.get(name, "install the package that provides it")
        raise NotFoundError(f"backend {name!r} needs the module {error.name!r}", remedy=hint) from error
