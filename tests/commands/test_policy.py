"""explain and load_pack."""

import json

import pytest

from accounts.models import ServiceAccount, User
from audit.models import Entry
from rbac.models import Route
from tests.commands.running import run


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
def test_explain_ends_as_the_request_would(
    read_write: None, pipeline: ServiceAccount, vera: User, words: list[str], code: int, status: int, needed: str | None
) -> None:
    ended = run("explain", *words, "--json")
    answer = json.loads(ended.out)
    assert (ended.code, answer["allowed"], answer["status"], answer["needed"]) == (code, code == 0, status, needed)
    assert run("explain", *words).code == code


def test_explain_names_the_rule_and_the_roles_that_may(read_write: None, vera: User) -> None:
    shown = run("explain", "vera@example.com", "POST", "/jobs").out
    for text in ("403 not-permitted", "#2 * /** -> upstream:write", "upstream:write", "admin, user", "role viewer"):
        assert text in shown


def test_explain_knows_who_is_disabled(read_write: None, pipeline: ServiceAccount, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False)
    ended = run("explain", "pipeline", "GET", "/jobs")
    assert ended.code == 1
    assert "401 disabled-owner" in ended.out


def test_explain_records_nothing_and_refuses_a_stranger(db: None) -> None:
    ended = run("explain", "mallory", "GET", "/")
    assert (ended.code, ended.out) == (1, "")
    assert "There is no user and no service account 'mallory'." in ended.err
    assert not Entry.objects.exists()


def test_packs_are_listed(db: None) -> None:
    answer = json.loads(run("load_pack", "--list", "--json").out)
    assert [pack["name"] for pack in answer] == ["open", "read-write", "skypilot"]
    assert "read-write" in run("load_pack", "--list").out


def test_a_pack_replaces_the_routes_and_shows_how(read_write: None) -> None:
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


def test_if_empty_leaves_routes_alone(db: None) -> None:
    assert run("load_pack", "read-write", "--if-empty").code == 0
    ended = run("load_pack", "open", "--if-empty")
    assert (ended.code, Route.objects.count()) == (0, 2)
    assert "nothing was changed" in ended.err


@pytest.mark.parametrize(("words", "code"), [(["nonsense"], 1), ([], 2)])
def test_what_is_no_pack_is_refused(read_write: None, words: list[str], code: int) -> None:
    assert run("load_pack", *words).code == code
    assert Route.objects.count() == 2
