"""The decision cache: valid for one policy revision, and never for longer than the credential itself."""

import time
from datetime import timedelta

import bcrypt
import pytest
import time_machine
from django.utils import timezone

from accounts.models import Token
from authn import jwt_verify, passwords
from authn.credentials import Basic, Bearer, ProxyHeader, SessionCookie
from authn.identify import FOREVER, AuthenticationResult
from gateway import cache, verify
from gateway.cache import CachedCaller, CacheSnapshot, DecisionCache, cache_key
from gateway.forwarded import AuthRequest, x_forwarded
from rbac.principals import anonymous
from revision import last_used
from revision.epoch import Epoch
from tests.factories import PASSWORD, GroupRoleFactory, make_token
from tests.verify_client import basic, bearer, cookie, proxied

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def header_mode(settings, read_write):
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"


@pytest.fixture
def snapshot():
    return CacheSnapshot(Epoch())


@pytest.fixture
def requests(client, bob, pipeline_token):
    """A request with each kind of credential that can be cached."""
    GroupRoleFactory(group="dev")
    client.login(username="bob@example.com", password=PASSWORD)
    return {
        "bearer": AuthRequest(bearer(pipeline_token), proxied()),
        "basic": AuthRequest(basic("bob@example.com", PASSWORD), proxied()),
        "shared": AuthRequest(basic("team", "secret"), proxied()),
        "session": AuthRequest(cookie(client.session.session_key), proxied()),
        "proxy": AuthRequest([], proxied(subject="bob@example.com")),
        "groups": AuthRequest([], proxied(subject="bob@example.com", groups="dev,ops")),
    }


KINDS = ["bearer", "basic", "shared", "session", "proxy", "groups"]


def from_cache(request, snapshot):
    """Return the answer from the cache alone, or None."""
    try:
        return verify.evaluate(request, x_forwarded, verify.CacheOnly(snapshot))
    except verify.CacheMiss:
        return None


def decide(request, snapshot=None):
    return verify.decide(request, x_forwarded, snapshot)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_from_the_database_is_repeated_from_the_cache_without_a_query(
    requests, snapshot, django_assert_num_queries, kind
):
    assert from_cache(requests[kind], snapshot) is None
    answer = decide(requests[kind], snapshot)
    assert answer.status == 200
    with django_assert_num_queries(0):
        assert from_cache(requests[kind], snapshot) == answer
    assert decide(requests[kind]) == answer, "the same answer as without a cache"


@pytest.mark.parametrize("kind", KINDS)
def test_promise_54_another_epoch_empties_the_cache(requests, kind):
    decision_cache, one, two = DecisionCache(), Epoch(), Epoch()
    decide(requests[kind], decision_cache.of(one))
    assert from_cache(requests[kind], decision_cache.of(one)) is not None
    assert from_cache(requests[kind], decision_cache.of(two)) is None
    assert from_cache(requests[kind], decision_cache.of(one)) is None, "not even when the old epoch comes again"
    assert len(decision_cache) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_caller_found_in_an_old_epoch_is_not_added_to_the_new_one(requests, kind):
    decision_cache = DecisionCache()
    old = decision_cache.of(Epoch())
    new = decision_cache.of(Epoch())
    decide(requests[kind], old)  # began before the change, ended after it
    assert from_cache(requests[kind], new) is None


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_revision_nothing_is_cached(requests, snapshot, kind):
    decide(requests[kind], None)
    assert from_cache(requests[kind], snapshot) is None


def test_another_path_of_the_same_caller_is_a_cache_hit_too(vera, snapshot, django_assert_num_queries):
    token = AuthRequest([], proxied(subject="vera@example.com"))
    assert decide(token, snapshot).status == 200
    with django_assert_num_queries(0):
        assert from_cache(AuthRequest([], proxied(path="/other", subject="vera@example.com")), snapshot).status == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda q: q._replace(headers=[(name, value + b"x") for name, value in q.headers]),
        lambda q: q._replace(proxied=q.proxied._replace(client="192.0.2.8")),
        lambda q: q._replace(headers=[*q.headers, (b"authorization", b"Bearer sky_x")]),
        lambda q: q._replace(proxied=q.proxied._replace(fault="the identity header is repeated")),
    ],
)
@pytest.mark.parametrize("kind", ["bearer", "basic", "session"])
def test_promise_08_another_credential_or_client_is_a_cache_miss(requests, snapshot, kind, change):
    decide(requests[kind], snapshot)
    assert from_cache(change(requests[kind]), snapshot) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Basic("a", "bc"), Basic("ab", "c")),
        (Basic("a", "b"), Bearer(b"1:ab")),
        (ProxyHeader("a", "b"), ProxyHeader("a", None)),
        (ProxyHeader("a", ""), ProxyHeader("a", None)),
        (ProxyHeader("a", "1:b"), ProxyHeader("1:b", "a")),
        (ProxyHeader("x"), SessionCookie("x")),
        (Bearer(b"x"), SessionCookie("x")),
    ],
)
def test_two_credentials_never_have_the_same_key(one, other):
    assert cache_key(one, "h") != cache_key(other, "h")
    assert cache_key(one, "h") != cache_key(one, "i")
    assert cache_key(one, "h") == cache_key(one, "h")


def test_promise_10_a_key_does_not_contain_the_secret(pipeline_token):
    assert pipeline_token.encode() not in cache_key(Bearer(pipeline_token.encode()), "h")[0]


@pytest.mark.parametrize("lines", [[], bearer("sky_nonsense"), basic("bob@example.com", "wrong"), cookie("a" * 32)])
def test_a_refused_credential_is_not_cached(snapshot, bob, lines):
    assert decide(AuthRequest(lines, proxied()), snapshot).status == 401
    assert len(snapshot) == 0


def test_promise_12_a_cached_token_expires_on_time(pipeline, snapshot):
    token = make_token(pipeline, days=1)[1]
    request = AuthRequest(bearer(token), proxied())
    decide(request, snapshot)
    expires_at = Token.objects.get().expires_at
    with time_machine.travel(expires_at - timedelta(seconds=1), tick=False):
        assert from_cache(request, snapshot).status == 200
    with time_machine.travel(expires_at, tick=False):
        assert from_cache(request, snapshot) is None
        assert decide(request, snapshot).status == 401


def test_promise_40_a_cached_session_expires_on_time(requests, snapshot, settings):
    decide(requests["session"], snapshot)
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.SESSION_COOKIE_AGE + 1), tick=False):
        assert from_cache(requests["session"], snapshot) is None


@pytest.mark.parametrize("kind", ["basic", "shared"])
def test_a_cached_password_expires_with_the_verified_pair(requests, snapshot, settings, kind):
    decide(requests[kind], snapshot)
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.AUTH_REMEMBER_SECONDS + 1), tick=False):
        assert from_cache(requests[kind], snapshot) is None


def test_with_auth_remember_seconds_0_no_password_is_cached(bob, settings, snapshot):
    settings.AUTH_REMEMBER_SECONDS = 0
    request = AuthRequest(basic("bob@example.com", PASSWORD), proxied())
    assert decide(request, snapshot).status == 200
    assert from_cache(request, snapshot) is None


def test_after_an_unrelated_change_a_verified_password_is_not_hashed_again(requests, monkeypatch):
    decide(requests["basic"], CacheSnapshot(Epoch()))
    monkeypatch.setattr(passwords, "check_password", lambda *_: pytest.fail("hashed"))
    assert decide(requests["basic"], CacheSnapshot(Epoch())).status == 200


def test_promise_06_an_assertion_of_the_proxy_is_verified_every_time(bob, snapshot, settings, monkeypatch):
    settings.AUTH_USER_HEADER_FORMAT = "jwt"
    monkeypatch.setattr("authn.jwt_verify.verify", lambda _: jwt_verify.Assertion("bob@example.com", None))
    request = AuthRequest([], proxied(subject="an.assertion.here"))
    assert decide(request, snapshot).status == 200
    assert from_cache(request, snapshot) is None


def test_the_cache_is_bounded_and_evicts_the_least_recently_used_caller(monkeypatch):
    monkeypatch.setattr(cache, "MAX_CALLERS", 3)
    snapshot = CacheSnapshot(Epoch())

    def add(name):
        snapshot.add_caller((name, "h"), CachedCaller(AuthenticationResult(anonymous("h"))))

    for name in (b"a", b"b", b"c"):
        add(name)
    now = time.time()
    assert snapshot.caller((b"a", "h"), now)
    add(b"d")
    assert [bool(snapshot.caller((name, "h"), now)) for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert len(snapshot) == 3


def test_an_expired_caller_is_not_cached(snapshot):
    snapshot.add_caller((b"a", "h"), CachedCaller(AuthenticationResult(anonymous("h"), 0)))
    snapshot.add_caller((b"b", "h"), CachedCaller(AuthenticationResult(anonymous("h"), time.time() - 1)))
    assert len(snapshot) == 0
    snapshot.add_caller((b"c", "h"), CachedCaller(AuthenticationResult(anonymous("h"), FOREVER)))
    assert len(snapshot) == 1


def test_a_cache_hit_touches_the_credential_once_a_minute(requests, snapshot, monkeypatch):
    decide(requests["bearer"], snapshot)
    waiting = []
    monkeypatch.setattr(last_used.writer, "add", lambda touch, at: waiting.append((touch, at)))
    start = timezone.now()
    for seconds in (1, 30, 59, 61, 62, 90, 122):
        with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
            from_cache(requests["bearer"], snapshot)
    assert [round((at - start).total_seconds()) for _, at in waiting] == [61, 122]
    assert waiting[0][0].client == requests["bearer"].proxied.client
