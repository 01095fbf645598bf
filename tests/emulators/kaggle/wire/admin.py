"""Steering the emulator over HTTP, for a test or a person outside its process. All below /_emulator/.

GET    counters | kernels | datasets | faults | kinds | settings
POST   faults    {"kind": "429", "on": "SaveKernel", "times": 2, "retry_after": 1}     DELETE faults
POST   settings  {"queue_seconds": 3}
POST   kernels   {"ref": "alice/my-kernel", "do": "lose" | "cancel" | "expire", "keep": false}
POST   accounts  {"name": "bob", "phone_verified": false, "gpu_total": 0}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.emulators.kaggle.faults import KINDS, Fault
from tests.emulators.kaggle.settings import RpcError

if TYPE_CHECKING:
    from tests.emulators.kaggle.emulator import KaggleEmulator

PREFIX = "/_emulator/"


def handle(kaggle: KaggleEmulator, method: str, path: str, body: Mapping[str, Any]) -> Any:
    """The answer as a JSON value. Raises RpcError (400, 404) for what makes no sense."""
    what = path[len(PREFIX) :].strip("/")
    try:
        if method == "GET":
            return _show(kaggle, what)
        return _change(kaggle, method, what, dict(body))
    except (ValueError, TypeError, KeyError) as error:
        raise RpcError(400, f"{type(error).__name__}: {error}") from error


def _show(kaggle: KaggleEmulator, what: str) -> Any:
    if what == "counters":
        return kaggle.snapshot()
    if what == "kernels":
        return [kernel.describe() for kernel in kaggle.kernels]
    if what == "datasets":
        return [dataset.describe() for dataset in kaggle.datasets]
    if what == "faults":
        return [dataclasses.asdict(fault) for fault in kaggle.faults.waiting()]
    if what == "kinds":
        return KINDS
    if what == "settings":
        return dataclasses.asdict(kaggle.settings)
    raise RpcError(404, f"/_emulator/{what} is nothing; see tests/emulators/kaggle/wire/admin.py")


def _change(kaggle: KaggleEmulator, method: str, what: str, body: dict[str, Any]) -> Any:
    if what == "faults" and method == "DELETE":
        kaggle.faults.clear()
        return {}
    if what == "faults":
        fault: Fault = kaggle.faults.add(body.pop("kind"), body.pop("on", "*"), body.pop("times", 1), **body)
        return dataclasses.asdict(fault)
    if what == "settings":
        kaggle.settings.change(body)
        return dataclasses.asdict(kaggle.settings)
    if what == "accounts":
        account = kaggle.accounts.add(body.pop("name"), **body)
        return {"name": account.name, "key": account.key, "token": account.token}
    if what == "kernels":
        if body["do"] == "expire":
            kaggle.kernels.expire(body["ref"])
        else:
            act = {"lose": kaggle.kernels.lose, "cancel": kaggle.kernels.cancel_on_website}[body["do"]]
            act(body["ref"], keep=bool(body.get("keep", False)))
        return kaggle.kernels[body["ref"]].describe()
    raise RpcError(404, f"{method} /_emulator/{what} is nothing; see tests/emulators/kaggle/wire/admin.py")
