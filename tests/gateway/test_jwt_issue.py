"""Signed assertions: their claims, how long one is sent again, and which answers have none."""

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
from authn.identify import AuthenticationResult
from gateway import cache, jwt_issue, verify
from gateway.cache import CachedCaller, CacheSnapshot
from gateway.forwarded import AuthRequest, x_forwarded
from gateway.headers import ASSERTION, allowed
from rbac import services as rbac
from rbac.packs import RouteSpec
from rbac.principals import Kind, Method, Principal
from revision.epoch import Epoch, LoggedChange
from tests.examples import examples
from tests.factories import PASSWORD
from tests.verify_client import basic, bearer, identity, judge, proxied

ISSUER, HOST = "https://auth.example.com", "api.example.com"
PEM = {"EdDSA": jwt_keys.new_pem(), "RS256": jwt_keys.new_pem(rsa=True)}
ALICE = Principal(Kind.USER, "96ed8a5c", "alice@example.com", role="admin", method=Method.PROXY, groups=("dev", "a,b", "é"))
ACCOUNT = Principal(Kind.SERVICE_ACCOUNT, "sa-0123456789abcdef", "pipeline", role="user", method=Method.BEARER)


@pytest.fixture(autouse=True)
def on(settings, tmp_path):
    """Turn assertions on, signed with Ed25519; returns a function that configures other keys."""

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


def assertion_of(answer):
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


# claims


@pytest.mark.parametrize(
    ("principal", "expected"),
    [
        (ALICE, {"sub": "96ed8a5c", "email": "alice@example.com", "role": "admin", "method": "proxy"}),
        (ACCOUNT, {"sub": ACCOUNT.uid, "email": f"pipeline@{ACCOUNT.uid}", "role": "user", "method": "bearer"}),
    ],
)
def test_promise_06_an_assertion_has_subject_audience_issuer_and_expiry(principal, expected):
    now = time.time()
    claims = read(jwt_issue.assertion(principal, HOST, now))
    groups = list(principal.groups)
    assert claims == {**expected, "groups": groups, "iss": ISSUER, "aud": HOST, "iat": int(now), "exp": int(now) + 60}


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_promise_06_the_header_of_an_assertion_names_type_key_and_algorithm(on, algorithm):
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
def test_an_assertion_of_any_name_is_one_header_with_the_exact_values(name, role, groups, audience, kind):
    principal = Principal(kind, "uid", name, role=role, groups=tuple(groups))
    token = jwt_issue.assertion(principal, audience, time.time())
    assert token.isascii()
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    claims = read(token, audience)
    assert (claims["email"], claims["role"], claims["groups"]) == (principal.identity, role, groups)
    assert assertion_of(allowed(principal, token)) == token


CHANGES = {
    "other issuer": {"issuer": "https://evil.example"},
    "part of the issuer": {"issuer": "https://auth.example"},
    "other audience": {"audience": "other.example.com"},
    "other algorithm": {"algorithms": ["RS256"]},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_promise_06_a_verifier_with_another_issuer_audience_or_algorithm_refuses_it(changes):
    token = jwt_issue.assertion(ALICE, HOST, time.time())
    assert read(token)
    with pytest.raises(jwt.InvalidTokenError):
        read(token, **changes)


@pytest.mark.parametrize(("age", "good"), [(0, True), (59, True), (61, False), (-5, False)])
def test_promise_06_an_assertion_is_valid_for_60_seconds(age, good):
    token = jwt_issue.assertion(ALICE, HOST, time.time() - age)
    if good:
        assert read(token)
    else:
        with pytest.raises(jwt.InvalidTokenError):
            read(token)


def test_promise_06_an_assertion_signed_by_another_installation_is_refused(tmp_path):
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
def test_the_claims_are_the_values_of_the_identity_headers(pipeline, pipeline_token, read_write):
    answer = judge(bearer(pipeline_token), proxied("POST"))
    claims, values = read(assertion_of(answer)), identity(answer)
    assert answer.status == 200
    assert (claims["email"], claims["sub"], claims["role"], claims["method"]) == (
        values["email"], values["user"], values["role"], values["method"]
    )  # fmt: skip
    assert (claims["sub"], claims["email"]) == (pipeline.uid, f"pipeline@{pipeline.uid}")


@pytest.mark.django_db
def test_groups_are_a_list(bob, read_write):
    assert read(assertion_of(judge([], proxied(subject=bob.username, groups="dev, ops"))))["groups"] == ["dev", "ops"]


@pytest.mark.django_db
@pytest.mark.parametrize(("host", "audience"), [("API.Example.com:8443", HOST), ("other.example.com.", "other.example.com")])
def test_the_audience_is_the_canonical_host_of_the_request(bob, read_write, host, audience):
    assert read(assertion_of(judge([], proxied(host=host, subject=bob.username))), audience)


@pytest.mark.django_db
def test_a_configured_audience_is_used_for_every_host(bob, read_write, settings):
    settings.ASSERTION_AUDIENCE = "urn:example:apis"
    for host in ("a.example.com", "b.example.com"):
        assert read(assertion_of(judge([], proxied(host=host, subject=bob.username))), "urn:example:apis")


@pytest.mark.django_db
def test_promise_28_without_an_identity_the_header_is_present_and_empty(bob, vera, read_write, system, settings):
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
    for name, (status, answer) in answers.items():
        assert (answer.status, assertion_of(answer)) == (status, ""), name


@pytest.mark.django_db
def test_promise_28_without_keys_the_header_is_present_and_empty(bob, read_write, on):
    on()
    assert assertion_of(judge([], proxied(subject=bob.username))) == ""


@pytest.mark.django_db
def test_promise_43_a_missing_key_file_is_503(bob, read_write, settings, tmp_path):
    settings.ASSERTION_KEYS = [tmp_path / "gone.pem"]
    answer = judge([], proxied(subject=bob.username))
    assert (answer.status, assertion_of(answer)) == (503, "")


# caching


class Clock:
    """Stands in for `time.time`; a test sets it."""

    def __init__(self):
        self.now = int(time.time()) + 0.25

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(time, "time", made)
    return made


def from_cache(lines, proxy_info, snapshot):
    """Return the answer from the cache alone. Raises CacheMiss."""
    return verify.evaluate(AuthRequest(lines, proxy_info), x_forwarded, verify.CacheOnly(snapshot))


def from_database(lines, proxy_info, snapshot):
    """Return the answer of the slow path, which fills the cache."""
    return verify.decide(AuthRequest(lines, proxy_info), x_forwarded, snapshot)


def issued(answer):
    return jwt.decode(assertion_of(answer), options={"verify_signature": False})["iat"]


@pytest.mark.django_db
def test_an_assertion_is_sent_again_until_half_of_its_lifetime_is_over(pipeline_token, read_write, clock):
    snapshot, lines = CacheSnapshot(Epoch()), bearer(pipeline_token)
    with pytest.raises(verify.CacheMiss):
        from_cache(lines, proxied(), snapshot)
    first = from_database(lines, proxied(), snapshot)
    start = clock.now
    for seconds in (0, 10, 29.7):
        clock.now = start + seconds
        assert from_cache(lines, proxied(), snapshot) is first
    clock.now = start + 29.8  # the 30th second after `iat`, a whole number
    with pytest.raises(verify.CacheMiss):
        from_cache(lines, proxied(), snapshot)
    second = from_database(lines, proxied(), snapshot)
    assert issued(second) == int(clock.now) == issued(first) + 30
    assert from_cache(lines, proxied(), snapshot) is second


@pytest.mark.django_db
def test_signing_again_costs_no_query(pipeline_token, read_write, clock, django_assert_num_queries):
    snapshot, lines = CacheSnapshot(Epoch()), bearer(pipeline_token)
    from_database(lines, proxied(), snapshot)
    clock.now += 40
    with django_assert_num_queries(0):
        assert from_database(lines, proxied(), snapshot).status == 200


@pytest.mark.django_db
def test_assertions_are_cached_for_each_audience(pipeline_token, read_write):
    snapshot, lines = CacheSnapshot(Epoch()), bearer(pipeline_token)
    hosts = [f"h{n}.example.com" for n in range(5)]
    first = {host: from_database(lines, proxied(host=host), snapshot) for host in hosts}
    for host in hosts:
        assert from_cache(lines, proxied(host=host), snapshot) is first[host]
        assert read(assertion_of(first[host]), host)


@pytest.mark.django_db
def test_a_caller_who_invents_hosts_does_not_fill_the_cache(pipeline_token, read_write, monkeypatch):
    monkeypatch.setattr(cache, "MAX_SIGNED_ANSWERS", 10)
    snapshot, lines = CacheSnapshot(Epoch()), bearer(pipeline_token)
    for n in range(50):
        assert from_database(lines, proxied(host=f"h{n}.example.com"), snapshot).status == 200
    assert len(snapshot._signed) == 10
    assert from_cache(lines, proxied(host="h49.example.com"), snapshot).status == 200
    with pytest.raises(verify.CacheMiss):
        from_cache(lines, proxied(host="h0.example.com"), snapshot)


@pytest.mark.django_db
def test_a_caller_who_is_not_cached_gets_a_new_assertion_each_time():
    snapshot, caller = CacheSnapshot(Epoch()), CachedCaller(AuthenticationResult(ALICE, until=0))
    lookups = verify.DatabaseLookups(snapshot)
    assert read(assertion_of(lookups.signed_answer(caller, HOST)))
    assert snapshot.signed_answer(caller, HOST, time.time()) is None
    assert not snapshot._signed


@pytest.mark.django_db
def test_promise_15_an_assertion_of_another_revision_is_not_sent_again(bob, read_write, system):
    epoch, proxy_info = Epoch(), proxied(subject=bob.username)
    snapshot = CacheSnapshot(epoch)
    before = from_database([], proxy_info, snapshot)
    assert read(assertion_of(before))["role"] == "user"
    users.set_role(actor=system, user=bob, role="viewer")
    epoch.advance(1, [LoggedChange(1, "a", "b", "user", str(bob.pk))])
    with pytest.raises(verify.CacheMiss):
        from_cache([], proxy_info, snapshot)
    assert read(assertion_of(from_database([], proxy_info, snapshot)))["role"] == "viewer"


@pytest.mark.django_db
def test_two_callers_never_share_an_assertion(bob, vera, read_write):
    snapshot = CacheSnapshot(Epoch())
    for user in (bob, vera):
        from_database([], proxied(subject=user.username), snapshot)
    for user in (bob, vera):
        assert read(assertion_of(from_cache([], proxied(subject=user.username), snapshot)))["sub"] == user.uid


@pytest.mark.django_db
def test_an_assertion_for_a_password_is_cached(bob, read_write):
    snapshot, lines = CacheSnapshot(Epoch()), basic(bob.username, PASSWORD)
    from_database(lines, proxied(), snapshot)
    assert read(assertion_of(from_cache(lines, proxied(), snapshot)))["sub"] == bob.uid


@pytest.mark.django_db
def test_an_answer_without_an_identity_is_a_cache_hit(read_write, system, settings):
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"
    snapshot, lines = CacheSnapshot(Epoch()), basic("team", "secret")
    from_database(lines, proxied(), snapshot)
    assert assertion_of(from_cache(lines, proxied(), snapshot)) == ""
    assert not snapshot._signed


# key set


def test_all_keys_are_published_and_the_first_signs(on):
    on("RS256", "EdDSA")
    keys = json.loads(jwt_issue.key_set(jwt_issue.keys()))["keys"]
    assert [key["alg"] for key in keys] == ["RS256", "EdDSA"]
    assert [set(key) for key in keys] == [{"kty", "n", "e", "kid", "use", "alg"}, {"kty", "crv", "x", "kid", "use", "alg"}]
    token = jwt_issue.assertion(ALICE, HOST, time.time())
    assert jwt.get_unverified_header(token)["kid"] == keys[0]["kid"]
    assert read(token, algorithms=["RS256"])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_key_set_can_be_cached_for_five_minutes(method):
    status, lines, body = jwt_issue.key_set_response(method)
    assert (status, body) == (200, jwt_issue.key_set(jwt_issue.keys()))
    assert dict(lines) == {
        b"content-type": b"application/jwk-set+json",
        b"cache-control": b"public, max-age=300",
        b"content-length": str(len(body)).encode(),
        b"x-content-type-options": b"nosniff",
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_the_key_set_only_accepts_get_and_head(method):
    status, lines, body = jwt_issue.key_set_response(method)
    assert (status, body) == (405, b"")
    assert (b"allow", b"GET, HEAD") in lines
