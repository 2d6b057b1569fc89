"""bootstrap: a first set-up that can be repeated, also by several replicas at the same time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.hashers import check_password

from accounts.models import FirstAdmin, User
from accounts.services import users
from audit.models import Entry
from ops import bootstrap
from rbac import packs, services
from rbac.models import Route
from rbac.principals import Principal
from rbac.principals import system as system_actor
from tests.commands.run_command import ROOT, Ended, run
from tests.races import at_once
from tests.servers import SECRET_KEY, database, directory, environment, postgres

GOOD = "correct horse battery staple"


def start(words: list[str], **settings: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "manage.py", "bootstrap", *words],
        cwd=ROOT,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> Ended:
    out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out, err)


def test_it_loads_the_pack_and_creates_an_admin_whose_password_it_prints_once(db: None) -> None:
    first = run("bootstrap", "--pack", "read-write")
    admin = User.objects.get()
    assert (first.code, admin.username, admin.role.name) == (0, "admin", "admin")
    assert check_password(first.out.rstrip("\n"), admin.password)
    assert first.out.strip() not in first.err + repr(list(Entry.objects.values()))
    assert "Policy pack read-write loaded: 2 routes." in first.err
    assert Route.objects.count() == 2
    assert FirstAdmin.objects.exists()
    before = list(Entry.objects.values_list("event", "actor"))
    assert [event for event, _ in before] == ["user.created", "routes.replaced"]
    assert before[0][1].startswith("manage.py bootstrap (")
    again = run("bootstrap", "--pack", "open")
    assert (again.code, again.out) == (0, "")
    assert "There are 2 routes, so the policy pack open is not loaded." in again.err
    assert "There is an admin, so none is created." in again.err
    assert list(Entry.objects.values_list("event", "actor")) == before


def test_json_has_the_password_only_when_it_was_generated(db: None) -> None:
    first = json.loads(run("bootstrap", "--pack", "skypilot", "--admin", "alice@example.com", "--json").out)
    assert check_password(first.pop("password"), User.objects.get(username="alice@example.com").password)
    routes = len(packs.load("skypilot").routes)
    assert first == {"migrations": 0, "pack_loaded": True, "routes": routes, "admin_created": True}
    again = json.loads(run("bootstrap", "--json").out)
    assert again == {"migrations": 0, "pack_loaded": None, "routes": routes, "admin_created": False}


def test_the_password_of_a_secret_file_is_not_printed(db: None, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{GOOD}\n")
    for option in ([], ["--json"]):
        ended = run("bootstrap", "--password-file", str(file), *option)
        assert ended.code == 0
        assert GOOD not in ended.out + ended.err
        assert check_password(GOOD, User.objects.get().password)
    file.unlink()
    assert run("bootstrap", "--password-file", str(file)).code == 0, "It is not read if there is an admin."


@pytest.mark.parametrize("content", [None, "", "short\n"])
def test_an_unusable_secret_file_changes_nothing(db: None, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    ended = run("bootstrap", "--pack", "open", "--password-file", str(file))
    assert (ended.code, ended.out) == (1, "")
    assert "short" not in ended.err.replace("too short", "")
    assert not User.objects.exists()
    assert not Route.objects.exists()


def test_without_options_no_routes_are_loaded_and_without_admin_none_is_created(db: None) -> None:
    assert run("bootstrap", "--no-admin").code == 0
    assert not User.objects.exists()
    assert not FirstAdmin.objects.exists(), "RBAC_DEFAULT_ROLE=first-admin is not used up."
    assert not Route.objects.exists()
    assert run("bootstrap", "--no-admin", "--password-file", "x").code == 2
    assert run("bootstrap", "--no-admin", "--admin", "x").code != 0


def test_routes_that_an_admin_deleted_stay_deleted(read_write: None, system: Principal) -> None:
    services.replace_routes(actor=system, specs=[], source="tests")
    ended = run("bootstrap", "--pack", "open")
    assert ended.code == 0
    assert "All routes were deleted, so the policy pack open is not loaded, and every request is denied." in ended.err
    assert not Route.objects.exists()


def test_a_name_that_a_user_without_the_role_has_is_an_error(bob: User) -> None:
    ended = run("bootstrap", "--pack", "open", "--admin", "bob@example.com")
    assert (ended.code, ended.out) == (1, "")
    assert "bob@example.com" in ended.err
    assert not Route.objects.exists()
    bob.refresh_from_db()
    assert bob.role.name == "user"


def test_an_unknown_pack_is_wrong_usage_with_the_packs(db: None) -> None:
    ended = run("bootstrap", "--pack", "nonsense")
    assert ended.code != 0
    assert "read-write" in ended.err


def test_of_several_at_once_one_sets_up(separate_connections: None) -> None:
    def set_up() -> bootstrap.SetUp:
        return bootstrap.set_up(actor=system_actor("tests"), pack="open", admin="admin", new_password=lambda: GOOD)

    done = at_once(*[set_up] * 4)
    assert sorted((result.pack, result.admin) for result in done) == [(False, False)] * 3 + [(True, True)]
    assert (users.active_admins(), Route.objects.count()) == (1, 1)


@pytest.mark.e2e
def test_replicas_that_start_at_once_on_an_empty_database_make_one_admin() -> None:
    with directory() as data, database() as where:
        started = [start(["--pack", "read-write", "--json"], DATA_DIR=str(data), **where) for _ in range(3)]
        ended = [end(process) for process in started]
        assert [one.code for one in ended] == [0] * 3, ended
        answers = [json.loads(one.out) for one in ended]
        assert sorted((answer["pack_loaded"], answer["admin_created"]) for answer in answers) == [(False, False)] * 2 + [
            (True, True)
        ]
        assert sum("password" in answer for answer in answers) == 1
        assert all(answer["routes"] == 2 for answer in answers)
        later = end(start(["--pack", "open"], DATA_DIR=str(data), **where))
        assert (later.code, later.out, "Traceback" in later.err) == (0, "", False)


@pytest.mark.e2e
def test_if_the_password_cannot_be_printed_no_admin_is_created() -> None:
    with directory() as data, database() as where:
        for option in ([], ["--json"]):
            reader, writer = os.pipe()
            os.close(reader)
            done = subprocess.run(
                [sys.executable, "manage.py", "bootstrap", *option],
                cwd=ROOT, env=environment(DATA_DIR=str(data), **where), stdout=writer, stderr=subprocess.PIPE, text=True,
                timeout=120, check=False,
            )  # fmt: skip
            os.close(writer)
            assert done.returncode == 141, done.stderr
            assert "Traceback" not in done.stderr
        assert json.loads(end(start(["--json"], DATA_DIR=str(data), **where)).out)["admin_created"] is True


@pytest.mark.e2e
@pytest.mark.postgres
def test_it_waits_until_postgresql_answers_and_says_why() -> None:
    with postgres() as server, directory() as data:
        values = {"DATA_DIR": str(data), "DATABASE_URL": server.url, "SECRET_KEY": SECRET_KEY}
        server.stop()
        late = end(start(["--wait", "1"], **values))
        assert (late.code, late.out) == (1, "")
        lines = late.err.splitlines()
        assert lines[0].startswith("Waiting for the database, 1 seconds more: connection failed: ")
        assert lines[-1].startswith("CommandError: The database cannot be used: connection failed: ")
        assert lines[-1].endswith("Connection refused. Check DATABASE_URL and DATA_DIR.")
        waiting = start(["--wait", "120", "--json"], **values)
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("Waiting for the database, 120 seconds more: connection failed: ")
        server.start()
        ended = end(waiting)
        assert (ended.code, json.loads(ended.out)["admin_created"]) == (0, True)


@pytest.mark.e2e
@pytest.mark.sqlite
def test_it_does_not_wait_for_a_sqlite_file_that_cannot_be_opened() -> None:
    with directory() as data:
        ended = end(start(["--wait", "600"], DATA_DIR=str(data), DATABASE_URL=f"sqlite:///{data}/missing/file"))
    message = "CommandError: The database cannot be used: unable to open database file. Check DATABASE_URL and DATA_DIR.\n"
    assert ended == Ended(1, "", message)
