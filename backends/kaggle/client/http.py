"""The HTTP under Kaggle's client and under our own transfers: `requests` with time limits on everything.

Imported on first use only: `requests` alone takes 0.28 s (measured, facts of 2026-11). What this adds:

- a time limit to connect, one for each silence, and one for a whole answer that is read into memory;
- a size limit for such an answer;
- no proxy to loopback addresses; elsewhere the usual variables (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE) hold;
- no retry: who may ask again is decided above, where it is known what the question was.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from backends.kaggle.client.refusals import UnansweredError

CHUNK = 1 << 16
ANSWER_LIMIT = 64 << 20  # bytes; the largest known answer holds a whole log, which our worker keeps to some MB


class Adapter(HTTPAdapter):
    """Mounted on a session for both schemes. Times in seconds."""

    def __init__(self, connect: float, silence: float, answer: float) -> None:
        self._limits = (connect, silence)
        self._answer = answer
        super().__init__(max_retries=0)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """See `HTTPAdapter.send`. Reads the body here when the caller does not stream it, to bound it."""
        direct = is_loopback(request.url or "")
        response = super().send(request, True, timeout or self._limits, verify, cert, {} if direct else proxies)
        until = time.monotonic() + self._answer  # from now on: a large upload may have gone before
        if not stream:
            response._content = _whole(response, until)  # what `requests` itself fills on first use of `.content`
            response._content_consumed = True
        return response


def _whole(response: requests.Response, until: float) -> bytes:
    found = bytearray()
    try:
        for piece in pieces(response):
            found += piece
            if len(found) > ANSWER_LIMIT:
                raise requests.exceptions.ContentDecodingError(f"an answer of more than {ANSWER_LIMIT >> 20} MB")
            if time.monotonic() > until:
                raise requests.exceptions.ReadTimeout("the answer did not end in time")
    except BaseException:
        response.close()
        raise
    response.raw.release_conn()
    return bytes(found)


def pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes in, without waiting for a piece to be full: for live streams and slow lines.

    Raises what `requests` raises from `iter_content`.
    """
    raw = response.raw
    try:
        # Chunked bodies come by `stream`, which hands out each chunk; others by `read1`, which hands out what is there.
        if getattr(raw, "chunked", False):
            yield from raw.stream(CHUNK, decode_content=True)
        else:
            while piece := raw.read1(CHUNK, decode_content=True):
                yield piece
    except urllib3.exceptions.DecodeError as error:
        raise requests.exceptions.ContentDecodingError(error) from error
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.exceptions.ReadTimeout(error) from error
    except (urllib3.exceptions.HTTPError, OSError, AttributeError, ValueError) as error:
        # The last two: another thread has closed the response while this one read.
        raise requests.exceptions.ChunkedEncodingError(error) from error


def interrupt(response: requests.Response) -> None:
    """End a read that another thread waits in. Closing alone does not wake it."""
    with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
        response.raw.shutdown()


def mount(session: requests.Session, adapter: Adapter) -> None:
    """Put the adapter under every address."""
    session.mount("https://", adapter)
    session.mount("http://", adapter)


def transfers(connect: float, silence: float) -> requests.Session:
    """A session for signed addresses: sends no credentials, not even those of a .netrc. One per thread."""
    session = requests.Session()
    session.auth = lambda request: request
    session.headers["Accept-Encoding"] = "identity"  # lengths are compared, and ranges asked for
    mount(session, Adapter(connect, silence, answer=2 * silence))
    return session


def is_loopback(url: str) -> bool:
    """Whether the address is on this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def unanswered(error: requests.exceptions.RequestException, doing: str) -> UnansweredError:
    """Ours for a transport error. Never its text: it holds the whole address, and a signed one is a secret."""
    cases = {
        requests.exceptions.ProxyError: "the proxy did not let it through (HTTPS_PROXY, HTTP_PROXY)",
        requests.exceptions.SSLError: "the certificate is not trusted (REQUESTS_CA_BUNDLE, clock)",
        requests.exceptions.ConnectTimeout: "no connection within the time limit",
        requests.exceptions.Timeout: "no answer within the time limit",
        requests.exceptions.ContentDecodingError: "an answer that cannot be read",
        requests.exceptions.ChunkedEncodingError: "the connection was cut in the middle of the answer",
        requests.exceptions.TooManyRedirects: "redirected in a circle",
        requests.exceptions.ConnectionError: "no connection" if _before_sending(error) else "the connection was cut",
    }
    words = next((words for kind, words in cases.items() if isinstance(error, kind)), type(error).__name__)
    return UnansweredError(f"{doing}: {words}", maybe_done=not _before_sending(error))


def _before_sending(error: BaseException) -> bool:
    """Whether the connection failed before the request could go out."""
    if isinstance(error, requests.exceptions.SSLError):
        return "CERTIFICATE_VERIFY" in str(error)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    reason = error.args[0] if error.args else None
    reason = getattr(reason, "reason", reason)
    # NewConnectionError: refused, no route, unknown name. ProxyError wraps the same.
    early = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ProxyError)
    return isinstance(reason, early)


def passing(status: int, response: requests.Response, doing: str) -> UnansweredError | None:
    """The error for a status that may pass: 408, 425, 429 and 5xx; None for all others."""
    if status in (408, 425, 429) or status >= 500:
        words = "too many requests" if status == 429 else f"HTTP {status}"
        asked = _retry_after(response)
        # 429 is turned away at the door; a 5xx can come from behind it, after the work was done.
        return UnansweredError(f"{doing}: the answer is {words}", maybe_done=status != 429, retry_after=asked)
    return None


def _retry_after(response: requests.Response) -> float | None:
    """Seconds of the Retry-After header, which is a number or a date; None where it is missing or neither."""
    text = response.headers.get("Retry-After")
    if not text:
        return None
    try:
        return max(0.0, float(urllib3.Retry().parse_retry_after(text)))
    except urllib3.exceptions.InvalidHeader:
        return None
