"""create_service_account, create_token, rotate_token, revoke_token, list_tokens."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import DatabaseError
from django.utils import timezone
from pytest_django import Settings

from accounts import token_format
from accounts.models import ServiceAccount, Token, User
from audit.models import Entry
from authn import identify
from authn.credentials import Bearer, InvalidCredential
from core.errors import Conflict
from ops.secret_files import new_file
from tests.commands.run_command import run, run_line
from tests.factories import ServiceAccountFactory, UserFactory, make_token


def accepted(token: str) -> bool:
    try:
        identify.identify(Bearer(token.encode()), client="192.0.2.1")
    except InvalidCredential:
        return False
    return True


def test_a_service_account_is_created_for_its_owner(bob: User) -> None:
    ended = run("create_service_account", "pipeline", "--role", "user", "--owner", "bob@example.com", "--json")
    account = ServiceAccount.objects.get()
    assert json.loads(ended.out) == {
        "name": "pipeline",
        "uid": account.uid,
        "upstream_name": f"pipeline@{account.uid}",
        "role": "user",
        "owner": "bob@example.com",
        "description": "",
        "active": True,
    }
    assert account.owner == bob


def test_the_defaults_are_no_owner_and_a_role_that_is_not_admin(db: None) -> None:
    run("create_service_account", "backup")
    account = ServiceAccount.objects.get()
    assert (account.owner, account.role.name) == (None, "user")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pipeline"], "Service account 'pipeline' already exists."),
        (["1st"], "A service account name starts with a letter"),
        (["x", "--owner", "mallory"], "There is no user named 'mallory'."),
        (["x", "--owner", "bob@example.com", "--role", "admin"], "has fewer permissions than the role admin"),
    ],
)
def test_each_error_of_create_service_account_is_one_message(pipeline: ServiceAccount, words: list[str], sentence: str) -> None:
    ended = run("create_service_account", *words)
    assert (ended.code, ended.out) == (1, "")
    assert sentence in ended.err


def test_owner_and_no_owner_exclude_each_other(bob: User) -> None:
    assert run("create_service_account", "x", "--owner", "bob@example.com", "--no-owner").code != 0
    assert not ServiceAccount.objects.exists()


def test_a_new_token_is_only_on_standard_output(pipeline: ServiceAccount, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    ended = run("create_token", "pipeline", "--name", "ci")
    token = ended.out.strip()
    assert ended.out == f"{token}\n"
    assert accepted(token)
    everywhere = ended.err + caplog.text + repr(list(Entry.objects.values())) + repr(list(Token.objects.values()))
    assert token not in everywhere
    assert token[17:] not in everywhere
    assert "shown only once" in ended.err


def test_json_holds_the_token_and_its_metadata(pipeline: ServiceAccount) -> None:
    answer = json.loads(run("create_token", "pipeline", "--days", "3", "--name", "ci", "--json").out)
    row = Token.objects.get()
    assert (answer["key_id"], answer["account"], answer["name"], answer["state"]) == (row.key_id, "pipeline", "ci", "active")
    assert answer["expires_at"] == row.expires_at.isoformat()
    assert token_format.parse(answer["token"].encode()).key_id == row.key_id


@pytest.mark.parametrize(("days", "lifetime"), [("0", None), ("7", timedelta(days=7))])
def test_days_are_the_lifetime_of_a_token(pipeline: ServiceAccount, days: str, lifetime: timedelta | None) -> None:
    run("create_token", "pipeline", "--days", days)
    row = Token.objects.get()
    assert (row.expires_at - row.created_at if row.expires_at else None) == lifetime


def test_only_the_owner_can_read_a_token_file_and_standard_output_is_empty(pipeline: ServiceAccount, tmp_path: Path) -> None:
    file = tmp_path / "token"
    ended = run("create_token", "pipeline", "--output", str(file))
    assert (ended.code, ended.out) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert accepted(file.read_text().removesuffix("\n"))
    assert file.read_text().strip() not in ended.err
    assert list(tmp_path.iterdir()) == [file]


def test_json_does_not_contain_a_token_that_is_written_to_a_file(pipeline: ServiceAccount, tmp_path: Path) -> None:
    file = tmp_path / "token"
    ended = run("create_token", "pipeline", "--output", str(file), "--json")
    assert json.loads(ended.out)["file"] == str(file)
    assert "token" not in json.loads(ended.out)
    assert file.read_text().strip() not in ended.out


@pytest.mark.parametrize("kind", ["file", "link to nowhere", "folder"])
def test_an_existing_file_is_an_error_before_a_token_is_issued(pipeline: ServiceAccount, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "token"
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to(tmp_path / "nowhere")
    ended = run("create_token", "pipeline", "--output", str(path))
    assert (ended.code, ended.out) == (1, "")
    assert "It is not overwritten" in ended.err
    assert not Token.objects.exists()
    assert not Entry.objects.exists()
    assert list(tmp_path.iterdir()) == [path]
    assert kind != "file" or path.read_text() == "precious"


def test_a_missing_directory_is_an_error_before_a_token_is_issued(pipeline: ServiceAccount, tmp_path: Path) -> None:
    ended = run("create_token", "pipeline", "--output", str(tmp_path / "no" / "token"))
    assert ended.code == 1
    assert "cannot be written: No such file or directory." in ended.err
    assert not Token.objects.exists()


def test_a_refused_token_leaves_no_file_and_no_account(db: None, tmp_path: Path) -> None:
    ended = run("create_token", "new", "--create", "--days", "-1", "--output", str(tmp_path / "token"))
    assert ended.code == 1
    assert "Days are a whole number" in ended.err
    assert list(tmp_path.iterdir()) == []
    assert not ServiceAccount.objects.exists()


def test_a_file_that_another_process_creates_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "token"

    def lose_the_race() -> None:
        with new_file(path) as write:
            path.write_text("somebody else's")
            write("secret")

    with pytest.raises(Conflict):
        lose_the_race()
    assert path.read_text() == "somebody else's"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_commit_removes_the_written_file(tmp_path: Path) -> None:
    def fail_after_writing() -> None:
        with new_file(tmp_path / "token") as write:
            write("secret")
            assert (tmp_path / "token").read_text() == "secret"
            raise DatabaseError("gone")

    with pytest.raises(DatabaseError):
        fail_after_writing()
    assert list(tmp_path.iterdir()) == []


def test_create_creates_the_account_once(db: None) -> None:
    for _ in range(2):
        assert run("create_token", "nightly", "--create", "--role", "viewer").code == 0
    account = ServiceAccount.objects.get()
    assert (account.name, account.role.name, account.owner, account.tokens.count()) == ("nightly", "viewer", None, 2)


def test_create_does_not_change_the_role_of_an_account_that_exists(pipeline: ServiceAccount) -> None:
    ended = run("create_token", "pipeline", "--create", "--role", "viewer")
    assert ended.code == 1
    assert "has the role user. To change it, use set_role." in ended.err
    assert not Token.objects.exists()


def test_a_role_without_create_is_wrong_usage(pipeline: ServiceAccount) -> None:
    assert run("create_token", "pipeline", "--role", "viewer").code == 2


def test_a_token_for_an_unknown_account_or_beyond_the_maximum_lifetime_is_an_error(
    pipeline: ServiceAccount, settings: Settings
) -> None:
    assert "There is no service account 'mallory'." in run("create_token", "mallory").err
    settings.TOKEN_MAX_DAYS = 10
    ended = run("create_token", "pipeline", "--days", "0")
    assert (ended.code, ended.out) == (1, "")
    assert "Tokens are valid for at most 10 days (TOKEN_MAX_DAYS)." in ended.err


def test_rotating_replaces_the_token_at_once(pipeline: ServiceAccount) -> None:
    old, plaintext = make_token(pipeline)
    ended = run("rotate_token", old.key_id)
    assert accepted(ended.out.strip())
    assert not accepted(plaintext)


def test_rotating_with_grace_keeps_the_old_token_for_a_while(pipeline: ServiceAccount, tmp_path: Path) -> None:
    old, plaintext = make_token(pipeline)
    ended = run("rotate_token", old.key_id, "--grace", "60", "--days", "5", "--output", str(tmp_path / "t"), "--json")
    assert json.loads(ended.out)["account"] == "pipeline"
    assert accepted((tmp_path / "t").read_text().strip())
    assert accepted(plaintext)
    old.refresh_from_db()
    assert old.expires_at < timezone.now() + timedelta(seconds=61)


def test_an_existing_file_is_an_error_before_the_old_token_is_revoked(pipeline: ServiceAccount, tmp_path: Path) -> None:
    old, plaintext = make_token(pipeline)
    (tmp_path / "t").write_text("precious")
    assert run("rotate_token", old.key_id, "--output", str(tmp_path / "t")).code == 1
    assert accepted(plaintext)


@pytest.mark.parametrize("command", ["rotate_token", "revoke_token"])
def test_a_token_instead_of_a_key_id_is_an_error_that_does_not_show_it(pipeline_token: str, command: str) -> None:
    ended = run(command, pipeline_token)
    assert ended.code != 0
    assert "Never pass the token itself" in ended.err
    assert pipeline_token not in ended.err + ended.out
    assert accepted(pipeline_token)


@pytest.mark.parametrize("command", ["rotate_token", "revoke_token"])
def test_an_unknown_key_id_is_an_error(db: None, command: str) -> None:
    ended = run(command, "000000000000")
    assert ended.code == 1
    assert "There is no token with the key id '000000000000'." in ended.err


def test_a_revoked_token_is_refused_immediately(pipeline: ServiceAccount) -> None:
    row, plaintext = make_token(pipeline)
    answer = json.loads(run("revoke_token", row.key_id, "--json").out)
    assert (answer[0]["key_id"], answer[0]["state"]) == (row.key_id, "revoked")
    assert not accepted(plaintext)


def test_revoking_several_is_all_or_nothing(pipeline: ServiceAccount) -> None:
    row, plaintext = make_token(pipeline)
    assert run("revoke_token", row.key_id, "000000000000").code == 1
    assert accepted(plaintext)


def test_all_tokens_of_an_account_are_revoked_and_no_others(pipeline: ServiceAccount) -> None:
    mine = [make_token(pipeline)[1] for _ in range(2)]
    other = make_token(ServiceAccountFactory())[1]
    assert run("revoke_token", "--account", "pipeline", "--all").code == 0
    assert [accepted(token) for token in [*mine, other]] == [False, False, True]


@pytest.mark.parametrize("words", [[], ["--all"], ["--account", "pipeline"], ["000000000000", "--account", "pipeline", "--all"]])
def test_revoke_needs_key_ids_or_an_account_with_all(pipeline_token: str, words: list[str]) -> None:
    assert run("revoke_token", *words).code == 2
    assert accepted(pipeline_token)


@pytest.fixture
def assorted(pipeline: ServiceAccount) -> dict[str, str]:
    """One token of each kind: key id to kind."""
    now = timezone.now()
    other = ServiceAccountFactory(name="other")
    rows = {
        "fresh": make_token(pipeline)[0],
        "soon": make_token(pipeline, days=3)[0],
        "endless": make_token(other, days=None, created_at=now - timedelta(days=200), last_used_at=now)[0],
        "idle": make_token(other, days=None, created_at=now - timedelta(days=200), last_used_at=now - timedelta(days=100))[0],
        "never used": make_token(other, days=None, created_at=now - timedelta(days=200))[0],
        "expired": make_token(pipeline, days=-1)[0],
        "revoked": make_token(pipeline, revoked_at=now)[0],
    }
    return {row.key_id: sort for sort, row in rows.items()}


@pytest.mark.parametrize(
    ("words", "sorts"),
    [
        ([], {"fresh", "soon", "endless", "idle", "never used", "expired", "revoked"}),
        (["--account", "other"], {"endless", "idle", "never used"}),
        (["--state", "active"], {"fresh", "soon", "endless", "idle", "never used"}),
        (["--state", "expired"], {"expired"}),
        (["--state", "revoked"], {"revoked"}),
        (["--expiring", "7"], {"soon"}),
        (["--unused", "90"], {"idle", "never used"}),
        (["--account", "pipeline", "--unused", "90"], set()),
    ],
)
def test_tokens_are_listed_by_what_is_asked(assorted: dict[str, str], words: list[str], sorts: set[str]) -> None:
    answer = json.loads(run("list_tokens", *words, "--json").out)
    assert {assorted[row["key_id"]] for row in answer} == sorts


def test_the_listed_state_is_the_one_asked_for(assorted: dict[str, str]) -> None:
    for state in ("active", "expired", "revoked"):
        assert {row["state"] for row in json.loads(run("list_tokens", "--state", state, "--json").out)} == {state}


def test_a_list_shows_neither_digest_nor_secret(pipeline: ServiceAccount) -> None:
    row, plaintext = make_token(pipeline)
    shown = run("list_tokens").out + run("list_tokens", "--json").out
    assert row.key_id in shown
    assert row.digest not in shown
    assert plaintext not in shown


def test_a_list_says_what_else_stops_a_token(pipeline: ServiceAccount, pipeline_token: str, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert json.loads(run("list_tokens", "--json").out)[0]["stopped"] == "owner disabled"
    ServiceAccount.objects.update(is_active=False)
    assert json.loads(run("list_tokens", "--json").out)[0]["stopped"] == "account disabled"


def test_a_name_cannot_forge_a_line_of_the_table(pipeline: ServiceAccount) -> None:
    make_token(pipeline, name="[red]x[/] \x1b[2Jy\nz")
    table = run("list_tokens").out
    assert "\x1b" not in table
    assert "[red]x[/]" in table
    assert len(table.splitlines()) == 2


def test_a_narrow_terminal_does_not_break_key_ids(pipeline: ServiceAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    key_id = make_token(pipeline, name="the nightly build of everything that there is to build")[0].key_id
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("django.core.management.base.OutputWrapper.isatty", lambda self: True)
    table = run("list_tokens", "--no-color").out
    assert key_id in table
    assert max(map(len, table.splitlines())) <= 80


@pytest.mark.parametrize("width", [40, 60, 80, 90, 95, 100, 105, 110, 120, 200])
def test_a_terminal_of_any_width_shows_the_whole_date(
    pipeline: ServiceAccount, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    make_token(ServiceAccountFactory(name="the-nightly-build", owner=UserFactory(is_active=False)), name="GitHub Actions")
    row = make_token(pipeline, name="nightly build", last_used_at=datetime(2026, 12, 24, 23, 59, tzinfo=UTC))[0]
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("django.core.management.base.OutputWrapper.isatty", lambda self: True)
    table = run("list_tokens", "--no-color").out
    words = table.split()
    assert max(map(len, table.splitlines())) <= width
    assert row.expires_at
    expected = {row.key_id, "active", f"{row.expires_at:%Y-%m-%d}", f"{row.expires_at:%H:%M}", "2026-12-24", "23:59"}
    assert expected <= set(words)


def test_an_empty_list_says_so_beside_standard_output(db: None) -> None:
    ended = run("list_tokens")
    assert (ended.code, ended.out) == (0, "")
    assert "No tokens match." in ended.err
    assert json.loads(run("list_tokens", "--json").out) == []


@pytest.mark.parametrize("words", [["--expiring", "-1"], ["--unused", "99999999999"], ["--state", "lost"], ["--unused", "x"]])
def test_an_impossible_filter_is_wrong_usage(db: None, words: list[str]) -> None:
    assert run("list_tokens", *words).code != 0


@pytest.mark.parametrize("days", ["٣", "1_0", "3.0", "many"])
def test_days_are_written_with_the_digits_0_to_9(pipeline: ServiceAccount, days: str) -> None:
    ended = run_line("create_token", "pipeline", "--days", days)
    assert (ended.code, ended.out) == (2, "")
    assert "argument --days: Write a whole number with the digits 0 to 9." in ended.err


def test_a_token_is_not_written_to_a_file_with_the_name_of_standard_output(
    pipeline: ServiceAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("create_token", "pipeline", "--output", "-")
    assert (ended.code, ended.err) == (1, "- is not the name of a file that a secret is written to. Name a new file.\n")
    assert not list(tmp_path.iterdir())
    assert not Token.objects.exists()


def test_create_says_that_it_created_an_account(pipeline: ServiceAccount) -> None:
    said = "There was no service account piplin. It gets the role user and no owner."
    assert said in run("create_token", "piplin", "--create").err
    assert "There was no" not in run("create_token", "Piplin", "--create").err + run("create_token", pipeline.uid, "--create").err
