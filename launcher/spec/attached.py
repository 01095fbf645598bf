"""Data that never was on this machine: the kinds that a spec may name, and how each is written.

Promises: a name that the service cannot have is told here, with what to write instead; the table KINDS is the one place
that knows kinds. Which backend can attach a kind is the backend's to say (`Backend.attaches`).

`data: kaggle-dataset:owner/slug` is short for `data: {kaggle-dataset: owner/slug}`; beside it may stand `prepare`, a
script that makes a dataset of what is attached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.spec.wording import did_you_mean

_SLUG = "[a-z0-9][a-z0-9-]*"  # of a dataset: lower-case letters, digits, hyphens
_MIXED = "[A-Za-z0-9][A-Za-z0-9-]*"  # organisations and older competitions: Cornell-University, Kannada-MNIST
PREPARE = "prepare"
REEF = "reef"


@dataclass(frozen=True)
class Kind:
    """A kind of data. `pattern` fits its names, `write` shows one; `place` is where it lies, for a human.

    `needs_script`: why it cannot be trained on as it is; empty where it may be.
    """

    place: str
    pattern: str
    write: str
    needs_script: str = ""


KINDS: Mapping[str, Kind] = {
    "kaggle-dataset": Kind("Kaggle", rf"{_MIXED}/{_SLUG}(/[1-9][0-9]*)?", "owner/slug, or owner/slug/3 for version 3"),
    "kaggle-competition": Kind("Kaggle", _MIXED, "its slug, as in the address", "a competition holds no data.yaml"),
}
SOURCES = frozenset({REEF, *KINDS})
"""What names a dataset in the mapping form of `data`."""
KNOWN = (REEF, *KINDS, PREPARE)


@dataclass(frozen=True)
class AttachedData:
    """A dataset that lies where the machine is; `prepare` is the absolute path of the script."""

    kind: str
    name: str
    prepare: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def place(self) -> str:
        """Where it lies, for a human."""
        return KINDS[self.kind].place


@dataclass(frozen=True)
class Wrong:
    """What is wrong with one field of `data`; `key`: with its name rather than its value."""

    message: str
    remedy: str
    key: bool = False


def split(text: str) -> tuple[str, str] | None:
    """Kind and name of the short form, or None for any other text."""
    kind, colon, name = text.partition(":")
    return (kind, name) if colon and kind in KINDS else None


def wrong(fields: Mapping[str, Any]) -> dict[str, Wrong]:
    """What is wrong with the mapping form, by field; "" is the mapping itself."""
    known = f"known: {', '.join(KNOWN)}"
    found = {
        name: Wrong(f"there is no field {name!r}", did_you_mean(str(name), KNOWN) or known, key=True)
        for name in fields
        if name not in KNOWN
    }
    kinds = [name for name in fields if name in SOURCES]
    for second in kinds[1:]:
        found[second] = Wrong(f"is a second dataset beside {kinds[0]}", "name one", key=True)
    if not kinds and not found:
        found[PREPARE if PREPARE in fields else ""] = Wrong(
            "names no dataset", f"add one of {', '.join((REEF, *KINDS))}"
        )
    for kind in kinds:
        if kind in KINDS and kind not in found:
            found |= _wrong(kind, fields)
        elif PREPARE in fields and kind == kinds[0]:
            found[PREPARE] = Wrong(f"has nothing to make of {kind}", "take it out", key=True)
    script = fields.get(PREPARE)
    if script is not None and (not isinstance(script, str) or not script):
        found[PREPARE] = Wrong("must be the path of a script", "as in prepare: prepare.py")
    return found


def _wrong(kind: str, fields: Mapping[str, Any]) -> dict[str, Wrong]:
    """What is wrong with what is named."""
    about, name = KINDS[kind], fields[kind]
    if not isinstance(name, str) or not re.fullmatch(about.pattern, name):
        lower = isinstance(name, str) and re.fullmatch(about.pattern, name.lower())
        remedy = f"did you mean {name.lower()!r}?" if lower else f"write {about.write}"
        return {kind: Wrong("is no name that it can have", remedy)}
    if about.needs_script and PREPARE not in fields:
        remedy = "add `prepare: prepare.py`, a script that makes a dataset of it (README, 'Data that is elsewhere')"
        return {kind: Wrong(f"{about.needs_script}, so it cannot be trained on as it is", remedy)}
    return {}


def parse(value: Any) -> AttachedData:
    """From the mapping form. Raises ValueError."""
    if isinstance(value, AttachedData):
        return value
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of fields")  # pydantic catches only this one
    if faults := wrong(value):
        raise ValueError("; ".join(f"{name}: {fault.message}" for name, fault in faults.items()))
    kind = next(name for name in value if name in KINDS)
    return AttachedData(kind, value[kind], value.get(PREPARE))


def json_schema() -> dict[str, Any]:
    """The mapping form as an editor may check it. What must stand together, `strict_schema` says."""
    properties: dict[str, Any] = {
        kind: {"type": "string", "pattern": f"^{about.pattern}$", "description": f"on {about.place}: {about.write}"}
        for kind, about in KINDS.items()
    }
    script = "a script, relative to this file, that makes a dataset of it there: python prepare.py SOURCE TARGET"
    properties[PREPARE] = {"type": ["string", "null"], "minLength": 1, "description": script}
    return {"type": "object", "additionalProperties": False, "properties": properties, "minProperties": 1}


def text_schema() -> dict[str, Any]:
    """The text form, and that of a path: a text that names a kind must name it well."""
    named = "|".join(KINDS)
    kinds = [f"{kind}:{about.pattern}" for kind, about in KINDS.items()]
    return {"type": "string", "minLength": 1, "pattern": f"^(?!({named}):)|^({'|'.join(kinds)})$"}


def strict_schema() -> dict[str, Any]:
    """What holds for `data` in a file that extends no other, beside `json_schema` and `text_schema`."""
    scripted = [kind for kind, about in KINDS.items() if about.needs_script]
    return {
        "not": {"type": "string", "pattern": f"^({'|'.join(scripted)}):"},
        "if": {"type": "object"},
        "then": {"oneOf": [{"required": [name]} for name in KNOWN if name != PREPARE]},
        "dependentSchemas": {
            kind: {"required": [PREPARE], "properties": {PREPARE: {"type": "string"}}} for kind in scripted
        },
    }
