"""One request: where it goes, what it is called, and its body, read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.emulators.storage.faults import Fault
from tests.emulators.storage.settings import invalid, not_emulated

PIECE = 1 << 18
COMMON = frozenset(("alt", "fields", "prettyPrint", "key", "userProject", "quotaUser", "uploadType", "upload_id"))


@dataclass
class Body:
    """A request's body. `pull(most)` gives up to so many bytes more, b'' at its end; `length` None where not said."""

    pull: Callable[[int], bytes]
    length: int | None = None
    received: int = 0

    def read(self, most: int = PIECE) -> bytes:
        piece = self.pull(most)
        self.received += len(piece)
        return piece

    def pieces(self) -> Iterator[bytes]:
        while piece := self.read():
            yield piece

    def whole(self) -> bytes:
        return b"".join(self.pieces())

    def json(self) -> dict[str, Any]:
        """Raises ApiError 400 where it is no JSON object; an empty body is an empty one."""
        return as_json(self.whole())


@dataclass
class Request:
    """`path` is the raw path: names in it are still percent-encoded. `headers` has lower-case names."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body
    operation: str = "unknown"
    phase: str = ""
    bucket: str = ""
    name: str = ""
    groups: tuple[str, ...] = ()
    """What else the route found in the path: the names of a copy's target."""
    fault: Fault | None = None
    """What is to go wrong with the upload that this is."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which a fault may mean this request."""
        place = f"{self.bucket}/{self.name}" if self.name else self.bucket
        return (self.operation, f"{self.operation}:{self.phase}", place, self.path)

    @property
    def media(self) -> bool:
        return self.query.get("alt") == "media"

    def generation(self, name: str = "generation") -> int | None:
        text = self.query.get(name)
        if text is None:
            return None
        if not text.isascii() or not text.isdigit():
            raise invalid(f"Invalid value for {name}: {text!r}")
        return int(text)

    def only(self, *parameters: str) -> None:
        """Raises ApiError 501 for a parameter that is not emulated: none is silently passed over."""
        for name in self.query:
            if name not in COMMON and name not in parameters:
                raise not_emulated(f"the parameter {name} of {self.operation}")


def as_json(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw or b"{}")
    except ValueError as error:
        raise invalid(f"Parse Error: {error}") from error
    if not isinstance(value, dict):
        raise invalid("Parse Error: want a JSON object")
    return value
