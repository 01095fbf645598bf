"""Kaggle's service as typed calls: what the backend asks, in our own words and without the SDK's types.

Every call ends in bounded time, in a value of `answers` or a SamerunError (see `wire`). Listings bring all pages. A
name is always `owner/slug`, as two arguments; an account makes things only under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from backends.kaggle.client import credentials, wire
from backends.kaggle.client.answers import (
    Dataset,
    DatasetState,
    Kernel,
    KernelState,
    Outputs,
    Push,
    Pushed,
    Quota,
    Status,
    created_in,
    dataset_in,
    kernel_in,
    label_of,
    pushed_in,
    quota_in,
    refused_in,
    renewed_in,
    sizes_in,
    user_in,
)
from backends.kaggle.client.credentials import Ask, Credential, Kind, Renewed, Secret
from backends.kaggle.client.refusals import NotThereError, RefusedError, UnansweredError, UnreadableError
from backends.kaggle.client.wire import Limits, Wire
from launcher.errors import CredentialError
from launcher.finding import Finding

PAGE = 200  # the largest page that Kaggle gives (kaggle-cli 2.2.2)
PAGES = 5000  # then the listing is called endless: a million files
T = TypeVar("T")
N = TypeVar("N", Kernel, Dataset)


def sign_in(
    endpoint: str | None = None, limits: Limits | None = None, env: Mapping[str, str] | None = None
) -> tuple[Service, tuple[Finding, ...]]:
    """A service under the credentials that are found, and what there is to say about them.

    Raises CredentialError where there are none that work, RemoteError where Kaggle could not be asked.
    """
    found, ask = credentials.find(env), ask_of(endpoint, limits)
    credential, findings = credentials.choose(found, ask)
    signed = Wire(credential, endpoint=endpoint, limits=limits, renew=lambda old: credentials.renewed(old, ask))
    # Names are lower-case in all that Kaggle answers, however the user has written his own.
    return Service(signed, (credential.user or "").lower()), found.findings + findings


def ask_of(endpoint: str | None = None, limits: Limits | None = None) -> Ask:
    """The two questions of `credentials`, put to an endpoint."""

    def user_of(token: Secret) -> str | None:
        # Kaggle's own client sends the token as its sign-in here, too.
        asking = Wire(Credential(Kind.TOKEN, "the token", token), endpoint=endpoint, limits=limits)
        try:
            return asking.call(wire.INTROSPECT, {"token": token.reveal()}, user_in, doing="checking the API token")
        except (CredentialError, RefusedError, NotThereError):
            return None  # 400, 401, 403, 404: what kaggle 2.2.4 takes for `not valid`, but for 401, which it raises
        finally:
            asking.close()

    def renew(refresh: Secret) -> Renewed | None:
        asking = Wire(None, endpoint=endpoint, limits=limits)
        fields = {"refreshToken": refresh.reveal(), "apiVersion": "API_VERSION_V1", "expirationDuration": "43200s"}
        try:
            return asking.call(wire.NEW_ACCESS_TOKEN, fields, renewed_in, doing="renewing the OAuth login")
        except (CredentialError, RefusedError):
            return None
        finally:
            asking.close()

    return Ask(user_of, renew)


class Service:
    """Calls under one account. `user` is its name, the owner of all that is made here."""

    def __init__(self, signed: Wire, user: str) -> None:
        self.wire = signed
        self.user = user

    def push(self, push: Push) -> Pushed:
        """Save a kernel and run it. Sent once; after an UnansweredError with `maybe_done`, look whether it is there."""
        name = f"{push.owner}/{push.slug}"
        fields = {
            "slug": name,
            "newTitle": push.title,
            "text": push.text,
            "language": "python",
            "kernelType": "script",
            "isPrivate": True,
            "enableGpu": push.gpu,
            "enableTpu": False,
            "enableInternet": push.internet,
            "machineShape": push.machine_shape,
            "sessionTimeoutSeconds": push.timeout_s,
            "datasetDataSources": list(push.datasets),
            "kernelDataSources": list(push.kernels),
            "competitionDataSources": list(push.competitions),
            "kernelExecutionType": "SAVE_AND_RUN_ALL",
        }
        return self.wire.call(wire.SAVE_KERNEL, fields, pushed_in(name), doing=f"pushing {name}")

    def kernel(self, owner: str, slug: str) -> Kernel:
        """A kernel with its source, newest version. Raises NotThereError."""
        fields = {"userName": owner, "kernelSlug": slug}

        def read(answer: Any) -> Kernel:
            return kernel_in(answer.metadata, answer.blob.source if answer.blob else None)

        return self.wire.call(wire.GET_KERNEL, fields, read, doing=f"looking up {owner}/{slug}")

    def kernels(self, search: str | None = None) -> list[Kernel]:
        """All kernels of this account (that a search finds), those that ran last first, without their sources."""
        fields = {"group": "PROFILE", "user": self.user, "search": search, "sortBy": "DATE_RUN", "pageSize": 100}
        return self._numbered(wire.LIST_KERNELS, fields, lambda answer: map(kernel_in, answer.kernels), "kernels")

    def status(self, owner: str, slug: str, version: int | None = None) -> Status:
        """The state of a kernel's newest session; UNKNOWN for one that this client does not know."""
        fields = {"userName": owner, "kernelSlug": slug, "versionLabel": label_of(version)}

        def read(answer: Any) -> Status:
            return Status(KernelState(answer.status.name), answer.failure_message or "")

        try:
            return self.wire.call(wire.KERNEL_STATUS, fields, read, doing=f"asking for the state of {owner}/{slug}")
        except UnreadableError as error:
            return Status(KernelState.UNKNOWN, error.message)

    def delete_kernel(self, owner: str, slug: str) -> None:
        """Delete a kernel, which also stops it. Raises NotThereError when it is not there (HTTP 404 or 403)."""
        doing = f"deleting {owner}/{slug}"
        self.wire.call(
            wire.DELETE_KERNEL, {"userName": owner, "kernelSlug": slug}, refused_in("error_message", doing), doing=doing
        )

    def outputs(self, owner: str, slug: str, version: int | None = None) -> Outputs:
        """Signed addresses of all output files; empty while the kernel runs."""
        fields = {"userName": owner, "kernelSlug": slug, "versionLabel": label_of(version)}
        urls: dict[str, str] = {}
        log: list[str] = []  # of the first page alone: each has the whole log, which may be large

        def read(answer: Any) -> Iterable[tuple[str, str]]:
            log[:] = log or filter(None, [answer.log])
            return [(file.file_name, file.url) for file in answer.files if file.file_name and file.url]

        urls.update(self._paged(wire.LIST_OUTPUT, fields, read, f"listing the output of {owner}/{slug}"))
        return Outputs(urls, next(iter(log), None))

    def output_sizes(self, owner: str, slug: str, version: int | None = None) -> dict[str, int]:
        """Sizes of all output files, in bytes, by path."""
        fields = {"userName": owner, "kernelSlug": slug, "versionLabel": label_of(version)}
        read = sizes_in(lambda answer: ((file.name, file.size) for file in answer.files))
        return dict(self._paged(wire.LIST_KERNEL_FILES, fields, read, f"listing the files of {owner}/{slug}"))

    def quota(self) -> Quota | None:
        """This week's GPU time; None where Kaggle does not say."""
        return self.wire.call(wire.QUOTA, {}, quota_in, doing="asking for the GPU quota")

    def dataset_status(self, owner: str, slug: str) -> DatasetState:
        """The state of the newest version; UNKNOWN for one that this client does not know."""
        fields = {"ownerSlug": owner, "datasetSlug": slug}
        doing = f"asking for the state of dataset {owner}/{slug}"
        try:
            return self.wire.call(
                wire.DATASET_STATUS, fields, lambda answer: DatasetState(answer.status.name), doing=doing
            )
        except UnreadableError:
            return DatasetState.UNKNOWN

    def dataset(self, owner: str, slug: str) -> Dataset:
        """A dataset with the number of its newest version. Raises NotThereError."""
        fields = {"ownerSlug": owner, "datasetSlug": slug}
        return self.wire.call(wire.GET_DATASET, fields, dataset_in, doing=f"looking up dataset {owner}/{slug}")

    def dataset_files(self, owner: str, slug: str, version: int | None = None) -> dict[str, int]:
        """Sizes of a dataset's files in bytes, by name; of its newest version, where none is named."""
        fields = {"ownerSlug": owner, "datasetSlug": slug, "datasetVersionNumber": version}
        doing = f"listing dataset {owner}/{slug}"
        refused = refused_in("error_message", doing)

        def pairs(answer: Any) -> Iterable[tuple[str, int]]:
            refused(answer)
            return ((file.name, file.total_bytes) for file in answer.dataset_files)

        return dict(self._paged(wire.LIST_DATASET_FILES, fields, sizes_in(pairs), doing))

    def datasets(self, search: str | None = None) -> list[Dataset]:
        """All datasets of this account (that a search finds)."""
        fields = {"group": "DATASET_SELECTION_GROUP_MY", "search": search}
        return self._numbered(wire.LIST_DATASETS, fields, lambda answer: map(dataset_in, answer.datasets), "datasets")

    def create_dataset(self, slug: str, title: str, tokens: Sequence[str], *, subtitle: str | None = None) -> str:
        """Make a private dataset of uploaded blobs, by their tokens; returns its ref. That its files are there must be
        listed. `subtitle`: 20 to 80 characters.
        """
        fields = {
            "ownerSlug": self.user,
            "slug": slug,
            "title": title,
            "licenseName": "unknown",
            "subtitle": subtitle,
            "isPrivate": True,
            "files": [{"token": token} for token in tokens],
        }
        name = f"{self.user}/{slug}"
        return self.wire.call(wire.CREATE_DATASET, fields, created_in(name), doing=f"creating dataset {name}")

    def create_version(self, slug: str, notes: str, tokens: Sequence[str]) -> str:
        """Make a version that holds these blobs and nothing else (no file is inherited); returns the dataset's ref."""
        name = f"{self.user}/{slug}"
        body = {"versionNotes": notes, "files": [{"token": token} for token in tokens]}
        fields = {"ownerSlug": self.user, "datasetSlug": slug, "body": body}
        doing = f"creating a version of dataset {name}"
        return self.wire.call(wire.CREATE_VERSION, fields, created_in(name), doing=doing)

    def delete_dataset(self, owner: str, slug: str) -> None:
        """Delete a dataset with all its versions. Raises NotThereError when it is not there."""
        doing = f"deleting dataset {owner}/{slug}"
        self.wire.call(
            wire.DELETE_DATASET, {"ownerSlug": owner, "datasetSlug": slug}, refused_in("error", doing), doing=doing
        )

    # Below the calls.

    def _paged(
        self, rpc: wire.Rpc, fields: Mapping[str, Any], read: Callable[[Any], Iterable[T]], doing: str
    ) -> list[T]:
        """All pages of a listing that goes by tokens."""
        found: list[T] = []
        token = ""
        seen = {token}
        for _ in range(PAGES):
            page, token = self.wire.call(
                rpc,
                {**fields, "pageSize": PAGE, "pageToken": token or None},
                lambda answer: (list(read(answer)), answer.next_page_token or ""),
                doing=doing,
            )
            found += page
            if not token:
                return found
            if token in seen:
                break
            seen.add(token)
        raise UnansweredError(f"{doing}: the pages have no end")

    def _numbered(
        self, rpc: wire.Rpc, fields: Mapping[str, Any], read: Callable[[Any], Iterable[N]], what: str
    ) -> list[N]:
        """All pages of a listing that goes by numbers: until one brings nothing new, as page sizes may be capped."""
        found: dict[str, N] = {}
        for number in range(1, PAGES):
            doing = f"listing the {what} of {self.user}"
            page = self.wire.call(rpc, {**fields, "page": number}, lambda answer: list(read(answer)), doing=doing)
            fresh = {each.ref: each for each in page if each.ref not in found}
            if not fresh:
                return list(found.values())
            found |= fresh
        raise UnansweredError(f"listing the {what} of {self.user}: the pages have no end")
