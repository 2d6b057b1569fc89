"""The signed assertion in the 200: what it says, to whom, for how long it is given again, and where there is none."""

import json
import time

import bcrypt
import jwt
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examining
from hypothesis import strategies as st

from accounts.services import users
from authn import jwt_keys
from authn.identify import Identification
from gateway import cache, jwt_issue, verify
from gateway.cache import CachedCaller, CacheSnapshot
from gateway.forwarded import AuthRequest, x_forwarded
from gateway.headers import ASSERTION, allowed
from rbac import services as rbac
from rbac.packs import RouteSpec
from rbac.principals import Kind, Method, Principal
from tests.examples import examples
from tests.factories import PASSWORD
from tests.verify_client import basic, bearer, identity, judge, proxied

ISSUER, HOST = "https://auth.example.com", "api.example.com"
PEM = {"EdDSA": jwt_keys.new_pem(), "RS256": jwt_keys.new_pem(rsa=True)}
ALICE = Principal(Kind.USER, "96ed8a5c", "alice@example.com", role="admin", method=Method.PROXY, groups=("dev", "a,b", "é"))
MACHINE = Principal(Kind.SERVICE_ACCOUNT, "sa-0123456789abcdef", "pipeline", role="user", method=Method.BEARER)


@pytest.fixture(autouse=True)
def on(settings, tmp_path):
    """Assertions are switched on, signed with Ed25519; yields a function that names other keys."""

    def use(*algorithms):
        paths = []
        for algorithm in algorithms:
            path = tmp_path / f"{algorithm}.pem"
            path.write_text(PEM[algorithm])
            path.chmod(0o600)
            paths.append(path)
        settings.ASSERTION_KEYS = paths

    settings.PUBLIC_URL, settings.ASSERTION_AUDIENCE = ISSUER, ""
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    use("EdDSA")
    return use


def carried(answer):
    """Return the value of the one header with the assertion."""
    values = [value for name, value in answer.headers if name == ASSERTION.lower().encode()]
    assert len(values) == 1
    return values[0].decode()


def read(assertion, audience=HOST, algorithms=("EdDSA",), **changes):
    """Return the claims, verified with the published keys and nothing else."""
    key_set = jwt.PyJWKSet.from_json(jwt_issue.key_set(jwt_issue.keys()).decode())
    key = key_set[jwt.get_unverified_header(assertion)["kid"]]
    required = {"require": ["iss", "aud", "sub", "iat", "exp"]}
    expected = {"issuer": ISSUER, "audience": audience, "algorithms": list(algorithms), "options": required, **changes}
    return jwt.decode(assertion, key, **expected)


# what it says


@pytest.mark.parametrize(
    ("principal", "said"),
    [
        (ALICE, {"sub": "96ed8a5c", "email": "alice@example.com", "role": "admin", "method": "proxy"}),
        (MACHINE, {"sub": MACHINE.uid, "email": f"pipeline@{MACHINE.uid}", "role": "user", "method": "bearer"}),
    ],
)
def test_promise_06_an_assertion_says_who_to_whom_by_whom_and_for_how_long(principal, said):
    now = time.time()
    claims = read(jwt_issue.assertion(principal, HOST, now))
    groups = list(principal.groups)
    assert claims == {**said, "groups": groups, "iss": ISSUER, "aud": HOST, "iat": int(now), "exp": int(now) + 60}


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_promise_06_an_assertion_names_its_type_its_key_and_its_algorithm(on, algorithm):
    on(algorithm)
    header = jwt.get_unverified_header(jwt_issue.assertion(ALICE, HOST, time.time()))
    assert header == {"typ": "JWT", "alg": algorithm, "kid": jwt_issue.keys()[0].kid}


@examining(deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(max_size=20),
    role=st.text(max_size=10),
    groups=st.lists(st.text(max_size=10), max_size=4),
    audience=st.text(st.characters(codec="ascii"), min_size=1, max_size=20),
    kind=st.sampled_from([Kind.USER, Kind.SERVICE_ACCOUNT]),
)
def test_whatever_a_caller_is_called_the_assertion_is_one_header_and_says_it_exactly(name, role, groups, audience, kind):
    principal = Principal(kind, "uid", name, role=role, groups=tuple(groups))
    token = jwt_issue.assertion(principal, audience, time.time())
    assert token.isascii()
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    claims = read(token, audience)
    assert (claims["email"], claims["role"], claims["groups"]) == (principal.identity, role, groups)
    assert carried(allowed(principal, token)) == token


CHANGES = {
    "other issuer": {"issuer": "https://evil.example"},
    "part of the issuer": {"issuer": "https://auth.example"},
    "other audience": {"audience": "other.example.com"},
    "other algorithm": {"algorithms": ["RS256"]},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_promise_06_who_verifies_for_something_else_refuses_it(changes):
    token = jwt_issue.assertion(ALICE, HOST, time.time())
    assert read(token)
    with pytest.raises(jwt.InvalidTokenError):
        read(token, **changes)


@pytest.mark.parametrize(("age", "good"), [(0, True), (59, True), (61, False), (-5, False)])
def test_promise_06_an_assertion_stands_for_60_seconds(age, good):
    token = jwt_issue.assertion(ALICE, HOST, time.time() - age)
    if good:
        assert read(token)
    else:
        with pytest.raises(jwt.InvalidTokenError):
            read(token)


def test_promise_06_another_installations_key_signs_nothing_here(tmp_path):
    path = tmp_path / "other.pem"
    path.write_text(jwt_keys.new_pem())
    path.chmod(0o600)
    other = jwt_keys.read(path)
    claims = jwt_issue.claims(ALICE, issuer=ISSUER, audience=HOST, now=int(time.time()))
    for kid in (other.kid, jwt_issue.keys()[0].kid):
        with pytest.raises((jwt.InvalidTokenError, KeyError)):
            read(jwt.encode(claims, other.private, "EdDSA", headers={"kid": kid}))


# in the answer


@pytest.mark.django_db
def test_the_answer_asserts_what_its_headers_say(pipeline, pipeline_token, read_write):
    answer = judge(bearer(pipeline_token), proxied("POST"))
    claims, said = read(carried(answer)), identity(answer)
    assert answer.status == 200
    assert (claims["email"], claims["sub"], claims["role"], claims["method"]) == (
        said["email"], said["user"], said["role"], said["method"]
    )  # fmt: skip
    assert (claims["sub"], claims["email"]) == (pipeline.uid, f"pipeline@{pipeline.uid}")


@pytest.mark.django_db
def test_groups_are_a_list(bob, read_write):
    assert read(carried(judge([], proxied(subject=bob.username, groups="dev, ops"))))["groups"] == ["dev", "ops"]


@pytest.mark.django_db
@pytest.mark.parametrize(("host", "audience"), [("API.Example.com:8443", HOST), ("other.example.com.", "other.example.com")])
def test_the_audience_is_the_canonical_host_that_was_asked_for(bob, read_write, host, audience):
    assert read(carried(judge([], proxied(host=host, subject=bob.username))), audience)


@pytest.mark.django_db
def test_a_configured_audience_is_everybodys(bob, read_write, settings):
    settings.ASSERTION_AUDIENCE = "urn:example:apis"
    for host in ("a.example.com", "b.example.com"):
        assert read(carried(judge([], proxied(host=host, subject=bob.username))), "urn:example:apis")


@pytest.mark.django_db
def test_promise_28_where_nobody_is_vouched_for_the_header_is_there_and_empty(bob, vera, read_write, system, settings):
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"
    rbac.create_route(actor=system, spec=RouteSpec("/open", ("GET",), "upstream:public"), position=1)
    answers = {
        "shared": (200, judge(basic("team", "secret"), proxied())),
        "anonymous": (200, judge([], proxied(path="/open"))),
        "stranger": (401, judge([], proxied())),
        "bad password": (401, judge(basic("bob@example.com", "wrong"), proxied())),
        "not permitted": (403, judge([], proxied("POST", subject=vera.username))),
        "unreadable": (403, judge([], proxied(path="//", subject=bob.username))),
    }
    for who, (status, answer) in answers.items():
        assert (answer.status, carried(answer)) == (status, ""), who


@pytest.mark.django_db
def test_promise_28_without_keys_the_header_is_there_and_empty(bob, read_write, on):
    on()
    assert carried(judge([], proxied(subject=bob.username))) == ""


@pytest.mark.django_db
def test_promise_43_a_key_that_is_gone_is_503(bob, read_write, settings, tmp_path):
    settings.ASSERTION_KEYS = [tmp_path / "gone.pem"]
    answer = judge([], proxied(subject=bob.username))
    assert (answer.status, carried(answer)) == (503, "")


# given again


class Clock:
    """The time as `time.time` tells it, which a test moves."""

    def __init__(self):
        self.now = int(time.time()) + 0.25

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(time, "time", made)
    return made


def from_memory(lines, found, known):
    """Return the answer that memory alone gives. Raises CacheMiss."""
    return verify.answer(AuthRequest(lines, found), x_forwarded, verify.CacheOnly(known))


def by_thread(lines, found, known):
    """Return the answer of the long way, which adds to memory."""
    return verify.judge(AuthRequest(lines, found), x_forwarded, known)


def issued(answer):
    return jwt.decode(carried(answer), options={"verify_signature": False})["iat"]


@pytest.mark.django_db
def test_an_assertion_is_given_again_while_half_of_its_time_is_left(pipeline_token, read_write, clock):
    known, lines = CacheSnapshot("mark"), bearer(pipeline_token)
    with pytest.raises(verify.CacheMiss):
        from_memory(lines, proxied(), known)
    first = by_thread(lines, proxied(), known)
    start = clock.now
    for seconds in (0, 10, 29.7):
        clock.now = start + seconds
        assert from_memory(lines, proxied(), known) is first
    clock.now = start + 29.8  # the 30th second after `iat`, a whole number
    with pytest.raises(verify.CacheMiss):
        from_memory(lines, proxied(), known)
    second = by_thread(lines, proxied(), known)
    assert issued(second) == int(clock.now) == issued(first) + 30
    assert from_memory(lines, proxied(), known) is second


@pytest.mark.django_db
def test_to_sign_anew_asks_the_database_nothing(pipeline_token, read_write, clock, django_assert_num_queries):
    known, lines = CacheSnapshot("mark"), bearer(pipeline_token)
    by_thread(lines, proxied(), known)
    clock.now += 40
    with django_assert_num_queries(0):
        assert by_thread(lines, proxied(), known).status == 200


@pytest.mark.django_db
def test_each_audience_has_an_assertion_of_its_own_and_none_pushes_another_out(pipeline_token, read_write):
    known, lines = CacheSnapshot("mark"), bearer(pipeline_token)
    hosts = [f"h{n}.example.com" for n in range(5)]
    first = {host: by_thread(lines, proxied(host=host), known) for host in hosts}
    for host in hosts:
        assert from_memory(lines, proxied(host=host), known) is first[host]
        assert read(carried(first[host]), host)


@pytest.mark.django_db
def test_a_caller_who_makes_up_hosts_does_not_fill_memory(pipeline_token, read_write, monkeypatch):
    monkeypatch.setattr(cache, "MOST_SIGNED", 10)
    known, lines = CacheSnapshot("mark"), bearer(pipeline_token)
    for n in range(50):
        assert by_thread(lines, proxied(host=f"h{n}.example.com"), known).status == 200
    assert len(known._signed) == 10
    assert from_memory(lines, proxied(host="h49.example.com"), known).status == 200
    with pytest.raises(verify.CacheMiss):
        from_memory(lines, proxied(host="h0.example.com"), known)


@pytest.mark.django_db
def test_who_is_found_out_anew_each_time_is_signed_for_anew_each_time():
    known, caller = CacheSnapshot("mark"), CachedCaller(Identification(ALICE, until=0))
    database = verify.DatabaseLookups(known)
    assert read(carried(database.signed(caller, HOST)))
    assert known.signed(caller, HOST, time.time()) is None
    assert not known._signed


@pytest.mark.django_db
def test_promise_15_what_was_signed_under_another_mark_is_not_given_again(bob, read_write, system):
    remembering, found = cache.DecisionCache(), proxied(subject=bob.username)
    before = by_thread([], found, remembering.at("before"))
    assert read(carried(before))["role"] == "user"
    users.set_role(actor=system, user=bob, role="viewer")
    with pytest.raises(verify.CacheMiss):
        from_memory([], found, remembering.at("after"))
    assert read(carried(by_thread([], found, remembering.at("after"))))["role"] == "viewer"


@pytest.mark.django_db
def test_two_callers_never_share_an_assertion(bob, vera, read_write):
    known = CacheSnapshot("mark")
    for user in (bob, vera):
        by_thread([], proxied(subject=user.username), known)
    for user in (bob, vera):
        assert read(carried(from_memory([], proxied(subject=user.username), known)))["sub"] == user.uid


@pytest.mark.django_db
def test_a_remembered_password_has_an_assertion_to_give_again(bob, read_write):
    known, lines = CacheSnapshot("mark"), basic(bob.username, PASSWORD)
    by_thread(lines, proxied(), known)
    assert read(carried(from_memory(lines, proxied(), known)))["sub"] == bob.uid


@pytest.mark.django_db
def test_where_nobody_is_vouched_for_memory_suffices(read_write, system, settings):
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"
    known, lines = CacheSnapshot("mark"), basic("team", "secret")
    by_thread(lines, proxied(), known)
    assert carried(from_memory(lines, proxied(), known)) == ""
    assert not known._signed


# the published keys


def test_all_keys_are_published_and_the_first_signs(on):
    on("RS256", "EdDSA")
    shown = json.loads(jwt_issue.key_set(jwt_issue.keys()))["keys"]
    assert [key["alg"] for key in shown] == ["RS256", "EdDSA"]
    assert [set(key) for key in shown] == [{"kty", "n", "e", "kid", "use", "alg"}, {"kty", "crv", "x", "kid", "use", "alg"}]
    token = jwt_issue.assertion(ALICE, HOST, time.time())
    assert jwt.get_unverified_header(token)["kid"] == shown[0]["kid"]
    assert read(token, algorithms=["RS256"])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_key_set_may_be_kept_for_five_minutes(method):
    status, lines, body = jwt_issue.published(method)
    assert (status, body) == (200, jwt_issue.key_set(jwt_issue.keys()))
    assert dict(lines) == {
        b"content-type": b"application/jwk-set+json",
        b"cache-control": b"public, max-age=300",
        b"content-length": str(len(body)).encode(),
        b"x-content-type-options": b"nosniff",
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_the_key_set_is_only_read(method):
    status, lines, body = jwt_issue.published(method)
    assert (status, body) == (405, b"")
    assert (b"allow", b"GET, HEAD") in lines
