"""create_user, changepassword, set_role, createsuperuser."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password

from accounts.models import ServiceAccount, SignIn, User
from audit.models import Entry
from tests.commands.run_command import run, run_alone, run_line

GOOD = "correct horse battery staple"


def stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))


def test_a_random_password_is_the_only_thing_on_standard_output(db: None) -> None:
    ended = run("create_user", "alice", "--role", "admin", "--random-password")
    password = ended.out.rstrip("\n")
    user = User.objects.get(username="alice")
    assert (ended.code, user.role.name, user.sign_in) == (0, "admin", SignIn.PASSWORD)
    assert check_password(password, user.password)
    assert password not in ended.err
    assert password not in repr(list(Entry.objects.values()))


def test_promise_49_without_a_role_create_user_creates_a_user(db: None, settings: Any) -> None:
    settings.RBAC_DEFAULT_ROLE = "admin"
    ended = run("create_user", "alice", "--random-password")
    assert "User alice created with the role user." in ended.err
    assert User.objects.get().role.name == "user"


def test_the_audit_log_names_the_command_and_who_ran_it(db: None) -> None:
    run("create_user", "alice", "--random-password")
    entry = Entry.objects.get()
    assert (entry.event, entry.target, entry.method) == ("user.created", "alice", "command")
    assert entry.actor.startswith("manage.py create_user (")


def test_a_password_is_read_from_the_first_line_of_a_file(db: None, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{GOOD}\nnot this\n")
    ended = run("create_user", "alice", "--password-file", str(file))
    assert (ended.code, ended.out) == (0, "")
    assert check_password(GOOD, User.objects.get().password)


def test_a_password_is_read_from_standard_input(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, f"{GOOD}\n")
    assert run("create_user", "alice", "--password-file", "-").code == 0
    assert check_password(GOOD, User.objects.get().password)


def test_without_a_terminal_a_password_option_is_needed(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "")
    ended = run("create_user", "alice")
    assert ended.code == 2
    assert "--password-file or --random-password" in ended.err
    assert not User.objects.exists()


@pytest.mark.parametrize(("second", "code"), [(GOOD, 0), ("something else", 1)])
def test_a_password_is_typed_twice(db: None, monkeypatch: pytest.MonkeyPatch, second: str, code: int) -> None:
    typed = iter([GOOD, second])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert run("create_user", "alice").code == code
    assert User.objects.exists() is (code == 0)


@pytest.mark.parametrize(
    ("words", "sign_in"),
    [(["--sso"], SignIn.SSO), (["--sso", "--random-password"], SignIn.BOTH), (["--random-password"], SignIn.PASSWORD)],
)
def test_the_options_decide_how_a_user_signs_in(db: None, words: list[str], sign_in: SignIn) -> None:
    run("create_user", "bob@example.com", *words)
    assert User.objects.get().sign_in == sign_in


@pytest.mark.parametrize(("sso", "warns"), [("off", True), ("plaintext", False)])
def test_create_user_warns_about_a_user_who_cannot_sign_in(db: None, settings: Any, sso: str, warns: bool) -> None:
    settings.AUTH_USER_HEADER_FORMAT = sso
    ended = run("create_user", "bob@example.com", "--sso")
    assert (ended.code, "Warning: Single sign-on is off" in ended.err) == (0, warns)


def test_json_contains_the_user_and_the_generated_password(db: None) -> None:
    answer = json.loads(run("create_user", "vera@example.com", "--role", "viewer", "--random-password", "--json").out)
    assert (answer["username"], answer["role"], answer["active"]) == ("vera@example.com", "viewer", True)
    assert check_password(answer["password"], User.objects.get().password)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["alice", "--role", "boss", "--random-password"], "There is no role named 'boss'. The roles are: admin, user, viewer."),
        (["sa-alice", "--random-password"], "Names that start with sa- are reserved for service accounts."),
        (["alice", "--sso"], "Single sign-on identifies users by e-mail address"),
        (["alice", "--password-file", "/nowhere/at-all"], "/nowhere/at-all cannot be read: No such file or directory."),
        (["bob@example.com", "--random-password"], "User 'bob@example.com' already exists."),
    ],
)
def test_each_error_of_create_user_is_one_message(bob: User, words: list[str], sentence: str) -> None:
    ended = run("create_user", *words)
    assert (ended.code, ended.out) == (1, "")
    assert sentence in ended.err
    assert User.objects.count() == 1


def test_the_error_for_a_weak_password_does_not_show_it(db: None, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    ended = run("create_user", "alice", "--password-file", str(tmp_path / "password"))
    assert ended.code == 1
    assert "too short" in ended.err
    assert "hunter2" not in ended.err


@pytest.mark.parametrize("words", [("--password", "hunter2 hunter2"), ("--password=hunter2 hunter2",), ("--password",)])
def test_a_password_cannot_be_an_argument_and_is_not_shown(db: None, words: tuple[str, ...]) -> None:
    ended = run_line("create_user", "alice", *words)
    assert ended.code == 2
    assert "hunter2" not in ended.out + ended.err
    assert not User.objects.exists()


def test_the_error_for_a_password_in_the_arguments_says_what_to_use(db: None) -> None:
    assert "Use --password-file, --random-password" in run_line("create_user", "alice", "--password", GOOD).err


@pytest.mark.parametrize(
    "words",
    [
        ("apply", "x.yaml", "--prun"),
        ("prune", "--dry"),
        ("create_user", "alice", "--rol", "admin"),
        ("load_pack", "open", "--if"),
    ],
)
def test_promise_48_an_option_is_written_in_full(db: None, words: tuple[str, ...]) -> None:
    ended = run_line(*words)
    assert (ended.code, "unrecognized arguments" in ended.err) == (2, True)
    assert not User.objects.exists()


def test_no_user_gets_the_name_of_callers_without_a_credential(db: None) -> None:
    ended = run("create_user", "Anonymous", "--random-password")
    assert (ended.code, ended.err) == (1, "anonymous is the name of callers without a credential. Choose another name.\n")
    ended = run("create_service_account", "anonymous")
    assert (ended.code, ended.err) == (1, "anonymous is the name of callers without a credential. Choose another name.\n")


def test_an_owner_from_a_variable_that_is_not_set_is_not_no_owner(db: None) -> None:
    ended = run("create_service_account", "pipeline", "--owner", "")
    assert (ended.code, ended.err) == (1, "The owner is empty. Name a user, or use --no-owner.\n")
    assert not ServiceAccount.objects.exists()


def test_the_error_for_a_database_without_tables_names_the_database(tmp_path: Path) -> None:
    ended = run_alone("list_tokens", data_dir=tmp_path / "mistyped")
    assert f"Is {tmp_path}/mistyped/skyauth.sqlite3 the right one" in ended.err


def test_a_changed_password_is_audited_and_shown_once(bob: User) -> None:
    ended = run("changepassword", "bob@example.com", "--random-password")
    bob.refresh_from_db()
    assert check_password(ended.out.strip(), bob.password)
    assert Entry.objects.get().event == "user.password-changed"
    assert ended.out.strip() not in ended.err


def test_changepassword_opens_a_second_way_to_sign_in_on_request_only(bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(sign_in=SignIn.SSO)
    ended = run("changepassword", "bob@example.com", "--random-password")
    assert (ended.code, ended.out) == (1, "")
    assert "bob@example.com signs in through single sign-on." in ended.err
    assert "--sign-in" in ended.err
    ended = run("changepassword", "bob@example.com", "--random-password", "--sign-in", "both")
    assert "bob@example.com can sign in by password or single sign-on." in ended.err
    assert User.objects.get(pk=bob.pk).sign_in == SignIn.BOTH


def test_changing_the_password_of_an_unknown_user_is_an_error(db: None) -> None:
    ended = run("changepassword", "mallory", "--random-password")
    assert (ended.code, ended.out) == (1, "")
    assert "There is no user named 'mallory'." in ended.err


def test_set_role_sets_the_role_of_a_user(bob: User) -> None:
    ended = run("set_role", "bob@example.com", "viewer", "--json")
    bob.refresh_from_db()
    assert bob.role.name == json.loads(ended.out)["role"] == "viewer"


def test_set_role_sets_the_role_of_a_service_account(pipeline: ServiceAccount) -> None:
    ended = run("set_role", "pipeline", "viewer")
    pipeline.refresh_from_db()
    assert (ended.code, ended.out, pipeline.role.name) == (0, "", "viewer")
    assert "pipeline now has the role viewer." in ended.err


@pytest.mark.parametrize(
    ("name", "role", "sentence"),
    [
        ("mallory", "user", "There is no user or service account named 'mallory'."),
        ("pipeline", "boss", "There is no role named 'boss'."),
        ("pipeline", "admin", "The owner bob@example.com has fewer permissions than the role admin."),
        ("alice@example.com", "user", "alice@example.com is the last active admin."),
    ],
)
def test_each_error_of_set_role_is_one_message(
    alice: User, pipeline: ServiceAccount, name: str, role: str, sentence: str
) -> None:
    ended = run("set_role", name, role)
    assert ended.code == 1
    assert sentence in ended.err
    assert not Entry.objects.exists()


@pytest.mark.parametrize("words", [[], ["--noinput"], ["--username", "alice", "--email", "a@example.com"]])
def test_createsuperuser_says_what_to_use_instead(db: None, words: list[str]) -> None:
    ended = run("createsuperuser", *words)
    assert ended.code == 1
    assert "create_user NAME --role admin" in ended.err
    assert not User.objects.exists()
