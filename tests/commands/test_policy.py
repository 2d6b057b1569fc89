"""explain and load_pack."""

import json

import pytest

from accounts.models import ServiceAccount, User
from audit.models import Entry
from rbac.models import Role, Route
from tests.commands.run_command import run
from tests.verify_client import denied


@pytest.mark.parametrize(
    ("words", "code", "status", "needed"),
    [
        (["vera@example.com", "GET", "/jobs"], 0, 200, "upstream:read"),
        (["vera@example.com", "POST", "/jobs"], 1, 403, "upstream:write"),
        (["bob@example.com", "POST", "/jobs?x=1"], 0, 200, "upstream:write"),
        (["pipeline", "DELETE", "/jobs/1", "--host", "api.example.com:443"], 0, 200, "upstream:write"),
        (["anonymous", "GET", "/jobs"], 1, 401, "upstream:read"),
        (["vera@example.com", "get", "/jobs"], 1, 403, None),
        (["vera@example.com", "GET", "/jobs//1"], 1, 403, None),
    ],
)
def test_explain_has_the_result_of_the_request(
    read_write: None, pipeline: ServiceAccount, vera: User, words: list[str], code: int, status: int, needed: str | None
) -> None:
    ended = run("explain", *words, "--json")
    answer = json.loads(ended.out)
    assert (ended.code, answer["allowed"], answer["status"], answer["needed"]) == (code, code == 0, status, needed)
    assert run("explain", *words).code == code


def test_explain_shows_the_rule_and_the_allowed_roles(read_write: None, vera: User) -> None:
    output = run("explain", "vera@example.com", "POST", "/jobs").out
    assert output.startswith("Allowed")
    for text in ("403 not-permitted", "#2 * /** -> upstream:write", "upstream:write", "admin, user", "role viewer"):
        assert text in output


def test_explain_shows_that_an_owner_is_disabled(read_write: None, pipeline: ServiceAccount, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False)
    ended = run("explain", "pipeline", "GET", "/jobs")
    assert ended.code == 1
    assert "401 disabled-owner" in ended.out


def test_explain_writes_no_audit_entry_and_needs_an_existing_caller(db: None) -> None:
    ended = run("explain", "mallory", "GET", "/")
    assert (ended.code, ended.out) == (1, "")
    assert "There is no user or service account 'mallory'." in ended.err
    assert not Entry.objects.exists()


def test_a_decision_is_explained_by_its_id(read_write: None, vera: User) -> None:
    decision = denied(vera, "POST", "/jobs/7")
    ended = run("explain", decision)
    assert ended.code == 1
    for text in (
        decision, "vera@example.com (user, role viewer)", "proxy, from 192.0.2.7", "POST api.example.com/jobs/7",
        "403 not-permitted", "#2 * /** -> upstream:write", "admin, user", "still denied, 403 not-permitted",
    ):  # fmt: skip
        assert text in ended.out, text


def test_a_past_denial_has_exit_code_0_if_the_request_is_allowed_now(read_write: None, vera: User) -> None:
    decision = denied(vera, "POST")
    User.objects.filter(pk=vera.pk).update(role=Role.objects.get(name="user"))
    ended = run("explain", decision)
    assert (ended.code, "allowed: Granted by upstream:write." in ended.out) == (0, True)


def test_a_past_denial_in_json_has_the_same_values(read_write: None, vera: User) -> None:
    decision = denied(vera, "POST", "/jobs/7")
    ended = run("explain", decision, "--json")
    answer = json.loads(ended.out)
    now = answer.pop("now")
    assert answer.pop("at").startswith("20")
    assert answer == {
        "decision": decision,
        "who": "vera@example.com",
        "uid": vera.uid,
        "kind": "user",
        "role": "viewer",
        "identity_source": "proxy",
        "peer": "192.0.2.7",
        "method": "POST",
        "host": "api.example.com",
        "path": "/jobs/7",
        "reason": "not-permitted",
        "message": "This requires upstream:write, which the role does not have.",
        "needed": "upstream:write",
        "rule": "#2 * /** -> upstream:write",
        "roles": ["admin", "user"],
        "now_unknown": None,
    }
    assert (ended.code, now["status"], now["who"]) == (1, 403, "vera@example.com")


def test_a_past_denial_of_a_deleted_user_has_no_answer_for_now(read_write: None, vera: User) -> None:
    decision = denied(vera, "POST")
    vera.delete()
    ended = run("explain", decision)
    assert (ended.code, "Unknown. The user vera@example.com no longer exists." in ended.out) == (1, True)


def test_an_unknown_decision_id_is_an_error_with_another_way(db: None) -> None:
    ended = run("explain", "vera@example.com")
    assert (ended.code, ended.out) == (1, "")
    assert "counted but not recorded" in ended.err
    assert "explain USER METHOD PATH" in ended.err


@pytest.mark.parametrize("words", [["4fGh7Kp2Xw9Q", "GET"], ["4fGh7Kp2Xw9Q", "--host", "h"]])
def test_incomplete_arguments_are_wrong_usage(db: None, words: list[str]) -> None:
    assert run("explain", *words).code == 2


def test_packs_are_listed(db: None) -> None:
    answer = json.loads(run("load_pack", "--list", "--json").out)
    assert [pack["name"] for pack in answer] == ["open", "read-write", "skypilot"]
    assert "read-write" in run("load_pack", "--list").out


def test_a_pack_replaces_the_routes_and_the_differences_are_printed(read_write: None) -> None:
    ended = run("load_pack", "open")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert "- route #1 GET,HEAD,OPTIONS /** -> upstream:read" in lines
    assert "+ route #1 * /** -> upstream:read" in lines
    assert [row.methods for row in Route.objects.all()] == [["*"]]
    assert Entry.objects.first().reason == "from pack open"


def test_the_same_pack_again_changes_nothing_and_records_nothing(db: None) -> None:
    run("load_pack", "skypilot")
    entries = Entry.objects.count()
    assert json.loads(run("load_pack", "skypilot", "--json").out) == {"applied": False, "pack": "skypilot", "changes": []}
    assert Entry.objects.count() == entries


def test_if_empty_keeps_existing_routes(db: None) -> None:
    assert run("load_pack", "read-write", "--if-empty").code == 0
    ended = run("load_pack", "open", "--if-empty")
    assert (ended.code, Route.objects.count()) == (0, 2)
    assert "nothing was changed" in ended.err


@pytest.mark.parametrize(("words", "code"), [(["nonsense"], 1), ([], 2)])
def test_an_unknown_pack_is_an_error(read_write: None, words: list[str], code: int) -> None:
    assert run("load_pack", *words).code == code
    assert Route.objects.count() == 2
