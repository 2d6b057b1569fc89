"""disable_user, enable_user, delete_user, and the same for service accounts."""

import io
import json
import sys

import pytest

from accounts.models import DeletedUser, ServiceAccount, Session, Token, User
from audit.models import Entry
from rbac.models import Role
from tests.commands.run_command import run
from tests.factories import ServiceAccountFactory, UserFactory, make_token


class Terminal(io.StringIO):
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


def events() -> list[tuple[str, str]]:
    return list(Entry.objects.order_by("pk").values_list("event", "target"))


def test_a_user_is_disabled_and_enabled(alice: User, pipeline: ServiceAccount, bob: User) -> None:
    ended = run("disable_user", "Bob@example.com")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.splitlines() == [
        "bob@example.com is disabled.",
        "Sessions that end: 0.",
        "Service accounts that are refused until the user is enabled: pipeline.",
    ]
    bob.refresh_from_db()
    assert not bob.is_active
    assert json.loads(run("enable_user", bob.uid, "--json").out)["active"] is True
    assert run("enable_user", "bob@example.com").err == "bob@example.com is enabled, with the role user.\n"
    assert events() == [("user.updated", "bob@example.com")] * 2
    assert Entry.objects.first().actor.startswith("manage.py enable_user (")


def test_disabling_prints_the_user_and_the_service_accounts_as_json(alice: User, pipeline: ServiceAccount) -> None:
    make_token(pipeline)
    answer = json.loads(run("disable_user", "bob@example.com", "--json").out)
    assert (answer["username"], answer["active"], answer["dry_run"]) == ("bob@example.com", False, False)
    assert (answer["service_accounts"], answer["service_accounts_action"], answer["active_tokens"]) == (["pipeline"], "stay", 1)


def test_service_accounts_can_be_transferred_or_revoked(alice: User, pipeline: ServiceAccount, bob: User) -> None:
    token = make_token(pipeline)[0]
    assert run("disable_user", "bob@example.com", "--transfer-to", "alice@example.com").code == 0
    pipeline.refresh_from_db()
    assert (pipeline.owner, pipeline.is_active) == (alice, True)
    ServiceAccount.objects.update(owner=bob)
    ended = run("disable_user", "bob@example.com", "--service-accounts", "revoke")
    assert "Service accounts that are disabled, and whose tokens are revoked: pipeline." in ended.err
    pipeline.refresh_from_db()
    token.refresh_from_db()
    assert (pipeline.is_active, token.state()) == (False, "revoked")


@pytest.mark.parametrize("command", ["disable_user", "delete_user"])
def test_options_about_service_accounts_that_exclude_each_other_are_wrong_usage(
    alice: User, pipeline: ServiceAccount, command: str
) -> None:
    for words in (["transfer"], ["revoke", "--transfer-to", "alice@example.com"]):
        assert run(command, "bob@example.com", "--dry-run", "--service-accounts", *words).code == 2
    assert User.objects.get(username="bob@example.com").is_active


@pytest.mark.parametrize("command", [["disable_user"], ["delete_user", "--yes"], ["delete_user", "--dry-run"]])
def test_the_last_admin_stays(alice: User, command: list[str]) -> None:
    ended = run(*command, "alice@example.com")
    assert (ended.code, ended.out) == (1, "")
    assert "admin" in ended.err
    assert User.objects.get().is_active
    assert events() == []


@pytest.mark.parametrize("command", ["disable_user", "delete_user"])
def test_a_dry_run_changes_nothing_and_has_the_same_errors(alice: User, pipeline: ServiceAccount, command: str) -> None:
    make_token(pipeline)
    answer = json.loads(run(command, "bob@example.com", "--transfer-to", "alice@example.com", "--dry-run", "--json").out)
    assert (answer["service_accounts"], answer["transferred_to"], answer["dry_run"]) == (["pipeline"], "alice@example.com", True)
    assert "(--dry-run)" in run(command, "bob@example.com", "--dry-run").err
    UserFactory(username="gone@example.com", is_active=False)
    ended = run(command, "bob@example.com", "--transfer-to", "gone@example.com", "--dry-run")
    assert (ended.code, "gone@example.com is disabled. Name a user who is active." in ended.err) == (1, True)
    assert User.objects.get(username="bob@example.com").is_active
    assert ServiceAccount.objects.get().owner == User.objects.get(username="bob@example.com")
    assert not DeletedUser.objects.exists()
    assert events() == []


def test_a_user_is_deleted_with_yes(alice: User, pipeline: ServiceAccount) -> None:
    ended = run("delete_user", "bob@example.com", "--yes")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.splitlines()[0] == "bob@example.com is deleted."
    assert "Service accounts without an owner afterwards: pipeline." in ended.err
    assert not User.objects.filter(username="bob@example.com").exists()
    assert ServiceAccount.objects.get().owner is None


def test_without_a_terminal_a_deletion_needs_yes(alice: User, pipeline: ServiceAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    for command, name in (("delete_user", "bob@example.com"), ("delete_service_account", "pipeline")):
        ended = run(command, name)
        assert (ended.code, ended.out) == (2, "")
        assert "Add --yes" in ended.err
    assert (User.objects.count(), ServiceAccount.objects.count()) == (2, 1)


@pytest.mark.parametrize(("answer", "deleted"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_in_a_terminal_a_deletion_asks_first(
    alice: User, pipeline: ServiceAccount, monkeypatch: pytest.MonkeyPatch, answer: str, deleted: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    ended = run("delete_user", "bob@example.com")
    assert "Delete bob@example.com, who has the role user? Sessions that end: 0. Service accounts without" in ended.err
    assert (ended.code, "Nothing was changed." in ended.err) == ((0, False) if deleted else (1, True))
    assert User.objects.filter(username="bob@example.com").exists() is not deleted
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert (
        "Delete the service account pipeline, with 0 tokens, 0 of them active? [y/N]"
        in run("delete_service_account", "pipeline").err
    )
    assert ServiceAccount.objects.exists() is not deleted


def test_the_question_says_that_a_user_of_single_sign_on_can_return(
    alice: User, bob: User, monkeypatch: pytest.MonkeyPatch, settings
) -> None:
    settings.AUTH_USER_HEADER_FORMAT = "plain"
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    returns = "SkyAuth creates the user again"
    assert returns in run("delete_user", "bob@example.com").err
    assert returns not in run("delete_user", "bob@example.com", "--block").err


@pytest.mark.parametrize(
    ("active", "words", "blocked"),
    [(True, [], False), (True, ["--block"], True), (False, [], True), (False, ["--no-block"], False)],
)
def test_the_name_of_a_deleted_user_is_blocked(alice: User, bob: User, active: bool, words: list[str], blocked: bool) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=active)
    assert json.loads(run("delete_user", "bob@example.com", "--yes", "--json", *words).out)["blocked"] is blocked
    assert DeletedUser.objects.get().blocked is blocked
    assert run("delete_user", "x", "--block", "--no-block").code != 0


def test_a_service_account_is_disabled_enabled_and_deleted(pipeline: ServiceAccount) -> None:
    token = make_token(pipeline)[0]
    assert json.loads(run("disable_service_account", pipeline.uid, "--json").out)["active"] is False
    assert run("disable_service_account", "pipeline").err == "pipeline is disabled.\n"
    assert run("enable_service_account", "Pipeline").err == "pipeline is enabled, with the role user.\n"
    assert (
        "would be deleted (--dry-run), with 1 token, 1 of them active"
        in run("delete_service_account", "pipeline", "--dry-run").err
    )
    assert Token.objects.exists()
    answer = json.loads(run("delete_service_account", "pipeline", "--yes", "--json").out)
    assert answer == {"name": "pipeline", "uid": pipeline.uid, "tokens": [token.key_id], "active_tokens": 1, "dry_run": False}
    assert not ServiceAccount.objects.exists()
    assert [event for event, _ in events()] == ["service-account.updated"] * 2 + ["service-account.deleted"]


def test_an_enabled_account_of_a_disabled_owner_is_said_to_be_refused(pipeline: ServiceAccount, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert "Warning: the owner bob@example.com is disabled" in run("enable_service_account", "pipeline").err


@pytest.mark.parametrize(
    "command",
    ["disable_user", "enable_user", "delete_user", "disable_service_account", "enable_service_account", "delete_service_account"],
)
def test_an_unknown_name_is_an_error(alice: User, command: str) -> None:
    words = ["--yes"] if command.startswith("delete") else []
    ended = run(command, "mallory", *words)
    assert (ended.code, ended.out) == (1, "")
    assert "mallory" in ended.err
    assert events() == []


def test_a_long_list_of_service_accounts_is_cut_off_in_sentences_and_whole_in_json(alice: User, bob: User) -> None:
    for number in range(60):
        ServiceAccountFactory(name=f"build-{number:02}", owner=bob, role=Role.objects.get(name="viewer"))
    assert "build-09 and 50 more." in run("disable_user", "bob@example.com", "--dry-run").err
    assert len(json.loads(run("disable_user", "bob@example.com", "--dry-run", "--json").out)["service_accounts"]) == 60
    assert not Session.objects.exists()
