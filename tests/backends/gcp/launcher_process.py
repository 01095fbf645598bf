"""A launcher in a process of its own that can be killed, forked from one that has imported everything.

Commands, driver, backend and Google's clients are the real ones. Only SSH is stood in for: where it would lay a box out
and start its worker, an object in the bucket says so, and the test's process is the machine (`yard.Yard`).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google.cloud.compute_v1
import google.cloud.storage  # noqa: F401  what takes long

import launcher.cli.attach
import launcher.cli.cancel
import launcher.cli.follow
import launcher.cli.reap  # noqa: F401
from backends.gcp import account, hands, starting
from backends.gcp.compute import limits as limits_module
from backends.gcp.compute.seen import Life, Seen
from launcher.backend import Lines, State, Status
from launcher.cli.out import print_error
from launcher.errors import RemoteError, SamerunError
from launcher.runs.driving import following

BEGUN = "begun/"
LIMITS = limits_module.Limits(poll=0.02, call=0.5, again=0.8, operation=1.0, gone=1.2, boot=1.5)
"""Short: a stuck operation is given up after a second."""


class Stand:
    """In the place of `hands.Hands`."""

    def __init__(self, reach: Any, found: Seen, host_keys: Sequence[str], seconds: float) -> None:
        self.host_keys, self._found = tuple(host_keys), found

    def close(self) -> None:
        """Nothing to close."""

    def begin(self, work: hands.Work, found: Seen) -> None:
        """Ask the yard for it."""
        name = f"{BEGUN}{work.attempt}"
        _bucket().blob(name).upload_from_string(json.dumps({"zone": found.zone, "name": found.name, **work.config}))

    def started(self, attempt: str) -> bool:
        """Whether the yard was asked."""
        return bool(_bucket().blob(f"{BEGUN}{attempt}").exists())

    def lines(self, attempt: str, offset: int, wait: float) -> Lines:
        """Nobody answers: the bucket has them."""
        raise RemoteError("no SSH here")

    def fetch(self, attempt: str, paths: Sequence[str], to: Path) -> None:
        """The same."""
        raise RemoteError("no SSH here")

    def cancel(self, attempt: str, wait: float) -> Status:
        """It cannot be told."""
        return Status(State.UNKNOWN)


def ready(compute: Any, found: Seen, make: Any) -> tuple[Any, Seen]:
    """In the place of `hands.ready`: as soon as it is RUNNING."""
    import time

    until = time.monotonic() + compute.limits.boot
    while time.monotonic() < until:
        now = compute.get(found.zone, found.name)
        if now is None or now.life in (Life.GOING, Life.OFF):
            raise hands.TakenAwayError(f"{found.name} was taken away")
        if now.life is Life.UP:
            return make(now, ("ssh-ed25519 AAAA",)), now
        time.sleep(0.01)
    raise hands.UnreachableError(f"nobody gets into {found.name}")


def _bucket() -> Any:
    from google.cloud import storage

    return storage.Client().bucket(os.environ["SAMERUN_GCP_BUCKET"])


def main(env: Mapping[str, str], command: str, argv: Sequence[str], said: str) -> None:
    """Run one command of `launch` and end with its exit code. `said`: the file for all that it prints."""
    os.environ.update(env)
    fd = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    for module, name, stand in ((account, "Hands", Stand), (starting, "ready", ready)):
        setattr(module, name, stand)
    limits_module.Limits.of = classmethod(lambda cls, poll: LIMITS)  # type: ignore[method-assign, assignment]
    following.RETRY_S, following.WAIT_S = 0.05, 0.05
    try:
        code = int(importlib.import_module(f"launcher.cli.{command}").main(list(argv)))
    except SamerunError as error:
        code = int(print_error(error, as_json=False))
    except BaseException:  # noqa: BLE001  a bug: the test says so
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
