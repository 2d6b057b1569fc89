"""`explain` returns what the verify endpoint answers, for any request and any kind of principal."""

from typing import Any

import bcrypt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts.models import ServiceAccount, User
from accounts.principal_lookup import find_principal
from authn.proxy_headers import TrustPolicy, filter_headers, parse_networks
from gateway import verify
from gateway.forwarded import AuthRequest, envoy, x_forwarded, x_original
from gateway.headers import Answer, Cause
from rbac.explain import CredentialStatus, Explanation, explain
from rbac.models import Role, Route
from rbac.principals import ANONYMOUS
from tests.examples import examples
from tests.factories import PASSWORD, ServiceAccountFactory, UserFactory, make_token
from tests.verify_client import PROXY, Lines, basic, bearer

POLICY = TrustPolicy(parse_networks([PROXY]), "x-auth-request-email")
Callers = dict[str, Lines]


@pytest.fixture
def callers(alice: User, bob: User, vera: User, pipeline: ServiceAccount, pipeline_token: str, settings: Any) -> Callers:
    """Every kind of principal by name, with the header lines of a genuine credential."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    settings.AUTH_STRING, settings.AUTH_USER_HEADER_FORMAT = f"team:{hashed}", "plaintext"
    auditors = Role.objects.create(name="auditors", permissions=["audit:read"])
    carol = UserFactory(username="carol@example.com", is_active=False)
    accounts = {
        "pipeline": pipeline,
        "unowned": ServiceAccountFactory(name="unowned"),
        "stopped": ServiceAccountFactory(name="stopped", owner=bob, is_active=False),
        "of-carol": ServiceAccountFactory(name="of-carol", owner=carol),
        "of-vera": ServiceAccountFactory(name="of-vera", owner=vera, role=alice.role),
    }
    users = [alice, bob, vera, carol, UserFactory(username="dora@example.com", role=auditors)]
    return {
        ANONYMOUS.name: [],
        "team": basic("team", PASSWORD),
        **{user.username: [(b"x-auth-request-email", user.username.encode())] for user in users},
        **{name: bearer(make_token(account)[1]) for name, account in accounts.items()},
    }


@pytest.fixture
def routes(db: None) -> None:
    """Routes of every sort: of one host, for everybody, for some roles, and with a permission that does not exist."""
    rows = [
        ("api.example.com", "/things/**", ["GET"], "upstream:read"),
        ("[::1]", "/**", ["*"], "audit:read"),
        ("", "/public/*", ["GET", "HEAD"], "public"),
        ("", "/odd", ["*"], "no:such"),
        ("", "/things/**", ["*"], "upstream:write"),
        ("", "/admin/**", ["*"], "upstream:admin"),
    ]
    for position, (host, path, methods, permission) in enumerate(rows, 1):
        Route.objects.create(position=position, host=host, path=path, methods=methods, permission=permission)


def answers(lines: Lines, method: str, host: str, path: str) -> list[Answer]:
    """Return the verify endpoints' answers to a request: as X-Forwarded-*, as X-Original-*, and as Envoy asks."""
    values = [value.encode("utf-8", "surrogatepass") for value in (method, host, path)]
    replies = []
    for reader, names in (
        (x_forwarded, (b"x-forwarded-method", b"x-forwarded-host", b"x-forwarded-uri")),
        (x_original, (b"x-original-method", b"x-original-host", b"x-original-uri")),
    ):
        filtered = filter_headers([*lines, *zip(names, values, strict=True)], PROXY, POLICY)
        replies.append(verify.decide(AuthRequest(filtered.headers, filtered.proxied), reader))
    filtered = filter_headers([*lines, (b"host", values[1])], PROXY, POLICY)
    rest = values[2].decode("latin-1")
    replies.append(verify.decide(AuthRequest(filtered.headers, filtered.proxied, method, rest), envoy))
    return replies


def outcome(explanation: Explanation) -> tuple[int, str]:
    """Return the status and the reason that the verify endpoint must give: a 401 does not name the decision behind it."""
    if explanation.standing is not CredentialStatus.GOOD:
        return explanation.status, Cause.BAD_CREDENTIAL
    return explanation.status, Cause.NO_CREDENTIAL if explanation.status == 401 else explanation.reason


METHODS = st.sampled_from(["GET", "HEAD", "POST", "DELETE", "PROPFIND", "get", "G", "GET ", ""]) | st.text(max_size=25)
HOSTS = st.sampled_from(
    [
        "api.example.com",
        "API.example.com.",
        "api.example.com:",
        "api.example.com:443",
        "api.example.com:x",
        "[::1]",
        "[::1]:",
        "[::1]:8080",
        "::1",
        "192.0.2.7:80",
        "api.example.com.:80",
        "api..example.com",
        "a_b",
        " api.example.com",
        ":",
        ".",
    ]
) | st.text(min_size=1, max_size=40)
PATHS = (
    st.sampled_from(
        [
            "/things",
            "/things/",
            "/things/1?page=2",
            "/things/1?q=\u00e9",
            "/things/1?a=//../",
            "/things/%2e%2e/admin/x",
            "/things//1",
            "/things/../admin",
            "/things/caf\u00e9",
            "/things/caf%C3%A9",
            "/public/a",
            "/public/a/b",
            "/odd",
            "/admin/x",
            "/nothing",
            "/",
            "*",
            "",
            "?",
            "/things#fragment",
            "http://api.example.com/things",
        ]
    )
    | st.text(max_size=40)
    | st.text(alphabet="/things.%2e?#;\\\u00e9", max_size=20).map(lambda text: f"/{text}")
)


@settings(deadline=None, max_examples=examples(40, long=2_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=METHODS, host=HOSTS, path=PATHS)
@example(method="GET", host="api.example.com:", path="/things")
@example(method="GET", host="[::1]:", path="/things")
@example(method="GET", host="[::1]", path="/things?q=\u00e9")
def test_explain_and_the_verify_endpoints_agree_on_every_request(
    callers: Callers, routes: None, method: str, host: str, path: str
) -> None:
    for name, lines in callers.items():
        expected = outcome(explain(*find_principal(name), method=method, host=host, path=path))
        assert [(answer.status, answer.reason) for answer in answers(lines, method, host, path)] == [expected] * 3, name


@pytest.mark.parametrize("path", ["/things/1", "/public/a", "/odd", "/admin/x", "/nothing", "//"])
def test_explain_agrees_where_service_accounts_are_switched_off(callers: Callers, routes: None, settings: Any, path: str) -> None:
    settings.ENABLE_SERVICE_ACCOUNTS = False
    for name, lines in callers.items():
        explanation = explain(*find_principal(name), method="GET", host="api.example.com", path=path)
        assert {(answer.status, answer.reason) for answer in answers(lines, "GET", "api.example.com", path)} == {
            outcome(explanation)
        }, name


@pytest.mark.parametrize("host", ["api.example.com:", "[::1]:", "API.EXAMPLE.COM.:8080"])
def test_explain_reads_a_host_as_the_verify_endpoint_does(callers: Callers, routes: None, host: str) -> None:
    explanation = explain(*find_principal("alice@example.com"), method="GET", host=host, path="/things/1")
    assert (explanation.status, explanation.reason) == (200, "granted")
    assert explanation.rule.startswith("#2 " if host.startswith("[") else "#1 ")
