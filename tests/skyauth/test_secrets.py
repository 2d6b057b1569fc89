"""Secrets in the settings: in files, and the keys before the present one."""

from pathlib import Path

import pytest
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.utils import timezone

from accounts.principal_lookup import user_principal
from authn import cli_login, nonces
from authn.credentials import SessionCookie
from authn.identify import identify
from authn.session_store import SIGNED_IN_AT, SessionStore
from rbac.principals import Kind
from tests.commands.run_command import read_settings, run_alone

OLD, NEW = "old-" * 10, "new-" * 10
SECRETS = {
    "SECRET_KEY": NEW,
    "SECRET_KEY_FALLBACKS": OLD,
    "DATABASE_URL": "postgres://skyauth:hunter2@db/skyauth",
    "AUTH_STRING": "team:$2b$04$abcdefghijklmnopqrstuv",
}


def settings_of(data: Path, **variables: str) -> dict[str, object]:
    return read_settings(data, **({"SECRET_KEY": NEW} if "SECRET_KEY_FILE" not in variables else {}) | variables)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_in_a_file_is_the_same_as_in_the_setting(tmp_path: Path, name: str, end: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(f"{SECRETS[name]}{end}".encode())
    setting = "DATABASES" if name == "DATABASE_URL" else name
    named = settings_of(tmp_path, **{name: SECRETS[name]})[setting]
    assert settings_of(tmp_path, **{f"{name}_FILE": str(path)})[setting] == named


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_and_its_file_are_never_both_set(tmp_path: Path, name: str) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRETS[name])
    with pytest.raises(ImproperlyConfigured) as raised:
        read_settings(tmp_path, **{"SECRET_KEY": NEW, name: SECRETS[name], f"{name}_FILE": str(path)})
    assert str(raised.value) == f"{name} and {name}_FILE are both set. Remove one of them."


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "which cannot be read: No such file or directory."),
        (b"", "which is empty."),
        (b"\n", "which is empty."),
        (b"hunter2\xff", "which is not UTF-8 text."),
        ("hunter2\u200b".encode(), "which contains an invisible character."),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_its_content(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImproperlyConfigured) as raised:
        settings_of(tmp_path, **{f"{name}_FILE": str(path)})
    assert str(raised.value).startswith(f"{name}_FILE names {path}, {problem}")
    assert "hunter2" not in str(raised.value)


def test_a_directory_is_not_a_secret(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="which cannot be read: Is a directory"):
        settings_of(tmp_path, AUTH_STRING_FILE=str(tmp_path))


def test_a_short_key_in_a_file_is_refused_without_its_value(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    for name in ("SECRET_KEY", "SECRET_KEY_FALLBACKS"):
        ended = run_alone("check", data_dir=tmp_path, **{f"{name}_FILE": str(tmp_path / "secret")})
        assert ended.code == 2
        assert ended.err.startswith(f"SkyAuth does not start: {name} cannot be used: ")
        assert "hunter2" not in ended.err


def test_postgresql_needs_a_key_that_all_replicas_can_have(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text(OLD)
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY must be set with PostgreSQL") as raised:
        read_settings(tmp_path, DATABASE_URL=SECRETS["DATABASE_URL"])
    assert OLD not in str(raised.value)
    assert read_settings(tmp_path)["SECRET_KEY"] == OLD  # SQLite is on one machine


def test_several_earlier_keys_are_separated_by_white_space(tmp_path: Path) -> None:
    assert settings_of(tmp_path, SECRET_KEY_FALLBACKS=f"{OLD}\n{NEW}  {OLD}")["SECRET_KEY_FALLBACKS"] == [OLD, NEW, OLD]
    assert settings_of(tmp_path)["SECRET_KEY_FALLBACKS"] == []


def test_what_an_earlier_key_signed_is_accepted_as_long_as_it_is_a_fallback(alice) -> None:
    actor = user_principal(alice)[0]
    with override_settings(SECRET_KEY=OLD):
        session = SessionStore()
        session[SESSION_KEY], session[HASH_SESSION_KEY] = str(alice.pk), alice.get_session_auth_hash()
        session[SIGNED_IN_AT] = timezone.now().timestamp()
        session.create()
        encrypted = cli_login._encrypted("challenge", {"proxy": "cookie"})
        nonce = nonces.issue(actor, "test")
    cookie = SessionCookie(session.session_key)
    with override_settings(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=[OLD]):
        assert identify(cookie, client="").name == alice.username
        assert cli_login._decrypted("challenge", encrypted) == {"proxy": "cookie"}
        assert nonces.consume(nonce, actor, "test")
    with override_settings(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=[]):
        assert identify(cookie, client="").kind is Kind.ANONYMOUS
        assert cli_login._decrypted("challenge", encrypted) is None
