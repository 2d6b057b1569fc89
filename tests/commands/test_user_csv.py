"""import_users and export_users."""

import csv
import io
import json
import stat
import sys
from pathlib import Path

import pytest

from accounts.models import User
from tests.commands.run_command import run

PEOPLE = "username,role,password\nbob@example.com,user,\nvera,viewer,correct horse battery staple\n"


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(PEOPLE)
    return path


def test_users_are_imported(db: None, people: Path) -> None:
    answer = run("import_users", str(people), "--json")
    done = {"applied": True, "dry_run": False, "created": ["bob@example.com", "vera"], "changed": [], "failures": []}
    assert done.items() <= json.loads(answer.out).items()
    assert list(User.objects.values_list("username", "role__name")) == [("bob@example.com", "user"), ("vera", "viewer")]
    assert "2 users created." in answer.err


def test_a_dry_run_creates_no_user(db: None, people: Path) -> None:
    ended = run("import_users", str(people), "--dry-run")
    assert ended.code == 0
    assert [line.split() for line in ended.out.splitlines()] == [
        ["USER", "ACTION", "ROLE"],
        ["bob@example.com", "create", "user"],
        ["vera", "create", "viewer"],
    ]
    assert "2 users would be created (--dry-run)." in ended.err
    assert "Warning: Single sign-on is off" in ended.err
    assert not User.objects.exists()


def test_promise_49_a_dry_run_shows_the_role_of_each_user_and_admins_first(bob: User, people: Path) -> None:
    people.write_text("username,role\ndan@example.com,\nbob@example.com,viewer\nann@example.com,admin\n")
    ended = run("import_users", str(people), "--dry-run", "--update")
    assert [line.split(maxsplit=2) for line in ended.out.splitlines()[1:]] == [
        ["ann@example.com", "create", "admin (!)"],
        ["dan@example.com", "create", "user"],
        ["bob@example.com", "change", "user -> viewer"],
    ]
    assert "1 would get the role admin (--dry-run)." in ended.err


def test_update_changes_existing_users(db: None, people: Path) -> None:
    run("import_users", str(people))
    people.write_text("username,role\nbob@example.com,viewer\nvera,viewer\nwill@example.com,user\n")
    assert (
        "1 user would be created, 1 user would be changed (--dry-run)."
        in run("import_users", str(people), "--update", "--dry-run").err
    )
    answer = run("import_users", str(people), "--update", "--json")
    assert (json.loads(answer.out)["created"], json.loads(answer.out)["changed"]) == (["will@example.com"], ["bob@example.com"])
    assert "1 user created, 1 user changed." in answer.err
    assert User.objects.get(username="bob@example.com").role.name == "viewer"


def test_users_are_read_from_standard_input(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PEOPLE.encode())))
    assert run("import_users", "-").code == 0
    assert User.objects.count() == 2


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_every_line_with_an_error_is_in_the_table_and_no_user_is_created(db: None, people: Path, words: list[str]) -> None:
    people.write_text(PEOPLE + "mallory,boss,hunter2hunter2\ncarol,user,hunter2\n")
    ended = run("import_users", str(people), *words)
    assert ended.code == 1
    assert [line.split()[:2] for line in ended.out.splitlines()[1:]] == [["4", "mallory"], ["5", "carol"]]
    assert "There is no role named 'boss'." in ended.out
    assert "2 lines with errors. Nothing was changed." in ended.err
    assert "hunter2" not in ended.out + ended.err
    assert not User.objects.exists()


def test_a_file_with_other_columns_is_one_message(db: None, people: Path) -> None:
    people.write_text("role,name\nuser,bob\n")
    ended = run("import_users", str(people))
    assert (ended.code, ended.out) == (1, "")
    assert "Unknown column: 'name'." in ended.err


def test_an_export_can_be_read_and_contains_no_password(alice: User, bob: User, tmp_path: Path) -> None:
    out = run("export_users").out
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["username"], row["role"]) for row in rows] == [("alice@example.com", "admin"), ("bob@example.com", "user")]
    assert "argon2" not in out


def test_an_export_to_a_file_is_the_same_and_only_its_owner_can_read_it(bob: User, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    assert run("export_users", str(file)).out == ""
    assert file.read_bytes().decode() == "\ufeff" + run("export_users").out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ended = run("export_users", str(file))
    assert ended.code == 1
    assert "It is not overwritten" in ended.err
