"""The stage: a real SkyPilot server, SkyAuth, and both gateways of deploy/skypilot between them, with a tap at every joint."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest

from tests.e2e.conftest import SHARED_PASSWORD
from tests.factories import PASSWORD
from tests.http_client import HOST, Headers, Reply, ask, encode, send
from tests.proxies import Tapped
from tests.servers import SkyAuth, free_port, skyauth_server
from tests.sky import AUTH_PROXY, GATEWAYS, Mode, Sky, SkyPilot, gateway_of, skypilot_server

ALICE, BOB, VERA = "alice@example.com", "bob@example.com", "vera@example.com"


@dataclass(frozen=True)
class Ground:
    """What stands around the gateways.

    `judging` is between them and SkyAuth, `serving` between them and the SkyPilot server, `private` between SkyAuth and that.
    """

    skyauth: SkyAuth
    server: SkyPilot
    judging: Tapped
    serving: Tapped
    private: Tapped
    gateways: dict[str, int]

    def machine(self, name: str, role: str, owner: str | None = None) -> str:
        """Return a new token of a service account."""
        self.skyauth.console("ensure_account", name=name, role=role, owner=owner)
        return str(self.skyauth.console("issue", account=name))


@dataclass(frozen=True)
class Arrived:
    """A request as it reached the SkyPilot server."""

    line: str
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(frozen=True)
class Gateway:
    """A gateway to send requests to."""

    name: str
    port: int
    ground: Ground

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def ask(self, *headers: tuple[str, str | bytes], target: str | bytes = "/users/me/workspace", method: str = "GET") -> Reply:
        """Send a request. The default target is the server's own, which answers 401 to whoever has no identity."""
        return ask(self.port, target, headers, method=method)

    def ask_as(self, who: str, target: str = "/users/me/workspace", *headers: tuple[str, str], method: str = "GET") -> Reply:
        """Send a request as an auth proxy in front of the gateway does, which names the user."""
        return ask(self.port, target, [("X-Auth-Request-Email", who), *headers], method=method, source=AUTH_PROXY)

    def arriving(self, request: Headers | bytes, target: str | bytes = "/users/me/workspace", **more: str) -> list[Arrived]:
        """Send a request, a list of headers or raw bytes, and return what of it reached the server."""
        raw = request if isinstance(request, bytes) else encode(more.get("method", "GET"), target, list(request))
        with self.ground.serving.listening_in() as seen:
            send(self.port, raw, source=more.get("source", HOST))
            return heads(bytes(seen))


def heads(raw: bytes) -> list[Arrived]:
    """Return the heads of the requests among these bytes."""
    found = []
    for match in re.finditer(rb"(?m)^([A-Z]+ \S+ HTTP/1\.1)\r\n((?:[^\r\n]+\r\n)*)\r\n", raw):
        lines = [line.partition(": ") for line in match[2].decode("latin-1").splitlines()]
        found.append(Arrived(match[1].decode("latin-1"), tuple((name, value) for name, _, value in lines)))
    return found


def only_as(name: str, arrived: Sequence[Arrived]) -> bool:
    """Return whether each request that arrived names this caller, once, and shows none of the caller's credentials."""
    return all(
        one.all("X-Auth-Request-Email") == [name] and one.all("X-Forwarded-For") and not one.all("Authorization")
        for one in arrived
    )


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    """A server that would make everybody an administrator, as it does unless told otherwise, and everything around it."""
    line = "team:" + bcrypt.hashpw(SHARED_PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    with ExitStack() as stack:
        server = stack.enter_context(skypilot_server(Mode.HEADER, default_role="admin"))
        serving, private = Tapped(server.port), Tapped(server.port)
        ports = {name: free_port() for name in GATEWAYS}
        settings = {
            "SKYPILOT_URL": f"http://{HOST}:{private.port}",
            "PUBLIC_URL": f"http://{HOST}:{ports['caddy']}",
            "TRUSTED_PROXIES": f"{HOST},{AUTH_PROXY}",
            "AUTH_USER_HEADER_FORMAT": "plaintext",
            "AUTH_GROUPS_HEADER": "X-Auth-Request-Groups",
            "RBAC_DEFAULT_ROLE": "viewer",
            "AUTH_STRING": line,
            "AUTH_HASHING_SLOTS": "4",
        }
        skyauth = stack.enter_context(skyauth_server(**settings))
        skyauth.console("load_pack", name="skypilot")
        for name, role in ((ALICE, "admin"), (BOB, "user"), (VERA, "viewer")):
            skyauth.console("create_user", name=name, role=role, password=PASSWORD, sign_in="both")
        judging = Tapped(skyauth.port)
        for tapped in (judging, serving, private):
            stack.callback(tapped.close)
        for name, port in ports.items():
            stack.enter_context(gateway_of(name, port=port, skyauth=judging.port, skypilot=serving.port))
        yield Ground(skyauth, server, judging, serving, private, ports)


@pytest.fixture(params=GATEWAYS)
def gateway(request: pytest.FixtureRequest, ground: Ground) -> Gateway:
    """Each gateway in turn."""
    return Gateway(request.param, ground.gateways[request.param], ground)


@pytest.fixture(scope="session")
def pipeline(ground: Ground) -> str:
    """A token with the role user."""
    return ground.machine("pipeline", "user", owner=BOB)


@pytest.fixture(scope="session")
def reader(ground: Ground) -> str:
    """A token with the role viewer."""
    return ground.machine("reader", "viewer")


@pytest.fixture
def sky(tmp_path: Path) -> Sky:
    """The real CLI, in a home of its own."""
    return Sky(tmp_path / "home")
