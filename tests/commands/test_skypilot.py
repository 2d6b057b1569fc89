"""The checks of the SkyPilot server, and `sync_roles`. tests/e2e/skypilot tests them with the real server."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import ServiceAccount, SyncedRole, User
from doctor import skypilot
from doctor.checks import CHECKS
from doctor.finding import Finding
from integrations.skypilot import names
from integrations.skypilot.client import Reply, UpstreamUnavailable
from tests.commands.run_command import run

URL = "http://127.0.0.1:46580"
HEALTH = {"status": "healthy", "api_version": "62", "version": "0.14.1", "external_proxy_auth_enabled": True}
CONFIG = "/api/get?request_id=r1"

pytestmark = pytest.mark.django_db


@pytest.fixture
def responses(settings: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The responses of the server by path; UpstreamUnavailable instead of one that does not come."""
    settings.SKYPILOT_URL = URL
    by_path: dict[str, Any] = {
        "/api/health": HEALTH,
        "/workspaces/config": None,
        CONFIG: {"return_value": json.dumps({"rbac": {"default_role": "viewer"}})},
        "/users": [],
    }

    def ask(method: str, path: str, **more: Any) -> Reply:
        assert method == "GET"
        if by_path[path] is UpstreamUnavailable:
            raise UpstreamUnavailable("The SkyPilot API server does not answer: TimeoutError.")
        return Reply(200, {"x-skypilot-request-id": "r1"}, json.dumps(by_path[path]).encode())

    monkeypatch.setattr(skypilot, "ask", ask)
    monkeypatch.setattr(names, "ask", ask)
    return by_path


def examine() -> list[Finding]:
    check = next(check for check in CHECKS if check.code == "skypilot.*")
    return list(check.find(check))


def codes() -> list[str]:
    return [finding.code for finding in examine()]


def test_without_a_server_there_is_no_finding(responses: dict[str, Any], settings: Any) -> None:
    settings.SKYPILOT_URL = ""
    assert codes() == []


def test_a_healthy_server_has_no_finding(responses: dict[str, Any]) -> None:
    assert codes() == []


@pytest.mark.parametrize(
    ("path", "response", "code"),
    [
        ("/api/health", UpstreamUnavailable, "skypilot.unreachable"),
        ("/api/health", {"status": "healthy"}, "skypilot.other"),
        ("/api/health", ["what?"], "skypilot.other"),
        ("/api/health", {**HEALTH, "external_proxy_auth_enabled": False}, "skypilot.header"),
        ("/api/health", {**HEALTH, "version": "1.0.0"}, "skypilot.version"),
        (CONFIG, {"return_value": "{}"}, "skypilot.default-role"),
        (CONFIG, {"return_value": json.dumps({"rbac": {"default_role": "admin"}})}, "skypilot.default-role"),
    ],
)
def test_each_problem_of_the_server_is_a_finding(responses: dict[str, Any], path: str, response: Any, code: str) -> None:
    responses[path] = response
    assert codes() == [code]


@pytest.mark.parametrize("path", [CONFIG, "/users"])
def test_a_server_that_answers_too_late_is_no_finding(responses: dict[str, Any], path: str) -> None:
    responses[path] = UpstreamUnavailable
    assert codes() == []


@pytest.mark.parametrize("value", [{"return_value": "<html>"}, {}, [], None])
def test_a_configuration_that_cannot_be_read_is_no_error(responses: dict[str, Any], value: Any) -> None:
    responses[CONFIG] = value
    assert codes() in ([], ["skypilot.default-role"])


def test_roles_that_were_changed_on_the_server_are_named_and_sent_again(responses: dict[str, Any]) -> None:
    for name, role in (("alice@example.com", "admin"), ("bob@example.com", "user"), ("gone@example.com", "viewer"), ("new", "")):
        SyncedRole.objects.create(server=URL, name=name, role=role)
    SyncedRole.objects.create(server="http://another", name="vera@example.com", role="viewer")
    responses["/users"] = [
        {"name": "alice@example.com", "role": "admin"},
        {"name": "bob@example.com", "role": "admin"},
        "rubbish",
    ]
    [finding] = examine()
    assert finding.code == "skypilot.roles"
    assert "bob@example.com, gone@example.com" in finding.text
    assert "alice" not in finding.text
    assert "skypilot.roles" in run("doctor").out
    assert json.loads(run("sync_roles", "--json").out) == {"roles": 4, "forgotten": 4}
    assert SyncedRole.objects.get().server == "http://another"
    assert codes() == []


def test_users_whose_role_the_server_refuses_are_named_with_both_roles(
    responses: dict[str, Any], bob: User, alice: User, pipeline: ServiceAccount
) -> None:
    for name in (bob.username, alice.username, pipeline.upstream_name, "gone@example.com", "sa-x"):
        SyncedRole.objects.create(server=URL, name=name, role="")
    responses["/users"] = [
        {"name": bob.username, "role": "admin"},
        {"name": alice.username, "role": "admin"},
        {"name": pipeline.upstream_name, "role": "viewer"},
        {"name": "gone@example.com", "role": "admin"},
    ]
    [finding] = examine()
    assert finding.code == "skypilot.role-refused"
    assert finding.names == ("bob@example.com (admin instead of user)", f"{pipeline.upstream_name} (viewer instead of user)")
    SyncedRole.objects.update(lease="another process", lease_since=timezone.now())
    assert codes() == [], "the role is being sent"


MOVED = {
    "alice@example.com": None,
    "bob": None,
    "Carol@Example.com": ("carol@example.com", "instead of"),
    "DAVE": ("dave", "So do: Dave"),
    "Dave": ("dave", "So do: DAVE, dave"),
    "dave": None,
    "jörg@example.com": ("", "does not accept"),
    "two words": ("", "does not accept"),
    "sa-robot": ("", "reserved for service accounts"),
}


@pytest.mark.parametrize("source", ["server", "names", "export"])
def test_names_of_an_existing_server_that_become_somebody_else_are_reported_before_the_move(
    responses: dict[str, Any], tmp_path: Path, source: str
) -> None:
    responses["/users"] = [
        *({"name": name, "role": "user", "user_type": "legacy"} for name in MOVED),
        {"name": "SkyPilot-System", "role": "admin", "user_type": "system"},
        {"name": "", "role": "user"},
    ]
    file = tmp_path / "users.csv"
    rows = {"names": "", "export": "username,password,role\n"}
    tail = {"names": "", "export": ",$2b$12$abc,user"}
    file.write_text(rows.get(source, "") + "".join(f"{name}{tail.get(source, '')}\n" for name in MOVED), encoding="utf-8")
    ended = run("check_skypilot_users", "--json", *([] if source == "server" else [str(file)]))
    assert ended.code == 3
    found = {row["name"]: (row["becomes"] or "", row["reason"]) for row in json.loads(ended.out)}
    assert set(found) == {name for name, problem in MOVED.items() if problem}
    for name, problem in MOVED.items():
        if problem:
            assert found[name][0] == problem[0]
            assert problem[1] in found[name][1]
    assert f"6 of {len(MOVED)} names change." in ended.err


def test_the_check_of_names_says_when_there_is_nothing_to_report_and_when_it_cannot_know(
    responses: dict[str, Any], settings: Any, tmp_path: Path
) -> None:
    responses["/users"] = [{"name": "alice@example.com", "role": "admin"}]
    ended = run("check_skypilot_users")
    assert (ended.code, ended.err) == (0, "1 name: none of them changes.\n")
    responses["/users"] = {"detail": "Forbidden"}
    assert run("check_skypilot_users").code == 1
    settings.SKYPILOT_URL = ""
    assert "SKYPILOT_URL is empty" in run("check_skypilot_users").err
    file = tmp_path / "other.csv"
    file.write_text("email,role\nA@example.com,user\n")
    assert "none of them is named username" in run("check_skypilot_users", str(file)).err


def test_sync_roles_prints_the_number_of_roles_and_its_former_name_is_deprecated(
    responses: dict[str, Any], settings: Any
) -> None:
    SyncedRole.objects.create(server=URL, name="bob@example.com", role="user")
    ended = run("sync_roles")
    assert (ended.out, ended.err) == ("", "1 role will be sent again.\n")
    SyncedRole.objects.create(server=URL, name="bob@example.com", role="user")
    ended = run("tell_roles", "--json")
    assert json.loads(ended.out) == {"roles": 1, "forgotten": 1}
    assert ended.err == "tell_roles is deprecated. Use: manage.py sync_roles\n"
    settings.SKYPILOT_URL = ""
    assert run("sync_roles").code == 1
