"""What doctor says of the SkyPilot server behind SkyAuth, and `tell_roles`. The real server's part is in tests/e2e/skypilot."""

import json
from typing import Any

import pytest

from accounts.models import SyncedRole
from doctor import skypilot
from doctor.checks import CHECKS
from doctor.finding import Finding
from integrations.skypilot.client import Reply, UpstreamUnavailable
from tests.commands.run_command import run

URL = "http://127.0.0.1:46580"
HEALTH = {"status": "healthy", "api_version": "62", "version": "0.14.1", "external_proxy_auth_enabled": True}
CONFIG = "/api/get?request_id=r1"

pytestmark = pytest.mark.django_db


@pytest.fixture
def said(settings: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the server says, by path; None: it does not answer."""
    settings.SKYPILOT_URL = URL
    answers: dict[str, Any] = {
        "/api/health": HEALTH,
        "/workspaces/config": None,
        CONFIG: {"return_value": json.dumps({"rbac": {"default_role": "viewer"}})},
        "/users": [],
    }

    def ask(method: str, path: str, **more: Any) -> Reply:
        assert method == "GET"
        if answers[path] is UpstreamUnavailable:
            raise UpstreamUnavailable("The SkyPilot API server does not answer: TimeoutError.")
        return Reply(200, {"x-skypilot-request-id": "r1"}, json.dumps(answers[path]).encode())

    monkeypatch.setattr(skypilot, "ask", ask)
    return answers


def examine() -> list[Finding]:
    check = next(check for check in CHECKS if check.code == "skypilot.*")
    return list(check.find(check))


def codes() -> list[str]:
    return [finding.code for finding in examine()]


def test_without_a_server_there_is_nothing_to_say(said: dict[str, Any], settings: Any) -> None:
    settings.SKYPILOT_URL = ""
    assert codes() == []


def test_of_a_server_that_is_as_it_should_be_nothing_is_said(said: dict[str, Any]) -> None:
    assert codes() == []


@pytest.mark.parametrize(
    ("path", "answer", "code"),
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
def test_what_is_wrong_with_the_server_is_said(said: dict[str, Any], path: str, answer: Any, code: str) -> None:
    said[path] = answer
    assert codes() == [code]


@pytest.mark.parametrize("path", [CONFIG, "/users"])
def test_a_server_that_is_busy_is_no_finding(said: dict[str, Any], path: str) -> None:
    said[path] = UpstreamUnavailable
    assert codes() == []


@pytest.mark.parametrize("value", [{"return_value": "<html>"}, {}, [], None])
def test_a_configuration_that_cannot_be_read_is_none(said: dict[str, Any], value: Any) -> None:
    said[CONFIG] = value
    assert codes() in ([], ["skypilot.default-role"])


def test_roles_that_somebody_else_changed_are_named_and_told_again(said: dict[str, Any]) -> None:
    for name, role in (("alice@example.com", "admin"), ("bob@example.com", "user"), ("gone@example.com", "viewer"), ("new", "")):
        SyncedRole.objects.create(server=URL, name=name, role=role)
    SyncedRole.objects.create(server="http://another", name="vera@example.com", role="viewer")
    said["/users"] = [{"name": "alice@example.com", "role": "admin"}, {"name": "bob@example.com", "role": "admin"}, "rubbish"]
    [finding] = examine()
    assert finding.code == "skypilot.roles"
    assert "bob@example.com, gone@example.com" in finding.text
    assert "alice" not in finding.text
    assert "skypilot.roles" in run("doctor").out
    assert json.loads(run("tell_roles", "--json").out) == {"forgotten": 4}
    assert SyncedRole.objects.get().server == "http://another"
    assert codes() == []


def test_people_are_told_how_many(said: dict[str, Any], settings: Any) -> None:
    SyncedRole.objects.create(server=URL, name="bob@example.com", role="user")
    told = run("tell_roles")
    assert "1 roles will be told again." in told.out + told.err
    settings.SKYPILOT_URL = ""
    assert run("tell_roles").code == 1
