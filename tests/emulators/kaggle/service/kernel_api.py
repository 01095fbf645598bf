"""The RPCs on kernels that only read, list or delete, and on competitions."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.emulators.kaggle.faults import LISTING, Faults
from tests.emulators.kaggle.machine.session import COMPLETE
from tests.emulators.kaggle.service.accounts import KERNELS, Account, Rpc, stamp
from tests.emulators.kaggle.service.datasets import paged
from tests.emulators.kaggle.service.kernels import Kernels, KernelVersion
from tests.emulators.kaggle.service.sources import Competitions
from tests.emulators.kaggle.settings import RpcError, World
from tests.emulators.kaggle.wire.files import SignedFiles
from tests.emulators.kaggle.wire.logs import persisted
from tests.emulators.kaggle.wire.reply import Reply

COMPETITIONS = "competitions.CompetitionApiService"


class KernelApi:
    """Bodies in, answers out; see the facts in the module docstrings of `kernels` and `machine.session`."""

    def __init__(
        self, world: World, faults: Faults, kernels: Kernels, signed: SignedFiles, competitions: Competitions
    ) -> None:
        self._world, self._faults, self._kernels = world, faults, kernels
        self._signed, self._competitions = signed, competitions

    def rpcs(self) -> dict[str, Rpc]:
        return {
            f"{KERNELS}/GetKernel": self._get,
            f"{KERNELS}/GetKernelSessionStatus": self._status,
            f"{KERNELS}/ListKernelSessionOutput": self._outputs,
            f"{KERNELS}/ListKernelFiles": self._files,
            f"{KERNELS}/ListKernels": self._list,
            f"{KERNELS}/DeleteKernel": self._delete,
            f"{KERNELS}/CancelKernelSession": self._cancel,
            f"{KERNELS}/DownloadKernelOutput": self._download,
            f"{COMPETITIONS}/DownloadDataFile": self._competition_file,
            f"{COMPETITIONS}/DownloadDataFiles": self._competition_file,
        }

    def outputs_of(self, account: Account, owner: str, slug: str) -> Path | None:
        """The outputs that a kernel source stands for: those of the newest COMPLETE version that kept them."""
        try:
            kernel = self._kernels.readable(account, owner, slug)
        except RpcError:
            return None
        done = [session for session in kernel.sessions if session.status == COMPLETE and session.outputs_kept]
        return done[-1].machine.working if done else None

    def _version(self, account: Account | None, body: Mapping[str, Any]) -> KernelVersion:
        owner, slug = str(body.get("userName", "")), str(body.get("kernelSlug", ""))
        return self._kernels.readable_version(account, owner, slug, str(body.get("versionLabel") or ""))

    def _get(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        version = self._version(account, body)
        kernel = self._kernels.readable(account, str(body["userName"]), str(body["kernelSlug"]))
        blob = {
            "source": version.asked["text"],
            "language": version.asked.get("language", "python"),
            "kernelType": version.asked.get("kernelType", "script"),
            "slug": kernel.slug,
        }
        return {"metadata": kernel.metadata(version), "blob": blob}

    def _status(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        version = self._version(account, body)
        message = version.session.message if version.session is not None else ""
        return {"status": version.status, **({"failureMessage": message} if message else {})}

    def _outputs(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        version = self._version(account, body)
        session = version.session
        if session is None or not session.finished:
            return {"files": [], "log": ""}
        listed = [
            {"fileName": name, "url": self._signed.url(session.machine.working / name)}
            for name, _, _ in session.outputs()
        ]
        shown, token = paged(listed, body, self._world.settings.page_limit)
        fault = self._faults.take(LISTING, "ListKernelSessionOutput", session.plan.ref)
        if fault is not None:
            name = "../evil.txt" if fault.kind == "evil-name" else str(fault.options.get("name", "extra.bin"))
            stranger = session.machine.folder / "stranger"
            stranger.write_bytes(b"not from your kernel")
            shown = [*shown, {"fileName": name, "url": self._signed.url(stranger)}]
        return {"files": shown, "log": persisted(session), "nextPageToken": token}

    def _files(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        session = self._version(account, body).session
        every = session.outputs() if session is not None else []
        listed = [{"name": name, "size": size, "creationDate": stamp(when)} for name, size, when in every]
        shown, token = paged(listed, body, self._world.settings.page_limit)
        return {"files": shown, "nextPageToken": token}

    def _list(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        caller = account.name if account is not None else ""
        user, search = str(body.get("user", "")), str(body.get("search", "")).lower()
        mine = body.get("group") == "PROFILE" and not user
        found = [
            kernel
            for kernel in self._kernels
            if (kernel.owner == caller or (not kernel.private and not mine))
            and (not user or kernel.owner == user)
            and (search in kernel.title.lower() or search in kernel.slug)
        ]
        found.sort(key=lambda kernel: (kernel.latest.created, kernel.id), reverse=True)
        shown, token = paged(found, body, 100)
        return {"kernels": [kernel.metadata() for kernel in shown], "nextPageToken": token}

    def _delete(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        self._kernels.delete(account, str(body.get("userName", "")), str(body.get("kernelSlug", "")))
        return {}

    def _cancel(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        """Works for who knows the session's id, which no public call hands out."""
        for session in self._kernels.sessions:
            mine = account is not None and session.plan.ref.startswith(f"{account.name}/")
            if mine and session.id == body.get("kernelSessionId"):
                session.cancel_on_website(keep=self._world.settings.keep_lost_outputs)
                return {}
        raise RpcError(404, "Session not found")

    def _download(self, account: Account | None, body: Mapping[str, Any]) -> Reply:
        number = body.get("versionNumber")
        label = f"v{number}" if number else ""
        owner, slug = str(body.get("ownerSlug", "")), str(body.get("kernelSlug", ""))
        session = self._kernels.readable_session(account, owner, slug, label)
        name = str(body.get("filePath", ""))
        if session is None or name not in {known for known, _, _ in session.outputs()}:
            raise RpcError(404, f"No output {name}")
        return Reply(302, headers={"Location": self._signed.url(session.machine.working / name)})

    def _competition_file(self, account: Account | None, body: Mapping[str, Any]) -> Reply:
        folder = self._competitions.get(str(body.get("competitionName", "")))
        if account is None or folder is None:
            raise RpcError(403, "You must accept this competition's rules")
        name = str(body.get("fileName", ""))
        held = self._world.root / "competitions" / folder.name
        if not held.exists():
            shutil.copytree(folder, held)
            shutil.make_archive(str(held.with_name(f"{folder.name}-all")), "zip", folder)
        path = held / name if name else held.with_name(f"{folder.name}-all.zip")
        if not path.is_relative_to(held.parent) or ".." in path.parts or not path.is_file():
            raise RpcError(404, f"No file {name}")
        return Reply(302, headers={"Location": self._signed.url(path)})
