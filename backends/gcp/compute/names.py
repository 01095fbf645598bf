"""What our machines are called: a name that follows from the attempt's id, and labels that find them all."""

from __future__ import annotations

import hashlib
import re
import uuid

LABEL = "samerun"
"""Label of everything of ours; its value says what it is."""
MACHINE = "machine"
MINE = f"labels.{LABEL}={MACHINE}"
"""Filter of lists: every machine and disk of ours, of whatever run."""
ATTEMPT = "samerun-attempt"
"""Metadata item with the attempt's id as it is, and label with what of it a label may hold."""
ABOUT = "samerun-about"
"""Metadata item: what the handle needs of a machine, as JSON."""
NAME_LIMIT = 63  # RFC 1035, and Compute Engine's limit for names and for the values of labels
_DIGEST = 10
_SPACE = uuid.UUID("6a0c2f3e-6f1b-4d0a-9a57-0d6f3a0e1c55")  # ours; drawn once


def name_of(attempt: str) -> str:
    """The machine's and its disk's name: at most 63 of a-z, 0-9 and `-`; different for different ids."""
    digest = hashlib.sha256(attempt.encode()).hexdigest()[:_DIGEST]
    slug = _plain(attempt)[: NAME_LIMIT - len("sr--") - _DIGEST].strip("-")
    return f"sr-{slug}-{digest}" if slug else f"sr-{digest}"


def labels_of(attempt: str, run: str, expires: float) -> dict[str, str]:
    """Labels of the machine and its disk. `expires`: Unix time by which the service deletes it."""
    words = {ATTEMPT: _plain(attempt)[:NAME_LIMIT].strip("-"), "samerun-run": _plain(run)[:NAME_LIMIT].strip("-")}
    return {LABEL: MACHINE, **words, "samerun-expires": str(int(expires))}


def request_id(attempt: str, zone: str, what: str, turn: int) -> str:
    """The request id of a call: the same for the same call, so that a second one is known to be the first.

    `turn` counts the machines that the attempt has had in this zone: a deleted one is not made again by an old request.
    """
    return str(uuid.uuid5(_SPACE, f"{attempt}/{zone}/{what}/{turn}"))


def region_of(zone: str) -> str:
    """`us-central1` of `us-central1-a`."""
    return zone.rpartition("-")[0]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
