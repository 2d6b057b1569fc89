"""A client of the REST API for each kind of credential, and the check of an error response."""

import base64
import json
from http import HTTPStatus
from typing import Any

from django.test import Client

from accounts.models import User
from tests.factories import PASSWORD

BASE = "/api/v1"


class Api:
    """The REST API, called by one principal."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get(self, path: str, /, **query: Any) -> Any:
        return self.client.get(BASE + path, query_params=query or None)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._send("POST", path, body, headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._send("PATCH", path, body, headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self._send("DELETE", path, None, headers)

    def csv(self, path: str, text: str | bytes) -> Any:
        return self.client.post(BASE + path, text, content_type="text/csv")

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        return self._send(method, path, body, headers)

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body)
        return self.client.generic(method, BASE + path, data, content_type="application/json", headers=named)


def session(user: User) -> Api:
    """Return a client with a browser's session. Django's test client skips the CSRF check by default."""
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return Api(client)


def basic(username: str, password: str = PASSWORD, **headers: str) -> Api:
    """Return a client with HTTP Basic."""
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    return Api(Client(raise_request_exception=False, headers={"authorization": f"Basic {pair}", **_named(headers)}))


def bearer(token: str, **headers: str) -> Api:
    """Return a client with a bearer token."""
    return Api(Client(raise_request_exception=False, headers={"authorization": f"Bearer {token}", **_named(headers)}))


def nobody() -> Api:
    """Return a client without a credential."""
    return Api(Client(raise_request_exception=False))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def problem(response: Any, status: int, code: str = "") -> dict[str, Any]:
    """Assert that the response is a problem (RFC 9457) of that status, and return its body."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = json.loads(response.content)
    assert body["type"] == "about:blank"
    assert body["title"] == HTTPStatus(status).phrase
    assert body["status"] == status
    assert body["detail"]
    assert body["code"]
    if code:
        assert body["code"] == code
    assert all(isinstance(texts, list) and texts for texts in body.get("errors", {}).values())
    if status == 401:
        assert response.headers["WWW-Authenticate"].startswith('Basic realm="SkyAuth"')
    if status == 503:
        assert int(response.headers["Retry-After"]) > 0
    return body
