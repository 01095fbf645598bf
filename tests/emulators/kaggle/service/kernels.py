"""Kernels, their versions, and the rules by which a push becomes a session."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from slugify import slugify

from tests.emulators.kaggle.faults import KERNEL, Fault, Faults
from tests.emulators.kaggle.machine.layout import Machine, remove
from tests.emulators.kaggle.machine.session import CANCEL_ACKNOWLEDGED, ERROR, End, Plan, Session
from tests.emulators.kaggle.service.accounts import KERNELS, Account, Accounts, Rpc, stamp
from tests.emulators.kaggle.service.sources import Sources
from tests.emulators.kaggle.settings import RpcError, World

DEFAULT_GPU = "NvidiaTeslaT4"
RETIRED = {"NvidiaTeslaP100": DEFAULT_GPU, "TpuV38": "TpuV5E8", "Tpu1VmV38": "TpuV5E8", "TpuV232": "", "TpuV2256": ""}
_LABEL = re.compile(r"v(\d+)")


@dataclass
class KernelVersion:
    """`asked` is the body of the SaveKernel that made it, without the sources that were invalid; `session` is None for
    one that was only saved."""

    number: int
    asked: Mapping[str, Any]
    shape: str
    internet: bool
    session: Session | None = None
    created: float = field(default_factory=time.time)

    @property
    def status(self) -> str:
        return self.session.status if self.session is not None else "NEW_SCRIPT"


@dataclass
class Kernel:
    """`versions` in order, the latest last."""

    id: int
    owner: str
    slug: str
    title: str
    private: bool = True
    versions: list[KernelVersion] = field(default_factory=list)

    @property
    def ref(self) -> str:
        return f"{self.owner}/{self.slug}"

    @property
    def latest(self) -> KernelVersion:
        return self.versions[-1]

    @property
    def sessions(self) -> list[Session]:
        return [version.session for version in self.versions if version.session is not None]

    def metadata(self, version: KernelVersion | None = None) -> dict[str, Any]:
        """As GetKernel and ListKernels have it."""
        version = version or self.latest
        asked = version.asked
        sources = ("datasetDataSources", "kernelDataSources", "competitionDataSources", "modelDataSources")
        return {
            "id": self.id,
            "ref": self.ref,
            "title": self.title,
            "author": self.owner,
            "slug": self.slug,
            "lastRunTime": stamp(version.created),
            "language": asked.get("language", "python"),
            "kernelType": asked.get("kernelType", "script"),
            "isPrivate": self.private,
            "enableGpu": version.shape.startswith("Nvidia"),
            "enableTpu": version.shape.startswith("Tpu"),
            "enableInternet": version.internet,
            "machineShape": version.shape,
            "currentVersionNumber": self.latest.number,
            **{name: list(asked.get(name, ())) for name in sources},
        }

    def describe(self) -> dict[str, Any]:
        """For the admin path: each version with its state and the conditions it ran under."""
        versions = [
            {
                "number": version.number,
                "status": version.status,
                "failureMessage": version.session.message if version.session else "",
                "conditions": version.session.conditions if version.session else {},
            }
            for version in self.versions
        ]
        return {**self.metadata(), "versions": versions}


class Kernels:
    """All kernels, by `owner/slug`."""

    def __init__(self, world: World, faults: Faults, accounts: Accounts, sources: Sources) -> None:
        self._world, self._faults, self._accounts, self._sources = world, faults, accounts, sources
        self._kernels: dict[str, Kernel] = {}
        self._sessions: list[Session] = []
        self._ids = 70_000

    def __iter__(self) -> Iterator[Kernel]:
        with self._world.lock:
            return iter(list(self._kernels.values()))

    def __len__(self) -> int:
        return len(self._kernels)

    def __contains__(self, ref: object) -> bool:
        return ref in self._kernels

    def __getitem__(self, ref: str) -> Kernel:
        return self._kernels[ref]

    @property
    def sessions(self) -> list[Session]:
        """Every session that was ever asked for, also of kernels that were deleted."""
        with self._world.lock:
            return list(self._sessions)

    # What is done to kernels from outside the API.

    def lose(self, ref: str, *, keep: bool = False) -> None:
        """Kill the latest session of a kernel as if its machine were gone."""
        self._running(ref).lose(keep=keep)

    def cancel_on_website(self, ref: str, *, keep: bool = False) -> None:
        """Cancel the latest session of a kernel as the button on the website does."""
        self._running(ref).cancel_on_website(keep=keep)

    def expire(self, ref: str) -> None:
        """Let the latest session of a kernel reach its time limit now."""
        self._running(ref).expire()

    def _running(self, ref: str) -> Session:
        session = self[ref].latest.session
        if session is None:
            raise ValueError(f"{ref} was only saved; it has no session")
        return session

    def wait(self, ref: str, seconds: float = 30.0) -> str:
        """Wait for the latest session of a kernel to end; its status then."""
        session = self[ref].latest.session
        if session is not None and not session.over.wait(seconds):
            raise TimeoutError(f"{ref} is still {session.status} after {seconds} s")
        return self[ref].latest.status

    # Looking things up for RPCs.

    def readable(self, account: Account | None, owner: str, slug: str) -> Kernel:
        """The kernel, where this user may read it; one that is not there is refused like one of somebody else."""
        kernel = self._kernels.get(f"{owner}/{slug}")
        if kernel is None or (kernel.private and (account is None or account.name != kernel.owner)):
            raise RpcError(403, "Permission 'kernels.get' was denied")
        return kernel

    def readable_version(self, account: Account | None, owner: str, slug: str, label: str) -> KernelVersion:
        """The version of a label `v<number>`, or the latest for ''. Raises RpcError, 404 for a bare number."""
        kernel = self.readable(account, owner, slug)
        if not label:
            return kernel.latest
        match = _LABEL.fullmatch(label)
        for version in kernel.versions:
            if match is not None and version.number == int(match.group(1)):
                return version
        raise RpcError(404, f"The notebook has no version {label}.")

    def readable_session(self, account: Account | None, owner: str, slug: str, label: str) -> Session | None:
        return self.readable_version(account, owner, slug, label).session

    # Saving.

    def save(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        """SaveKernel: a new version, and where its type is not QUICK_SAVE a session, or an `error` in the answer."""
        if account is None:
            raise RpcError(401, "Unauthenticated")
        if not body.get("text") or len(str(body["text"])) > self._world.settings.text_limit:
            raise RpcError(400, "The source is empty or too large.")
        if body.get("language", "python") != "python":
            raise RpcError(400, "Only Python is emulated.")
        mounts, invalid = self._sources.resolve(account, body)
        with self._world.lock:
            shape = _shape(body) if account.phone_verified else ""
            runs = body.get("kernelExecutionType") != "QUICK_SAVE"
            if runs and (refusal := self._refusal(account, shape)):
                return {"error": refusal}
            kernel = self._target(account, body)
            if isinstance(kernel, str):
                return {"error": kernel}
            internet = account.phone_verified and bool(body.get("enableInternet", False))
            number = kernel.versions[-1].number + 1 if kernel.versions else 1
            version = KernelVersion(number, _without(body, invalid), shape, internet)
            kernel.versions.append(version)
            if runs:
                version.session = self._session(account, kernel, version, mounts)
        if version.session is not None:
            version.session.start()
        return {
            "ref": f"{self._world.settings.ref_prefix}{kernel.ref}",
            "url": f"https://www.kaggle.com/code/{kernel.ref}",
            "versionNumber": number,
            "kernelId": kernel.id,
            **invalid,
        }

    def _refusal(self, account: Account, shape: str) -> str:
        settings = self._world.settings
        active = [session for session in self._sessions if session.active and self._owner(session) == account.name]
        with_gpu = len([session for session in active if session.plan.shape])
        if shape and with_gpu >= settings.max_gpu_sessions:
            return f"Maximum batch GPU session count of {settings.max_gpu_sessions} reached."
        if not shape and len(active) - with_gpu >= settings.max_cpu_sessions:
            return f"Maximum batch CPU session count of {settings.max_cpu_sessions} reached."
        if shape.startswith("Nvidia") and account.gpu_left <= 0:
            return f"Maximum weekly GPU quota of {account.gpu_total / 3600:.2f} hours reached."
        return ""

    def _target(self, account: Account, body: Mapping[str, Any]) -> Kernel | str:
        """The kernel that a push means, made where it is new: at the slug of its title, whatever slug was asked for.
        Else a text that says why not."""
        if number := body.get("id"):
            known = [kernel for kernel in self._kernels.values() if kernel.id == int(number)]
            kernel = known[0] if known else None
        else:
            owner, _, slug = str(body.get("slug", "")).partition("/")
            if owner != account.name:
                raise RpcError(403, "Permission 'kernels.update' was denied")
            kernel = self._kernels.get(f"{owner}/{slug}")
        title = str(body.get("newTitle", ""))
        if kernel is None:
            made = self._new(account, title) if title and not number else "Notebook not found"
            if isinstance(made, str):
                return made
            kernel = made
        if kernel.owner != account.name:
            raise RpcError(403, "Permission 'kernels.update' was denied")
        kernel.title = title or kernel.title
        kernel.private = bool(body.get("isPrivate", False))
        return kernel

    def _new(self, account: Account, title: str) -> Kernel | str:
        slug = slugify(title)
        if len(title) < 5 or len(slug) < 5:
            raise RpcError(400, "The title must be at least five characters.")
        if self._faults.take(["wrong-slug"], f"{account.name}/{slug}"):
            slug += "-1"
        if f"{account.name}/{slug}" in self._kernels:
            return f'The requested title "{title}" is already in use by a notebook. Please choose another title.'
        self._ids += 1
        kernel = Kernel(self._ids, account.name, slug, title)
        self._kernels[kernel.ref] = kernel
        return kernel

    def _session(self, account: Account, kernel: Kernel, version: KernelVersion, mounts: Any) -> Session:
        settings, body = self._world.settings, version.asked
        seconds = min(settings.session_seconds, float(body.get("sessionTimeoutSeconds") or settings.session_seconds))
        if version.shape.startswith("Nvidia"):
            seconds = min(seconds, account.gpu_left / max(settings.quota_scale, 1e-9))
        notebook = body.get("kernelType") == "notebook"
        text = str(body["text"])
        plan = Plan(kernel.ref, version.number, text, notebook, version.shape, version.internet, seconds, tuple(mounts))
        number = 900_000 + len(self._sessions)
        machine = Machine(self._world.root / "sessions" / str(number))
        faults: dict[str, Fault] = {}
        for kind in KERNEL:
            if kind != "wrong-slug" and (fault := self._faults.take([kind], kernel.ref)) is not None:
                faults[kind] = fault
        session = Session(number, self._world, plan, machine, faults, self._bill)
        self._sessions.append(session)
        return session

    def _bill(self, session: Session) -> None:
        if session.plan.shape.startswith("Nvidia") and session.began is not None and session.ended is not None:
            spent = (session.ended - session.began) * self._world.settings.quota_scale
            self._accounts.bill(self._owner(session), spent)

    @staticmethod
    def _owner(session: Session) -> str:
        return session.plan.ref.split("/")[0]

    # Ending.

    def delete(self, account: Account | None, owner: str, slug: str) -> None:
        """Kill every session of a kernel and remove it with all versions and outputs. Raises RpcError (403)."""
        kernel = self._kernels.get(f"{owner}/{slug}")
        if kernel is None or account is None or account.name != kernel.owner:
            raise RpcError(403, "Permission 'kernels.delete' was denied")
        with self._world.lock:
            self._kernels.pop(kernel.ref, None)
        for session in kernel.sessions:
            session.faults.pop("ghost", None)
            session.stop(End(CANCEL_ACKNOWLEDGED, keep=False))
            remove(session.machine.folder)

    def close(self) -> None:
        """Kill everything that still runs."""
        closed = End(ERROR, "The emulator was closed.", keep=False)
        for session in self.sessions:
            session.ask(closed)
        for session in self.sessions:
            session.stop(closed)

    def rpcs(self) -> dict[str, Rpc]:
        return {f"{KERNELS}/SaveKernel": self.save}


def _without(body: Mapping[str, Any], invalid: Mapping[str, list[str]]) -> dict[str, Any]:
    """A push as it was accepted: sources that are invalid are dropped from it."""
    dropped = {name for names in invalid.values() for name in names}
    kept = {name: value for name, value in body.items() if not name.endswith("DataSources")}
    lists = {name: value for name, value in body.items() if name.endswith("DataSources")}
    return {**kept, **{name: [source for source in value if source not in dropped] for name, value in lists.items()}}


def _shape(body: Mapping[str, Any]) -> str:
    """The accelerator that a push gets: a retired one becomes its heir, `enableGpu` alone the default."""
    asked = str(body.get("machineShape", ""))
    shape = RETIRED.get(asked, asked)
    if not asked and body.get("enableTpu"):
        return "TpuV5E8"
    return DEFAULT_GPU if not asked and body.get("enableGpu") else shape
