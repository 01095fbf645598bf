"""probe.json of a run folder, read with the care due to what another machine has written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launcher.errors import IntegrityError
from launcher.sync.manifest import PROBE

MAX_BYTES = 4 << 20
"""A probe.json has about 50 kB."""


def read(folder: Path) -> dict[str, Any] | None:
    """The record of the probe; None when the run has none. Raises IntegrityError for one that cannot be read.

    What is in it may still be of any type: `compare` calls records that it cannot make sense of not comparable.
    """
    file = folder / PROBE
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        value = json.loads(data, parse_constant=_refuse)
        if not isinstance(value, dict):
            raise TypeError("it holds no JSON object")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{file} cannot be read: {error}", remedy="`launch fetch` brings it again") from error
    return value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
