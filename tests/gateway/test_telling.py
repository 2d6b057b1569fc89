"""Nobody is let through to a SkyPilot server that was not told their role: it costs one query, and nothing once it is known."""

from typing import Any

import bcrypt
import pytest

from accounts.models import SyncedRole, User
from gateway import verify
from gateway.cache import CacheSnapshot
from gateway.forwarded import AuthRequest, x_forwarded
from integrations.skypilot import role_sync
from integrations.skypilot.client import UpstreamUnavailable
from rbac.principals import Principal
from tests.verify_client import basic, bearer, identity, judge, proxied

pytestmark = pytest.mark.django_db
SERVER = "http://127.0.0.1:46580"


@pytest.fixture(autouse=True)
def told(settings: Any, read_write: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A server behind SkyAuth, which in this file hears everything at once; the names that it was told."""
    names: list[str] = []

    def tell(principal: Principal) -> None:
        if not role_sync.is_synced(principal):
            names.append(principal.identity)
            SyncedRole.objects.update_or_create(server=SERVER, name=principal.identity, defaults={"role": principal.role})

    settings.SKYPILOT_URL = SERVER
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    monkeypatch.setattr(role_sync, "sync", tell)
    return names


def asks(subject: str, method: str = "GET") -> AuthRequest:
    return AuthRequest([], proxied(method, subject=subject))


def recalled(question: AuthRequest, known: CacheSnapshot) -> int | None:
    """Return the status of the answer from memory alone, or None."""
    try:
        return verify.answer(question, x_forwarded, verify.CacheOnly(known)).status
    except verify.CacheMiss:
        return None


def test_what_was_told_costs_one_query_more(bob: User, told: list[str], django_assert_num_queries: Any) -> None:
    judge([], proxied(subject="bob@example.com"))
    with django_assert_num_queries(3):  # the user; the routes; what the server was told
        assert judge([], proxied(subject="bob@example.com")).status == 200
    assert told == ["bob@example.com"]


def test_a_denied_request_tells_nothing(vera: User, told: list[str]) -> None:
    assert judge([], proxied("POST", subject="vera@example.com")).status == 403
    assert judge([], proxied(path="//", subject="vera@example.com")).status == 403
    assert judge([], proxied()).status == 401
    assert told == []


def test_only_a_thread_that_may_wait_tells_and_then_memory_suffices(bob: User, told: list[str]) -> None:
    known, question = CacheSnapshot("mark"), asks("bob@example.com")
    assert recalled(question, known) is None
    assert verify.judge_by_reading(question, x_forwarded, known) is None, "the server may take its time"
    assert told == []
    assert recalled(question, known) is None, "who is known and was not told of is not let through"
    assert verify.judge(question, known=known).status == 200
    assert recalled(question, known) == 200
    assert told == ["bob@example.com"]


def test_whom_another_process_has_told_of_takes_reading_and_no_more(bob: User, told: list[str]) -> None:
    SyncedRole.objects.create(server=SERVER, name="bob@example.com", role="user")
    known, question = CacheSnapshot("mark"), asks("bob@example.com")
    answer = verify.judge_by_reading(question, x_forwarded, known)
    assert answer is not None
    assert answer.status == 200
    assert recalled(question, known) == 200
    assert told == []


def test_who_was_denied_first_is_told_of_at_the_first_request_that_is_let_through(vera: User, told: list[str]) -> None:
    known = CacheSnapshot("mark")
    assert verify.judge(asks("vera@example.com", "POST"), known=known).status == 403
    assert recalled(asks("vera@example.com", "POST"), known) == 403, "a refusal needs no telling"
    assert recalled(asks("vera@example.com"), known) is None
    assert verify.judge(asks("vera@example.com"), known=known).status == 200
    assert told == ["vera@example.com"]


def test_a_server_that_cannot_be_told_is_503_for_those_who_need_it_alone(
    bob: User, pipeline_token: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(principal: Principal) -> None:
        raise UpstreamUnavailable("It is away.")

    assert judge(bearer(pipeline_token), proxied()).status == 200
    known, question = CacheSnapshot("mark"), AuthRequest(bearer(pipeline_token), proxied())
    assert verify.judge(question, known=known).status == 200
    monkeypatch.setattr(role_sync, "sync", away)
    answer = judge([], proxied(subject="bob@example.com"))
    assert answer.status == 503
    assert dict(answer.headers)[b"retry-after"]
    assert set(identity(answer).values()) == {""}
    assert recalled(question, known) == 200
    assert judge([], proxied("POST", subject="nobody at all")).status == 401
    settings.SKYPILOT_URL = ""
    assert judge([], proxied(subject="bob@example.com")).status == 200


@pytest.mark.parametrize(("switched_on", "says"), [(True, b"true"), (False, b"")])
def test_only_where_it_is_switched_on_may_the_shared_password_come_without_an_identity(
    settings: Any, switched_on: bool, says: bytes
) -> None:
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"
    settings.SKYPILOT_SHARED_BASIC = switched_on
    answer = judge(basic("team", "secret"), proxied())
    assert answer.status == 200
    assert dict(answer.headers)[b"x-auth-request-shared"] == says
    assert identity(answer)["email"] == ""


def test_nobody_else_is_ever_said_to_be_shared(bob: User, pipeline_token: str, settings: Any) -> None:
    settings.SKYPILOT_SHARED_BASIC = True
    answers = [
        judge([], proxied(subject="bob@example.com")),
        judge(bearer(pipeline_token), proxied()),
        judge([], proxied()),
        judge(basic("team", "wrong"), proxied()),
        judge([], proxied("POST", subject="vera@example.com")),
    ]
    assert [answer.status for answer in answers][:4] == [200, 200, 401, 401]
    for answer in answers:
        assert [value for name, value in answer.headers if name == b"x-auth-request-shared"] == [b""]
