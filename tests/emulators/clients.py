"""The clients by which the emulated Kaggle is tested: the real SDK, the real command, and bare HTTP."""

from __future__ import annotations

import http.client
import importlib
import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.emulators.kaggle import KaggleEmulator

_TYPES = (
    "kagglesdk.kernels.types.kernels_api_service",
    "kagglesdk.datasets.types.dataset_api_service",
    "kagglesdk.blobs.types.blob_api_service",
    "kagglesdk.competitions.types.competition_api_service",
    "kagglesdk.security.types.oauth_service",
    "kagglesdk.users.types.account_service",
)


def sdk(kaggle: KaggleEmulator, user: str = "alice", **proof: str) -> Any:
    """The real `kagglesdk.KaggleClient`, unmodified but for its endpoint; `proof` replaces name and key."""
    account = kaggle.accounts[user]
    chosen = proof or {"username": account.name, "password": account.key}
    client = importlib.import_module("kagglesdk").KaggleClient(**chosen)
    client.http_client()._endpoint = kaggle.endpoint
    return client


def request(name: str, /, **fields: Any) -> Any:
    """A request of the SDK by its type's name without `Api` and `Request`."""
    for module in map(importlib.import_module, _TYPES):
        kind = getattr(module, f"Api{name}Request", None) or getattr(module, f"{name}Request", None)
        if kind is not None:
            made = kind()
            for field, value in fields.items():
                setattr(made, field, value)
            return made
    raise LookupError(name)


def make(name: str, /, **fields: Any) -> Any:
    """Any other type of the SDK, by its full name."""
    for module in map(importlib.import_module, _TYPES):
        if hasattr(module, name):
            made = getattr(module, name)()
            for field, value in fields.items():
                setattr(made, field, value)
            return made
    raise LookupError(name)


@dataclass(frozen=True)
class Answer:
    """A whole answer to a bare request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Bare:
    """HTTP without any help: what a cut connection or a short body does is seen as it is."""

    def __init__(self, kaggle: KaggleEmulator, user: str = "alice", seconds: float = 10.0) -> None:
        account = kaggle.accounts[user]
        self._host = kaggle.endpoint.removeprefix("http://")
        self._seconds = seconds
        self._proof = "Basic " + b64encode(f"{account.name}:{account.key}".encode()).decode()

    def open(self, method: str, url: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        """The response before its body is read; `headers` with _ for -."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPConnection(self._host, timeout=self._seconds)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, body, {"Authorization": self._proof, **named})
        return connection.getresponse()

    def __call__(self, method: str, url: str, body: bytes | None = None, **headers: str) -> Answer:
        response = self.open(method, url, body, **headers)
        content = response.read()
        return Answer(response.status, dict(response.headers), content)

    def rpc(self, method: str, fields: Mapping[str, Any] | None = None) -> Answer:
        """An RPC on kernels."""
        return self("POST", f"/v1/kernels.KernelsApiService/{method}", json.dumps(fields or {}).encode())


class Cli:
    """The real `kaggle` command, with the emulator as its proxy to localhost's port 80."""

    def __init__(self, kaggle: KaggleEmulator, folder: Path) -> None:
        self.env = kaggle.cli_env(folder / "cli-home")
        self._folder = folder

    def __call__(self, *words: str, status: int = 0) -> str:
        """Its standard output; what it says on standard error where the exit status is not this one, is raised."""
        program = Path(sys.executable).with_name("kaggle")
        ended = subprocess.run(
            [program, *words], env=self.env, cwd=self._folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == status, f"kaggle {' '.join(words)}: {ended.stdout}{ended.stderr}"
        return ended.stdout + (ended.stderr if status else "")


def push(client: Any, title: str, text: str, user: str = "alice", **fields: Any) -> Any:
    """Push a script as the user's kernel of this title; the SDK's answer."""
    slug = title.replace(" ", "-")
    asked = {"language": "python", "kernel_type": "script", "is_private": True, "enable_internet": False, **fields}
    save = request("SaveKernel", slug=f"{user}/{slug}", new_title=title, text=text, **asked)
    return client.kernels.kernels_api_client.save_kernel(save)


def status(client: Any, slug: str, label: str | None = None, user: str = "alice") -> str:
    """The name of a kernel's status."""
    asked = request("GetKernelSessionStatus", user_name=user, kernel_slug=slug)
    asked.version_label = label
    return str(client.kernels.kernels_api_client.get_kernel_session_status(asked).status.name)


def outputs(client: Any, slug: str, **fields: Any) -> Any:
    """The SDK's answer to ListKernelSessionOutput."""
    asked = request("ListKernelSessionOutput", user_name="alice", kernel_slug=slug, **fields)
    return client.kernels.kernels_api_client.list_kernel_session_output(asked)


def printed(log: str) -> str:
    """All that a kernel wrote to standard output, from its log."""
    return "".join(record["data"] for record in json.loads(log) if record["stream_name"] == "stdout")
