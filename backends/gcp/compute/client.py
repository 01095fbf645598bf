"""The Compute Engine API, each call bounded and repeated where that is safe. Google's client is imported here alone.

Operations are waited for with `zoneOperations.wait`: the `result()` of the operations that the client hands out asks
Google's own address, whatever endpoint was set (facts of 22 Nov 2026, B1).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar

from backends.gcp.compute import names, refusals, seen
from backends.gcp.compute.limits import Limits
from backends.gcp.compute.refusals import PASSING, RefusedError
from backends.gcp.compute.seen import Disk, Happened, Seen
from launcher.errors import CredentialError, RemoteError

T = TypeVar("T")
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
LOGIN = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
_MISSING = 404
_TIMED_OUT = 408
_CONFLICT = 409
_TOO_MANY = 429
_UNREACHABLE = "UNREACHABLE"


class AlreadyThereError(Exception):
    """A machine of this name is in the zone already."""


class Compute:
    """One project. Safe for several threads. Constructing has no side effect; the first call looks for credentials."""

    def __init__(self, project: str, endpoint: str | None, limits: Limits) -> None:
        self.project, self.endpoint, self.limits = project, endpoint, limits

    # Machines.

    def insert(self, zone: str, instance: Any, request: str) -> str:
        """Ask for a machine; returns the operation's name. Raises RefusedError, AlreadyThereError, RemoteError.

        With the same request id it may be asked again and again: the service knows the first by it.
        """
        from google.cloud import compute_v1

        asked = compute_v1.InsertInstanceRequest(
            project=self.project, zone=zone, instance_resource=instance, request_id=request
        )
        try:
            return str(self._ask(f"making a machine in {zone}", self._instances.insert_unary, asked).name)
        except _AnsweredError as answered:
            if answered.status == _CONFLICT:
                raise AlreadyThereError(zone) from answered
            raise RefusedError(zone, *answered.reason) from answered

    def wait(self, zone: str, operation: str) -> bool:
        """Wait for the operation's end; False when it does not end in time. Raises RefusedError, RemoteError."""
        from google.cloud import compute_v1

        until = time.monotonic() + self.limits.operation
        asked = compute_v1.WaitZoneOperationRequest(project=self.project, zone=zone, operation=operation)
        while time.monotonic() < until:
            begun = time.monotonic()
            try:
                found = self._ask(f"waiting for {zone}", self._operations.wait, asked, within=until - begun)
            except _AnsweredError as answered:
                raise RemoteError(f"the operation {operation} in {zone} is not known: {answered}") from answered
            except _SilentError:
                continue
            if found.status == "DONE" or str(getattr(found.status, "name", "")) == "DONE":
                if (error := refusals.of_operation(found)) is not None:
                    raise RefusedError(zone, *error)
                return True
            time.sleep(max(0.0, min(self.limits.poll, 1.0) - (time.monotonic() - begun)))
        return False

    def get(self, zone: str, name: str) -> Seen | None:
        """The machine, or None where there is none. Raises RemoteError, CredentialError."""
        found = self._found(f"looking for {name} in {zone}", self._instances.get, zone=zone, instance=name)
        return seen.machine(found) if found is not None else None

    def delete(self, zone: str, name: str) -> None:
        """Ask for its deletion; nothing where it is not there. Raises RemoteError: nothing is known then."""
        self._found(f"deleting {name} in {zone}", self._instances.delete_unary, zone=zone, instance=name)

    def disk(self, zone: str, name: str) -> Disk | None:
        """The disk, or None where there is none."""
        found = self._found(f"looking for the disk {name}", self._disks.get, zone=zone, disk=name)
        return seen.disk(found) if found is not None else None

    def delete_disk(self, zone: str, name: str) -> None:
        """Ask for its deletion."""
        self._found(f"deleting the disk {name}", self._disks.delete_unary, zone=zone, disk=name)

    def machines(self, name: str = "") -> list[Seen]:
        """Every machine of ours in all zones, or those of one name. One question. Raises RemoteError."""
        only = f"name={name}" if name else names.MINE
        return [seen.machine(each) for each in self._all("machines", self._instances, "instances", only)]

    def disks(self) -> list[Disk]:
        """Every disk of ours in all zones."""
        return [seen.disk(each) for each in self._all("disks", self._disks, "disks", names.MINE)]

    def happened(self, zone: str, name: str) -> list[Happened]:
        """Operations on the machine of this name, the newest first, as long as the service remembers them."""
        from google.cloud import compute_v1

        link = f"https://www.googleapis.com/compute/v1/projects/{self.project}/zones/{zone}/instances/{name}"
        asked = compute_v1.ListZoneOperationsRequest(
            project=self.project, zone=zone, filter=f'targetLink="{link}"', max_results=100
        )
        ask = functools.partial(self._operations.list, asked)
        try:
            found = self._ask("reading what happened", lambda **limits: list(ask(**limits)))
        except _AnsweredError as answered:
            raise _unknown("reading what happened", answered) from answered
        mine = [each for each in found if seen.short(each.target_link) == name]
        return sorted((seen.operation(each) for each in mine), key=lambda each: each.at or 0.0, reverse=True)

    def host_keys(self, zone: str, name: str) -> tuple[str, ...]:
        """The public host keys that the machine has published, `ssh-ed25519 AAAA...`; none yet: empty."""
        from google.cloud import compute_v1

        asked = compute_v1.GetGuestAttributesInstanceRequest(
            project=self.project, zone=zone, instance=name, query_path="hostkeys/"
        )
        try:
            found = self._ask("asking for host keys", self._instances.get_guest_attributes, asked)
        except _AnsweredError as answered:
            if answered.status in (_MISSING, 412, 400):
                return ()
            raise _unknown("asking for host keys", answered) from answered
        keys = [f"{item.key} {item.value.split()[0]}" for item in found.query_value.items if item.value.strip()]
        best = [key for key in keys if key.startswith("ssh-ed25519 ")]
        return tuple(sorted(best or keys))

    # What else there is to know.

    def image(self, project: str, name: str) -> str:
        """The address of an image, or of the newest of a family. Raises RefusedError when there is none."""
        from google.cloud import compute_v1

        for ask in (
            functools.partial(self._images.get_from_family, project=project, family=name),
            functools.partial(self._images.get, project=project, image=name),
        ):
            try:
                found: compute_v1.Image = self._ask(f"looking for the image {name}", ask)
            except _AnsweredError as answered:
                if answered.status != _MISSING:
                    raise _unknown(f"looking for the image {name}", answered) from answered
                continue
            link = found.self_link.partition("/projects/")[2] or f"{project}/global/images/{found.name}"
            return f"projects/{link}"
        raise RefusedError("", "invalid", f"the project {project} has no image or image family {name}")

    def quotas(self, region: str) -> dict[str, tuple[float, float]]:
        """For each metric of the region: what is used, and the limit."""
        try:
            found = self._ask(f"reading quotas of {region}", self._regions.get, project=self.project, region=region)
        except _AnsweredError as answered:
            raise _unknown(f"reading quotas of {region}", answered) from answered
        return {str(quota.metric): (float(quota.usage), float(quota.limit)) for quota in found.quotas}

    # The client.

    def _found(self, doing: str, call: Callable[..., Any], **fields: str) -> Any:
        """What a call answers about one thing; None when it is not there."""
        try:
            return self._ask(doing, functools.partial(call, project=self.project, **fields))
        except _AnsweredError as answered:
            if answered.status == _MISSING:
                return None
            raise _unknown(doing, answered) from answered

    def _all(self, what: str, client: Any, field: str, only: str) -> list[Any]:
        def pages(**limits: Any) -> list[Any]:
            asked = {"project": self.project, "filter": only}
            return list(client.aggregated_list(request=asked, **limits).pages)

        try:
            found = self._ask(f"listing {what}", pages)
        except _AnsweredError as answered:
            if answered.status == _MISSING:
                message = f"there is no project {self.project} for this account ({answered.reason[1]})"
                raise CredentialError(message, remedy="set resources.project, or SAMERUN_GCP_PROJECT") from answered
            raise _unknown(f"listing {what}", answered) from answered
        if dark := sorted({each for page in found for each in _unreached(page)}):
            raise RemoteError(f"listing {what}: nobody can say what is in {', '.join(dark)[:200]} now")
        return [each for page in found for part in page.items.values() for each in getattr(part, field)]

    def _ask(self, doing: str, call: Callable[..., T], *args: Any, within: float | None = None, **fields: Any) -> T:
        """Call until there is an answer. Raises _AnsweredError, CredentialError, and RemoteError for silence."""
        from google.api_core import exceptions
        from google.auth import exceptions as login
        from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
        from requests import exceptions as wire

        until = time.monotonic() + min(self.limits.again, within if within is not None else self.limits.again)
        pause = min(self.limits.poll / 10, 1.0)
        while True:
            left = until - time.monotonic()
            try:
                return call(*args, **fields, timeout=max(0.1, min(self.limits.call, left)), retry=None)
            except (login.DefaultCredentialsError, login.RefreshError, exceptions.Unauthorized) as error:
                if not getattr(error, "retryable", False):
                    raise CredentialError(
                        f"Google Cloud does not let this account in: {error}", remedy=LOGIN
                    ) from error
                silent: Exception = error
            except exceptions.GoogleAPICallError as error:
                reason = refusals.of_call(error)
                if not _passes(error.code, reason[0]):
                    raise _AnsweredError(int(error.code or 0), reason) from error
                silent = error
            except (wire.RequestException, login.TransportError, exceptions.RetryError, OSError, ParseError) as error:
                silent = error
            if time.monotonic() + pause > until:
                raise _SilentError(f"{doing}: Compute Engine does not answer: {silent}") from silent
            time.sleep(pause)
            pause = min(2 * pause, self.limits.poll)

    @functools.cached_property
    def _options(self) -> dict[str, Any]:
        """Credentials and address of every client. Raises CredentialError."""
        if (self.endpoint or "").startswith("http://"):  # an emulator's: tokens do not travel unencrypted
            from google.auth.credentials import AnonymousCredentials

            nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]
            return {"credentials": nobody, "client_options": {"api_endpoint": self.endpoint}}
        import google.auth
        from google.auth import exceptions as login

        try:
            credentials, _ = google.auth.default(scopes=SCOPES)
        except login.DefaultCredentialsError as error:
            raise CredentialError(f"no credentials of Google Cloud were found: {error}", remedy=LOGIN) from error
        own = {"client_options": {"api_endpoint": self.endpoint}} if self.endpoint else {}
        return {"credentials": credentials, **own}

    def _client(self, kind: str) -> Any:
        from google.cloud import compute_v1

        return getattr(compute_v1, f"{kind}Client")(**self._options)

    @functools.cached_property
    def _instances(self) -> Any:
        return self._client("Instances")

    @functools.cached_property
    def _operations(self) -> Any:
        return self._client("ZoneOperations")

    @functools.cached_property
    def _disks(self) -> Any:
        return self._client("Disks")

    @functools.cached_property
    def _images(self) -> Any:
        return self._client("Images")

    @functools.cached_property
    def _regions(self) -> Any:
        return self._client("Regions")


class _AnsweredError(Exception):
    """The service has said no."""

    def __init__(self, status: int, reason: tuple[str, str]) -> None:
        super().__init__(f"{status} {reason[0]}: {reason[1]}")
        self.status, self.reason = status, reason


class _SilentError(RemoteError):
    """No answer within the time."""


def _passes(status: int | None, reason: str) -> bool:
    """Whether the same call may succeed in a moment."""
    return status is None or status >= 500 or status in (_TIMED_OUT, _TOO_MANY) or reason in PASSING


def _unreached(page: Any) -> list[str]:
    """Places of which an aggregated list says nothing: that is not the same as nothing being there."""
    dark = [place for place, part in page.items.items() if part.warning.code == _UNREACHABLE]
    return [*map(str, page.unreachables), *dark, *(["some zones"] if page.warning.code == _UNREACHABLE else [])]


def _unknown(doing: str, answered: _AnsweredError) -> RemoteError | CredentialError:
    """What a refusal of a question means: what is there is not known, or may not be known."""
    if answered.status in (401, 403) and answered.reason[0] not in PASSING:
        return CredentialError(f"{doing}: {answered}", remedy="grant the account `roles/compute.instanceAdmin.v1`")
    return RemoteError(f"{doing}: {answered}")
