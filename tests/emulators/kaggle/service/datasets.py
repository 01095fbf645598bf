"""Datasets and their versions: created from blobs, processed for a while, then readable, listed and mounted.

A version is a snapshot of what its own call uploaded; nothing is inherited. The current version is the newest that is
READY.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slugify import slugify

from tests.emulators.kaggle.faults import DATASET, Fault, Faults
from tests.emulators.kaggle.machine.layout import files, remove
from tests.emulators.kaggle.service.accounts import Account, Rpc, stamp
from tests.emulators.kaggle.service.unpacking import RefusedError, lay_out
from tests.emulators.kaggle.settings import RpcError, World
from tests.emulators.kaggle.wire.files import SignedFiles
from tests.emulators.kaggle.wire.reply import Reply
from tests.emulators.kaggle.wire.uploads import Uploads

PROCESSING = ("BLOBS_RECEIVED", "BLOBS_DECOMPRESSED", "BLOBS_COPIED_TO_SDS", "INDIVIDUAL_BLOBS_COMPRESSED")
READY, FAILED = "READY", "FAILED"
DATASETS = "datasets.DatasetApiService"


@dataclass
class DatasetVersion:
    """`folder` holds its files, read-only. `fault`: what goes wrong with it on purpose."""

    number: int
    folder: Path
    notes: str
    seconds: float
    fault: Fault | None = None
    created: float = field(default_factory=time.time)
    laid_out: threading.Event = field(default_factory=threading.Event)
    message: str = ""

    @property
    def status(self) -> str:
        passed = (time.time() - self.created) / max(self.seconds, 1e-9)
        never = self.fault is not None and self.fault.kind == "dataset-never-ready"
        if passed < 1 or never or not self.laid_out.is_set():
            return PROCESSING[min(int(passed * len(PROCESSING)), len(PROCESSING) - 1)]
        return FAILED if self.message else READY


@dataclass
class Dataset:
    """`versions` in order; deleted old ones are gone from it."""

    id: int
    owner: str
    slug: str
    title: str
    licence: str
    private: bool
    subtitle: str = ""
    versions: list[DatasetVersion] = field(default_factory=list)

    @property
    def ref(self) -> str:
        return f"{self.owner}/{self.slug}"

    @property
    def newest(self) -> DatasetVersion:
        return self.versions[-1]

    def version(self, number: int | None = None) -> DatasetVersion | None:
        """The READY version of this number, else (None) the newest that is READY; None where there is none."""
        ready = [version for version in self.versions if version.status == READY]
        wanted = [version for version in ready if number in (None, 0, version.number)]
        return wanted[-1] if wanted else None

    def describe(self) -> dict[str, Any]:
        """As GetDataset and ListDatasets have it."""
        current = self.version()
        return {
            "id": self.id,
            "ref": self.ref,
            "title": self.title,
            "subtitle": self.subtitle,
            "ownerName": self.owner,
            "ownerRef": self.owner,
            "creatorName": self.owner,
            "licenseName": self.licence,
            "isPrivate": self.private,
            "url": f"https://www.kaggle.com/datasets/{self.ref}",
            "lastUpdated": stamp(self.newest.created),
            "totalBytes": sum(size for _, size, _ in files(current.folder)) if current else 0,
            "currentVersionNumber": current.number if current else 0,
            "versions": [
                {
                    "versionNumber": version.number,
                    "creationDate": stamp(version.created),
                    "creatorName": self.owner,
                    "versionNotes": version.notes,
                    "status": version.status,
                }
                for version in reversed(self.versions)
            ],
        }


class Datasets:
    """All datasets, by `owner/slug`."""

    def __init__(self, world: World, faults: Faults, uploads: Uploads, signed: SignedFiles) -> None:
        self._world, self._faults, self._uploads, self._signed = world, faults, uploads, signed
        self._datasets: dict[str, Dataset] = {}
        self._ids = 5000

    def __iter__(self) -> Iterator[Dataset]:
        with self._world.lock:
            return iter(list(self._datasets.values()))

    def __len__(self) -> int:
        return len(self._datasets)

    def __contains__(self, ref: object) -> bool:
        return ref in self._datasets

    def __getitem__(self, ref: str) -> Dataset:
        return self._datasets[ref]

    def add(self, ref: str, contents: Path | Mapping[str, bytes], *, private: bool = True) -> Dataset:
        """A READY version of `ref`, without any upload: the copy of a folder, or files by path."""
        owner, slug = ref.split("/")
        with self._world.lock:
            dataset = self._datasets.get(ref) or self._new(owner, slug, slug, "unknown", private)
            version = self._next(dataset, "", 0.0, None)
        if isinstance(contents, Path):
            shutil.copytree(contents, version.folder, dirs_exist_ok=True)
        else:
            for name, data in contents.items():
                (version.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (version.folder / name).write_bytes(data)
        lay_out((), version.folder, unpack="off", refused="")
        version.laid_out.set()
        return dataset

    def _new(self, owner: str, slug: str, title: str, licence: str, private: bool) -> Dataset:
        self._ids += 1
        dataset = Dataset(self._ids, owner, slug, title, licence, private)
        self._datasets[dataset.ref] = dataset
        return dataset

    def _next(self, dataset: Dataset, notes: str, seconds: float, fault: Fault | None) -> DatasetVersion:
        number = dataset.versions[-1].number + 1 if dataset.versions else 1
        folder = self._world.root / "datasets" / str(dataset.id) / f"v{number}"
        version = DatasetVersion(number, folder, notes, seconds, fault)
        dataset.versions.append(version)
        return version

    def _processed(self, dataset: Dataset, notes: str) -> DatasetVersion:
        fault = self._faults.take(DATASET, dataset.ref)
        return self._next(dataset, notes, self._world.settings.dataset_seconds, fault)

    def readable(self, account: Account | None, ref: str) -> Dataset:
        """The dataset, where this user may read it. Raises RpcError."""
        dataset = self._datasets.get(ref)
        if dataset is None:
            raise RpcError(self._world.settings.missing_dataset_status, f"Dataset not found: {ref}")
        if dataset.private and (account is None or account.name != dataset.owner):
            raise RpcError(403, "Permission 'datasets.get' was denied")
        return dataset

    # RPCs.

    def rpcs(self) -> dict[str, Rpc]:
        return {
            f"{DATASETS}/CreateDataset": self._create,
            f"{DATASETS}/CreateDatasetVersion": self._create_version,
            f"{DATASETS}/GetDatasetStatus": lambda account, body: {"status": self._asked(account, body).newest.status},
            f"{DATASETS}/GetDataset": lambda account, body: self._asked(account, body).describe(),
            f"{DATASETS}/GetDatasetMetadata": self._metadata,
            f"{DATASETS}/ListDatasetFiles": self._list_files,
            f"{DATASETS}/ListDatasets": self._list,
            f"{DATASETS}/DownloadDataset": self._download,
            f"{DATASETS}/DeleteDataset": self._delete,
        }

    def _asked(self, account: Account | None, body: Mapping[str, Any]) -> Dataset:
        return self.readable(account, f"{body.get('ownerSlug', '')}/{body.get('datasetSlug', '')}")

    def _create(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        owner, title = _owner(account, body.get("ownerSlug")), str(body.get("title", ""))
        slug = str(body.get("slug") or slugify(title))
        if not (6 <= len(title) <= 50 and 6 <= len(slug) <= 50):
            return {"status": "error", "error": "The title and the slug must be between 6 and 50 characters."}
        blobs = self._blobs(body)
        with self._world.lock:
            if f"{owner}/{slug}" in self._datasets:
                text = f'The requested title "{title}" is already in use by a dataset. Please choose another title.'
                return {"status": "error", "error": text}
            private = bool(body.get("isPrivate", False))
            dataset = self._new(owner, slug, title, str(body.get("licenseName", "unknown")), private)
            dataset.subtitle = str(body.get("subtitle", ""))
            version = self._processed(dataset, "Initial release")
        return self._accept(dataset, version, blobs)

    def _create_version(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        dataset = self._asked(account, body)
        _owner(account, dataset.owner)
        details = body.get("body", {})
        blobs = self._blobs(details)
        with self._world.lock:
            if dataset.newest.status in PROCESSING:
                raise RpcError(403, "A version of this dataset is still being processed.")
            version = self._processed(dataset, str(details.get("versionNotes", "")))
            if details.get("deleteOldVersions"):
                for old in dataset.versions[:-1]:
                    remove(old.folder)
                dataset.versions = [version]
        return self._accept(dataset, version, blobs)

    def _blobs(self, body: Mapping[str, Any], below: str = "") -> list[tuple[str, Path]]:
        """Path in the dataset and content of every file that a request names by token. Raises RpcError (400)."""
        found = []
        for file in body.get("files", ()):
            blob = self._uploads.blob(str(file.get("token", "")))
            if blob is None:
                raise RpcError(400, "A file's upload is not complete.")
            found.append((below + blob.name, blob.path))
        for folder in body.get("directories", ()):
            found += self._blobs(folder, f"{below}{folder.get('name', '')}/")
        return found

    def _accept(self, dataset: Dataset, version: DatasetVersion, blobs: list[tuple[str, Path]]) -> dict[str, Any]:
        threading.Thread(target=self._process, args=(version, blobs), daemon=True).start()
        return {"ref": dataset.ref, "url": f"https://www.kaggle.com/datasets/{dataset.ref}", "status": "Ok"}

    def _process(self, version: DatasetVersion, blobs: list[tuple[str, Path]]) -> None:
        settings = self._world.settings
        try:
            lay_out(blobs, version.folder, unpack=settings.unpack, refused=settings.refused_names)
            if version.fault is not None:
                _spoil(version, version.fault)
        except (RefusedError, OSError) as error:
            version.message = str(error)
        version.laid_out.set()

    def _metadata(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        dataset = self._asked(account, body)
        info = {
            "datasetId": dataset.id,
            "datasetSlug": dataset.slug,
            "ownerUser": dataset.owner,
            "title": dataset.title,
            "subtitle": dataset.subtitle,
            "isPrivate": dataset.private,
            "licenses": [{"name": dataset.licence}],
        }
        return {"info": info}

    def _version(self, account: Account | None, body: Mapping[str, Any]) -> tuple[Dataset, DatasetVersion]:
        dataset = self._asked(account, body)
        version = dataset.version(body.get("datasetVersionNumber"))
        if version is None:
            raise RpcError(404, "The dataset has no such version.")
        return dataset, version

    def _list_files(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        dataset, version = self._version(account, body)
        every = [
            {"name": name, "ref": name, "datasetRef": dataset.ref, "totalBytes": size, "creationDate": stamp(when)}
            for name, size, when in files(version.folder)
        ]
        shown, token = paged(every, body, self._world.settings.page_limit)
        return {"datasetFiles": shown, "nextPageToken": token}

    def _list(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        name, group = account.name if account else "", str(body.get("group", "DATASET_SELECTION_GROUP_PUBLIC"))
        mine = "_MY" in group
        user, search = str(body.get("user", "")), str(body.get("search", "")).lower()
        found = [
            dataset
            for dataset in self
            if (dataset.owner == name if mine else not dataset.private or dataset.owner == name)
            and (not user or dataset.owner == user)
            and (search in dataset.title.lower() or search in dataset.slug)
        ]
        found.sort(key=lambda dataset: (dataset.newest.created, dataset.id), reverse=True)
        shown, token = paged(found, body, 100)
        return {"datasets": [dataset.describe() for dataset in shown], "nextPageToken": token}

    def _download(self, account: Account | None, body: Mapping[str, Any]) -> Reply:
        _, version = self._version(account, body)
        name = body.get("fileName")
        if name:
            path = version.folder / str(name)
            if str(name) not in {known for known, _, _ in files(version.folder)}:
                raise RpcError(404, f"The dataset has no file {name}")
        else:
            path = version.folder.with_name(f"v{version.number}-archive") / "archive.zip"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                made = shutil.make_archive(str(path.parent / secrets.token_hex(4)), "zip", version.folder)
                Path(made).replace(path)
        return Reply(302, headers={"Location": self._signed.url(path)})

    def _delete(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        dataset = self._asked(account, body)
        _owner(account, dataset.owner)
        with self._world.lock:
            del self._datasets[dataset.ref]
        remove(self._world.root / "datasets" / str(dataset.id))
        return {}


def _spoil(version: DatasetVersion, fault: Fault) -> None:
    if fault.kind == "dataset-failed":
        version.message = "Processing failed."
    held = [name for name, _, _ in files(version.folder)]
    if fault.kind == "dataset-missing-file" and held:
        (version.folder / str(fault.options.get("name", held[-1]))).unlink(missing_ok=True)


def _owner(account: Account | None, owner: Any) -> str:
    """The name of the caller, who must be the owner (none named: it is the caller)."""
    if account is None:
        raise RpcError(401, "Unauthenticated")
    if owner and owner != account.name:
        raise RpcError(403, "Permission 'datasets.update' was denied")
    return account.name


def paged(every: list[Any], body: Mapping[str, Any], limit: int) -> tuple[list[Any], str]:
    """The page that a request asks for, by token or by number, and the token of the next."""
    size = max(1, min(int(body.get("pageSize") or 20), limit))
    token = str(body.get("pageToken") or "")
    if token and not token.isdigit():
        raise RpcError(400, "The page token is not valid.")
    start = int(token) if token else (int(body.get("page") or 1) - 1) * size
    return every[start : start + size], str(start + size) if start + size < len(every) else ""
