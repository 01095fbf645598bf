"""A signed-in account: kernels pushed, found, followed, fetched from and deleted.

Promises: a push is sent once; after one whose answer was lost it is looked up whether it was taken; what Kaggle took in
another way than it was asked (a source left out, another name, a second session) is deleted and is an error; nothing
counts as deleted that was not looked up to be gone.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from backends.kaggle.client import blobs
from backends.kaggle.client.answers import Kernel, KernelState, Push, Pushed
from backends.kaggle.client.logs import PAUSES, LogReader
from backends.kaggle.client.refusals import NotThereError, UnansweredError
from backends.kaggle.client.service import Service, sign_in
from backends.kaggle.client.wire import Limits
from backends.kaggle.datasets import Datasets, Waits
from backends.kaggle.kernel import source
from backends.kaggle.threads import side_by_side
from backends.kaggle.watching import EXIT, Watch, is_listed
from launcher.backend import Attempt, Handle, InputFile, Lines, RemoteFile, Status
from launcher.errors import IntegrityError, Problem, RemoteError, SamerunError, SpecError
from launcher.files import lock, storage
from launcher.settings import Settings
from launcher.sync import manifest as manifests

if TYPE_CHECKING:
    from backends.kaggle import KaggleRequest

NAME = "kaggle"
LOOK_UP_S = (0.0, 2.0, 5.0)
"""Pauses between looks for a kernel whose push was not answered: assumptions, Kaggle answers for it within seconds."""
GONE_S = (0.0, 1.0, 2.0, 5.0)
"""The same for one that was deleted."""
USUAL_POLL_S = 10.0  # the setting's default, for which all pauses here and below are made


class Account:
    """See the module. Safe for several threads: `Wire` gives each its own client, watches have locks."""

    def __init__(self, service: Service, settings: Settings) -> None:
        pace = _pace(settings)
        waits = Waits(poll=_times(Waits.poll, pace), seen=_times(Waits.seen, pace), settled=_times(Waits.settled, pace))
        patience = blobs.Patience(pauses=_times(blobs.Patience.pauses, pace))
        self.service = service
        self.user = service.user
        self.datasets = Datasets(service, settings.cache_dir, waits, patience)
        self._look_up, self._until_gone = _times(LOOK_UP_S, pace), _times(GONE_S, pace)
        self._log_pauses = _times(PAUSES, pace)
        self._unusable: set[str] = set()  # kernels whose output Kaggle does not attach
        self._notes = settings.cache_dir / "kaggle" / "pushes"
        self._poll_s = settings.kaggle_poll_seconds
        self._watches: dict[tuple[str, str], Watch] = {}
        self._lock = threading.Lock()

    @classmethod
    def sign_in(cls, settings: Settings) -> Account:
        """Raises CredentialError, or RemoteError when Kaggle does not answer."""
        service, _ = sign_in(settings.kaggle_endpoint, limits_for(settings))
        return cls(service, settings)

    # Pushing.

    def push(self, request: KaggleRequest) -> Handle:
        """See `Backend.submit`."""
        with storage("noting what is pushed", self._notes):
            self._notes.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            with storage("noting what is pushed", self._notes):
                held.enter_context(lock(self._notes / f"{request.slug}.lock"))  # a second push is a second session
            return self.find(request.attempt.id) or self._push(request)

    def _push(self, request: KaggleRequest) -> Handle:
        pinned = [self.datasets.pinned(wanted) for wanted in request.datasets]
        push = Push(
            owner=request.owner,
            slug=request.slug,
            title=source.title_of(request.slug),
            text=request.text,
            gpu=request.gpu,
            internet=request.internet,
            timeout_s=request.timeout_s,
            machine_shape=request.accelerator,
            datasets=(*pinned, *request.attached),
            kernels=request.kernels,
            competitions=request.competitions,
        )
        try:
            pushed = self.service.push(push)
        except UnansweredError as error:
            if error.maybe_done and (handle := self._taken(request.attempt.id)) is not None:
                return handle
            raise
        self._as_asked(push, pushed)
        return self._handle(request.head, pushed.version)

    def _taken(self, attempt: str) -> Handle | None:
        """The kernel of a push whose answer did not come, if it was taken."""
        for pause in self._look_up:
            time.sleep(pause)
            if (handle := self.find(attempt)) is not None:
                return handle
        return None

    def _as_asked(self, push: Push, pushed: Pushed) -> None:
        """Delete what Kaggle took otherwise than it was asked, and say so. Raises SamerunError."""
        name = f"{push.owner}/{push.slug}"
        if not pushed.ref:
            raise RemoteError(f"Kaggle does not say where it put {name}", remedy=f"look at {_page(name)}")
        if pushed.ref.lower() != name:
            self._delete(*pushed.ref.split("/", 1))
            remedy = "launch again; if it stays so, report it: a kernel's name is made of its title"
            raise SamerunError(f"Kaggle made {pushed.ref} of the kernel {name}; it was deleted again", remedy=remedy)
        if pushed.invalid:
            self._delete(push.owner, push.slug)
            self._say_left_out([ref for refs in pushed.invalid.values() for ref in refs])
        if pushed.version not in (1, None):
            self._delete(push.owner, push.slug)
            raise RemoteError(f"{name} was there already: two sessions would have run; both were deleted")

    def _say_left_out(self, dropped: Sequence[str]) -> None:
        """Raises SpecError, or RemoteError where another try can do without what was left out."""
        former = {ref for ref in dropped if source.is_kernel(ref.split("/")[-1])}
        words = f"Kaggle left out {', '.join(dropped)}; the kernel was deleted again"
        if former.issuperset(dropped):
            self._unusable.update(ref.split("/")[-1] for ref in former)
            raise RemoteError(words, remedy="the next try sends the checkpoint from here")
        remedy = "check that it exists and that your account may read it; a competition's rules must be accepted"
        raise SpecError([Problem(words, remedy=remedy)])

    def find(self, attempt: str) -> Handle | None:
        """See `Backend.find`. Raises SpecError for a kernel that Kaggle runs without one of its sources."""
        try:
            kernel = self.service.kernel(self.user, source.slug_of(attempt))
        except NotThereError as error:
            if error.certain or not is_listed(self.service, self.user, source.slug_of(attempt)):
                return None
            raise RemoteError(error.message) from error
        head = source.head_of(kernel.source or "")
        if head is None or head.attempt != attempt:
            raise RemoteError(f"{kernel.ref} is not the kernel of {attempt}", remedy=f"look at {_page(kernel.ref)}")
        self._has_sources(kernel, head)
        return self._handle(head, kernel.version)

    def _has_sources(self, kernel: Kernel, head: source.Head) -> None:
        """A launch may have been killed between a push and the look at what was left out of it."""
        attached = [*kernel.datasets, *kernel.kernels, *kernel.competitions]
        if missing := [ref for ref in head.sources if not any(_is_of(ref, each) for each in attached)]:
            self._delete(*kernel.ref.split("/", 1))
            self._say_left_out(missing)

    def _handle(self, head: source.Head, version: int | None, at: str = "") -> Handle:
        """`at`: where Kaggle has put it; said where that is not the attempt's own name."""
        data = {
            "owner": self.user,
            "slug": source.slug_of(head.attempt),
            "version": version,
            "hours": head.hours,
            "temporary": list(head.temporary),
        }
        return Handle(NAME, head.attempt, {**data, "at": at} if at not in ("", data["slug"]) else data)

    def in_former(
        self, attempt: Attempt, wanted: Sequence[InputFile]
    ) -> tuple[list[dict[str, str]], tuple[InputFile, ...]]:
        """Files of the checkpoint that lie in the former attempt's output, and the files that do not.

        All of the checkpoint or nothing: a kernel that is attached for one file would be attached for all.
        """
        checkpoint = [file for file in wanted if file.path.startswith(source.CHECKPOINT)]
        former = attempt.previous
        if former is None or former.backend != NAME or not checkpoint:
            return [], tuple(wanted)
        try:
            there = self._attachable(former)
        except (SamerunError, OSError):
            there = {}
        if not all(file.sha256 in there for file in checkpoint):
            return [], tuple(wanted)
        found = [{"path": file.path, "sha256": file.sha256, "at": there[file.sha256]} for file in checkpoint]
        return found, tuple(file for file in wanted if file not in checkpoint)

    def _attachable(self, handle: Handle) -> Mapping[str, str]:
        """Digest → where it is, of what a former attempt left; nothing where Kaggle would not attach it.

        Only the output of a kernel that is COMPLETE can be counted on (no source says what becomes of others).
        """
        watch = self._watch(handle)
        told = self.service.status(watch.owner, watch.slug, watch.version)
        if told.state is not KernelState.COMPLETE or watch.slug in self._unusable:
            return {}
        with tempfile.TemporaryDirectory(prefix="samerun-kaggle-") as folder:
            self.fetch(handle, [manifests.NAME], Path(folder))
            raw = (Path(folder) / manifests.NAME).read_bytes()
        listed = {file.path for file in self.files(handle) or ()}
        return {entry.sha256: entry.at for entry in manifests.parse(raw).files if entry.at in listed}

    # Following.

    def status(self, handle: Handle) -> Status:
        """See `Backend.poll`."""
        return self._watch(handle).status()

    def lines(self, handle: Handle, after: int, wait: float) -> Lines:
        """See `Backend.lines`."""
        return self._watch(handle).lines(after, wait)

    def files(self, handle: Handle) -> list[RemoteFile] | None:
        """See `Backend.files`."""
        watch = self._watch(handle)
        try:
            sizes = self.service.output_sizes(watch.owner, watch.slug, watch.version)
        except NotThereError:
            return None
        own = {EXIT, f"{source.slug_of(handle.attempt)}.json"}
        found = [RemoteFile(path, size) for path, size in sorted(sizes.items()) if path not in own]
        return found or None

    def fetch(self, handle: Handle, paths: Sequence[str], to: Path) -> None:
        """See `Backend.fetch`."""
        from backends.kaggle.client import download

        if not paths:
            return
        watch = self._watch(handle)
        try:
            sizes = self.service.output_sizes(watch.owner, watch.slug, watch.version)
            missing = download.fetch(
                paths, to, lambda: self.service.outputs(watch.owner, watch.slug, watch.version).urls, sizes
            )
        except NotThereError:
            return
        if manifests.NAME in missing and watch.has_manifest:  # without it a run would go on from an older checkpoint
            raise RemoteError(f"the manifest of {handle.attempt} does not come: {missing[manifests.NAME]}")

    # Ending.

    def cancel(self, handle: Handle) -> Status:
        """See `Backend.cancel`."""
        watch = self._watch(handle)
        status = watch.settled()
        if status.state.ended or watch.is_over:
            return status
        self._delete(watch.owner, watch.slug)
        watch.cancelled = True
        return watch.status(now=True)

    def release(self, handle: Handle) -> list[str]:
        """See `Backend.release`."""
        watch = self._watch(handle)
        status = watch.status(now=True)
        name = f"{watch.owner}/{watch.slug}"
        if not (status.state.ended or watch.is_gone or watch.is_over):
            return [f"{name} is still there and {status.state}: cancel it first"]
        try:
            self._delete(watch.owner, watch.slug)
            left = [line for slug in handle.data.get("temporary", ()) for line in self.datasets.remove(slug)]
        except (RemoteError, IntegrityError) as error:
            return [f"{name} may not be deleted: {error.message}"]
        watch.close()
        with self._lock:
            self._watches.pop(_key(handle), None)
        (self._notes / f"{watch.slug}.lock").unlink(missing_ok=True)
        return left

    def owned(self) -> list[Handle]:
        """See `Backend.owned`."""
        mine = [kernel for kernel in self.service.kernels() if kernel.ref.split("/")[-1].startswith(source.PREFIX)]
        return [handle for handle in side_by_side(self._owned, mine) if handle is not None]

    def _owned(self, kernel: Kernel) -> Handle | None:
        try:
            found = self.service.kernel(*kernel.ref.split("/", 1))
        except NotThereError:
            return None
        head = source.head_of(found.source or "")
        return self._handle(head, found.version, at=kernel.ref.split("/")[-1]) if head is not None else None

    def _delete(self, owner: str, slug: str) -> None:
        """Delete a kernel and look up that it is gone. Raises RemoteError when it is not, or nobody can tell."""
        silent: UnansweredError | None = None
        for pause in self._until_gone:
            time.sleep(pause)
            silent = None
            try:
                self.service.delete_kernel(owner, slug)
            except NotThereError:
                pass
            except UnansweredError as error:
                silent = error
                continue
            if not is_listed(self.service, owner, slug):
                return
        if silent is not None:
            message = f"{owner}/{slug} was to be deleted and may still run: {silent.message}"
            raise RemoteError(message, remedy="do it again when there is a connection")
        raise RemoteError(
            f"{owner}/{slug} was to be deleted and is still listed",
            remedy=f"delete it at kaggle.com/code/{owner}/{slug}: it may use your GPU time",
        )

    def _watch(self, handle: Handle) -> Watch:
        with self._lock:
            watch = self._watches.get(_key(handle))
            if watch is None:
                reader = LogReader(
                    lambda: self.service.wire.open_log(made.owner, made.slug, made.version), pauses=self._log_pauses
                )
                made = watch = self._watches[_key(handle)] = Watch(self.service, handle, reader, self._poll_s)
            return watch


def _key(handle: Handle) -> tuple[str, str]:
    """One attempt can have two kernels: its own, and one that Kaggle put elsewhere."""
    return handle.attempt, str(handle.data.get("at", ""))


def limits_for(settings: Settings) -> Limits:
    """How long calls are waited for, and how soon they are tried again."""
    return Limits(pauses=_times(Limits.pauses, _pace(settings)))


def _is_of(source: str, attached: str) -> bool:
    """Whether `owner/slug`, `owner/slug/N` or a competition is what Kaggle names `attached`.

    Kaggle may put its kind before it (`datasets/owner/slug`; kaggle-cli#433), and the version behind it or not.
    """
    wanted = "/".join(source.split("/")[:2]).lower()
    return f"/{wanted}/" in f"/{attached.strip('/').lower()}/"


def _page(ref: str) -> str:
    return f"kaggle.com/code/{ref}"


def _pace(settings: Settings) -> float:
    """How much shorter than usual pauses are: whoever polls an emulator often need not wait long for it, either."""
    return min(1.0, settings.kaggle_poll_seconds / USUAL_POLL_S)


def _times(pauses: Sequence[float], pace: float) -> tuple[float, ...]:
    return tuple(pause * pace for pause in pauses)
