"""The whole log of a run, at its most talkative: no secret that was used is in it, and no line that somebody else wrote."""

import json
import os
import re
import secrets
import sqlite3
import string
from contextlib import closing

import bcrypt
import psycopg
import pytest

from accounts import token_format
from tests.http_client import HOST, ask, basic, bearer, encode, send, session_key
from tests.servers import SkyAuth, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("logs"), pytest.mark.sqlite]

FORGED = "2026-11-25 10:00:00,000 INFO skyauth.audit forged"
MISSING_TABLE = "ProgrammingError" if os.environ.get("DATABASE_URL", "").startswith("postgres") else "OperationalError"
FORMATS = {"line": "line", "json": "json", "debug": "json"}
BEGINS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) [a-z]")


def secret() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(24))


def break_the_database(server: SkyAuth) -> None:
    """Take a table away that every judgement of a token needs: what comes of it is an exception with a statement in it."""
    statement = "ALTER TABLE accounts_token RENAME TO gone"
    url = server.environment.get("DATABASE_URL", "")
    if url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)
    else:
        with closing(sqlite3.connect(server.data / "skyauth.sqlite3")) as connection:
            connection.execute(statement)


def use_every_credential(server: SkyAuth, shared: str) -> dict[str, str]:
    """Come with each kind of credential, good and bad, at each door; return the secrets that were used, by what they are."""
    password, wrong, new = secret(), secret(), secret()
    server.console("create_user", name="alice@example.com", role="admin", password=password)
    server.console("create_account", name="pipeline", role="user")
    used = {
        "password": password,
        "wrong password": wrong,
        "shared password": shared,
        "new password": new,
        "token": str(server.console("issue", account="pipeline")),
        "unknown token": token_format.mint().plaintext,
        "malformed token": f"sky_{secret()}",
        "foreign token": secret(),
        "session key": session_key(server.port, "alice@example.com", password),
        "impossible session": secret(),
    }
    answered = ask(server.port, "/sign-in")
    used["csrf token"] = re.findall(rb'name="csrfmiddlewaretoken" value="(\w+)"', answered.body)[0].decode()
    credentials = [
        bearer(used["token"]),
        bearer(used["unknown token"]),
        bearer(used["malformed token"]),
        bearer(used["foreign token"]),
        basic("alice@example.com", password),
        basic("alice@example.com", wrong),
        basic(wrong, "a password typed as a name"),
        basic("team", shared),
        basic("team", wrong),
        ("Cookie", f"skyauth={used['session key']}"),
        ("Cookie", f"skyauth={used['impossible session']}"),
        ("Authorization", f"Digest {wrong}"),
    ]
    for credential in credentials:
        for uri in ("/things", f"/things?token={used['token']}", "/../odd", f"/%0a{FORGED.replace(' ', '%20')}"):
            server.ask(credential, uri=uri)
            server.ask(credential, uri=uri, method="DELETE")
        for path in ("/api/v1/users", "/api/v1/nothing", f"/api/v1/users?token={used['token']}", "/metrics", "/admin/", "/x"):
            ask(server.port, path, [credential])
    for body in ({"username": "dan@example.com", "password": new}, {"username": "", "password": new}, {"password": new * 900}):
        headers = [basic("alice@example.com", password), ("Content-Type", "application/json")]
        send(server.port, encode("POST", "/api/v1/users", headers, json.dumps(body).encode()), method="POST")
    issued = encode("POST", "/api/v1/service-accounts", [basic("alice@example.com", password)], b'{"name": "robot"}')
    send(server.port, issued.replace(b"Content-Length", b"Content-Type: application/json\r\nContent-Length"), method="POST")
    send(server.port, b"GET /authz/verify HTTP/1.1\r\nAuthorization Bearer " + used["token"].encode() + b"\r\n\r\n")
    break_the_database(server)
    for credential in credentials:
        assert server.ask(credential).status in {200, 401, 503}
        ask(server.port, "/api/v1/service-accounts", [credential])
    return used


@pytest.fixture(scope="module", params=["line", "json", "debug"])
def run(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, str]]:
    """The format, the log of a whole run in it, and the secrets that were used."""
    shared, key = secret(), secret() + secret()
    line = "team:" + bcrypt.hashpw(shared.encode(), bcrypt.gensalt(4)).decode()
    settings = {"AUTH_STRING": line, "SECRET_KEY": key, "AUDIT_REFUSALS_PER_MINUTE": "100000", "AUTH_FAILURE_LIMIT": "1000"}
    with skyauth_server(
        LOG_LEVEL="DEBUG", LOG_FORMAT=FORMATS[request.param], DEBUG=str(request.param == "debug"), **settings
    ) as server:
        used = use_every_credential(server, shared)
        used |= {"shared line": line.partition(":")[2], "SECRET_KEY": key}
        if "DATABASE_URL" in os.environ:
            assert server.environment["DATABASE_URL"] not in server.log
        server.stop()
        return FORMATS[request.param], server.log, used


def test_promise_42_the_log_of_a_run_has_none_of_the_secrets(run: tuple[str, str, dict[str, str]]) -> None:
    _, log, used = run
    assert len(used) == 13
    assert [what for what, text in used.items() if text in log or text[-20:] in log] == []
    assert not re.search(r"sky_\w{12}_\w+|argon2|\$2b\$|(?i:authorization|cookie): ", log)


def test_promise_42_every_line_is_one_of_ours(run: tuple[str, str, dict[str, str]]) -> None:
    form, log, _ = run
    lines = log.splitlines()
    assert len(lines) > 20
    if form == "json":
        assert all(isinstance(json.loads(line), dict) for line in lines)
    else:
        assert [line for line in lines if not (BEGINS.match(line) or line.startswith("    "))] == []
    assert not any(line.startswith(FORGED[:30]) for line in lines)


def test_the_log_tells_of_the_refusals_with_the_id_of_their_request(run: tuple[str, str, dict[str, str]]) -> None:
    form, log, _ = run
    for said in ("sign-in.refused", "request.denied", "unreadable-target", "wrong password", f"from {HOST}", MISSING_TABLE):
        assert said in log, said
    if form == "json":
        refusals = [found for line in log.splitlines() if (found := json.loads(line)).get("event")]
        assert all(re.fullmatch(r"[0-9a-f]{32}", found["request_id"]) for found in refusals)
        assert len({found["request_id"] for found in refusals}) == len(refusals)


def test_uvicorns_own_lines_are_written_the_same_way(run: tuple[str, str, dict[str, str]]) -> None:
    form, log, _ = run
    said = [line for line in log.splitlines() if "Started server process" in line]
    assert len(said) == 1
    assert json.loads(said[0])["logger"] == "uvicorn.error" if form == "json" else BEGINS.match(said[0])
