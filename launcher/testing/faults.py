"""What a backend's tests can do to its machine or service, so that the suite can ask what the backend makes of it.

A fault that a backend's tests cannot bring about stays None; the tests that need it are skipped, and say why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from launcher.backend import Handle


@dataclass(frozen=True)
class Faults:
    """One field a fault. `reasons`: fault → why this backend's tests cannot bring it about."""

    lose_reply: Callable[[], AbstractContextManager[object]] | None = None
    """While it is held, a submit is carried out and its reply never comes."""
    silence: Callable[[], AbstractContextManager[object]] | None = None
    """While it is held, machine or service do not answer."""
    no_access: Callable[[], AbstractContextManager[object]] | None = None
    """While it is held, credentials (or what else the backend needs to get in) are missing."""
    kill_worker: Callable[[Handle], None] | None = None
    """The machine, or at least the worker's supervisor, is gone at once, without a word."""
    stop_machine: Callable[[Handle], None] | None = None
    """The machine tells the worker (SIGTERM) that it is about to go."""
    corrupt: Callable[[Handle, str], None] | None = None
    """An output, by its path in the outbox, comes back with as many but other bytes, from now on."""
    truncate: Callable[[Handle, str], None] | None = None
    """An output comes back cut short, from now on."""
    remove: Callable[[Handle, str], None] | None = None
    """An output is gone from the outbox."""
    append: Callable[[Handle, bytes], None] | None = None
    """These bytes come after the worker's stream, as if it had written them: half a line, or what is no UTF-8."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    same_machine: bool = True
    """The worker's processes run on this computer, so that the suite can see them (an emulator's do too)."""
