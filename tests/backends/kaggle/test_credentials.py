"""Which credentials are found, which are used, and that none is ever shown."""

from __future__ import annotations

import json
import os
import pickle
import pwd
import stat
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.kaggle.client.credentials import (
    Ask,
    Credential,
    Found,
    Kind,
    Renewed,
    Secret,
    check,
    choose,
    find,
    renewed,
)
from backends.kaggle.client.refusals import UnansweredError
from backends.kaggle.client.service import ask_of, sign_in
from backends.kaggle.client.wire import Limits
from launcher.errors import CredentialError
from launcher.finding import Severity
from tests.backends.kaggle.scripted import Reply, Request, Server, in_turn, says, serving

NOW = datetime(2026, 11, 22, tzinfo=UTC)
FAST = Limits(connect=2, silence=1, answer=1, total=2, pauses=(0.01,))


@pytest.fixture
def home() -> Path:
    folder = Path(os.environ["HOME"]) / ".kaggle"
    folder.mkdir()
    return folder


def save(path: Path, value: Any, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    path.chmod(mode)


def legacy(name: str = "alice") -> dict[str, str]:
    return {"username": name, "key": "k3y-secret"}


def login(**others: str) -> dict[str, str]:
    ends = (NOW + timedelta(hours=1)).isoformat()
    base = {"refresh_token": "r-secret", "access_token": "a-secret", "access_token_expiration": ends}
    return {**base, "username": "carol", **others}


def env(**others: str) -> dict[str, str]:
    return {"HOME": os.environ["HOME"], **others}


def asking(users: dict[str, str] | None = None, fresh: Renewed | None = None) -> Ask:
    return Ask(lambda token: (users or {}).get(token.reveal()), lambda refresh: fresh)


def unreachable(secret: Secret) -> Any:
    raise UnansweredError("no connection")


def kinds(found: Found) -> list[Kind]:
    return [credential.kind for credential in found.credentials]


def codes(found: Found) -> list[str]:
    return [finding.code for finding in found.findings]


# What is found, and where.


def test_nothing_is_found_where_nothing_is_and_no_folder_is_made(tmp_path: Path) -> None:
    assert find(env()) == Found((), ())
    assert not (Path(os.environ["HOME"]) / ".kaggle").exists()
    assert not (Path(os.environ["HOME"]) / ".config").exists()


def test_without_a_home_there_is_nothing_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user may stand in no list of users."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    found = find({"KAGGLE_USERNAME": "alice", "KAGGLE_KEY": "k3y"})
    assert [each.user for each in found.credentials] == ["alice"]


def test_the_order_is_token_then_key_then_login(home: Path) -> None:
    save(home / "credentials.json", login())
    save(home / "kaggle.json", legacy())
    save(home / "access_token", "file-token")
    assert kinds(find(env())) == [Kind.TOKEN, Kind.KEY, Kind.OAUTH]


@pytest.mark.parametrize("name", ["access_token", "access_token.txt"])
def test_a_token_file_is_read_without_its_line_end_and_byte_order_mark(home: Path, name: str) -> None:
    save(home / name, "\ufefftoken-1 \r\n")
    (credential,) = find(env()).credentials
    assert (credential.secret.reveal(), credential.where) == ("token-1", f"~/.kaggle/{name}")


def test_the_variable_holds_a_token_or_the_path_of_one_and_comes_before_the_files(home: Path, tmp_path: Path) -> None:
    save(home / "access_token", "from-home")
    save(tmp_path / "elsewhere", "from-path\n")
    (by_value,) = find(env(KAGGLE_API_TOKEN="from-variable")).credentials
    (by_path,) = find(env(KAGGLE_API_TOKEN=str(tmp_path / "elsewhere"))).credentials
    assert by_value.secret.reveal() == "from-variable"
    assert by_path.secret.reveal() == "from-path"
    assert str(tmp_path / "elsewhere") in by_path.where
    (too_long,) = find(env(KAGGLE_API_TOKEN="x" * 5000)).credentials
    assert too_long.kind is Kind.TOKEN


@pytest.mark.parametrize("where", ["KAGGLE_CONFIG_DIR", "home", "XDG_CONFIG_HOME", ".config"])
def test_a_legacy_key_is_found_in_each_of_its_places(where: str, tmp_path: Path) -> None:
    user_home = Path(os.environ["HOME"])
    more: dict[str, str] = {}
    match where:
        case "KAGGLE_CONFIG_DIR":
            save(tmp_path / "conf" / "kaggle.json", legacy())
            save(user_home / ".kaggle" / "kaggle.json", legacy("bob"))
            more = {where: str(tmp_path / "conf")}
        case "home":
            save(user_home / ".kaggle" / "kaggle.json", legacy())
            save(user_home / ".config" / "kaggle" / "kaggle.json", legacy("bob"))
        case "XDG_CONFIG_HOME":
            save(tmp_path / "xdg" / "kaggle" / "kaggle.json", legacy())
            more = {where: str(tmp_path / "xdg")}
        case ".config":
            save(user_home / ".config" / "kaggle" / "kaggle.json", legacy())
    (credential,) = find(env(**more)).credentials
    assert (credential.user, credential.secret.reveal()) == ("alice", "k3y-secret")


def test_variables_lie_over_the_file_of_a_key(home: Path) -> None:
    save(home / "kaggle.json", legacy())
    (credential,) = find(env(KAGGLE_USERNAME="bob", KAGGLE_KEY="other")).credentials
    assert (credential.user, credential.secret.reveal()) == ("bob", "other")
    assert "KAGGLE_KEY" in credential.where
    (mixed,) = find(env(KAGGLE_USERNAME="bob")).credentials
    assert (mixed.user, mixed.secret.reveal()) == ("bob", "k3y-secret")


def test_half_a_key_is_a_finding_and_no_credential() -> None:
    found = find(env(KAGGLE_USERNAME="bob"))
    assert kinds(found) == []
    assert codes(found) == ["kaggle.half-a-key"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_can_read_is_a_finding_with_the_command_that_mends_it(home: Path, mode: int) -> None:
    for name, value in (("access_token", "t"), ("kaggle.json", legacy()), ("credentials.json", login())):
        save(home / name, value, mode)
    found = find(env())
    assert codes(found) == ["kaggle.open-credential"] * 3
    assert all(finding.remedy.startswith("chmod 600 ") for finding in found.findings)
    assert len(found.credentials) == 3


@pytest.mark.parametrize("text", ["{", "[]", "5", '"x"', "\x00"])
def test_a_file_that_is_no_json_object_is_a_finding(home: Path, text: str) -> None:
    save(home / "kaggle.json", text)
    assert codes(find(env())) == ["kaggle.unreadable-credential"]


def test_a_file_that_is_a_folder_or_no_text_is_a_finding(home: Path) -> None:
    (home / "access_token").mkdir()
    (home / "kaggle.json").write_bytes(b"\xff\xfe\x00")
    (home / "kaggle.json").chmod(0o600)
    assert codes(find(env())) == ["kaggle.unreadable-credential"] * 2


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "snow☃", "\x7f\x01"])
def test_a_token_that_no_header_can_hold_is_a_finding_and_not_used(token: str) -> None:
    found = find(env(KAGGLE_API_TOKEN=token))
    assert codes(found) == ["kaggle.bad-credential"]
    assert not found.credentials
    assert token not in repr(found)
    with pytest.raises(CredentialError, match="characters"):
        choose(found, asking())


# Which is used.


def test_a_valid_token_is_used_with_the_name_that_kaggle_gives(home: Path) -> None:
    save(home / "kaggle.json", legacy())
    credential, findings = choose(find(env(KAGGLE_API_TOKEN="t1")), asking({"t1": "bob"}))
    assert (credential.kind, credential.user) == (Kind.TOKEN, "bob")
    assert not findings


def test_a_stale_token_before_a_good_key_is_said_and_the_key_is_used(home: Path) -> None:
    save(home / "kaggle.json", legacy())
    credential, (finding,) = choose(find(env(KAGGLE_API_TOKEN="stale-secret")), asking())
    assert (credential.kind, credential.user) == (Kind.KEY, "alice")
    assert finding.code == "kaggle.stale-credential"
    assert "KAGGLE_API_TOKEN" in finding.message
    assert "~/.kaggle/kaggle.json is used in its place" in finding.evidence
    assert finding.remedy
    assert "stale-secret" not in repr(finding)


def test_a_token_that_cannot_be_checked_is_not_passed_over(home: Path) -> None:
    save(home / "kaggle.json", legacy())
    with pytest.raises(UnansweredError):
        choose(find(env(KAGGLE_API_TOKEN="t1")), Ask(unreachable, unreachable))


def test_a_login_is_used_as_it_is_until_its_token_ends_and_is_renewed_then(home: Path) -> None:
    save(home / "credentials.json", login())
    before = (home / "credentials.json").read_bytes()
    found = find(env())
    credential, _ = choose(found, Ask(unreachable, unreachable), NOW)
    assert (credential.user, credential.secret.reveal()) == ("carol", "a-secret")
    later = NOW + timedelta(minutes=56)
    fresh = Renewed(Secret("new-secret"), timedelta(hours=12))
    again, _ = choose(found, asking(fresh=fresh), later)
    assert (again.secret.reveal(), again.expires) == ("new-secret", later + timedelta(hours=12))
    assert renewed(again, Ask(unreachable, unreachable), later + timedelta(hours=11)) == again
    assert (home / "credentials.json").read_bytes() == before
    with pytest.raises(CredentialError, match="not valid"):
        choose(found, asking(fresh=None), later)


@pytest.mark.parametrize("ends", ["", "soon", "2026-11-22T00:04:00", None])
def test_a_login_whose_end_is_near_or_not_known_is_renewed(home: Path, ends: str | None) -> None:
    value = {**login(), "access_token_expiration": ends}
    save(home / "credentials.json", value)
    (credential,) = find(env()).credentials
    assert credential.stale(NOW)


def test_nothing_at_all_is_a_credential_error_that_says_what_to_do() -> None:
    with pytest.raises(CredentialError) as caught:
        choose(find(env()), asking())
    assert "KAGGLE_API_TOKEN" in (caught.value.remedy or "")


# As findings.


def test_check_never_raises_and_says_who_signs_in_with_what(home: Path) -> None:
    credential, findings = check(asking(), env())
    assert credential is None
    assert [(each.code, each.severity) for each in findings] == [("kaggle.no-credentials", Severity.ERROR)]
    save(home / "kaggle.json", legacy(), 0o644)
    credential, findings = check(asking(), env(KAGGLE_API_TOKEN="stale"))
    assert credential is not None
    assert [each.code for each in findings] == [
        "kaggle.open-credential",
        "kaggle.stale-credential",
        "kaggle.credentials",
    ]
    assert "alice" in findings[-1].message
    (home / "kaggle.json").chmod(0o600)
    credential, findings = check(Ask(unreachable, unreachable), env(KAGGLE_API_TOKEN="t"))
    assert credential is None
    assert [(each.code, each.severity) for each in findings] == [("kaggle.unchecked", Severity.WARNING)]


# Secrets.


@given(st.text(min_size=8, alphabet=st.characters(min_codepoint=33, max_codepoint=126)))
def test_no_secret_is_shown_by_repr_str_asdict_or_json(secret: str) -> None:
    credential = Credential(Kind.OAUTH, "here", Secret(secret), "u", Secret(secret), NOW)
    hidden = repr(Credential(Kind.OAUTH, "here", Secret("x"), "u", Secret("x"), NOW))
    for shown in (repr(credential), str(credential), f"{credential}"):
        assert shown == hidden
    assert repr(asdict(credential)["secret"]) == "Secret(***)"
    with pytest.raises(TypeError):
        json.dumps(asdict(credential), default=None)
    with pytest.raises(TypeError):
        pickle.dumps(credential)


# Over the wire.


@pytest.fixture
def kaggle() -> Any:
    with serving(account) as server:
        yield server


def account(request: Request) -> Reply:
    if request.rpc == "IntrospectToken":
        good = request.fields["token"] in ("good", "renewed")
        return says({"active": good, "username": "bob" if good else ""})
    if request.rpc == "GenerateAccessToken":
        return says({"token": "renewed", "expiresIn": 3600})
    return says({})


def test_a_good_token_is_asked_for_once_and_used(kaggle: Server) -> None:
    service, findings = sign_in(kaggle.url, FAST, env(KAGGLE_API_TOKEN="good"))
    service.quota()
    assert service.user == "bob"
    assert not findings
    assert [request.headers["Authorization"] for request in kaggle.requests] == ["Bearer good"] * 2


def test_with_a_stale_token_the_key_goes_out_as_basic_and_the_bad_token_never_again(
    kaggle: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(home / "kaggle.json", legacy())
    monkeypatch.setenv("KAGGLE_API_TOKEN", "stale")
    service, (finding,) = sign_in(kaggle.url, FAST)
    service.quota()
    service.kernels()
    assert finding.code == "kaggle.stale-credential"
    sent = [(request.rpc, request.headers["Authorization"][:6]) for request in kaggle.requests]
    assert sent[0] == ("IntrospectToken", "Bearer")
    assert {kind for _, kind in sent[1:]} == {"Basic "}


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_to_look_at_a_token_means_that_it_is_not_valid(kaggle: Server, status: int) -> None:
    kaggle.answer = in_turn(says({"code": status, "message": "no"}, status))
    assert ask_of(kaggle.url, FAST).user_of(Secret("stale")) is None
    assert ask_of(kaggle.url, FAST).renew(Secret("stale")) is None


def test_a_server_in_trouble_does_not_make_a_token_invalid(kaggle: Server) -> None:
    kaggle.answer = in_turn(says({"code": 500, "message": "no"}, 500))
    with pytest.raises(UnansweredError):
        ask_of(kaggle.url, FAST).user_of(Secret("good"))


def test_a_login_is_renewed_with_its_refresh_token_and_again_when_a_run_outlasts_it(kaggle: Server, home: Path) -> None:
    save(home / "credentials.json", login(access_token_expiration="2020-01-01T00:00:00+00:00"))
    first: Callable[[Request], Reply] = lambda request: says({"token": "first", "expiresIn": 10})  # noqa: E731
    kaggle.answer = in_turn(first, account)
    service, _ = sign_in(kaggle.url, FAST, env())
    service.quota()
    assert kaggle.rpcs() == ["GenerateAccessToken", "GenerateAccessToken", "GetAcceleratorQuotaStatistics"]
    assert kaggle.requests[0].fields == {
        "refreshToken": "r-secret",
        "apiVersion": "API_VERSION_V1",
        "expirationDuration": "43200s",
    }
    assert "Authorization" not in kaggle.requests[0].headers
    assert kaggle.requests[2].headers["Authorization"] == "Bearer renewed"
    assert stat.S_IMODE((home / "credentials.json").stat().st_mode) == 0o600
