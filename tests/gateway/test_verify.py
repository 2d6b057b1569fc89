"""The decision pipeline: the answer is 200, 401, 403 or 503, and 302 in redirect mode only."""

import json
from types import MappingProxyType

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import token_format
from accounts.models import User
from audit.models import Entry
from authn.proxy_headers import ProxyInfo, TrustPolicy, filter_headers, parse_networks
from gateway import verify
from gateway.forwarded import AuthRequest, x_original
from gateway.headers import IDENTITY, unauthenticated
from rbac import services as rbac
from rbac.models import Role, Route
from rbac.packs import RouteSpec
from tests.examples import examples
from tests.factories import PASSWORD, make_token
from tests.verify_client import CLIENT, FOREIGN, basic, bearer, cookie, identity, judge, proxied

pytestmark = pytest.mark.django_db


def body(answer):
    return json.loads(answer.body)


@pytest.fixture
def cast(alice, bob, vera, pipeline, read_write, settings):
    """The cast behind the policy pack read-write, with sign-in by header on; the credentials of those who have one."""
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    settings.RBAC_DEFAULT_ROLE = "viewer"
    return {"pipeline": bearer(make_token(pipeline)[1]), "nobody": [], "forged": bearer(token_format.mint().plaintext)}


@pytest.mark.parametrize(
    ("caller", "method", "status"),
    [
        ("alice@example.com", "GET", 200),
        ("alice@example.com", "DELETE", 200),
        ("bob@example.com", "GET", 200),
        ("bob@example.com", "POST", 200),
        ("vera@example.com", "GET", 200),
        ("vera@example.com", "HEAD", 200),
        ("vera@example.com", "POST", 403),
        ("vera@example.com", "DELETE", 403),
        ("new@example.com", "GET", 200),
        ("new@example.com", "PUT", 403),
        ("pipeline", "GET", 200),
        ("pipeline", "POST", 200),
        ("forged", "GET", 401),
        ("nobody", "GET", 401),
        ("nobody", "POST", 401),
        ("no address", "GET", 401),
    ],
)
def test_each_caller_gets_the_answer_of_their_role(cast, caller, method, status):
    lines = cast.get(caller, [])
    answer = judge(lines, proxied(method, "/things", subject=None if caller in cast else caller))
    assert answer.status == status
    values = identity(answer)
    assert bool(values["email"]) is (status == 200)
    if status == 403:
        assert body(answer)["needed"] == "upstream:write"


@pytest.mark.parametrize("name", ["alice@example.com", "bob@example.com"])
def test_a_password_authenticates_with_the_users_role(cast, name):
    values = identity(judge(basic(name, PASSWORD), proxied("POST")))
    assert (values["email"], values["method"]) == (name, "basic")
    assert values["role"] == User.objects.get(username=name).role.name


def test_a_session_authenticates_with_the_users_role(cast, client):
    client.login(username="bob@example.com", password=PASSWORD)
    values = identity(judge(cookie(client.session.session_key), proxied("POST")))
    assert (values["email"], values["method"]) == ("bob@example.com", "session")


@pytest.mark.parametrize(
    "lines",
    [
        lambda key: [(b"cookie", f"skyauth={key}; skyauth={'x' * 32}".encode())],
        lambda key: [*cookie(key), *cookie("y" * 32)],
        lambda key: [(b"cookie", f"xskyauth={key}".encode())],
        lambda key: [(b"cookie", f"skyauth={key}'--".encode())],
        lambda key: [(b"cookie", b"skyauth")],
        lambda key: [(b"cookie", b"skyauth=")],
        lambda key: [(b"cookie", b"skyauth=\xff")],
        lambda key: [(b"set-cookie", f"skyauth={key}".encode())],
    ],
)
def test_an_ambiguous_or_malformed_session_cookie_is_ignored(cast, client, lines):
    client.login(username="bob@example.com", password=PASSWORD)
    assert judge(lines(client.session.session_key), proxied()).status == 401


@pytest.mark.parametrize("foreign", FOREIGN)
def test_promise_08_an_apps_own_authorization_matters_only_where_nobody_else_names_the_user(cast, client, system, foreign):
    rbac.create_route(actor=system, spec=RouteSpec("/health", ("GET",), "upstream:public"), position=1)
    client.login(username="bob@example.com", password=PASSWORD)
    header = [(b"authorization", foreign)]
    session = cookie(client.session.session_key)
    assert identity(judge([*header, *session], proxied("POST")))["email"] == "bob@example.com"
    assert identity(judge(header, proxied("POST", subject="bob@example.com")))["email"] == "bob@example.com"
    client.logout()
    for lines in (header, [*header, *session], [*header, *cookie("a" * 32)]):
        assert judge(lines, proxied("GET", "/health")) == unauthenticated(basic=True)
    assert judge(session, proxied("GET", "/health")).status == 200, "public without the header"


@pytest.mark.parametrize("ours", [b"Bearer sky_nonsense", b"Basic !", b"Basic Ym9iOndyb25n"])
def test_promise_08_a_bad_credential_of_ours_ends_the_request_of_a_session(cast, client, ours):
    client.login(username="bob@example.com", password=PASSWORD)
    assert judge([(b"authorization", ours), *cookie(client.session.session_key)], proxied()).status == 401
    assert judge([(b"authorization", ours)], proxied(subject="bob@example.com")).status == 401


def test_promise_08_basic_belongs_to_another_service_where_it_is_off(cast, client, settings):
    settings.AUTH_BASIC = False
    client.login(username="bob@example.com", password=PASSWORD)
    session = cookie(client.session.session_key)
    for lines in (basic("other", "x"), basic("alice@example.com", PASSWORD), [(b"authorization", b"Basic !")]):
        assert identity(judge([*lines, *session], proxied()))["email"] == "bob@example.com"
        assert identity(judge(lines, proxied(subject="bob@example.com")))["email"] == "bob@example.com"
        assert judge(lines, proxied()) == unauthenticated(basic=False)


@pytest.mark.parametrize(
    "lines",
    [
        lambda key: [(b"cookie", f"a=b; skyauth={key} ;c".encode())],
        lambda key: [*cookie(key), *cookie(key)],
        lambda key: [(b"cookie", b"a=b"), *cookie(key)],
    ],
)
def test_a_session_is_found_among_other_cookies(cast, client, lines):
    client.login(username="bob@example.com", password=PASSWORD)
    assert judge(lines(client.session.session_key), proxied()).status == 200


@pytest.mark.parametrize(
    "proxy_info",
    [
        ProxyInfo(),
        ProxyInfo(peer="192.0.2.7", client="192.0.2.7"),
        ProxyInfo(trusted=True, peer="10.0.0.1", client="192.0.2.7"),
        proxied(path="//"),
        proxied(path="/a/../b"),
        proxied(method="get"),
        proxied(host="a_b"),
    ],
)
def test_promise_25_an_unreadable_request_is_403_for_every_caller(cast, proxy_info):
    for lines in ([], cast["pipeline"]):
        answer = judge(lines, proxy_info)
        assert answer.status == 403
        assert body(answer)["code"] == "unreadable-target"
    assert Entry.objects.filter(event="request.denied", target="unreadable request").exists()


def test_a_bad_credential_is_401_before_the_request_is_read(cast):
    assert judge(cast["forged"], proxied(path="//")).status == 401
    assert judge(cast["forged"], ProxyInfo()).status == 401


def test_promise_04_a_fault_found_by_the_header_filter_is_401(cast):
    proxy_info = ProxyInfo(trusted=True, peer="10.0.0.1", client=CLIENT, fault="the identity header is repeated")
    assert judge(cast["pipeline"], proxy_info) == unauthenticated(basic=True)
    assert Entry.objects.first().reason == "the identity header is repeated"


@pytest.mark.parametrize("agent", [b"kube-probe/1.29", b"ELB-HealthChecker/2.0", b"GoogleHC/1.0", b"Prometheus/2"])
@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "10.0.0.1"])
@pytest.mark.parametrize(
    ("method", "path"), [("OPTIONS", "/"), ("GET", "/health"), ("GET", "/healthz"), ("GET", "/api/health"), ("HEAD", "/metrics")]
)
def test_promise_27_no_user_agent_address_or_preflight_bypasses_the_check(cast, agent, client, method, path):
    lines = [(b"user-agent", agent), (b"access-control-request-method", b"POST"), (b"origin", b"https://evil.example")]
    assert judge(lines, proxied(method, path, client=client)).status == 401


def test_a_public_route_allows_anonymous_callers_but_no_bad_credential(cast, system):
    rbac.create_route(actor=system, spec=RouteSpec("/health", ("GET",), "upstream:public"), position=1)
    answer = judge([], proxied(path="/health"))
    assert answer.status == 200
    assert set(identity(answer).values()) == {""}
    assert judge(cast["pipeline"], proxied(path="/health")).status == 200
    assert judge(cast["forged"], proxied(path="/health")).status == 401
    assert judge([], proxied("POST", "/health")).status == 401


def test_promise_35_without_routes_every_request_is_denied(cast):
    Route.objects.all().delete()
    for lines, proxy_info in (([], proxied(subject="alice@example.com")), (cast["pipeline"], proxied())):
        answer = judge(lines, proxy_info)
        assert (answer.status, body(answer)["code"]) == (403, "no-route")


@pytest.mark.parametrize(
    "row",
    [
        {"path": "/a*", "methods": ["GET"], "permission": "upstream:read"},
        {"path": "/x", "methods": None, "permission": "upstream:read"},
        {"path": "/x", "methods": 7, "permission": "upstream:read"},
        {"path": "/x", "methods": [7], "permission": "upstream:read"},
    ],
)
def test_promise_35_a_malformed_route_denies_every_request(cast, row):
    if row["methods"] is None:
        row = {**row, "methods": {"GET": 1}, "path": "/x*"}
    Route.objects.create(position=0, **row)
    assert judge([], proxied(subject="alice@example.com")).status == 503


@pytest.mark.parametrize(("permission", "code"), [("upstream:everything", "unknown-permission"), ("", "unknown-permission")])
def test_promise_35_an_unknown_permission_denies_even_admins(cast, permission, code):
    Route.objects.create(position=0, path="/**", methods=["*"], permission=permission)
    answer = judge([], proxied(subject="alice@example.com"))
    assert (answer.status, body(answer)["code"]) == (403, code)


def test_promise_35_an_unknown_permission_in_a_role_grants_nothing(cast):
    Role.objects.filter(name="viewer").update(permissions=["upstream:everything", "*", "upstream"])
    assert judge([], proxied(subject="vera@example.com")).status == 403


def rename_tables(*tables):
    """Rename tables, so that the database returns an error."""
    for table in tables:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_gone")


@pytest.mark.parametrize(
    ("table", "lines", "proxy_info"),
    [
        ("rbac_route", lambda cast: cast["pipeline"], proxied()),
        ("accounts_token", lambda cast: cast["pipeline"], proxied()),
        ("accounts_user", lambda cast: basic("bob@example.com", PASSWORD), proxied()),
        ("accounts_user", lambda cast: [], proxied(subject="bob@example.com")),
        ("accounts_session", lambda cast: cookie("x" * 32), proxied()),
        ("axes_accessattempt", lambda cast: basic("bob@example.com", PASSWORD), proxied()),
    ],
)
def test_promise_43_a_database_error_is_503_never_401_and_never_200(cast, caplog, table, lines, proxy_info):
    credential = lines(cast)
    rename_tables(table)
    answer = judge(credential, proxy_info)
    assert answer.status == 503
    assert (b"retry-after", b"5") in answer.headers
    assert set(identity(answer).values()) == {""}
    assert "could not be decided" in caplog.text


def test_promise_42_the_log_of_an_error_contains_nothing_of_the_request(cast, caplog):
    token = cast["pipeline"][0][1].decode()
    rename_tables("accounts_token")
    judge(cast["pipeline"], proxied(path="/secret-path?token=hunter2"))
    assert token not in caplog.text
    assert token[7:24] not in caplog.text
    assert "hunter2" not in caplog.text


def test_promise_17_a_token_in_the_url_is_no_credential_and_is_not_recorded(cast):
    token = cast["pipeline"][0][1].decode().removeprefix("Bearer ")
    for path in (f"/x?access_token={token}", f"/x?token={token}", f"/x?Authorization=Bearer%20{token}"):
        assert judge([], proxied(path=path)).status == 401
    assert token not in str(list(Entry.objects.values()))


# audit entries


def test_a_denied_request_is_recorded_with_its_reason(cast):
    judge([], proxied("POST", "/things?secret=1", subject="vera@example.com"))
    entry = Entry.objects.get(event="request.denied")
    assert (entry.actor, entry.method, entry.peer, entry.target) == (
        "vera@example.com", "proxy", CLIENT, "POST api.example.com/things"
    )  # fmt: skip
    assert entry.reason.startswith("not-permitted: This requires upstream:write")


def test_of_an_anonymous_client_one_denial_a_minute_is_recorded(cast):
    for n in range(20):
        judge([], proxied(path=f"/try/{n}"))
    judge([], proxied(client="203.0.113.9"))
    assert [entry.peer for entry in Entry.objects.filter(event="request.denied").order_by("id")] == [CLIENT, "203.0.113.9"]
    assert Entry.objects.first().data["suppressed"] == 19


def test_an_allowed_request_is_not_recorded(cast):
    before = Entry.objects.count()
    judge(cast["pipeline"], proxied())
    assert Entry.objects.count() == before


# any input

NAMES = st.sampled_from(
    [
        b"authorization",
        b"Authorization",
        b"cookie",
        b"x-skypilot-auth-mode",
        b"x-auth-request-email",
        b"x_auth_request_email",
        b"x-forwarded-uri",
        b"x-forwarded-method",
        b"x-forwarded-host",
        b"x-forwarded-for",
        b"x-groups",
        b"accept",
        b"",
    ]
)
VALUES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"GET",
            b"/a",
            b"h",
            b"token",
            b"alice@example.com",
            b"a,b",
            b"Bearer sky_x",
            b"Basic YTpi",
            b"Basic !",
            b"skyauth=abcdefghij",
            b"192.0.2.1",
            b"text/html",
        ]
    ),
    st.builds(lambda _: b"Bearer " + token_format.mint().plaintext.encode(), st.none()),
)


@settings(deadline=None, max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=st.lists(st.tuples(NAMES, VALUES), max_size=8), peer=st.sampled_from(["10.0.0.1", "192.0.2.7", "", None]))
def test_promise_29_the_answer_to_any_headers_is_200_401_or_403(cast, headers, peer):
    policy = TrustPolicy(parse_networks(["10.0.0.0/8"]), "X-Auth-Request-Email", "X-Groups")
    admitted = filter_headers(headers, peer, policy)
    answer = judge([(name.lower(), value) for name, value in admitted.headers], admitted.proxied)
    assert answer.status in {200, 401, 403}, "no request causes an error of SkyAuth's own"
    assert len(identity(answer)) == len(IDENTITY)
    if peer != "10.0.0.1":
        assert answer.status != 200, "an untrusted peer is never allowed"


@settings(deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=30)), max_size=5),
    subject=st.one_of(st.none(), st.text(max_size=20)),
    groups=st.one_of(st.none(), st.text(max_size=20)),
    client=st.one_of(st.ip_addresses().map(str), st.text(max_size=10)),
    method=st.text(max_size=6),
    path=st.text(max_size=12),
)
def test_promise_29_deciding_never_raises(cast, lines, subject, groups, client, method, path):
    answer = judge(lines, proxied(method, path, subject=subject, groups=groups, client=client))
    assert answer.status in {200, 401, 403, 503}


def test_promise_29_the_second_request_of_nginx_is_never_allowed(cast):
    original = MappingProxyType({"original-method": "GET", "original-host": "h", "original-uri": "/things"})
    request = AuthRequest(cast["pipeline"], ProxyInfo(trusted=True, forwarded=original))
    assert verify.decide(request._replace(endpoint=b"/authz/nginx"), x_original).status == 200
    answer = verify.decide(request._replace(endpoint=b"/authz/nginx/answer"), x_original)
    assert (answer.status, identity(answer)["email"]) == (503, ""), "try again: the first request would be allowed now"
