"""Preconditions: ifGenerationMatch and its three relatives, for the object itself and for a copy's source.

Google's documentation ("request preconditions"): a `Match` that does not hold is 412. A `NotMatch` that does not hold
is 304 for reading and 412 for writing. Generation 0 stands for "there is no live object".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.emulators.storage.settings import ApiError, invalid

NAMES = ("GenerationMatch", "GenerationNotMatch", "MetagenerationMatch", "MetagenerationNotMatch")


def parameters(prefix: str = "if") -> tuple[str, ...]:
    """The names of the query's parameters."""
    return tuple(prefix + name for name in NAMES)


@dataclass(frozen=True)
class Conditions:
    """None: not asked for."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], prefix: str = "if") -> Conditions:
        """Raises ApiError 400 for one that is no number."""
        return cls(*(_number(query, name) for name in parameters(prefix)))

    def check(self, generation: int, metageneration: int, *, reading: bool) -> None:
        """Against the live object's numbers, both 0 where there is none. Raises ApiError 412 or 304."""
        if self.generation not in (None, generation) or self.metageneration not in (None, metageneration):
            raise _unmet(412)
        if self.not_generation == generation or self.not_metageneration == metageneration:
            raise _unmet(304 if reading else 412)


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise invalid(f"Invalid value for {name}: {text!r} is no generation")
    return int(text)


def _unmet(status: int) -> ApiError:
    if status == 304:
        return ApiError(304, "notModified", "Not Modified")
    text = "At least one of the pre-conditions you specified did not hold."
    return ApiError(412, "conditionNotMet", text, location=("header", "If-Match"))
