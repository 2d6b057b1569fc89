"""A client of the SkyPilot API for each kind of credential, as the CLI and SkyPilot's dashboard call it."""

import base64
import json
from typing import Any

from django.conf import settings
from django.test import Client

from accounts.models import User
from authn.sessions import begin_cli_session
from tests.factories import PASSWORD, principal

VERSIONS = {"x-skypilot-api-version": "62", "x-skypilot-version": "0.14.1"}
PREFIX = "/internal/dashboard"


class Sky:
    """The SkyPilot API, called by one principal. Every request has the client's versions, as from the CLI."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get(self, path: str, **headers: str) -> Any:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.request("POST", path, body, **headers)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        media_type = named.pop("content-type", "application/json" if body is not None else "")
        return self.client.generic(method, path, data, content_type=media_type, headers={**VERSIONS, **named})

    def probe(self, path: str) -> Any:
        """Send a GET without version headers."""
        return self.client.get(path)


def basic(username: str, password: str = PASSWORD) -> Sky:
    """Return a client with HTTP Basic, as `sky` does for http://user:pass@host."""
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    return Sky(Client(raise_request_exception=False, headers={"authorization": f"Basic {pair}"}))


def bearer(token: str) -> Sky:
    """Return a client with a bearer token."""
    return Sky(Client(raise_request_exception=False, headers={"authorization": f"Bearer {token}"}))


def session(user: User) -> Sky:
    """Return a client with a browser's session and without a CSRF token, as SkyPilot's dashboard does."""
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    client.force_login(user)
    return Sky(client)


def terminal(user: User) -> Sky:
    """Return a client with a CLI session, as `sky` has after a CLI login."""
    key, _ = begin_cli_session(actor=principal(user), address="192.0.2.7", agent="python-requests/2.32")
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    client.cookies[settings.SESSION_COOKIE_NAME] = key
    return Sky(client)


def nobody() -> Sky:
    """Return a client without a credential."""
    return Sky(Client(raise_request_exception=False))
