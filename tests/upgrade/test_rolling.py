"""Two versions on one database: a rolling upgrade and a roll-back under requests."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

from tests.http_client import HOST, ask, bearer
from tests.servers import ROOT, Program, SkyAuth, database, directory, environment, free_port, skyauth_server, start, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("rolling")]

FIELD = '    favourite = models.CharField(max_length=10, default="", db_default="", blank=True)\n'
MIGRATION = """from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "{last}")]
    operations = [
        migrations.AddField("user", "favourite", models.CharField(blank=True, db_default="", default="", max_length=10)),
    ]
"""


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of SkyAuth that has one more column in a watched table."""
    copy = tmp_path_factory.mktemp("newer") / "skyauth"
    left_out = shutil.ignore_patterns(".*", "tests", "docs", "benchmarks", "var", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=left_out)
    users = copy / "accounts" / "models" / "users.py"
    text = users.read_text(encoding="utf-8")
    username = "    username = models.CharField(max_length=254, unique=True"
    assert username in text
    users.write_text(text.replace(username, FIELD + username, 1), encoding="utf-8")
    migrations = copy / "accounts" / "migrations"
    last = max(path.stem for path in migrations.glob("0*.py"))
    (migrations / f"{int(last[:4]) + 1:04}_favourite.py").write_text(MIGRATION.format(last=last), encoding="utf-8")
    return copy


def migrate(where: Path, values: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "manage.py", "migrate"],
        cwd=where,
        env={**values, "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outputs(processes: "list[subprocess.Popen[str]]") -> list[str]:
    """Return what the processes print; fail unless all exit with 0."""
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), printed
    return printed


class Asking:
    """Asks a server about a caller, and whether it is ready, without a pause."""

    def __init__(self, server: SkyAuth, credential: tuple[str, bytes]) -> None:
        self.statuses: list[int] = []
        self._server, self._credential = server, credential
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            self.statuses.append(int(self._server.ask(self._credential, uri="/jobs").status))
            self.statuses.append(int(ask(self._server.port, "/readyz").status))

    def close(self) -> None:
        self._done.set()
        self._thread.join()


def trigger_names(server: SkyAuth) -> set[str]:
    with psycopg.connect(server.environment["DATABASE_URL"]) as connection:
        rows = connection.execute("SELECT tgname FROM pg_trigger WHERE left(tgname, 13) = 'skyauth_mark_'").fetchall()
    return {name for (name,) in rows}


@pytest.fixture
def old() -> Iterator[SkyAuth]:
    with skyauth_server() as server:
        server.console("create_user", name="bob@example.com", role="user")
        server.console("create_account", name="pipeline", role="user", owner="bob@example.com")
        yield server


@pytest.mark.postgres
def test_promise_54_a_rolling_upgrade_and_the_way_back_fail_no_request(old: SkyAuth, newer: Path) -> None:
    credential = bearer(str(old.console("issue", account="pipeline")))
    before = trigger_names(old)
    with ExitStack() as stack:
        asking = stack.enter_context(closing(Asking(old, credential)))
        printed = outputs([migrate(newer, old.environment) for _ in range(3)])
        assert sum("Applying accounts" in text for text in printed) == 1, "one works, the others wait"
        upgraded = trigger_names(old)
        assert len(upgraded) == len(before)
        assert upgraded != before
        new = SkyAuth(free_port(), old.data, old.environment, old.console)
        program = _serve(newer, new)
        stack.callback(program.end)
        asking_new = stack.enter_context(closing(Asking(new, credential)))
        for role, status in (("viewer", 403), ("user", 200)) * 5:
            old.console("set_role", name="bob@example.com", role=role)
            assert [server.ask(credential, method="POST", uri="/jobs").status for server in (old, new)] == [status] * 2
        outputs([migrate(ROOT, old.environment)])
        assert trigger_names(old) == upgraded, "the older version removes nothing"
        asking.close()
        old.stop()
        old.start()
        assert ask(old.port, "/readyz").status == 200
        assert old.ask(credential, uri="/jobs").status == 200
        asking_new.close()
    assert len(asking.statuses) > 50
    assert set(asking.statuses) | set(asking_new.statuses) == {200}


def _serve(where: Path, server: SkyAuth) -> Program:
    command = [sys.executable, "manage.py", "serve", "--host", HOST, "--port", str(server.port)]
    program = start(command, server.data / "newer.log", server.environment, cwd=where)
    program.wait_for(server.port)
    wait_until(lambda: ask(server.port, "/readyz").status == 200, "the newer version is ready")
    return program


def test_of_several_processes_that_migrate_an_empty_database_one_works() -> None:
    with directory() as data, database() as where:
        printed = outputs([migrate(ROOT, environment(DATA_DIR=str(data), **where)) for _ in range(3)])
    assert sum("Applying accounts.0001_initial" in text for text in printed) == 1
    assert any("Waiting for it." in text for text in printed)
