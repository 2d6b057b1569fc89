"""The stage of the proxies' table: one SkyAuth, two APIs, and each of the five proxies between them in turn."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import bcrypt
import pytest

from authn import jwt_keys
from tests.e2e.conftest import SHARED_PASSWORD
from tests.factories import PASSWORD
from tests.http_client import HOST, Reply, ask
from tests.proxies import BILLING, LOAD_BALANCER, PROXIES, Differences, Proxy, Tapped, running
from tests.servers import SkyAuth, directory, skyauth_server
from tests.upstream import Arrived, Upstream, upstream

USER = "frank@example.com"
ADMIN = "grace@example.com"
ROUTES = [
    {"host": BILLING, "path": "/hooks/**", "methods": ["POST"], "permission": "upstream:read"},
    {"host": BILLING, "path": "/invoices/**", "methods": ["GET"], "permission": "upstream:admin"},
    {"path": "/**", "methods": ["GET", "HEAD", "OPTIONS"], "permission": "upstream:read"},
    {"path": "/**", "methods": ["*"], "permission": "upstream:write"},
]


@dataclass(frozen=True)
class Ground:
    """What stands on either side of a proxy. `pipeline` is a token with the role user, `reader` one with the role viewer."""

    skyauth: SkyAuth
    tapped: Tapped
    upstream: Upstream
    billing: Upstream
    pipeline: str
    reader: str


@dataclass(frozen=True)
class Gateway:
    """A proxy to send requests to."""

    proxy: Proxy
    port: int
    ground: Ground

    @property
    def differs(self) -> Differences:
        return self.proxy.differences

    @property
    def upstream(self) -> Upstream:
        return self.ground.upstream

    def ask(self, *headers: tuple[str, str | bytes], target: str | bytes = "/v1/things", method: str = "GET") -> Reply:
        """Send a request."""
        return ask(self.port, target, headers, method=method)

    def told(self, *headers: tuple[str, str | bytes], target: str | bytes = "/v1/things", method: str = "GET") -> Arrived:
        """Send a request that is let through, and return what reached the upstream."""
        before = len(self.upstream.arrived)
        reply = self.ask(*headers, target=target, method=method)
        assert reply.status == 200, reply
        assert len(self.upstream.arrived) == before + 1
        return self.upstream.arrived[-1]

    def refused(self, *headers: tuple[str, str | bytes], target: str | bytes = "/v1/things", method: str = "GET") -> Reply:
        """Send a request that is not let through, and return the answer."""
        before = len(self.upstream.arrived), len(self.ground.billing.arrived)
        reply = self.ask(*headers, target=target, method=method)
        assert (len(self.upstream.arrived), len(self.ground.billing.arrived)) == before, "the request reached an upstream"
        assert reply.status >= 300, reply
        return reply

    def identity(self, arrived: Arrived) -> dict[str, str]:
        """Return what the upstream was told of the caller, each exactly once, or in this proxy's way of saying nothing."""
        names = ("Email", "User", "Groups", "Role", "Method")
        values = {name.lower(): tuple(arrived.all(f"X-Auth-Request-{name}")) for name in names}
        assert {value for value in values.values() if len(value) != 1} <= {self.differs.unsaid}, values
        return {name: "".join(value) for name, value in values.items()}


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    """One SkyAuth, which would believe an identity header that a proxy lets through from a client, and two APIs."""
    with directory() as data:
        key = data / "assertion.pem"
        key.touch(mode=0o600)
        key.write_text(jwt_keys.new_pem(), encoding="ascii")
        settings = {
            "AUTH_STRING": "team:" + bcrypt.hashpw(SHARED_PASSWORD.encode(), bcrypt.gensalt(4)).decode(),
            "AUTH_USER_HEADER_FORMAT": "plaintext",
            "AUTH_USER_HEADER": "X-Auth-Request-Email",
            "AUTH_GROUPS_HEADER": "X-Auth-Request-Groups",
            "RBAC_DEFAULT_ROLE": "user",
            "TRUSTED_PROXIES": f"{HOST},{LOAD_BALANCER}",
            "ASSERTION_KEYS": str(key),
            "AUTH_FAILURE_LIMIT": "50",  # five proxies send wrong passwords from one address
        }
        with skyauth_server(**settings) as skyauth, upstream() as api, upstream() as billing:
            console = skyauth.console
            console("replace_routes", routes=ROUTES)
            console("create_user", name="bob@example.com", role="user", password="correct horse battery staple")
            console("create_user", name=USER, role="user", password=PASSWORD)
            console("create_user", name=ADMIN, role="admin", password=PASSWORD)
            console("create_account", name="pipeline", role="user", owner="bob@example.com")
            console("create_account", name="reader", role="viewer")
            tokens = [console("issue", account=name) for name in ("pipeline", "reader")]
            with closing(Tapped(skyauth.port)) as tapped:
                yield Ground(skyauth, tapped, api, billing, *tokens)


@pytest.fixture(scope="session", params=PROXIES, ids=str)
def gateway(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Gateway]:
    """Each proxy in turn, from the file that we ship."""
    proxy = request.param
    ports = {"skyauth": ground.tapped.port, "upstream": ground.upstream.port, "billing": ground.billing.port}
    with running(proxy, **ports) as port:
        yield Gateway(proxy, port, ground)


@pytest.fixture(scope="session")
def pipeline(ground: Ground) -> str:
    """A token of the service account `pipeline`, bob's, with the role user."""
    return ground.pipeline


@pytest.fixture(scope="session")
def reader(ground: Ground) -> str:
    """A token of a service account with the role viewer."""
    return ground.reader
