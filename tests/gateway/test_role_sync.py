"""A caller reaches the SkyPilot server only once it has their role: one query more, and none once the caller is cached."""

import json
from typing import Any

import bcrypt
import pytest

from accounts.models import SyncedRole, User
from accounts.principal_lookup import current_principal
from gateway import forwarded, verify
from gateway.cache import CacheSnapshot
from gateway.forwarded import AuthRequest, x_forwarded
from integrations.skypilot import role_sync
from integrations.skypilot.client import UpstreamUnavailable
from rbac.denials import past_denial
from rbac.principals import Principal
from revision.epoch import Epoch
from tests.verify_client import basic, bearer, identity, judge, proxied

pytestmark = pytest.mark.django_db
SERVER = "http://127.0.0.1:46580"


@pytest.fixture(autouse=True)
def synced(settings: Any, read_write: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A server behind SkyAuth that accepts every role at once; returns the names whose roles were sent to it."""
    names: list[str] = []

    def sync(principal: Principal) -> None:
        if not role_sync.is_synced(principal):
            names.append(principal.identity)
            SyncedRole.objects.update_or_create(server=SERVER, name=principal.identity, defaults={"role": principal.role})

    settings.SKYPILOT_URL = SERVER
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    monkeypatch.setattr(role_sync, "sync", sync)
    return names


def request_of(subject: str, method: str = "GET") -> AuthRequest:
    return AuthRequest([], proxied(method, subject=subject))


def from_cache(request: AuthRequest, snapshot: CacheSnapshot) -> int | None:
    """Return the status of the answer from the cache alone, or None."""
    try:
        return verify.evaluate(request, x_forwarded, verify.CacheOnly(snapshot)).status
    except verify.CacheMiss:
        return None


def test_a_confirmed_role_costs_one_more_query(bob: User, synced: list[str], django_assert_num_queries: Any) -> None:
    judge([], proxied(subject="bob@example.com"))
    with django_assert_num_queries(3):  # the user; the routes; the confirmed role
        assert judge([], proxied(subject="bob@example.com")).status == 200
    assert synced == ["bob@example.com"]


def test_a_denied_request_sends_no_role(vera: User, synced: list[str]) -> None:
    assert judge([], proxied("POST", subject="vera@example.com")).status == 403
    assert judge([], proxied(path="//", subject="vera@example.com")).status == 403
    assert judge([], proxied()).status == 401
    assert synced == []


def test_only_a_thread_that_can_wait_sends_the_role_and_the_next_request_is_a_cache_hit(bob: User, synced: list[str]) -> None:
    snapshot, request = CacheSnapshot(Epoch()), request_of("bob@example.com")
    assert from_cache(request, snapshot) is None
    assert verify.decide_read_only(request, x_forwarded, snapshot) is None, "the server can take seconds"
    assert synced == []
    assert from_cache(request, snapshot) is None, "a cached caller whose role was not sent is not allowed"
    assert verify.decide(request, snapshot=snapshot).status == 200
    assert from_cache(request, snapshot) == 200
    assert synced == ["bob@example.com"]


def test_a_role_that_another_process_has_synced_needs_only_reading(bob: User, synced: list[str]) -> None:
    SyncedRole.objects.create(server=SERVER, name="bob@example.com", role="user")
    snapshot, request = CacheSnapshot(Epoch()), request_of("bob@example.com")
    answer = verify.decide_read_only(request, x_forwarded, snapshot)
    assert answer is not None
    assert answer.status == 200
    assert from_cache(request, snapshot) == 200
    assert synced == []


def test_after_a_denial_the_role_is_sent_with_the_first_allowed_request(vera: User, synced: list[str]) -> None:
    snapshot = CacheSnapshot(Epoch())
    assert verify.decide(request_of("vera@example.com", "POST"), snapshot=snapshot).status == 403
    assert from_cache(request_of("vera@example.com", "POST"), snapshot) == 403, "a refusal needs no sync"
    assert from_cache(request_of("vera@example.com"), snapshot) is None
    assert verify.decide(request_of("vera@example.com"), snapshot=snapshot).status == 200
    assert synced == ["vera@example.com"]


def test_an_unavailable_server_is_503_for_callers_without_a_confirmed_role_only(
    bob: User, pipeline_token: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(principal: Principal) -> None:
        raise UpstreamUnavailable("It is unavailable.")

    assert judge(bearer(pipeline_token), proxied()).status == 200
    snapshot, request = CacheSnapshot(Epoch()), AuthRequest(bearer(pipeline_token), proxied())
    assert verify.decide(request, snapshot=snapshot).status == 200
    monkeypatch.setattr(role_sync, "sync", unavailable)
    answer = judge([], proxied(subject="bob@example.com"))
    assert answer.status == 503
    assert dict(answer.headers)[b"retry-after"]
    assert set(identity(answer).values()) == {""}
    assert from_cache(request, snapshot) == 200
    assert judge([], proxied("POST", subject="nobody at all")).status == 401
    settings.SKYPILOT_URL = ""
    assert judge([], proxied(subject="bob@example.com")).status == 200


@pytest.mark.parametrize("endpoint", forwarded.ENDPOINTS)
def test_a_role_that_the_server_refuses_is_403_with_its_reason_at_every_endpoint(
    bob: User, monkeypatch: pytest.MonkeyPatch, endpoint: bytes
) -> None:
    def refuse(principal: Principal) -> None:
        if principal.name == bob.username:
            raise role_sync.RoleRefused("Cannot demote user 'bob@example.com'.")

    monkeypatch.setattr(role_sync, "sync", refuse)
    snapshot, request = CacheSnapshot(Epoch()), request_of(bob.username)._replace(endpoint=endpoint)
    for _ in range(2):
        answer = verify.decide(request, snapshot=snapshot)
        assert (answer.status, answer.reason) == (403, "role-refused")
        assert "Cannot demote user 'bob@example.com'." in json.loads(answer.body)["detail"]
        assert set(identity(answer).values()) == {""}
    denial = past_denial(json.loads(answer.body)["decision"], current=current_principal)
    assert (denial.reason, "Cannot demote" in denial.message) == ("role-refused", True)


@pytest.mark.parametrize(("enabled", "value"), [(True, b"true"), (False, b"")])
def test_the_shared_password_reaches_skypilot_without_an_identity_only_if_enabled(
    settings: Any, enabled: bool, value: bytes
) -> None:
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"
    settings.SKYPILOT_SHARED_BASIC = enabled
    answer = judge(basic("team", "secret"), proxied())
    assert answer.status == 200
    assert dict(answer.headers)[b"x-auth-request-shared"] == value
    assert identity(answer)["email"] == ""


def test_no_other_answer_has_the_shared_header(bob: User, pipeline_token: str, settings: Any) -> None:
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
