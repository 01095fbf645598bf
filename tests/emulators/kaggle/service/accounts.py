"""Users, what proves them, and the GPU time that each has left this week."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.emulators.kaggle.settings import HOURS, RpcError, World

Rpc = Callable[["Account | None", Mapping[str, Any]], Any]
OAUTH, ACCOUNT, KERNELS = "security.OAuthService", "users.AccountService", "kernels.KernelsApiService"
WEEKLY_GPU = 30 * HOURS  # what public code reports; Kaggle changes it from week to week
WEEKLY_TPU = 20 * HOURS  # assumption


@dataclass
class Account:
    """A user. `key` goes with the name (legacy), `token` alone, `refresh` is OAuth's; `gpu_used` is seconds."""

    name: str
    id: int
    key: str
    token: str
    refresh: str
    phone_verified: bool = True
    gpu_total: float = WEEKLY_GPU
    gpu_used: float = 0.0
    issued: dict[str, float] = field(default_factory=dict)
    """Access tokens that OAuth gave out, and when each ends (seconds since the epoch)."""

    @property
    def gpu_left(self) -> float:
        return max(0.0, self.gpu_total - self.gpu_used)


class Accounts:
    """All users by name. `alice` is there from the start."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._accounts: dict[str, Account] = {}
        self.add("alice")

    def add(self, name: str, **options: Any) -> Account:
        """A new user with credentials of its own; `options` are fields of `Account`."""
        fields = {"key": f"{name}-key", "token": f"KGAT_{name}-token", "refresh": f"{name}-refresh", **options}
        with self._world.lock:
            account = Account(name=name, id=1000 + len(self._accounts), **fields)
            self._accounts[name] = account
        return account

    def __getitem__(self, name: str) -> Account:
        return self._accounts[name]

    def authenticate(self, header: str | None) -> Account | None:
        """Who sends this Authorization header; None for nobody. Raises RpcError (401) when it proves nothing."""
        if not header:
            return None
        kind, _, proof = header.partition(" ")
        account = self._basic(proof) if kind == "Basic" else self._bearer(proof)
        if account is None:
            raise RpcError(401, "Unauthenticated")
        return account

    def _basic(self, proof: str) -> Account | None:
        try:
            name, _, key = base64.b64decode(proof).decode().partition(":")
        except ValueError:
            return None
        account = self._accounts.get(name)
        return account if account is not None and secrets.compare_digest(account.key, key) else None

    def _bearer(self, token: str) -> Account | None:
        for account in list(self._accounts.values()):
            if token == account.token or account.issued.get(token, 0.0) > time.time():
                return account
        return None

    def bill(self, name: str, seconds: float) -> None:
        """Take GPU seconds from a user's week."""
        with self._world.lock:
            self._accounts[name].gpu_used += seconds

    def rpcs(self) -> dict[str, Rpc]:
        return {
            f"{OAUTH}/IntrospectToken": self._introspect,
            f"{ACCOUNT}/GenerateAccessToken": self._generate,
            f"{KERNELS}/GetAcceleratorQuotaStatistics": self._quota,
        }

    def _introspect(self, _: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        account = self._bearer(str(body.get("token", "")))
        if account is None:
            return {"active": False}
        return {"active": True, "username": account.name, "userId": account.id, "scope": "resources.admin"}

    def _generate(self, _: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        refresh = body.get("refreshToken")
        for account in list(self._accounts.values()):
            if refresh and account.refresh == refresh:
                lasts = _seconds(body.get("expirationDuration", "43200s"))
                token = f"KGAT_{secrets.token_hex(8)}"
                account.issued[token] = time.time() + lasts
                return {"token": token, "expiresIn": int(lasts), "userName": account.name, "userId": account.id}
        raise RpcError(401, "Unauthenticated")

    def _quota(self, account: Account | None, _: Mapping[str, Any]) -> dict[str, Any]:
        if account is None:
            raise RpcError(401, "Unauthenticated")
        now = datetime.now(UTC)
        refresh = (now + timedelta(days=7 - now.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
        gpu = _duration(account.gpu_used), _duration(account.gpu_total)
        return {
            "quotaRefreshTime": stamp(refresh.timestamp()),
            "gpuQuota": {"timeUsed": gpu[0], "totalTimeAllowed": gpu[1], "hasEverRun": account.gpu_used > 0},
            "tpuQuota": {"timeUsed": "0s", "totalTimeAllowed": _duration(WEEKLY_TPU)},
        }


def _duration(seconds: float) -> str:
    return f"{int(seconds)}s"


def _seconds(text: str) -> float:
    return float(text.rstrip("s"))


def stamp(when: float) -> str:
    """A time (seconds since the epoch) as the wire has it."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
