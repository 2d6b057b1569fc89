"""Odd values of settings: each is read as it was meant or refused by the name of the setting; a secret is never in a message."""

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from skyauth import environment
from skyauth.configuration import env
from skyauth.environment import Environment
from tests.commands.run_command import ROOT, read_settings, run_alone

KEY = "$abc\\$key-of-32-characters-${X}-and-more"
PG = "postgres://skyauth:hunter2@db.example.com:5432/skyauth"

READ: list[tuple[dict[str, str], str, Any]] = [
    ({"SECRET_KEY": KEY}, "SECRET_KEY", KEY),
    ({"SECRET_KEY": "$PATH" + "x" * 40}, "SECRET_KEY", "$PATH" + "x" * 40),
    ({"AUTH_JWT_ISSUER": "$PATH"}, "AUTH_JWT_ISSUER", "$PATH"),
    ({"AUTH_STRING": "$a:$2y$ # b"}, "AUTH_STRING", "$a:$2y$ # b"),
    ({"PUBLIC_URL": " https://Auth.Example.com/ "}, "PUBLIC_URL", "https://auth.example.com"),
    ({"PUBLIC_URL": "https://auth.example.com:443"}, "PUBLIC_URL", "https://auth.example.com"),
    ({"PUBLIC_URL": "http://auth.example.com:080"}, "PUBLIC_URL", "http://auth.example.com"),
    ({"PUBLIC_URL": "https://auth.example.com:8443"}, "PUBLIC_URL", "https://auth.example.com:8443"),
    ({"PUBLIC_URL": "https://[2001:DB8::1]"}, "ALLOWED_HOSTS", ["[2001:db8::1]", "localhost", "127.0.0.1", "[::1]"]),
    ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS", ["127.0.0.1"]),
    ({"ALLOWED_HOSTS": " a.example , ,.b.example, "}, "ALLOWED_HOSTS", ["127.0.0.1", "a.example", ".b.example"]),
    ({"TRUSTED_PROXIES": "10.0.0.1,"}, "TRUSTED_PROXIES", ["10.0.0.1"]),
    ({"SKYPILOT_URL": " http://sky:46580/ "}, "SKYPILOT_URL", "http://sky:46580"),
    ({"AUTH_GROUPS_HEADER": ""}, "AUTH_GROUPS_HEADER", ""),
    ({"AUTH_JWT_GROUPS_CLAIM": ""}, "AUTH_JWT_GROUPS_CLAIM", ""),
    ({"AUTH_BASIC": " OFF "}, "AUTH_BASIC", False),
    ({"TOKEN_MAX_DAYS": " 030 "}, "TOKEN_MAX_DAYS", 30),
    ({"AUTH_JWT_JWKS": "keys.json"}, "AUTH_JWT_JWKS", str(ROOT / "keys.json")),
    ({"AUTH_JWT_JWKS": "https://sso.example.com/keys"}, "AUTH_JWT_JWKS", "https://sso.example.com/keys"),
    ({"AUTH_JWT_JWKS": "HTTPS://sso.example.com/Keys"}, "AUTH_JWT_JWKS", "https://sso.example.com/Keys"),
    ({"AUTH_JWT_CLAIM": "upn", "AUTH_JWT_MAX_HOURS": "24"}, "CHANGED_SETTINGS", {"DATA_DIR", "AUTH_JWT_CLAIM"}),
]


@pytest.mark.parametrize(("variables", "name", "value"), READ)
def test_a_value_is_read_as_it_was_meant(tmp_path: Path, variables: dict[str, str], name: str, value: Any) -> None:
    assert read_settings(tmp_path, **variables)[name] == value


REFUSED = [
    ({"AUTH_JWT_JWKS": "ftp://sso.example.com/keys"}, "AUTH_JWT_JWKS cannot be used: it is neither an https URL nor the path"),
    ({"TOKEN_MAX_DAYS": "30 days"}, "TOKEN_MAX_DAYS='30 days' is not a whole number"),
    ({"TOKEN_MAX_DAYS": "30d"}, "TOKEN_MAX_DAYS='30d' is not a whole number"),
    ({"TOKEN_MAX_DAYS": "1_000"}, "TOKEN_MAX_DAYS='1_000' is not a whole number"),
    ({"TOKEN_MAX_DAYS": "1.5"}, "TOKEN_MAX_DAYS='1.5' is not a whole number"),
    ({"TOKEN_MAX_DAYS": "٣"}, "TOKEN_MAX_DAYS='٣' is not a whole number"),
    ({"TOKEN_MAX_DAYS": "-1"}, "TOKEN_MAX_DAYS='-1' is not a whole number"),
    ({"TOKEN_MAX_DAYS": "9" * 5_000}, "TOKEN_MAX_DAYS='999"),
    ({"TOKEN_MAX_DAYS": ""}, "TOKEN_MAX_DAYS is empty."),
    ({"AUTH_COOL_OFF_MINUTES": "99999999999"}, "AUTH_COOL_OFF_MINUTES=99999999999 is too large."),
    ({"DATABASE_TIMEOUT": "5s"}, "DATABASE_TIMEOUT='5s' is not a whole number"),
    ({"DATABASE_TIMEOUT": "400000"}, "DATABASE_TIMEOUT=400000 is too large."),
    ({"AUTH_BASIC": "nope"}, "AUTH_BASIC='nope' is neither true nor false."),
    ({"AUTH_BASIC": ""}, "AUTH_BASIC is empty."),
    ({"RBAC_DEFAULT_ROLE": ""}, "RBAC_DEFAULT_ROLE is empty."),
    ({"DATA_DIR": ""}, "DATA_DIR is empty."),
    ({"DATA_DIR": "~/data"}, "DATA_DIR cannot be used: SkyAuth does not replace ~ or $"),
    ({"DATA_DIR": "$HOME/data"}, "DATA_DIR cannot be used: SkyAuth does not replace ~ or $"),
    ({"LOG_LEVEL": "info"}, "LOG_LEVEL='info' is not allowed."),
    ({"AUTH_JWT_ISSUER": '"https://hunter2"'}, "AUTH_JWT_ISSUER contains the quotes around its value."),
    ({"SECRET_KEY": f"'{'hunter2' * 8}'"}, "SECRET_KEY contains the quotes around its value."),
    ({"AUTH_JWT_AUDIENCE": "sky   # hunter2"}, "AUTH_JWT_AUDIENCE contains a comment"),
    ({"AUTH_JWT_AUDIENCE": "sky\u200b"}, "AUTH_JWT_AUDIENCE contains an invisible character."),
    ({"PUBLIC_URL": "https://auth.example.com/login"}, "PUBLIC_URL cannot be used: 'https://auth.example.com/login' is not"),
    ({"PUBLIC_URL": "https://auth.example.com/#a"}, "is not an origin."),
    ({"PUBLIC_URL": "https://a.example,https://b.example"}, "is not an origin."),
    ({"PUBLIC_URL": "https://auth.example.com:99999"}, "is not an origin."),
    ({"PUBLIC_URL": "https://auth.example.com:"}, "is not an origin."),
    ({"PUBLIC_URL": "https://bücher.example"}, "is not an origin."),
    ({"PUBLIC_URL": "https://:hunter2@auth.example.com"}, "A value with @ is not an origin."),
    ({"SKYPILOT_URL": "http://sky:hunter2@sky:46580"}, "A value with @ is not the address of a server."),
    ({"SKYPILOT_URL": "http://sky:46580/?a=b"}, "is not the address of a server."),
    ({"SKYPILOT_URL": "sky:46580"}, "is not the address of a server."),
    ({"ALLOWED_HOSTS": "a.example b.example"}, "ALLOWED_HOSTS cannot be used: 'a.example b.example' is not a host name."),
    ({"ALLOWED_HOSTS": "https://a.example"}, "ALLOWED_HOSTS cannot be used: 'https://a.example' is not a host name."),
    ({"ALLOWED_HOSTS": "a.example:8000"}, "'a.example:8000' is not a host name."),
    ({"ALLOWED_HOSTS": '["a.example"]'}, "is not a host name."),
    ({"DATABASE_URI": PG}, "DATABASE_URI is not a setting of SkyAuth. Did you mean DATABASE_URL?"),
    ({"PUBLIC_URI": "https://hunter2"}, "PUBLIC_URI is not a setting of SkyAuth. Did you mean PUBLIC_URL?"),
    ({"SECRETS_KEY": "hunter2"}, "SECRETS_KEY is not a setting of SkyAuth. Did you mean SECRET_KEY?"),
    ({"auth_basic": "false"}, "auth_basic is not a setting of SkyAuth. Did you mean AUTH_BASIC?"),
    ({"DATADIR": "/x"}, "DATADIR is not a setting of SkyAuth. Did you mean DATA_DIR?"),
    (
        {"SKYAUTH_TRUSTED_PROXIES": "10.0.0.1"},
        "SKYAUTH_TRUSTED_PROXIES is not a setting of SkyAuth. Did you mean TRUSTED_PROXIES?",
    ),
    ({"DATABASE_URL": f"{PG}#hunter2"}, "DATABASE_URL is not a database URL."),
    ({"DATABASE_URL": "postgres://skyauth:hunter2#x@db/skyauth"}, "DATABASE_URL is not a database URL."),
    ({"DATABASE_URL": "postgres://skyauth:hunter2?x@db/skyauth"}, "DATABASE_URL is not a database URL."),
    ({"DATABASE_URL": "postgres://skyauth:hunter2/x@db/skyauth"}, "DATABASE_URL is not a database URL."),
    ({"DATABASE_URL": "postgres://skyauth:hunter2@x/y@db/skyauth"}, "DATABASE_URL is not a database URL."),
    ({"DATABASE_URL": "postgres://skyauth:hunter2 x@db/skyauth"}, "DATABASE_URL is not a database URL."),
    ({"DATABASE_URL": "postgres://skyauth:hunter2@db:5432"}, "DATABASE_URL does not contain the name of a database."),
    ({"DATABASE_URL": "postgresql+psycopg://skyauth:hunter2@db/skyauth"}, "DATABASE_URL is not a database URL."),
    ({"DATABASE_URL": f"{PG}?sslmod=require"}, "DATABASE_URL contains the option sslmod, which is not a connection parameter"),
    ({"DATABASE_URL": f"{PG}?CONN_MAX_AGE=60"}, "DATABASE_URL contains the option CONN_MAX_AGE, which is not"),
    ({"DATABASE_URL": f"{PG}?ATOMIC_REQUESTS=true"}, "DATABASE_URL contains the option ATOMIC_REQUESTS, which is not"),
    ({"DATABASE_URL": f"{PG}?pool=true"}, "DATABASE_URL contains the option pool, which is not"),
    (
        {"DATABASE_URL": f"{PG}?connect_timeout=3"},
        "the option connect_timeout. Set DATABASE_TIMEOUT instead.",
    ),
    ({"DATABASE_URL": f"{PG}?sslmode="}, "DATABASE_URL contains the option sslmode without a value."),
    ({"DATABASE_URL": f"{PG}?sslmode"}, "DATABASE_URL contains the option sslmode without a value."),
    ({"DATABASE_URL": f"{PG}?sslmode=require&sslmode=disable"}, "DATABASE_URL contains the option sslmode twice."),
    ({"DATABASE_URL": f"{PG}?host=/run/postgresql"}, "DATABASE_URL contains the host twice."),
    (
        {"DATABASE_URL": "sqlite:////data/a.sqlite3?timeout=20"},
        "the option timeout. SQLite has no options",
    ),
    ({"DATABASE_URL": "sqlite://:memory:"}, "DATABASE_URL names no file."),
    ({"DATABASE_URL": "sqlite:////tmp"}, "DATABASE_URL names a directory."),
    ({"DATABASE_URL": ""}, "DATABASE_URL is empty."),
]


@pytest.mark.parametrize(("variables", "message"), REFUSED)
def test_promise_48_another_value_is_refused_by_name(tmp_path: Path, variables: dict[str, str], message: str) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        read_settings(tmp_path, **variables)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert "hunter2" not in str(raised.value)


UNKNOWN = {
    # Prefixes of SkyAuth alone
    "SKYAUTH_TIMEOUT": "See docs/settings.md for all settings.",
    "SKYAUTH_DATABASE_TIMOUT": "Did you mean DATABASE_TIMEOUT?",
    "RBAC_ADMINS": "See docs/settings.md for all settings.",
    "AUDIT_RETENTION_DAYS": "Did you mean AUDIT_KEEP_DAYS?",
    "ASSERTION_ALGORITHM": "See docs/settings.md for all settings.",
    "TRUSTED_NETWORKS": "See docs/settings.md for all settings.",
    # The first two words of a setting
    "AUTH_JWT_URL": "Did you mean",
    "AUTH_USER_CREATE": "Did you mean",
    "AUTH_BASIC_ENABLED": "Did you mean AUTH_BASIC?",
    "SESSION_IDLE_MINUTES": "Did you mean SESSION_IDLE_HOURS?",
    "TOKEN_MAX_AGE": "Did you mean TOKEN_MAX_DAYS?",
    "ENABLE_SERVICE_TOKENS": "Did you mean ENABLE_SERVICE_ACCOUNTS?",
    "METRICS_TOKEN_PATH": "Did you mean",
    "ALLOWED_HOSTS_EXTRA": "Did you mean ALLOWED_HOSTS?",
    # Similar to a setting
    "DATABASE_POOLSIZE": "Did you mean DATABASE_POOL_SIZE?",
    "LOG_LEVELS": "Did you mean LOG_LEVEL?",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_promise_48_an_unknown_name_with_a_prefix_of_ours_is_refused_with_where_it_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        read_settings(tmp_path, **{name: "hunter2"})
    message = str(raised.value)
    assert message.startswith(f"{name} is not a setting of SkyAuth. {UNKNOWN[name]}")
    assert message.endswith(" It is set in the environment of this process: rename it there, or remove it.")
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "name", ["SKYAUTH_TIMEOUT", "AUTH_SECRET", "DATABASE_USER", "COLOUR", "SKYPILOT_DEBUG", "AUTH_SERVICE_HOST"]
)
def test_promise_48_any_unknown_name_in_the_env_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").write_text(f"{name}=hunter2\n")
    read = Environment(tmp_path / ".env")
    read.text("DATABASE_URL", "", "The database.")
    with pytest.raises(ImproperlyConfigured) as raised:
        read.refuse_unknown()
    assert str(raised.value).startswith(f"{name} is not a setting of SkyAuth. ")
    assert str(raised.value).endswith(" It is in .env: rename it there, or remove the line.")
    assert "hunter2" not in str(raised.value)


def test_every_setting_has_a_prefix_whose_misspelt_names_are_found() -> None:
    names = {setting.name for setting in env.settings} - {"TRACING"}  # a word of OpenTelemetry, and of others
    prefixes = environment._OURS + environment._PARTLY_OURS + environment._SHARED
    assert {name for name in names if not name.startswith(prefixes)} == set()


OTHERS = [
    # Other programs
    *(
        "DATABASE_USER",
        "DATABASE_POOL",
        "LOG_DIR",
        "SKYPILOT_DEBUG",
        "SKYPILOT_API_SERVER_ENDPOINT",
        "DATA_HOME",
        "SECRET_KEY_BASE",
    ),
    *(
        "AUTH_SECRET",
        "AUTH_URL",
        "AUTH_TOKEN",
        "TOKEN",
        "TOKEN_FILE",
        "METRICS_PORT",
        "ENABLE_METRICS",
        "DEBUG_COLORS",
        "SKYAUTH",
    ),
    # A desktop, systemd and continuous integration
    *("SESSION_MANAGER", "XDG_SESSION_ID", "DBUS_SESSION_BUS_ADDRESS", "INVOCATION_ID", "NOTIFY_SOCKET", "GITHUB_TOKEN", "CI"),
    # Clients of SkyAuth
    *("SKYAUTH_URL", "SKYAUTH_TOKEN"),
    # Kubernetes, for Services with the names skyauth, skyauth-metrics, auth, token and audit
    *("SKYAUTH_SERVICE_HOST", "SKYAUTH_SERVICE_PORT", "SKYAUTH_SERVICE_PORT_HTTP", "SKYAUTH_PORT", "SKYAUTH_PORT_8000_TCP"),
    *("SKYAUTH_PORT_8000_TCP_ADDR", "SKYAUTH_PORT_8000_TCP_PORT", "SKYAUTH_PORT_8000_TCP_PROTO", "SKYAUTH_METRICS_SERVICE_HOST"),
    *("AUTH_SERVICE_HOST", "AUTH_PORT", "TOKEN_PORT_80_TCP", "AUDIT_SERVICE_PORT_HTTPS", "AUTH_JWT_SERVICE_HOST"),
]


@pytest.mark.parametrize("name", OTHERS)
def test_a_variable_of_another_program_is_no_misspelt_setting(tmp_path: Path, name: str) -> None:
    assert read_settings(tmp_path, **{name: "tcp://10.0.0.7:8000"})["DEBUG"] is False


def database(data_dir: Path, url: str) -> dict[str, Any]:
    """Return the default database for a URL."""
    found: dict[str, Any] = read_settings(data_dir, DATABASE_URL=url, SECRET_KEY="k" * 50)["DATABASES"]["default"]
    return found


def test_an_option_of_the_database_url_reaches_the_connection(tmp_path: Path) -> None:
    options = database(tmp_path, f"{PG}?sslmode=verify-full&options=-c%20search_path%3Dsky%20-c%20lock_timeout%3D0")["OPTIONS"]
    assert options["sslmode"] == "verify-full"
    assert options["options"] == "-c search_path=sky -c lock_timeout=0 -c lock_timeout=5s -c statement_timeout=30s"
    assert "options" not in database(tmp_path, PG)["OPTIONS"]["options"]


def test_promise_53_the_kernel_gives_up_a_silent_postgresql_in_time_unless_the_url_says_otherwise(
    tmp_path: Path,
) -> None:
    names = ("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
    options = database(tmp_path, PG)["OPTIONS"]
    assert [options[name] for name in names] == [5, 1, 3, 5_000]
    options = database(tmp_path, f"{PG}?tcp_user_timeout=9000&keepalives=0")["OPTIONS"]
    assert [options[name] for name in names] == [5, 1, 3, "9000"]
    assert options["keepalives"] == "0"


def test_the_parts_of_a_database_url_are_read_exactly(tmp_path: Path) -> None:
    found = database(tmp_path, "postgresql://sky%2Bauth:a+b%23%2F%3F@db.example.com/sky")
    assert (found["USER"], found["PASSWORD"], found["NAME"]) == ("sky+auth", "a+b#/?", "sky")
    assert database(tmp_path, "postgres:///sky?host=/run/postgresql")["OPTIONS"]["host"] == "/run/postgresql"
    assert database(tmp_path, "sqlite:////data/a+b%20c.sqlite3")["NAME"] == "/data/a+b c.sqlite3"
    assert database(tmp_path, "sqlite:///var/a.sqlite3")["NAME"] == str(ROOT / "var" / "a.sqlite3")


def test_the_path_of_the_default_database_can_contain_any_character(tmp_path: Path) -> None:
    odd = tmp_path / "a b#c?d%20e+f"
    assert read_settings(odd)["DATABASES"]["default"]["NAME"] == str(odd / "skyauth.sqlite3")


SHOW = """
from django.db import connection
with connection.cursor() as cursor:
    for name in ("application_name", "search_path", "lock_timeout", "statement_timeout"):
        cursor.execute(f"SHOW {name}")
        print(*cursor.fetchone())
"""


@pytest.mark.postgres
def test_the_server_applies_the_options_of_the_database_url_and_skyauths_own_time_outs(tmp_path: Path) -> None:
    url = f"{os.environ['DATABASE_URL']}?application_name=sky&options=-c%20search_path%3Dskyauth%20-c%20lock_timeout%3D0"
    ended = run_alone("shell", "--verbosity", "0", "--command", SHOW, data_dir=tmp_path, DATABASE_URL=url, SECRET_KEY="k" * 50)
    assert ended.out.splitlines() == ["sky", "skyauth", "5s", "30s"], ended.err
