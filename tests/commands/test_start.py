"""What prevents SkyAuth from starting: one message, an exit code, and never a traceback. And how it starts."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from skyauth.certificates import CertificateFiles
from skyauth.environment import Environment
from skyauth.server import Listen
from tests.commands.run_command import ROOT, Ended, read_settings, run, run_alone, run_line


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a migrated database."""
    path = tmp_path_factory.mktemp("data")
    assert run_alone("migrate", "--verbosity", "0", data_dir=path).code == 0
    return path


def is_one_message(ended: Ended) -> bool:
    return len(ended.err.splitlines()) == 1 and not ended.out and "Traceback" not in ended.err


INVALID = [
    ({"RBAC_DEFALT_ROLE": "user"}, "RBAC_DEFALT_ROLE is not a setting of SkyAuth. Did you mean RBAC_DEFAULT_ROLE?"),
    (
        {"TOKEN_MAX_DAYS": "abc"},
        "TOKEN_MAX_DAYS='abc' is not a whole number of at least 0. Write, for example, TOKEN_MAX_DAYS=0.",
    ),
    ({"DATABASE_URL": "mysql://a:b@db/x"}, "DATABASE_URL must name SQLite"),
    ({"DATABASE_URL": "hunter2"}, "DATABASE_URL is not a database URL."),
    ({"DATABASE_URL": "postgers://skyauth:hunter2@db/skyauth"}, "DATABASE_URL must name SQLite"),
    ({"DATABASE_URL": "sqlite://hunter2/x.sqlite3"}, "DATABASE_URL is not a database URL."),
    ({"SECRET_KEY": "hunter2"}, "SECRET_KEY cannot be used: it is shorter than 32 characters."),
    ({"DEBUG": "maybe"}, "DEBUG='maybe' is neither true nor false."),
    ({"LOG_LEVEL": "loud"}, "Choose one of: DEBUG, INFO, WARNING, ERROR."),
    ({"PUBLIC_URL": "auth.example.com"}, "is not an origin."),
    (
        {"ENABLE_SERVICE_ACOUNTS": "false"},
        "ENABLE_SERVICE_ACOUNTS is not a setting of SkyAuth. Did you mean ENABLE_SERVICE_ACCOUNTS?",
    ),
    ({"SESSION_HOUR": "1"}, "SESSION_HOUR is not a setting of SkyAuth. Did you mean SESSION_HOURS?"),
    ({"ASSERTION_KEY": "a.pem"}, "ASSERTION_KEY is not a setting of SkyAuth. Did you mean ASSERTION_KEYS?"),
]


@pytest.mark.parametrize(("settings", "message"), INVALID)
def test_an_invalid_setting_is_refused_with_what_to_write(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        read_settings(tmp_path, **settings)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("command", ["check", "serve", "list_tokens"])
def test_an_invalid_setting_is_one_message_and_exit_code_2(tmp_path: Path, command: str) -> None:
    ended = run_alone(command, data_dir=tmp_path, SECRET_KEY="hunter2")
    assert ended.code == 2
    assert is_one_message(ended)
    assert ended.err.startswith("SkyAuth does not start: SECRET_KEY cannot be used: it is shorter than 32 characters.")
    assert "hunter2" not in ended.err


CHECKING_COMMANDS = [["check", "--database", "default"], ["serve", "--port", "1"], ["runserver", "1", "--noreload"]]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"RBAC_DEFAULT_ROLE": "nonsense"}, "skyauth.E011"),
        ({"TRUSTED_PROXIES": "notanip"}, "skyauth.E001"),
        ({"TRUSTED_PROXIES": "0.0.0.0/0"}, "skyauth.E002"),
        ({"AUTH_USER_HEADER_FORMAT": "plaintext"}, "skyauth.E003"),
        ({"AUTH_STRING": "plain:text"}, "skyauth.E009"),
        ({"ASSERTION_KEYS": "/no/such/key.pem"}, "skyauth.E020"),
        ({"DEBUG": "true", "PUBLIC_URL": "https://auth.example.com"}, "skyauth.E030"),
        ({"ALLOWED_HOSTS": "*", "PUBLIC_URL": "https://auth.example.com"}, "skyauth.E031"),
    ],
)
@pytest.mark.parametrize("command", CHECKING_COMMANDS)
def test_no_command_starts_a_server_with_an_unsafe_setting(
    db: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str], settings: dict[str, str], code: str
) -> None:
    monkeypatch.setattr("skyauth.server.serve", lambda **_: pytest.fail("The server was started."))
    values = read_settings(tmp_path, **settings)
    with override_settings(**{name: values[name] for name in settings}, SECURE_COOKIES=values["SECURE_COOKIES"]):
        ended = run_line(*command)
    assert ended.code == 1
    assert code in ended.err
    assert "HINT: " in ended.err


def test_a_command_that_loads_no_pages_still_checks_the_settings(db: None, tmp_path: Path) -> None:
    with override_settings(TRUSTED_PROXIES=read_settings(tmp_path, TRUSTED_PROXIES="0.0.0.0/0")["TRUSTED_PROXIES"]):
        ended = run_line("list_tokens")
    assert ended.code == 1
    assert "skyauth.E002" in ended.err


@pytest.mark.parametrize("command", CHECKING_COMMANDS)
def test_a_process_with_an_unsafe_setting_ends_with_exit_code_1_and_no_traceback(data_dir: Path, command: list[str]) -> None:
    ended = run_alone(*command, data_dir=data_dir, TRUSTED_PROXIES="0.0.0.0/0")
    assert ended.code == 1
    assert "skyauth.E002" in ended.err
    assert "HINT: " in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("line", ["RBAC_DEFALT_ROLE=user", "export COLOUR=red"])
def test_a_line_of_the_env_file_that_is_not_a_setting_is_refused(tmp_path: Path, line: str) -> None:
    name = line.removeprefix("export ").partition("=")[0]
    (tmp_path / ".env").write_text(f"# a comment\n{line}\n")
    environment = Environment(tmp_path / ".env")
    environment.text("RBAC_DEFAULT_ROLE", "admin", "The role.")
    with pytest.raises(ImproperlyConfigured, match=f"{name} is not a setting of SkyAuth."):
        environment.refuse_unknown()


def test_a_setting_that_was_removed_is_accepted_with_a_warning(tmp_path: Path) -> None:
    assert read_settings(tmp_path)["UNUSED_SETTINGS"] == {}
    assert list(read_settings(tmp_path, CACHE_URL="redis://127.0.0.1:6379/0")["UNUSED_SETTINGS"]) == ["CACHE_URL"]
    ended = run_alone("check", "--deploy", data_dir=tmp_path, CACHE_URL="redis://127.0.0.1:6379/0")
    assert ended.code == 0
    assert "(skyauth.W107) CACHE_URL is set, but it is no longer used." in ended.err
    assert "HINT: Remove CACHE_URL." in ended.err
    (tmp_path / ".env").write_text("CACHE_URL=redis://127.0.0.1:6379/0\n")
    environment = Environment(tmp_path / ".env")
    environment.unused("CACHE_URL", "Nothing uses it.")
    environment.refuse_unknown()


def test_check_names_no_setting_of_django_that_skyauth_does_not_have(tmp_path: Path) -> None:
    ended = run_alone("check", "--deploy", data_dir=tmp_path, PUBLIC_URL="https://auth.example.com")
    assert "skyauth.W" in ended.err
    assert "(security." not in ended.err


def test_a_database_without_tables_is_one_message(tmp_path: Path) -> None:
    ended = run_alone("create_user", "alice", "--random-password", data_dir=tmp_path)
    assert ended.code == 1
    assert is_one_message(ended)
    assert "manage.py migrate" in ended.err


def test_an_unreachable_database_is_one_message(tmp_path: Path) -> None:
    url = "postgres://skyauth:hunter2@127.0.0.1:1/skyauth"
    for command in ("list_tokens", "serve"):
        ended = run_alone(command, data_dir=tmp_path, DATABASE_URL=url, DATABASE_TIMEOUT="1", SECRET_KEY="k" * 50)
        assert ended.code == 1
        assert "The database cannot be used" in ended.err
        assert "Traceback" not in ended.err
        assert "hunter2" not in ended.err


def test_doctor_reports_an_unreachable_database_and_missing_migrations(tmp_path: Path) -> None:
    unreachable = {
        "DATABASE_URL": "postgres://skyauth:hunter2@127.0.0.1:1/skyauth",
        "DATABASE_TIMEOUT": "1",
        "SECRET_KEY": "k" * 50,
    }
    without_server = run_alone("doctor", "--json", data_dir=tmp_path, **unreachable)
    without_tables = run_alone("doctor", "--json", data_dir=tmp_path)
    assert (without_server.code, without_tables.code) == (1, 1)
    assert json.loads(without_server.out)["findings"][0]["code"] == "database.unreachable"
    assert json.loads(without_tables.out)["findings"][0]["code"] == "database.migrations"
    assert "hunter2" not in without_server.out + without_server.err


@pytest.mark.parametrize("command", [["serve"], ["runserver"]])
def test_no_server_starts_with_migrations_that_are_not_applied(tmp_path: Path, command: list[str]) -> None:
    ended = run_alone(*command, data_dir=tmp_path)
    assert ended.code == 1
    assert "Run: manage.py migrate" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ["serve", "--port", "0"],
        ["serve", "--workers", "x"],
        ["serve", "--reload", "--workers", "2"],
        ["serve", "--unix", "/x", "--port", "81"],
        ["serve", "--unix-mode", "600"],
        ["serve", "--unix", "/x", "--unix-mode", "066"],
        ["serve", "--certificate", "c.pem"],
        ["serve", "--key", "k.pem"],
        ["serve", "--drain", "-1"],
        ["runserver", "a:b:c"],
    ],
)
def test_wrong_usage_has_exit_code_2(db: None, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr("skyauth.server.serve", lambda **_: pytest.fail("The server was started."))
    ended = run_line(*words)
    assert ended.code == 2
    assert ended.err


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["serve"], {}),
        (["serve", "--host", "::1", "--port", "81", "--workers", "4"], {"listen": Listen("::1", 81), "workers": 4}),
        (["serve", "--unix", "/run/x.sock", "--drain", "20"], {"listen": Listen(unix=Path("/run/x.sock")), "drain": 20}),
        (["serve", "--unix", "/x", "--unix-mode", "600"], {"listen": Listen(unix=Path("/x"), unix_mode=0o600)}),
        (
            ["serve", "--certificate", "c.pem", "--key", "k.pem"],
            {"certificate": CertificateFiles(Path("c.pem"), Path("k.pem"))},
        ),
        (["runserver"], {"listen": Listen("127.0.0.1", 8000), "reload": True, "drain": 0}),
        (["runserver", "0.0.0.0:9000"], {"listen": Listen("0.0.0.0", 9000), "reload": True, "drain": 0}),
        (["runserver", "[::1]:9000", "--noreload"], {"listen": Listen("::1", 9000), "drain": 0}),
    ],
)
def test_the_server_starts_with_the_options_of_the_command(
    db: None, monkeypatch: pytest.MonkeyPatch, words: list[str], options: dict[str, object]
) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setattr("skyauth.server.serve", lambda **arguments: calls.append(arguments))
    for close in ("lifespan.connection.close", "management.commands.serve.connections.close_all"):
        monkeypatch.setattr(f"skyauth.{close}", lambda: None)  # the test's own
    ended = run(*words)
    default = {"listen": Listen(), "workers": 1, "reload": False, "drain": 5, "certificate": None, "log_level": "info"}
    assert calls == [default | options], ended.err
    assert ("Running: manage.py serve" in ended.err) is (words[0] == "runserver")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_serve_answers_requests_and_stops_on_a_signal(data_dir: Path) -> None:
    port = _free_port()
    env = {"PATH": os.environ["PATH"], "DATA_DIR": str(data_dir)}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "serve", "--port", str(port), "--drain", "0"], cwd=ROOT, env=env, stderr=subprocess.PIPE
    )
    try:
        assert _status_line(port) == "HTTP/1.1 403 Forbidden"  # no proxy is trusted
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def test_a_port_in_use_has_exit_code_1(data_dir: Path) -> None:
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        ended = run_alone("serve", "--port", str(used.getsockname()[1]), data_dir=data_dir)
    assert ended.code == 1
    assert "address already in use" in ended.err
    assert "Traceback" not in ended.err


def _status_line(port: int) -> str:
    """Return the status line of /authz/verify, once the server accepts connections."""
    for _ in range(200):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"GET /authz/verify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return connection.recv(4096).split(b"\r\n")[0].decode()
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise AssertionError("The server did not start.")


def test_standard_output_contains_only_json_with_the_option_json(data_dir: Path) -> None:
    ended = run_alone("create_token", "scripted", "--create", "--role", "viewer", "--json", data_dir=data_dir)
    assert json.loads(ended.out)["account"] == "scripted"
    assert ended.err == "There was no service account scripted. It gets the role viewer and no owner.\n"


@pytest.mark.parametrize("command", ["create_token", "apply", "doctor", "serve", "explain"])
def test_help_has_examples(command: str) -> None:
    ended = run_line(command, "--help")
    assert ended.code == 0
    assert f"  manage.py {command}" in ended.out.partition("examples:")[2]
