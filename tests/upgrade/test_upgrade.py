"""A database of an older version: it migrates, and everything in it goes on to work.

`data/` has the dump of a database, for SQLite and for PostgreSQL, that commit cc564db filled with one row or more of each kind
through its own services, and the secrets in it. `data/README.md` says how it was made.
"""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.databases import on_postgres
from tests.http_client import HOST, ask, basic, bearer
from tests.servers import ROOT, Console, SkyAuth, database, directory, environment, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("upgrade")]

DATA = Path(__file__).with_name("data")
VENDOR = "postgresql" if on_postgres() else "sqlite"
SECRETS: dict[str, str] = json.loads((DATA / "secrets.json").read_text(encoding="utf-8"))[VENDOR]
FOR_EVER = "876000"  # hours; the sessions in the dump have a start in the past


def restore(where: dict[str, str], data: Path) -> None:
    """Load the dump into an empty database."""
    dump = (DATA / f"{VENDOR}.sql").read_text(encoding="utf-8")
    if VENDOR == "sqlite":
        connection = sqlite3.connect(data / "skyauth.sqlite3")
        connection.executescript(dump)
        connection.close()
        return
    with psycopg.connect(where["DATABASE_URL"], autocommit=True) as server:
        server.execute(dump)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def upgraded() -> Iterator[SkyAuth]:
    """Serve this version on the migrated database of the older one."""
    with ExitStack() as stack:
        data = stack.enter_context(directory())
        where = stack.enter_context(database())
        restore(where, data)
        port = free_port()
        values = environment(
            DATA_DIR=str(data),
            TRUSTED_PROXIES=HOST,
            PUBLIC_URL=f"http://{HOST}:{port}",
            SESSION_HOURS=FOR_EVER,
            SESSION_IDLE_HOURS=FOR_EVER,
            CLI_SESSION_DAYS="36500",
            **{**where, "SECRET_KEY": SECRETS["secret_key"]},
        )
        console = Console(values)  # runs the migrations
        stack.callback(console.close)
        server = SkyAuth(port, data, values, console)
        stack.callback(lambda: [program.end() for program in server.programs])
        server.start()
        yield server


def status(server: SkyAuth, *headers: tuple[str, str | bytes], method: str = "GET") -> int:
    return int(server.ask(*headers, method=method, uri="/jobs").status)


def cookie(name: str) -> tuple[str, str]:
    return "Cookie", f"skyauth={SECRETS[name]}"


def command(server: SkyAuth, *arguments: str) -> Any:
    """Return what a management command prints with --json."""
    run = subprocess.run(
        [sys.executable, "manage.py", *arguments, "--json"],
        cwd=ROOT,
        env={**server.environment, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 1), run.stderr
    return json.loads(run.stdout)


def test_the_upgraded_server_is_ready(upgraded: SkyAuth) -> None:
    assert ask(upgraded.port, "/readyz").status == 200


@pytest.mark.parametrize(
    ("name", "expected"), [("token", 200), ("successor", 200), ("revoked", 401), ("expired", 401), ("rotated", 401)]
)
def test_promise_45_tokens_of_the_older_version_work_and_ended_ones_do_not(upgraded: SkyAuth, name: str, expected: int) -> None:
    assert status(upgraded, bearer(SECRETS[name])) == expected


@pytest.mark.parametrize(("name", "user"), [("browser_session", "alice@example.com"), ("cli_session", "bob@example.com")])
def test_sessions_of_the_older_version_go_on(upgraded: SkyAuth, name: str, user: str) -> None:
    reply = upgraded.ask(cookie(name), uri="/jobs")
    assert (reply.status, reply.header("X-Auth-Request-Email")) == (200, user)


@pytest.mark.parametrize(
    ("user", "method", "expected"),
    [
        ("alice@example.com", "DELETE", 200),
        ("bob@example.com", "POST", 200),
        ("olga@example.com", "GET", 200),
        ("olga@example.com", "POST", 403),
        ("left@example.com", "GET", 401),
        ("vera@example.com", "GET", 401),
    ],
)
def test_passwords_and_roles_of_the_older_version_count(upgraded: SkyAuth, user: str, method: str, expected: int) -> None:
    assert status(upgraded, basic(user, SECRETS["password"]), method=method) == expected


def test_the_audit_log_of_the_older_version_is_there_and_goes_on(upgraded: SkyAuth) -> None:
    def events() -> list[str]:
        reply = ask(upgraded.port, "/api/v1/audit-events?page_size=200", [basic("alice@example.com", SECRETS["password"])])
        assert reply.status == 200
        return [entry["event"] for entry in reply.json["results"]]

    before = events()
    assert {"user.created", "role.created", "routes.replaced", "token.revoked", "token.rotated"} <= set(before)
    upgraded.console("set_role", name="vera@example.com", role="user")
    upgraded.console("set_role", name="vera@example.com", role="viewer")
    assert events().count("user.updated") == before.count("user.updated") + 2


def test_a_change_after_the_upgrade_holds_on_the_next_request(upgraded: SkyAuth) -> None:
    """The triggers of the policy revision survived."""
    assert status(upgraded, basic("bob@example.com", SECRETS["password"]), method="POST") == 200
    upgraded.console("set_role", name="bob@example.com", role="viewer")
    assert status(upgraded, basic("bob@example.com", SECRETS["password"]), method="POST") == 403
    assert status(upgraded, bearer(SECRETS["token"]), method="POST") == 403, "a service account never has more than its owner"
    upgraded.console("set_role", name="bob@example.com", role="user")
    assert status(upgraded, bearer(SECRETS["token"]), method="POST") == 200


def test_the_recent_requests_of_the_older_version_are_previewed(upgraded: SkyAuth) -> None:
    table = "accounts_recentrequest"
    query = f"SELECT caller, method, path FROM {table} WHERE path = '/jobs' AND host = 'api.example.com'"  # noqa: S608
    if VENDOR == "sqlite":
        connection = sqlite3.connect(upgraded.data / "skyauth.sqlite3")
        rows = connection.execute(query).fetchall()
        connection.close()
    else:
        with psycopg.connect(upgraded.environment["DATABASE_URL"]) as server:
            rows = server.execute(query).fetchall()
    assert rows == [("bob@example.com", "POST", "/jobs")]


def test_the_doctor_finds_no_missing_migration_or_trigger(upgraded: SkyAuth) -> None:
    codes = {finding["code"] for finding in command(upgraded, "doctor")["findings"]}
    assert not {code for code in codes if code.startswith("database.")}
