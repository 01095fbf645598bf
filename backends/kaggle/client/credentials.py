"""Which credentials Kaggle's own client would use, found in its order, without its module and without the network.

The order (kaggle 2.2.4, `KaggleApi.authenticate`): an API token (`KAGGLE_API_TOKEN`, its value or the path of a file,
then `~/.kaggle/access_token`, then `~/.kaggle/access_token.txt`), a legacy key (`kaggle.json`, with `KAGGLE_USERNAME`
and `KAGGLE_KEY` over it), the OAuth login of `kaggle auth login` (`~/.kaggle/credentials.json`).

One trap is handled here: with a token that is no longer valid, the client falls back to a good key and then sends the
bad token all the same. `choose` uses the key, and says so. No file is written, and no message, `repr` or `str` shows a
secret.
"""

from __future__ import annotations

import enum
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from launcher.errors import CredentialError, SamerunError
from launcher.finding import Finding, Severity

SETTINGS_PAGE = "https://www.kaggle.com/settings"
HOW = f"make a token at {SETTINGS_PAGE} and save it as ~/.kaggle/access_token (chmod 600), or export KAGGLE_API_TOKEN"
SOURCE = "kaggle 2.2.4, KaggleApi.authenticate"
EARLY = timedelta(minutes=5)  # an OAuth access token this close to its end is renewed; an assumption
FILE_LIMIT = 64 << 10  # bytes: a credentials file is far smaller, and KAGGLE_API_TOKEN may name any file


class Secret:
    """A text that shows itself to nobody who does not ask for it by `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


class Kind(enum.StrEnum):
    """What Kaggle calls them."""

    TOKEN = "API token"
    KEY = "legacy API key"
    OAUTH = "OAuth login"


@dataclass(frozen=True)
class Credential:
    """One way to sign in. `where` is in words, for a human. `user` is None where only Kaggle can tell.

    `secret` is the token or the key; for OAUTH it is the access token, which may have ended at `expires`, and
    `refresh` is the long-lived one.
    """

    kind: Kind
    where: str
    secret: Secret
    user: str | None = None
    refresh: Secret | None = None
    expires: datetime | None = None

    def stale(self, now: datetime) -> bool:
        """Whether an access token has to be made first."""
        if self.kind is not Kind.OAUTH:
            return False
        return not self.secret.reveal() or self.expires is None or self.expires - EARLY <= now


@dataclass(frozen=True)
class Found:
    """All that is there, in the client's order, and what is wrong with it."""

    credentials: tuple[Credential, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Renewed:
    """What Kaggle gives for a refresh token."""

    token: Secret
    lasts: timedelta


@dataclass(frozen=True)
class Ask:
    """The two questions that need the network.

    `user_of`: the name of a token's owner, None where Kaggle says that it is not valid. `renew`: a new access token,
    None where the refresh token is not valid. Both raise RemoteError where Kaggle does not answer.
    """

    user_of: Callable[[Secret], str | None]
    renew: Callable[[Secret], Renewed | None]


def find(env: Mapping[str, str] | None = None) -> Found:
    """Look at the environment and the files. Never raises, asks nobody."""
    env = os.environ if env is None else env
    findings: list[Finding] = []
    home = Path(env.get("HOME") or os.path.expanduser("~")) / ".kaggle"  # noqa: PTH111  Path.home() may raise
    looked = (_token(env, home, findings), _key(env, home, findings), _oauth(home, findings))
    return Found(tuple(each for each in looked if each is not None), tuple(findings))


def choose(found: Found, ask: Ask, now: datetime | None = None) -> tuple[Credential, tuple[Finding, ...]]:
    """The first credential that works, with its user name, and what is to be said about those before it.

    Raises CredentialError when none works, RemoteError when Kaggle could not be asked: a token that cannot be checked
    is not passed over, or a cut network would sign in somebody else.
    """
    now = now or datetime.now(UTC)
    findings: list[Finding] = []
    for credential in found.credentials:
        works = _works(credential, ask, now)
        if works is not None:
            if findings:
                findings = [_poisoned(each, works) for each in findings]
            return works, tuple(findings)
        message = f"the {credential.kind} in {credential.where} is not valid (any more)"
        remedy = f"remove it, or put a new one there from {SETTINGS_PAGE}"
        findings.append(Finding("kaggle.stale-credential", Severity.WARNING, message, remedy=remedy, source=SOURCE))
    if findings:
        raise CredentialError("; ".join(each.message for each in findings), remedy=HOW)
    broken = [each.message for each in found.findings if each.severity is Severity.ERROR]
    raise CredentialError("; ".join(broken) or "there are no Kaggle credentials on this machine", remedy=HOW)


def check(ask: Ask, env: Mapping[str, str] | None = None) -> tuple[Credential | None, list[Finding]]:
    """For `Backend.check`: what `find` and `choose` have to say, as findings. Never raises a SamerunError."""
    found = find(env)
    findings = list(found.findings)
    try:
        credential, more = choose(found, ask)
    except CredentialError as error:
        findings.append(
            Finding("kaggle.no-credentials", Severity.ERROR, error.message, remedy=error.remedy or "", source=SOURCE)
        )
        return None, findings
    except SamerunError as error:
        message = f"the credentials could not be checked: {error.message}"
        findings.append(Finding("kaggle.unchecked", Severity.WARNING, message, remedy=error.remedy or ""))
        return None, findings
    findings += more
    message = f"signed in as {credential.user} with the {credential.kind} in {credential.where}"
    if credential.kind is Kind.KEY:  # nothing was asked: the first call will tell
        message = f"will sign in as {credential.user} with the {credential.kind} in {credential.where}"
    findings.append(Finding("kaggle.credentials", Severity.INFO, message))
    return credential, findings


def renewed(credential: Credential, ask: Ask, now: datetime | None = None) -> Credential | None:
    """The credential with an access token that is valid now; itself where it needs none; None where refused."""
    now = now or datetime.now(UTC)
    if not credential.stale(now):
        return credential
    answer = ask.renew(credential.refresh or Secret(""))
    if answer is None:
        return None
    return replace(credential, secret=answer.token, expires=now + answer.lasts)


def _works(credential: Credential, ask: Ask, now: datetime) -> Credential | None:
    match credential.kind:
        case Kind.KEY:
            return credential
        case Kind.TOKEN:
            user = ask.user_of(credential.secret)
            return replace(credential, user=user) if user else None
    fresh = renewed(credential, ask, now)
    if fresh is None or fresh.user:
        return fresh
    user = ask.user_of(fresh.secret)
    return replace(fresh, user=user) if user else None


def _poisoned(finding: Finding, works: Credential) -> Finding:
    evidence = f"the {works.kind} in {works.where} is used in its place"
    if works.kind is Kind.KEY:
        evidence += "; kaggle's own client would go on sending the bad token, and be refused"
    return replace(finding, evidence=evidence)


def _token(env: Mapping[str, str], home: Path, findings: list[Finding]) -> Credential | None:
    value = env.get("KAGGLE_API_TOKEN", "")
    if value:
        path = Path(value)
        try:
            is_file = path.exists()
        except (OSError, ValueError):
            is_file = False
        # As the client does: a path that exists is a file with the token, and ends the search even when it is empty.
        text = _read(path, findings) if is_file else value
        return _good(Kind.TOKEN, f"KAGGLE_API_TOKEN (file {path})" if is_file else "KAGGLE_API_TOKEN", text, findings)
    for path in (home / "access_token", home / "access_token.txt"):
        text = _read(path, findings)
        if text and text.strip():
            return _good(Kind.TOKEN, _shown(path, home), text, findings)
    return None


def _key(env: Mapping[str, str], home: Path, findings: list[Finding]) -> Credential | None:
    folder = Path(env["KAGGLE_CONFIG_DIR"]) if env.get("KAGGLE_CONFIG_DIR") else home
    if not env.get("KAGGLE_CONFIG_DIR") and not home.is_dir():
        folder = Path(env.get("XDG_CONFIG_HOME") or home.parent / ".config") / "kaggle"
    path = folder / "kaggle.json"
    values = _object(path, findings)
    user, key = values.get("username"), values.get("key")
    places = [_shown(path, home)] if user or key else []
    if env.get("KAGGLE_USERNAME"):
        user, places = env["KAGGLE_USERNAME"], [*places, "KAGGLE_USERNAME"]
    if env.get("KAGGLE_KEY"):
        key, places = env["KAGGLE_KEY"], [*places, "KAGGLE_KEY"]
    if not user and not key:
        return None
    where = " and ".join(places)
    if not user or not key:
        lacks = "key" if user else "user name"
        message, remedy = f"{where} holds no {lacks}", "set KAGGLE_USERNAME and KAGGLE_KEY both, or neither"
        findings.append(Finding("kaggle.half-a-key", Severity.WARNING, message, remedy=remedy))
        return None
    good = _good(Kind.KEY, where, str(key), findings)
    return replace(good, user=str(user).strip()) if good else None


def _oauth(home: Path, findings: list[Finding]) -> Credential | None:
    path = home / "credentials.json"
    values = _object(path, findings)
    if not values.get("refresh_token"):
        return None
    refresh = _good(Kind.OAUTH, _shown(path, home), str(values["refresh_token"]), findings)
    if refresh is None:
        return None
    expires = None
    try:
        expires = datetime.fromisoformat(str(values.get("access_token_expiration")))
        expires = expires if expires.tzinfo else expires.replace(tzinfo=UTC)
    except ValueError:
        pass  # not known: the access token is made anew
    access = str(values.get("access_token") or "")
    if not sendable(access):
        access = ""
    user = str(values.get("username") or "") or None
    return replace(refresh, secret=Secret(access), refresh=refresh.secret, expires=expires, user=user)


def _good(kind: Kind, where: str, text: str | None, findings: list[Finding]) -> Credential | None:
    """A credential, or a finding on why the text cannot be one (it would break the header that it is sent in)."""
    value = (text or "").strip()
    if value and sendable(value):
        return Credential(kind, where, Secret(value))
    problem = "holds spaces or characters that are not ASCII" if value else "is empty"
    message = f"the {kind} in {where} {problem}"
    findings.append(Finding("kaggle.bad-credential", Severity.ERROR, message, remedy=HOW))
    return None


def sendable(value: str) -> bool:
    """Whether a header can hold it; for others the HTTP library's error text holds the secret."""
    return value.isascii() and value.isprintable() and " " not in value


def _read(path: Path, findings: list[Finding]) -> str | None:
    """The text of a file, None where there is none; a finding where others can read it or we cannot."""
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            text = stream.read(FILE_LIMIT).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        message, remedy = f"{path} cannot be read: {reason}", "mend its permissions, or remove it"
        findings.append(Finding("kaggle.unreadable-credential", Severity.ERROR, message, remedy=remedy))
        return None
    if mode & (stat.S_IRGRP | stat.S_IROTH) and text.strip():
        message, remedy = f"other users of this machine can read {path}", f"chmod 600 {path}"
        finding = Finding("kaggle.open-credential", Severity.WARNING, message, f"mode {stat.S_IMODE(mode):o}", remedy)
        findings.append(finding)
    return text


def _object(path: Path, findings: list[Finding]) -> Mapping[str, Any]:
    text = _read(path, findings)
    if not text or not text.strip():
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    message, remedy = f"{path} is not a JSON object", f"download it again from {SETTINGS_PAGE}"
    findings.append(Finding("kaggle.unreadable-credential", Severity.ERROR, message, remedy=remedy))
    return {}


def _shown(path: Path, home: Path) -> str:
    return f"~/.kaggle/{path.name}" if path.parent == home else str(path)
