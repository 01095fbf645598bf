"""What one request asks, and lists cut into pages."""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.emulators.compute.service.filters import matcher
from tests.emulators.compute.settings import ApiError, invalid


@dataclass(frozen=True)
class Call:
    """One request, its path and query already in the request message of Google's client; `body`: the resource sent."""

    method: str
    request: Any
    body: Any

    @property
    def zone(self) -> str:
        return str(getattr(self.request, "zone", ""))

    @property
    def request_id(self) -> str:
        """The request id, or ''. Raises ApiError for one that is no UUID, or the zero one, as documented."""
        text = str(getattr(self.request, "request_id", ""))
        if not text:
            return ""
        try:
            good = uuid.UUID(text).int != 0
        except ValueError:
            good = False
        if not good:
            raise invalid("requestId", text, "Must be a valid UUID that is not zero.")
        return text


def plain(message: Any) -> dict[str, Any]:
    """A message as its JSON, which is what filters look at."""
    value: dict[str, Any] = json.loads(type(message).to_json(message, always_print_fields_with_no_presence=False))
    return value


def page(call: Call, items: Sequence[tuple[str, Any]], limit: int) -> tuple[list[tuple[str, Any]], str]:
    """One page of (key, message), filtered and in order; and the token of the next, '' for none.

    A token names the last key shown, so that what comes or goes between two pages shifts nothing.
    """
    asked = call.request
    fits = matcher(asked.filter)
    found = sorted(((key, item) for key, item in items if fits(plain(item))), key=lambda pair: pair[0])
    if asked.order_by == "creationTimestamp desc":
        found.sort(key=lambda pair: str(pair[1].creation_timestamp), reverse=True)
    elif asked.order_by not in ("", "name"):
        raise invalid("orderBy", asked.order_by, "Only name and creationTimestamp desc are supported.")
    if asked.max_results > limit:
        raise invalid("maxResults", asked.max_results, f"Must be less than or equal to {limit}.")
    if asked.page_token:
        last = _key(asked.page_token)
        keys = [key for key, _ in found]
        start = (
            keys.index(last) + 1 if last in keys else next((n for n, key in enumerate(keys) if key > last), len(keys))
        )
        found = found[start:]
    size = asked.max_results or limit
    more = found[size:]
    return found[:size], base64.urlsafe_b64encode(found[size - 1][0].encode()).decode() if more else ""


def _key(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ApiError(400, "invalid", f"Invalid value for field 'pageToken': '{token}'.") from error
