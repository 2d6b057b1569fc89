"""What is remembered between requests: as long as nothing that decides changes, and no longer than it would stand anyway."""

import time
from datetime import timedelta

import bcrypt
import pytest
import time_machine
from django.utils import timezone

from accounts.models import Token
from authn import passwords
from authn.credentials import Basic, Bearer, ProxyHeader, Session
from authn.identify import FOR_EVER, Identification
from gateway import cache, verify
from gateway.cache import CachedCaller, CacheSnapshot, DecisionCache, key_of
from gateway.forwarded import AuthRequest, x_forwarded
from rbac.principals import anonymous
from revision import last_used
from tests.factories import PASSWORD, GroupRoleFactory, make_token
from tests.verify_client import basic, bearer, cookie, proxied

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def header_mode(settings, read_write):
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"


@pytest.fixture
def known():
    return CacheSnapshot("mark")


@pytest.fixture
def questions(client, bob, pipeline_token):
    """A question for each kind of credential that can be remembered."""
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


def recalled(question, known):
    """Return the answer from memory alone, or None."""
    try:
        return verify.answer(question, x_forwarded, verify.CacheOnly(known))
    except verify.CacheMiss:
        return None


def judged(question, known=None):
    return verify.judge(question, x_forwarded, known)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_database_said_is_said_again_from_memory_without_a_query(questions, known, django_assert_num_queries, kind):
    assert recalled(questions[kind], known) is None
    answer = judged(questions[kind], known)
    assert answer.status == 200
    with django_assert_num_queries(0):
        assert recalled(questions[kind], known) == answer
    assert judged(questions[kind]) == answer, "and it is what the database says without any memory"


@pytest.mark.parametrize("kind", KINDS)
def test_promise_14_under_another_mark_nothing_is_remembered(questions, kind):
    kept = DecisionCache()
    judged(questions[kind], kept.at("one"))
    assert recalled(questions[kind], kept.at("one")) is not None
    assert recalled(questions[kind], kept.at("two")) is None
    assert recalled(questions[kind], kept.at("one")) is None, "not even when the old mark came again"
    assert len(kept) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_found_out_under_an_old_mark_is_not_added_to_the_new_one(questions, kind):
    kept = DecisionCache()
    old = kept.at("one")
    new = kept.at("two")
    judged(questions[kind], old)  # began before the change, ended after it
    assert recalled(questions[kind], new) is None


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_mark_nothing_is_remembered(questions, known, kind):
    judged(questions[kind], None)
    assert recalled(questions[kind], known) is None


def test_another_path_of_the_same_caller_is_decided_from_memory_too(vera, known, django_assert_num_queries):
    token = AuthRequest([], proxied(subject="vera@example.com"))
    assert judged(token, known).status == 200
    with django_assert_num_queries(0):
        assert recalled(AuthRequest([], proxied(path="/other", subject="vera@example.com")), known).status == 200


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
def test_promise_08_another_credential_or_client_is_not_taken_for_the_remembered_one(questions, known, kind, change):
    judged(questions[kind], known)
    assert recalled(change(questions[kind]), known) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Basic("a", "bc"), Basic("ab", "c")),
        (Basic("a", "b"), Bearer(b"1:ab")),
        (ProxyHeader("a", "b"), ProxyHeader("a", None)),
        (ProxyHeader("a", ""), ProxyHeader("a", None)),
        (ProxyHeader("a", "1:b"), ProxyHeader("1:b", "a")),
        (ProxyHeader("x"), Session("x")),
        (Bearer(b"x"), Session("x")),
    ],
)
def test_no_two_credentials_have_one_key(one, other):
    assert key_of(one, "h") != key_of(other, "h")
    assert key_of(one, "h") != key_of(one, "i")
    assert key_of(one, "h") == key_of(one, "h")


def test_promise_10_a_key_does_not_hold_the_secret(pipeline_token):
    assert pipeline_token.encode() not in key_of(Bearer(pipeline_token.encode()), "h")[0]


@pytest.mark.parametrize("lines", [[], bearer("sky_nonsense"), basic("bob@example.com", "wrong"), cookie("a" * 32)])
def test_no_refusal_is_remembered(known, bob, lines):
    assert judged(AuthRequest(lines, proxied()), known).status == 401
    assert len(known) == 0


def test_promise_12_a_remembered_token_dies_at_its_expiry(pipeline, known):
    token = make_token(pipeline, days=1)[1]
    question = AuthRequest(bearer(token), proxied())
    judged(question, known)
    ends = Token.objects.get().expires_at
    with time_machine.travel(ends - timedelta(seconds=1), tick=False):
        assert recalled(question, known).status == 200
    with time_machine.travel(ends, tick=False):
        assert recalled(question, known) is None
        assert judged(question, known).status == 401


def test_promise_40_a_remembered_session_ends_when_it_ends(questions, known, settings):
    judged(questions["session"], known)
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.SESSION_COOKIE_AGE + 1), tick=False):
        assert recalled(questions["session"], known) is None


@pytest.mark.parametrize("kind", ["basic", "shared"])
def test_a_remembered_password_is_forgotten_with_the_pair(questions, known, settings, kind):
    judged(questions[kind], known)
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.AUTH_REMEMBER_SECONDS + 1), tick=False):
        assert recalled(questions[kind], known) is None


def test_passwords_that_are_not_remembered_are_not_remembered_here_either(bob, settings, known):
    settings.AUTH_REMEMBER_SECONDS = 0
    question = AuthRequest(basic("bob@example.com", PASSWORD), proxied())
    assert judged(question, known).status == 200
    assert recalled(question, known) is None


def test_after_a_change_elsewhere_a_remembered_password_is_not_hashed_again(questions, monkeypatch):
    judged(questions["basic"], CacheSnapshot("one"))
    monkeypatch.setattr(passwords, "check_password", lambda *_: pytest.fail("hashed"))
    assert judged(questions["basic"], CacheSnapshot("two")).status == 200


def test_promise_06_a_signed_assertion_is_verified_every_time(bob, known, settings, monkeypatch):
    settings.AUTH_USER_HEADER_FORMAT = "jwt"
    monkeypatch.setattr("authn.jwt_verify.verify", lambda _: ("bob@example.com", None))
    question = AuthRequest([], proxied(subject="an.assertion.here"))
    assert judged(question, known).status == 200
    assert recalled(question, known) is None


def test_memory_is_bounded_and_forgets_the_least_recently_seen(known, monkeypatch):
    monkeypatch.setattr(cache, "MOST", 3)

    def add(name):
        known.add((name, "h"), CachedCaller(Identification(anonymous("h"))))

    for name in (b"a", b"b", b"c"):
        add(name)
    now = time.time()
    assert known.caller((b"a", "h"), now)
    add(b"d")
    assert [bool(known.caller((name, "h"), now)) for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert len(known) == 3


def test_what_no_longer_stands_is_not_kept(known):
    known.add((b"a", "h"), CachedCaller(Identification(anonymous("h"), 0)))
    known.add((b"b", "h"), CachedCaller(Identification(anonymous("h"), time.time() - 1)))
    assert len(known) == 0
    known.add((b"c", "h"), CachedCaller(Identification(anonymous("h"), FOR_EVER)))
    assert len(known) == 1


def test_a_use_from_memory_is_noted_once_a_minute(questions, known, monkeypatch):
    judged(questions["bearer"], known)
    waiting = []
    monkeypatch.setattr(last_used.collector, "add", lambda use, at: waiting.append((use, at)))
    start = timezone.now()
    for seconds in (1, 30, 59, 61, 62, 90, 122):
        with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
            recalled(questions["bearer"], known)
    assert [round((at - start).total_seconds()) for _, at in waiting] == [61, 122]
    assert waiting[0][0].client == questions["bearer"].proxied.client
