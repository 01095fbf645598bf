"""The whole of the emulated Kaggle: its parts put together, started and stopped."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.emulators.kaggle.faults import Faults
from tests.emulators.kaggle.service.accounts import Account, Accounts, Rpc
from tests.emulators.kaggle.service.datasets import Datasets
from tests.emulators.kaggle.service.kernel_api import KernelApi
from tests.emulators.kaggle.service.kernels import Kernels
from tests.emulators.kaggle.service.sources import Competitions, Sources
from tests.emulators.kaggle.settings import Counters, RpcError, Settings, World
from tests.emulators.kaggle.wire.files import SignedFiles
from tests.emulators.kaggle.wire.server import Server
from tests.emulators.kaggle.wire.uploads import Uploads

DEAD_PROXY = "http://127.0.0.1:9"  # the discard port: what must not be reached is refused there


class KaggleEmulator:
    """A Kaggle on a loopback port. See the package's docstring.

    `root` is where everything lies (default: a new folder); `options` are fields of `Settings`.
    """

    def __init__(self, root: Path | None = None, *, port: int = 0, **options: Any) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="kaggle-") if root is None else None
        folder = Path(self._temporary.name) if self._temporary is not None else Path(root or ".")
        folder.mkdir(parents=True, exist_ok=True)
        self._port = port
        self._server: Server | None = None
        self.settings = Settings()
        self.settings.change(options)
        self.world = World(folder.resolve(), self.settings)
        self.faults = Faults()
        self.counters: Counters = self.world.counters
        self.files = SignedFiles(self.world)
        self.accounts = Accounts(self.world)
        self.uploads = Uploads(self.world, self.faults)
        self.datasets = Datasets(self.world, self.faults, self.uploads, self.files)
        self.competitions = Competitions()
        sources = Sources(self.world, self.datasets, self.competitions)
        self.kernels = Kernels(self.world, self.faults, self.accounts, sources)
        api = KernelApi(self.world, self.faults, self.kernels, self.files, self.competitions)
        sources.kernel_outputs = api.outputs_of
        parts = (self.accounts, self.uploads, self.datasets, self.kernels, api)
        self._rpcs: dict[str, Rpc] = {name: rpc for part in parts for name, rpc in part.rpcs().items()}

    def start(self) -> Self:
        self._server = Server(self, self._port)
        self.world.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._server.start()
        return self

    def close(self) -> None:
        """Kill every session and stop answering. May be repeated."""
        self.world.closing.set()
        self.kernels.close()  # ends the streams, too
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`; RPCs are below /v1 and, the same, below /api/v1."""
        return self.world.endpoint

    @property
    def env(self) -> dict[str, str]:
        """Variables that make samerun talk to this emulator as alice."""
        return self.env_of("alice")

    def env_of(self, user: str) -> dict[str, str]:
        """The same as another user. NO_PROXY lets a client reach loopback where proxies are set, as in the tests."""
        account = self.accounts[user]
        return {
            "SAMERUN_KAGGLE_ENDPOINT": self.endpoint,
            "KAGGLE_USERNAME": account.name,
            "KAGGLE_KEY": account.key,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def cli_env(self, home: Path, user: str = "alice") -> dict[str, str]:
        """A whole environment for the real `kaggle` command: it takes this server for localhost's port 80, by proxy."""
        account = self.accounts[user]
        home.mkdir(parents=True, exist_ok=True)
        proxies = {"HTTP_PROXY": self.endpoint, "HTTPS_PROXY": DEAD_PROXY, "ALL_PROXY": DEAD_PROXY}
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(home),
            "TMPDIR": str(home),
            "KAGGLE_CONFIG_DIR": str(home),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_USERNAME": account.name,
            "KAGGLE_KEY": account.key,
            **proxies,
            **{name.lower(): value for name, value in proxies.items()},
        }

    def call(self, service: str, method: str, account: Account | None, body: Mapping[str, Any]) -> Any:
        """One RPC. Raises RpcError, 404 for one that is not emulated."""
        rpc = self._rpcs.get(f"{service}/{method}")
        if rpc is None:
            raise RpcError(404, f"{service}/{method} is not emulated")
        return rpc(account, body)

    def snapshot(self) -> dict[str, Any]:
        """All counters as plain values."""
        counters = self.counters
        return {
            "calls": dict(counters.calls),
            "bytes_in": counters.bytes_in,
            "bytes_out": counters.bytes_out,
            "sessions_started": counters.sessions_started,
            "kernels": len(self.kernels),
            "datasets": len(self.datasets),
            "processes_alive": self.processes_alive,
        }

    @property
    def processes_alive(self) -> int:
        """Processes of all sessions that are alive now."""
        return sum(len(session.processes()) for session in self.kernels.sessions)
