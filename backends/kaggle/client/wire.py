"""Calls to Kaggle: the one module that knows `kagglesdk`, its private parts and what comes out of it.

Promises:

- Nothing is imported, signed in or printed before the first call; `kagglesdk` alone takes 0.85 s to import.
- The credential is the one given here. The client's own search, which puts a token of the environment before a key
  that was given, is not used.
- Every call ends within `Limits`. A call that only reads is asked again after a cut connection, a time-out, 429, 5xx or
  an answer that is no JSON; one with effects is sent exactly once, on a fresh connection.
- What comes back is a value or a SamerunError of `refusals`; no error text holds a secret.

Threads: each gets a client and a session of its own, so one `Wire` may be used by all.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib
import io
import json
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from backends.kaggle.client.credentials import SETTINGS_PAGE, Credential, Kind, sendable
from backends.kaggle.client.refusals import NotThereError, UnansweredError, UnreadableError, clean, known, refusal
from launcher.errors import CredentialError, SamerunError, SpecError

if TYPE_CHECKING:
    import requests

PRODUCTION = "https://api.kaggle.com"
USER_AGENT = "samerun"
T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Seconds. The numbers are assumptions, but for `log_silence`: Kaggle's balancer cuts a silent stream after about
    180 s (kaggle-cli PR 999), and our worker speaks every 60 s at least.

    `connect` to connect, `silence` between two pieces of an answer, `answer` for a whole answer in memory, `total`
    for a call with all its retries, `retry_after` the longest wait that the service can ask for.
    """

    connect: float = 10.0
    silence: float = 30.0
    answer: float = 90.0
    total: float = 150.0
    retry_after: float = 60.0
    log_silence: float = 150.0
    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Rpc:
    """`method`: attributes of the client. `request`: its class. `thing`: the request names a kernel or a dataset."""

    method: str
    request: str
    effects: bool = False
    thing: bool = True


_K, _D = "kernels.kernels_api_client.", "datasets.dataset_api_client."
_KT, _DT = "kernels.types.kernels_api_service.Api", "datasets.types.dataset_api_service.Api"
SAVE_KERNEL = Rpc(_K + "save_kernel", _KT + "SaveKernelRequest", effects=True, thing=False)
GET_KERNEL = Rpc(_K + "get_kernel", _KT + "GetKernelRequest")
KERNEL_STATUS = Rpc(_K + "get_kernel_session_status", _KT + "GetKernelSessionStatusRequest")
LIST_OUTPUT = Rpc(_K + "list_kernel_session_output", _KT + "ListKernelSessionOutputRequest")
LIST_KERNEL_FILES = Rpc(_K + "list_kernel_files", _KT + "ListKernelFilesRequest")
LIST_KERNELS = Rpc(_K + "list_kernels", _KT + "ListKernelsRequest", thing=False)
DELETE_KERNEL = Rpc(_K + "delete_kernel", _KT + "DeleteKernelRequest", effects=True)
QUOTA = Rpc(_K + "get_accelerator_quota_statistics", _KT + "GetAcceleratorQuotaStatisticsRequest", thing=False)
DATASET_STATUS = Rpc(_D + "get_dataset_status", _DT + "GetDatasetStatusRequest")
GET_DATASET = Rpc(_D + "get_dataset", _DT + "GetDatasetRequest")
LIST_DATASET_FILES = Rpc(_D + "list_dataset_files", _DT + "ListDatasetFilesRequest")
LIST_DATASETS = Rpc(_D + "list_datasets", _DT + "ListDatasetsRequest", thing=False)
CREATE_DATASET = Rpc(_D + "create_dataset", _DT + "CreateDatasetRequest", effects=True, thing=False)
CREATE_VERSION = Rpc(_D + "create_dataset_version", _DT + "CreateDatasetVersionRequest", effects=True)
DELETE_DATASET = Rpc(_D + "delete_dataset", _DT + "DeleteDatasetRequest", effects=True)
START_UPLOAD = Rpc(
    "blobs.blob_api_client.start_blob_upload",
    "blobs.types.blob_api_service.ApiStartBlobUploadRequest",
    effects=True,
    thing=False,
)
INTROSPECT = Rpc(
    "security.oauth_client.introspect_token", "security.types.oauth_service.IntrospectTokenRequest", thing=False
)
NEW_ACCESS_TOKEN = Rpc(
    "users.account_client.generate_access_token",
    "users.types.account_service.GenerateAccessTokenRequest",
    effects=True,
    thing=False,
)


@dataclass(frozen=True)
class LogStream:
    """A kernel's log. `live`: server-sent events of a kernel that runs; else the whole log, a JSON array."""

    live: bool
    pieces: Iterator[bytes]
    close: Callable[[], None]


class Wire:
    """See the module. `credential` None sends none; `renew` is asked for another when an OAuth token is at its end."""

    def __init__(
        self,
        credential: Credential | None,
        *,
        endpoint: str | None = None,
        limits: Limits | None = None,
        user_agent: str = USER_AGENT,
        renew: Callable[[Credential], Credential | None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.limits = limits or Limits()
        self._credential = credential
        self._endpoint = (endpoint or PRODUCTION).rstrip("/")
        self._user_agent = user_agent
        self._renew = renew
        self._sleep = sleep
        self._own = threading.local()
        self._lock = threading.Lock()
        self._clients: weakref.WeakSet[Any] = weakref.WeakSet()  # a thread's goes with it, and its connections too

    def __repr__(self) -> str:
        return f"Wire({self._endpoint})"

    def call(self, rpc: Rpc, fields: Mapping[str, Any], read: Callable[[Any], T], *, doing: str) -> T:
        """Ask, and hand `read` the SDK's answer. `fields` have the names of the JSON; None is left out.

        Raises CredentialError, NotThereError, RefusedError, UnreadableError, UnansweredError, and what the table of
        known sentences says. `doing` begins each message.
        """
        until = time.monotonic() + self.limits.total
        for pause in (*self.limits.pauses, None):
            try:
                return self._once(rpc, fields, read, doing)
            except UnansweredError as error:
                left = until - time.monotonic()
                if rpc.effects or pause is None or left <= 0:
                    raise
                asked = min(error.retry_after or 0.0, self.limits.retry_after)
                # Spread over half the pause, so that several launchers do not come back together.
                self._sleep(min(max(asked, pause * random.uniform(0.5, 1.0)), left))
        raise AssertionError("the last pause is None")

    def open_log(self, owner: str, slug: str, version: int | None = None) -> LogStream:
        """The log as a stream. Tried once: the reader knows how often to come back. Raises as `call` does."""
        from backends.kaggle.client import http

        doing = f"reading the log of {owner}/{slug}"
        session = self._session(doing)
        headers: dict[str, Any] = {
            "Accept": "text/event-stream, */*",
            "Accept-Encoding": "identity",
            "Content-Type": None,
        }
        url = f"{self._endpoint}/v1/kernels/logs/stream/{owner}/{slug}"
        label = {"versionLabel": f"v{version}"} if version else None
        limits = (self.limits.connect, self.limits.log_silence)
        with self._mapped(True, doing):
            response = session.get(url, params=label, headers=headers, stream=True, timeout=limits)
            if response.status_code >= 400:
                with contextlib.closing(response):
                    raise self._said_no(response, True, doing)
            kind = response.headers.get("Content-Type", "").lower()
            if "html" in kind:
                response.close()
                raise UnansweredError(f"{doing}: the answer is an HTML page")

        def pieces() -> Iterator[bytes]:
            with contextlib.closing(response), self._mapped(True, doing):
                yield from http.pieces(response)

        def close() -> None:
            http.interrupt(response)

        return LogStream(kind.startswith("text/event-stream"), pieces(), close)

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            clients = list(self._clients)
            self._clients.clear()
        for client in clients:
            client._http_client._session.close()

    # Below the calls.

    def _once(self, rpc: Rpc, fields: Mapping[str, Any], read: Callable[[Any], T], doing: str) -> T:
        client = self._client(doing)
        request = _request(rpc, fields)
        if rpc.effects:
            # A kept connection that the server has closed meanwhile fails in a way that does not tell whether the
            # request got in. A new one does.
            client._http_client._session.close()
        method = functools.reduce(getattr, rpc.method.split("."), client)
        with self._mapped(rpc.thing, doing):
            return read(method(request))

    @contextlib.contextmanager
    def _mapped(self, thing: bool, doing: str) -> Iterator[None]:
        """Turn all that the SDK and `requests` raise into ours."""
        import requests

        from backends.kaggle.client import http

        try:
            yield
        except SamerunError:
            raise
        except requests.exceptions.HTTPError as error:
            raise self._said_no(error.response, thing, doing) from None
        except json.JSONDecodeError:
            raise UnansweredError(f"{doing}: the answer is no JSON (an HTML page?)") from None
        except requests.exceptions.RequestException as error:
            raise http.unanswered(error, doing) from None
        except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
            # What the SDK's parsers raise for a value they do not know.
            seen = clean(f"{type(error).__name__}: {error}", self._secrets())
            raise UnreadableError(f"{doing}: an answer that the client cannot read: {seen}") from None

    def _said_no(self, response: requests.Response | None, thing: bool, doing: str) -> SamerunError:
        from backends.kaggle.client import http

        if response is None:
            return UnansweredError(f"{doing}: the answer is an error without an answer")
        status, text = _words(response)
        text = clean(text, self._secrets())
        if passing := http.passing(status, response, doing):
            return passing
        if status == 401:
            credential = self._credential
            which = f"the {credential.kind} in {credential.where}" if credential else "a call without credentials"
            return CredentialError(f"{doing}: Kaggle does not accept {which}", remedy=self._remedy())
        sentence = known(text)
        if thing and (status == 404 or (status == 403 and (sentence is None or sentence.error is SpecError))):
            # "Notebook not found" is a refusal of a push, and here what the status says already.
            words = "it is not there" if status == 404 else "it is not there, or is not yours"
            return NotThereError(f"{doing}: {words} (HTTP {status}: {text})", certain=status == 404)
        if sentence is not None:
            return refusal(text, doing)
        if status == 403:
            return CredentialError(f"{doing}: Kaggle does not allow it: {text}", remedy=self._remedy())
        return refusal(f"HTTP {status}: {text}", doing)

    def _remedy(self) -> str:
        where = f", or mend {self._credential.where}" if self._credential else ""
        return f"make a new token at {SETTINGS_PAGE}{where}; `launch doctor --backend kaggle` says which is used"

    def _secrets(self) -> tuple[str, ...]:
        credential = self._credential
        if credential is None:
            return ()
        plain = [each.reveal() for each in (credential.secret, credential.refresh) if each]
        basic = base64.b64encode(f"{credential.user}:{plain[0]}".encode()).decode()
        return tuple(each for each in (*plain, basic) if each)

    def _client(self, doing: str) -> Any:
        """This thread's client, signed in with what is valid now."""
        self._keep_fresh(doing)
        client = getattr(self._own, "client", None)
        if client is None:
            client = self._own.client = _new_client(self._endpoint, self._user_agent, self.limits)
            with self._lock:
                self._clients.add(client)
        credential = self._credential
        if credential and not all(map(sendable, (credential.secret.reveal(), credential.user or "x"))):
            raise CredentialError(f"{doing}: the credential cannot be sent", remedy=self._remedy())
        client._http_client._session.auth = _auth(credential)
        return client

    def _session(self, doing: str) -> requests.Session:
        session: requests.Session = self._client(doing)._http_client._session
        return session

    def _keep_fresh(self, doing: str) -> None:
        with self._lock:
            credential = self._credential
            if credential is None or self._renew is None or not credential.stale(datetime.now(UTC)):
                return
            self._credential = self._renew(credential)
            if self._credential is None:
                self._credential = credential
                raise CredentialError(
                    f"{doing}: the {credential.kind} in {credential.where} has ended", remedy="`kaggle auth login`"
                )


def _new_client(endpoint: str, user_agent: str, limits: Limits) -> Any:
    """The SDK's client for an endpoint of ours, not signed in.

    Private parts used, with a contract test each: `_http_client`, `_endpoint`, `_signed_in`, `_init_session`,
    `_session`.
    """
    from backends.kaggle.client import http

    sdk = _sdk("kaggle_client")
    client = sdk.KaggleClient(env=sdk.KaggleEnv.PROD, user_agent=user_agent, response_processor=_only_objects)
    inner = client._http_client
    inner._endpoint = endpoint
    inner._signed_in = False  # so that `_init_session` does not look for credentials
    inner._init_session()
    http.mount(inner._session, http.Adapter(limits.connect, limits.silence, limits.answer))
    return client


def _only_objects(response: requests.Response) -> None:
    """The SDK reads any JSON that is no object as an answer in which all has its default: as a state, QUEUED."""
    value = response.json()
    if not isinstance(value, dict):
        raise TypeError(f"a JSON {type(value).__name__}")


_importing = threading.Lock()


@functools.cache
def _sdk(module: str) -> Any:
    """A module of the SDK, imported with its prints kept off our stdout."""
    with _importing, contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module(f"kagglesdk.{module}")


def _request(rpc: Rpc, fields: Mapping[str, Any]) -> Any:
    """The SDK's request object. Its own `from_dict` passes over names it does not know; here they are a defect."""
    module, _, name = rpc.request.rpartition(".")
    kind = getattr(_sdk(module), name)
    given = {key: value for key, value in fields.items() if value is not None}
    if unknown := given.keys() - {field.json_name for field in kind._fields}:
        raise AssertionError(f"{name} has no {', '.join(sorted(unknown))}")
    return kind.from_dict(given)


def _auth(credential: Credential | None) -> Any:
    """What `requests` puts into the header: Basic for a key, Bearer for a token."""
    if credential is None:
        return None
    if credential.kind is Kind.KEY:
        return (credential.user or "", credential.secret.reveal())
    return _sdk("kaggle_http_client").KaggleHttpClient.BearerAuth(credential.secret.reveal())


def _words(response: requests.Response) -> tuple[int, str]:
    """Status and words of an error, from the body where it has them."""
    status, text = response.status_code, ""
    try:
        body = response.json()
    except ValueError:
        text = response.text
    else:
        inner = body.get("error") if isinstance(body, dict) else None
        for place in (body, inner):
            if isinstance(place, dict):
                text = str(place.get("message") or text)
                code = place.get("code")
                status = code if status < 400 and isinstance(code, int) else status
        text = text or (inner if isinstance(inner, str) else "")
    return status, text or response.reason or "no reason given"
