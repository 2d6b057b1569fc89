"""`GET /api/health` in every sign-in state and for every client version."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from axes.models import AccessAttempt

from accounts.models import ServiceAccount, SignIn, User
from accounts.services import tokens
from skypilot import server_info
from skypilot.health import user_type
from tests import skypilot_client
from tests.factories import PASSWORD, make_token
from tests.http_client import HOST
from tests.skypilot_client import PREFIX, Sky

PATHS = ["/api/health", f"{PREFIX}/api/health"]
FIELDS = {
    "status",
    "api_version",
    "version",
    "version_on_disk",
    "commit",
    "basic_auth_enabled",
    "user",
    "service_account_token_enabled",
    "ingress_basic_auth_enabled",
    "latest_version",
    "external_proxy_auth_enabled",
    "telemetry_enabled",
    "restrict_config_to_admins",
}


def read(response: Any, status: int = 200) -> Any:
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    return json.loads(response.content)


@pytest.mark.parametrize("path", PATHS)
def test_a_probe_receives_the_status_and_nothing_else(db: None, path: str) -> None:
    response = skypilot_client.nobody().probe(path)
    assert read(response) == {"status": "healthy"}
    assert "X-SkyPilot-Version" not in response.headers


@pytest.mark.parametrize("path", PATHS)
def test_a_client_without_credentials_must_sign_in(db: None, path: str) -> None:
    response = skypilot_client.nobody().get(path)
    body = read(response)
    assert set(body) == FIELDS
    assert (body["status"], body["user"], body["basic_auth_enabled"]) == ("needs_auth", None, True)
    assert (body["api_version"], body["version"], body["version_on_disk"]) == ("62", "0.14.1", "0.14.1")
    assert response.headers["X-SkyPilot-API-Version"] == "62"
    assert response.headers["X-SkyPilot-Version"] == "0.14.1"


@pytest.mark.parametrize("path", PATHS)
def test_the_response_names_the_user_and_omits_the_password_hash(bob: User, path: str) -> None:
    body = read(skypilot_client.basic("bob@example.com").get(path))
    assert body["status"] == "healthy"
    assert body["user"] == {
        "id": bob.uid,
        "name": "bob@example.com",
        "created_at": int(bob.created_at.timestamp()),
        "user_type": "basic",
        "preferred_workspace": None,
    }
    assert bob.password not in json.dumps(body)


def test_the_response_names_a_user_with_a_session_and_nobody_whose_password_ended(bob: User) -> None:
    browser = skypilot_client.session(bob)
    assert read(browser.get("/api/health"))["user"]["user_type"] == "basic"
    User.objects.filter(pk=bob.pk).update(sign_in=SignIn.SSO)
    assert read(browser.get("/api/health"))["user"] is None


@pytest.mark.parametrize(("sign_in", "shown"), [(SignIn.SSO, "sso"), (SignIn.PASSWORD, "basic")])
def test_the_type_of_a_user_says_whether_a_password_can_be_reset(sign_in: SignIn, shown: str) -> None:
    assert user_type(sign_in) == shown


def test_the_response_names_a_service_account(pipeline: ServiceAccount, as_pipeline: Sky) -> None:
    body = read(as_pipeline.get("/api/health"))
    assert (body["status"], body["user"]) == ("healthy", {"id": pipeline.uid, "name": "pipeline", "user_type": "sa"})


@pytest.mark.parametrize(
    ("username", "password"),
    [("bob@example.com", "wrong"), ("nobody@example.com", PASSWORD), ("bob@example.com", "")],
    ids=["wrong", "unknown", "empty"],
)
def test_a_wrong_password_is_healthy_without_a_user_and_counts_as_a_failure(bob: User, username: str, password: str) -> None:
    body = read(skypilot_client.basic(username, password).get("/api/health"))
    assert (body["status"], body["user"], body["basic_auth_enabled"]) == ("healthy", None, True)
    assert AccessAttempt.objects.count() == 1


def test_a_locked_out_user_gets_the_same_response_as_for_a_wrong_password(bob: User, settings: Any) -> None:
    for _ in range(settings.AUTH_FAILURE_LIMIT):
        skypilot_client.basic("bob@example.com", "wrong").get("/api/health")
    assert read(skypilot_client.basic("bob@example.com").get("/api/health"))["user"] is None


@pytest.mark.parametrize("value", ["Basic !", "Basic", "basic Ym9i", "Basic Og=="])
def test_a_malformed_credential_gets_the_same_response_as_a_wrong_password(db: None, value: str) -> None:
    body = read(skypilot_client.nobody().get("/api/health", authorization=value))
    assert (body["status"], body["user"]) == ("healthy", None)


def test_without_basic_a_password_is_ignored_and_the_client_must_sign_in(bob: User, settings: Any) -> None:
    settings.AUTH_BASIC = False
    body = read(skypilot_client.basic("bob@example.com").get("/api/health"))
    assert (body["status"], body["basic_auth_enabled"]) == ("needs_auth", False)


def test_the_shared_password_lets_the_client_use_its_own_name(db: None, settings: Any) -> None:
    settings.AUTH_STRING = "team:$2b$04$Z8LaLNaSAcaDvVq/th5ptOfR2FI2olIenWlY8FDcLPSKvpkapBW4y"
    body = read(skypilot_client.basic("team", "sharedpassword").get("/api/health"))
    assert (body["status"], body["user"]) == ("healthy", None)
    assert (body["basic_auth_enabled"], body["ingress_basic_auth_enabled"]) == (False, True)


def _revoked(account: ServiceAccount) -> str:
    token, plaintext = make_token(account)
    tokens.revoke_token(actor=_system(), token=token)
    return plaintext


def _system() -> Any:
    from rbac import principals

    return principals.system("tests")


@pytest.mark.parametrize(
    "bad", [lambda account: make_token(account, days=-1)[1], _revoked, lambda _: "sky_x"], ids=["expired", "revoked", "malformed"]
)
@pytest.mark.parametrize("path", PATHS)
def test_promise_16_a_bad_token_is_401_and_every_bad_one_the_same(pipeline: ServiceAccount, path: str, bad: Any) -> None:
    response = skypilot_client.bearer(bad(pipeline)).get(path)
    assert read(response, 401) == {"detail": "Invalid or expired service account token"}
    assert "WWW-Authenticate" not in response.headers
    assert "X-SkyPilot-Version" not in response.headers


def test_while_service_accounts_are_disabled_a_token_gets_that_message(pipeline_token: str, settings: Any) -> None:
    settings.ENABLE_SERVICE_ACCOUNTS = False
    response = skypilot_client.bearer(pipeline_token).get("/api/health")
    assert read(response, 401) == {"detail": "Service account authentication disabled"}
    assert read(skypilot_client.nobody().get("/api/health"))["service_account_token_enabled"] is False


@pytest.mark.parametrize(
    ("authorization", "detail"),
    [(None, "Authentication required"), ("Basic Ym9iOng=", "Invalid authentication method")],
    ids=["nothing", "Basic"],
)
def test_a_client_that_announces_a_token_must_send_one(db: None, authorization: str | None, detail: str) -> None:
    headers = {"x_skypilot_auth_mode": "token"} | ({"authorization": authorization} if authorization else {})
    assert read(skypilot_client.nobody().get("/api/health", **headers), 401) == {"detail": detail}


def test_a_bearer_token_of_another_issuer_counts_as_no_credential(db: None) -> None:
    assert read(skypilot_client.bearer("eyJhbGciOiJub25lIn0.e30.").get("/api/health"))["status"] == "needs_auth"


@pytest.mark.parametrize("version", ["23", "13", "0", "-1", "x", "", "99999999999999999999"])
def test_a_client_with_an_old_or_invalid_version_is_asked_to_upgrade(bob: User, version: str) -> None:
    for caller in (skypilot_client.nobody(), skypilot_client.basic("bob@example.com")):
        response = caller.get("/api/health", x_skypilot_api_version=version, x_skypilot_version="0.3.0")
        body = read(response, 400)
        assert body["error"] == "version_mismatch"
        assert "too old:0.3.0" in body["message"]
        assert 'pip install -U "skypilot==0.14.1"' in body["message"]
        assert response.headers["X-SkyPilot-API-Version"] == "62"


@pytest.mark.parametrize("version", ["24", "62", "999"])
def test_any_other_client_version_is_accepted(db: None, version: str) -> None:
    assert read(skypilot_client.nobody().get("/api/health", x_skypilot_api_version=version))["status"] == "needs_auth"


def test_one_version_header_alone_is_ignored(db: None) -> None:
    response = skypilot_client.nobody().client.get("/api/health", headers={"x-skypilot-api-version": "3"})
    assert read(response) == {"status": "healthy"}


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "DELETE"])
def test_any_other_method_is_405(bob: User, method: str) -> None:
    response = skypilot_client.basic("bob@example.com").request(method, "/api/health")
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET"
    assert response.headers["X-SkyPilot-Version"] == "0.14.1"


# The SkyPilot server behind SkyAuth

SERVER = {
    "status": "healthy",
    "api_version": "67",
    "version": "1.0.0.dev20261027",
    "version_on_disk": "1.0.0.dev20261027",
    "commit": "abc",
    "basic_auth_enabled": True,
    "user": {"id": "x", "name": "somebody else"},
    "latest_version": "0.14.2",
    "telemetry_enabled": True,
    "restrict_config_to_admins": False,
}


class Server(ThreadingHTTPServer):
    """A SkyPilot server that returns configured responses and counts its requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.asked = 0
        self.status = 200
        self.body = json.dumps(SERVER).encode()
        self.delay = 0.0
        self.seen: list[dict[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        time.sleep(self.server.delay)
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(settings: Any) -> Iterator[Server]:
    """A SkyPilot server behind SkyAuth."""
    with serving() as running:
        settings.SKYPILOT_URL = f"http://{HOST}:{running.server_address[1]}"
        yield running


def test_the_versions_come_from_the_server_and_the_user_from_skyauth(bob: User, server: Server) -> None:
    response = skypilot_client.basic("bob@example.com").get("/api/health")
    body = read(response)
    messages = ("api_version", "version", "version_on_disk", "commit", "latest_version", "telemetry_enabled")
    assert {name: body[name] for name in messages} == {name: SERVER[name] for name in messages}
    assert body["restrict_config_to_admins"] is False
    assert body["user"]["name"] == "bob@example.com"
    assert response.headers["X-SkyPilot-API-Version"] == "67"
    assert response.headers["X-SkyPilot-Version"] == "1.0.0.dev20261027"
    assert "authorization" not in server.seen[0]
    assert "cookie" not in server.seen[0]


def test_the_server_is_not_asked_again_within_seconds(db: None, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        skypilot_client.nobody().get("/api/health")
    assert server.asked == 1
    monkeypatch.setattr(server_info.cache, "expires_at", 0.0)
    skypilot_client.nobody().get("/api/health")
    assert server.asked == 2


def test_an_old_client_of_a_nightly_server_is_asked_to_install_a_nightly(db: None, server: Server) -> None:
    body = read(skypilot_client.nobody().get("/api/health", x_skypilot_api_version="3"), 400)
    assert 'pip install -U "skypilot-nightly==1.0.0.dev20261027"' in body["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"status": 503},
        {"status": 302},
        {"body": b"<html>"},
        {"body": b"[]"},
        {"body": b'{"status": "healthy"}'},
        {"body": b'{"api_version": "1e3", "version": "1", "commit": "x"}'},
        {"body": b"[" * 100_000},
        {"body": b" " * 1_100_000},
    ],
    ids=["503", "redirect", "page", "list", "probe's answer", "no number", "deep", "huge"],
)
def test_while_the_server_reports_no_version_the_client_gets_503_and_a_probe_200(
    bob: User, server: Server, change: dict[str, Any]
) -> None:
    vars(server).update(change)
    response = skypilot_client.basic("bob@example.com").get("/api/health")
    assert "SkyAuth cannot answer" in read(response, 503)["detail"]
    assert int(response.headers["Retry-After"]) > 0
    assert read(skypilot_client.nobody().probe("/api/health")) == {"status": "healthy"}
    assert server.asked == 1  # a failing server is not asked again for each caller


def test_a_bad_token_is_401_while_the_server_is_down(db: None, settings: Any) -> None:
    settings.SKYPILOT_URL = f"http://{HOST}:1"
    read(skypilot_client.bearer("sky_x").get("/api/health"), 401)
    read(skypilot_client.nobody().get("/api/health"), 503)


def test_users_are_managed_while_the_server_is_down_without_a_request_to_it(
    alice: User, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = skypilot_client.basic("alice@example.com")
    caller.get("/api/health")
    monkeypatch.setattr(server_info.cache, "expires_at", 0.0)
    server.status = 503
    read(caller.get("/api/health"), 503)
    response = caller.get("/users")
    assert (response.status_code, response.headers["X-SkyPilot-Version"]) == (200, SERVER["version"])
    assert server.asked == 2


def test_users_are_managed_if_the_server_never_responded(alice: User, settings: Any) -> None:
    settings.SKYPILOT_URL = f"http://{HOST}:1"
    response = skypilot_client.basic("alice@example.com").get("/users")
    assert (response.status_code, response.headers["X-SkyPilot-Version"]) == (200, "0.14.1")


def test_a_server_that_is_up_again_is_asked_again(db: None, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.status = 503
    read(skypilot_client.nobody().get("/api/health"), 503)
    server.status = 200
    monkeypatch.setattr(server_info.cache, "expires_at", 0.0)
    assert read(skypilot_client.nobody().get("/api/health"))["version"] == SERVER["version"]
