"""One version of an object, and its resource as the JSON API shows it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from tests.emulators.storage.service.contents import Content
from tests.emulators.storage.settings import invalid, not_emulated

SETTABLE = ("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType", "customTime")
NOT_EMULATED = ("acl", "eventBasedHold", "temporaryHold", "retention", "kmsKeyName", "contexts")
_SHOWN = ("kind", "id", "selfLink", "mediaLink", "bucket", "generation", "metageneration", "size", "etag", "owner")
IGNORED = (*_SHOWN, "timeCreated", "updated", "timeStorageClassUpdated", "timeFinalized", "componentCount")


@dataclass(frozen=True)
class Version:
    """An object at one generation and metageneration; patching makes another value of the same generation."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    content: Content
    created: float
    """Seconds since 1970; likewise `updated`."""
    updated: float
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What the client set: `SETTABLE`, storageClass, metadata."""
    components: int | None = None

    @property
    def etag(self) -> str:
        return base64.b64encode(f"{self.generation:x}/{self.metageneration:x}".encode()).decode()

    @property
    def storage_class(self) -> str:
        return str(self.fields.get("storageClass", "STANDARD"))

    def resource(self, endpoint: str) -> dict[str, Any]:
        """storage#object. Numbers of 64 bits are text, as in all of Google's JSON."""
        place = f"b/{quote(self.bucket, safe='')}/o/{quote(self.name, safe='')}"
        shown: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{endpoint}/storage/v1/{place}",
            "mediaLink": f"{endpoint}/download/storage/v1/{place}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "storageClass": self.storage_class,
            "size": str(self.content.size),
            "crc32c": self.content.crc32c,
            "etag": self.etag,
            "timeCreated": stamp(self.created),
            "updated": stamp(self.updated),
            "timeStorageClassUpdated": stamp(self.created),
            "timeFinalized": stamp(self.created),
        }
        if self.content.md5 is not None:
            shown["md5Hash"] = self.content.md5
        if self.components is not None:
            shown["componentCount"] = self.components
        return {**shown, **self.fields}


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def settable(body: Mapping[str, Any], *, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The fields a client may set, of an object resource it sent, laid over `base`; null takes one away.

    Raises ApiError 400 for values of the wrong kind and for fields that the API does not have, 501 for what is not
    emulated. What only the service sets is passed over, as GCS does: the client sends whole resources back.
    """
    fields = dict(base or {})
    for name, value in body.items():
        if name in NOT_EMULATED and value:
            raise not_emulated(f"the object field {name}")
        if name == "metadata":
            fields["metadata"] = _metadata(value, fields.get("metadata", {}))
        elif name in (*SETTABLE, "storageClass"):
            if value is not None and not isinstance(value, str):
                raise invalid(f"Invalid value for {name}: want a string")
            fields[name] = value
        elif name not in (*IGNORED, *NOT_EMULATED, "name", "crc32c", "md5Hash"):
            raise invalid(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
    return {name: value for name, value in fields.items() if value not in (None, {})}


def claimed_hashes(body: Mapping[str, Any]) -> dict[str, str]:
    """crc32c and md5 that the client says the object has, by the names that x-goog-hash uses."""
    names = {"crc32c": "crc32c", "md5Hash": "md5"}
    return {ours: str(body[theirs]) for theirs, ours in names.items() if body.get(theirs)}


def _metadata(value: Any, base: Mapping[str, str]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or any(text is not None and not isinstance(text, str) for text in value.values()):
        raise invalid("Invalid value for metadata: want an object of strings")
    return {name: text for name, text in {**base, **value}.items() if text is not None}
