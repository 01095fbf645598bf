"""Sending what is large before a submit, and saying meanwhile how far it has come.

Promises: what is being sent is in the run's record, so that whoever looks from elsewhere sees it too; a run that the
user gives up stops being sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

SAVE_S = 5.0  # how often the record is written while something is sent


class GivenUpError(Exception):
    """The user has given the run up: what is being sent is not wanted any more."""


@dataclass(frozen=True)
class Step:
    """What is being done, how much of it is done, and how much there is (bytes, mostly)."""

    what: str
    done: int
    of: int

    def __str__(self) -> str:
        share = f" {100 * self.done // self.of} %" if self.of else ""
        return f"{self.what}{share}"


class Teller:
    """The callback that a backend's `stage` is given."""

    def __init__(self, given_up: Callable[[], bool], show: Callable[[Step], None], save: Callable[[str], None]) -> None:
        self.heard = time.monotonic()
        """When it last came further than it had ever been: what is sent again and again does not move."""
        self._given_up, self._show, self._save = given_up, show, save
        self._saved = float("-inf")
        self._last: Step | None = None
        self._far: dict[str, int] = {}

    def __call__(self, what: str, done: int, of: int) -> None:
        """Take a step in. Raises GivenUpError."""
        if self._given_up():
            raise GivenUpError
        step = Step(what, done, of)
        if step == self._last:
            return
        self._last, time_now = step, time.monotonic()
        if done > self._far.get(what, 0):
            self._far[what], self.heard = done, time_now
        self._show(step)
        if time_now - self._saved > SAVE_S:
            self._saved = time_now
            self._save(str(step))
