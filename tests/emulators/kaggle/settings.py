"""What can be set on the emulated Kaggle, and what its parts share.

Every setting may be changed while the emulator runs, in process (`kaggle.settings.queue_seconds = 3`) or over the admin
path. Times are seconds, sizes bytes. A number without a source is an assumption, and is called so.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

HOURS = 3600.0
_REPOSITORY = Path(__file__).resolve().parents[3]
OURS = tuple(str(_REPOSITORY / name) for name in ("launcher", "backends", "tests"))  # Kaggle's image has none of it


@dataclass
class Settings:
    """The platform's conditions. Delays are short by default, so that tests are fast; the caps are Kaggle's."""

    layout: Literal["old", "new"] = "new"
    """Where sources lie: `old` is /kaggle/input/<slug>, `new` is /kaggle/input/datasets/<owner>/<slug> and the like."""
    sandbox: Literal["auto", "chroot", "plain"] = "auto"
    """`chroot` gives the kernel a literal /kaggle; `plain` gives it KAGGLE_INPUT_ROOT and the like instead."""
    python: str = sys.executable
    """The image: the program that runs a kernel."""
    kernel_env: Mapping[str, str] = field(default_factory=dict)
    """Variables of the image, beside the few that the emulator sets itself."""
    hide: tuple[str, ...] = (tempfile.gettempdir(), *OURS)
    """Folders of this machine that a kernel in a chroot finds empty (but not one that holds its Python)."""
    seed: int = 0
    """Of the places at which the log is cut into records."""

    queue_seconds: float = 0.02
    cancel_seconds: float = 0.05
    """How long a kernel that was cancelled on the website stays CANCEL_REQUESTED."""
    session_seconds: float = 12 * HOURS
    """Longest session. Public code names 12 h for CPU and GPU."""
    max_gpu_sessions: int = 2
    max_cpu_sessions: int = 5
    """Assumption: the GPU figure is public, that of the CPU is not."""
    linger_seconds: float = 0.0
    """How long a session that ended still counts against the cap (kaggle-cli#185)."""
    output_limit: int = 20 * 10**9
    """Largest /kaggle/working; more ends the kernel with ERROR."""
    keep_lost_outputs: bool = False
    """Whether a session that was lost, or cancelled on the website, keeps its outputs. Not known of Kaggle."""
    keep_timed_out_outputs: bool = True
    """Whether one that ran into its time limit does. Reported in public code, not confirmed."""
    quota_scale: float = 1.0
    """GPU seconds billed for a second of wall clock."""
    text_limit: int = 10**7
    """Largest source text of a kernel. Assumption."""
    ref_prefix: str = ""
    """Put before `ref` in the answer to SaveKernel; a client must not depend on its exact form."""

    dataset_seconds: float = 0.05
    """From the creation of a dataset version until it is READY, at least."""
    unpack: Literal["stem", "root", "off"] = "stem"
    """Archives in a dataset become a folder of their stem's name, are unpacked in place, or are kept as they are."""
    refused_names: str = r"@PaxHeader"
    """Regular expression; a dataset with such a name in it becomes FAILED (kaggle-cli#430)."""
    missing_dataset_status: int = 404
    """HTTP status for a dataset that does not exist. Not known: 403 is possible."""

    url_seconds: float = HOURS
    """How long a signed URL of a file, and one to upload to, is good."""
    expired_status: int = 403
    """HTTP status of a file URL that has expired."""
    page_limit: int = 200
    """Most output files in one page of a listing."""
    errors_as_200: bool = False
    """Errors come as HTTP 200 with `code` and `message` in the body, as some of Kaggle's do."""
    log_idle_seconds: float = 180.0
    """The load balancer cuts a log stream that was silent for so long (kaggle-cli PR 999)."""
    logs_while_queued: Literal["wait", "404"] = "wait"
    """What the log stream of a session without a machine does. Not known."""

    def change(self, values: Mapping[str, Any]) -> None:
        """Set several by name. Raises ValueError for a name that is no setting."""
        for name in values:
            if name not in self.__dataclass_fields__:
                raise ValueError(f"{name} is no setting; there are {', '.join(sorted(self.__dataclass_fields__))}")
        for name, value in values.items():
            setattr(self, name, value)


class Counters:
    """What went over the wire and what was started. `calls` counts RPCs by method, and `upload`, `file`, `logs`; bytes
    are those of bodies, without headers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0
        self.sessions_started = 0

    def call(self, name: str) -> None:
        with self._lock:
            self.calls[name] += 1

    def moved(self, *, received: int = 0, sent: int = 0) -> None:
        with self._lock:
            self.bytes_in += received
            self.bytes_out += sent

    def session(self) -> None:
        with self._lock:
            self.sessions_started += 1


class RpcError(Exception):
    """An answer that says no: HTTP `status`, and the same as `code` in its body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass
class World:
    """What all parts of one emulator share. `lock` guards every table; nothing slow is done under it."""

    root: Path
    settings: Settings
    counters: Counters = field(default_factory=Counters)
    lock: threading.RLock = field(default_factory=threading.RLock)
    closing: threading.Event = field(default_factory=threading.Event)
    endpoint: str = ""
