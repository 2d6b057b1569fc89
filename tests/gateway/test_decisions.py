"""Every 403 has a decision id, under which the denial is recorded."""

import json
import re

import pytest

from audit import record
from audit.models import Entry
from authn.proxy_headers import ProxyInfo
from gateway import verify
from gateway.cache import CacheSnapshot
from gateway.forwarded import ENDPOINTS, AuthRequest, x_forwarded
from rbac import services as rbac
from rbac.models import Route
from rbac.packs import RouteSpec
from revision.epoch import Epoch
from tests.factories import make_token
from tests.verify_client import CLIENT, PROXY, bearer, cookie, proxied

pytestmark = pytest.mark.django_db

CHROME = [(b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8")]


@pytest.fixture(autouse=True)
def header_mode(settings, read_write):
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"


@pytest.fixture
def snapshot():
    return CacheSnapshot(Epoch())


def decide(request, snapshot=None):
    return verify.decide(request, x_forwarded, snapshot)


def from_cache(request, snapshot):
    """Return the answer from the cache alone, or None."""
    try:
        return verify.evaluate(request, x_forwarded, verify.CacheOnly(snapshot))
    except verify.CacheMiss:
        return None


def by_proxy(method="POST", path="/things", subject="vera@example.com", lines=(), **forwarded):
    return AuthRequest(list(lines), proxied(method, path, subject=subject, **forwarded))


def decision_of(answer):
    """Return the decision id of a 403, which is the same in header and body."""
    assert answer.status == 403
    [decision] = [value.decode() for name, value in answer.headers if name == b"x-skyauth-decision"]
    if answer.body.startswith(b"{"):
        assert json.loads(answer.body)["decision"] == decision
    assert re.fullmatch(r"[0-9A-Za-z]{12}", decision)
    return decision


def test_the_audit_entry_of_a_decision_id_names_caller_request_and_reason(vera):
    decision = decision_of(decide(by_proxy(path="/things/7?secret=hunter2")))
    entry = Entry.objects.get(reference=decision)
    assert (entry.event, entry.actor, entry.actor_uid, entry.method, entry.peer, entry.target) == (
        "request.denied", "vera@example.com", vera.uid, "proxy", CLIENT, "POST api.example.com/things/7",
    )  # fmt: skip
    assert entry.reason == "not-permitted: This requires upstream:write, which the role does not have."
    assert entry.data == {
        "method": "POST",
        "host": "api.example.com",
        "path": "/things/7",
        "needed": "upstream:write",
        "rule": "#2 * /** -> upstream:write",
        "kind": "user",
        "role": "viewer",
        "source": "proxy",
    }


def test_the_denial_of_a_service_account_names_the_account(pipeline, pipeline_token):
    Route.objects.update(permission="upstream:admin")
    entry = Entry.objects.get(reference=decision_of(decide(AuthRequest(bearer(pipeline_token), proxied()))))
    assert (entry.actor, entry.data["kind"], entry.data["source"], entry.data["needed"]) == (
        "pipeline", "service-account", "bearer", "upstream:admin",
    )  # fmt: skip


UNREADABLE = [
    by_proxy(path="/a%2fb?secret=hunter2"),
    by_proxy(path="/a#secret"),
    by_proxy(method="get"),
    by_proxy(host="a_b"),
    by_proxy(path="//"),
    AuthRequest([], proxied(path="//")),
    AuthRequest([], ProxyInfo()),
    AuthRequest([], ProxyInfo(trusted=True, peer=PROXY, client=CLIENT)),
    AuthRequest([], proxied()._replace(repeated=frozenset({"uri"}))),
]


@pytest.mark.parametrize("auth_request", UNREADABLE)
def test_an_unreadable_request_is_recorded_as_received_without_its_query(vera, auth_request):
    entry = Entry.objects.get(reference=decision_of(decide(auth_request)))
    values = auth_request.proxied.forwarded if auth_request.proxied.trusted and not auth_request.proxied.repeated else {}
    assert entry.data["method"] == values.get("method", "")
    assert entry.data["host"] == values.get("host", "")
    assert entry.data["path"] == re.split(r"[?#]", values.get("uri", ""), maxsplit=1)[0]
    assert "secret" not in str(list(Entry.objects.values()))


@pytest.mark.parametrize("path", ["/a\nrequest.denied admin", "/" + "\u202e\x00" * 5, "/\ud800"])
def test_promise_42_a_path_forges_no_line_and_is_recorded(vera, path):
    entry = Entry.objects.get(reference=decision_of(decide(by_proxy(path=path))))
    assert entry.data["path"].isprintable()
    assert len(entry.data["path"]) == len(path)


def test_a_long_path_is_cut_and_ends_with_an_ellipsis(vera):
    entry = Entry.objects.get(reference=decision_of(decide(by_proxy(path="/" + "a" * 5_000))))
    assert (len(entry.data["path"]), entry.data["path"][-1]) == (1_000, "\N{HORIZONTAL ELLIPSIS}")


def test_the_same_denial_has_the_same_id_for_a_minute_on_both_paths(vera, snapshot, monkeypatch):
    request = by_proxy()
    first = decision_of(decide(request, snapshot))
    assert {decision_of(decide(request, snapshot)) for _ in range(5)} == {first}
    assert decision_of(from_cache(request, snapshot)) == first
    assert Entry.objects.filter(reference=first).count() == 1
    now = record.time.monotonic()
    monkeypatch.setattr("audit.record.time.monotonic", lambda: now + 60)
    assert from_cache(request, snapshot) is None
    assert decision_of(decide(request, snapshot)) != first


def test_denials_of_different_requests_have_different_ids(vera, bob, system):
    rbac.create_route(actor=system, spec=RouteSpec("/admin", ("*",), "upstream:admin"), position=1)
    requests = [
        by_proxy(),
        by_proxy(path="/other"),
        by_proxy(method="PUT"),
        by_proxy(host="other.example.com"),
        by_proxy(client="203.0.113.9"),
        by_proxy(path="/admin"),
        by_proxy(path="/admin", subject="bob@example.com"),
    ]
    assert len({decision_of(decide(request)) for request in requests}) == len(requests)


def test_another_reason_for_the_same_request_has_another_id(vera):
    before = decision_of(decide(by_proxy()))
    Route.objects.update(permission="upstream:admin")
    after = decision_of(decide(by_proxy()))
    assert before != after
    assert Entry.objects.get(reference=after).data["needed"] == "upstream:admin"


def test_of_unreadable_anonymous_requests_one_of_each_kind_is_recorded(db):
    decisions = [decision_of(decide(AuthRequest([], proxied(path=path)))) for path in ("//", "/a//b", "/a%2f", "/..", "/a/..")]
    assert decisions[0] == decisions[1] != decisions[2] != decisions[3] == decisions[4]
    assert Entry.objects.filter(event="request.denied").count() == 3
    assert decide(AuthRequest([], proxied())).status == 401
    assert Entry.objects.filter(event="request.denied", reference__in=decisions).count() == 3


def test_denials_over_the_limit_get_ids_that_are_not_recorded(vera, settings, snapshot):
    settings.AUDIT_REFUSALS_PER_MINUTE = 2
    decide(AuthRequest([], proxied(subject="vera@example.com")), snapshot)
    decisions = [decision_of(decide(by_proxy(path=f"/{n}"), snapshot)) for n in range(6)]
    assert len(set(decisions)) == 6
    assert Entry.objects.filter(reference__in=decisions).count() == 2


# in the event loop


def test_a_denial_recorded_a_moment_ago_is_a_cache_hit_without_a_query(vera, snapshot, django_assert_num_queries):
    answer = decide(by_proxy(), snapshot)
    with django_assert_num_queries(0):
        assert from_cache(by_proxy(), snapshot) == answer


def test_a_denial_that_must_be_recorded_is_a_cache_miss(vera, snapshot):
    decide(by_proxy(), snapshot)
    assert from_cache(by_proxy(path="/new"), snapshot) is None
    assert from_cache(by_proxy(path="/new"), snapshot) is None, "a cache look-up records nothing"
    decide(by_proxy(path="/new"), snapshot)
    assert from_cache(by_proxy(path="/new"), snapshot) is not None


def test_a_401_for_an_anonymous_caller_can_be_a_cache_hit(snapshot, django_assert_num_queries):
    request = AuthRequest([], proxied(path="/first"))
    assert from_cache(request, snapshot) is None
    answer = decide(request, snapshot)
    assert answer.status == 401
    with django_assert_num_queries(0):
        assert from_cache(AuthRequest([], proxied(path="/second")), snapshot) == answer
    assert from_cache(AuthRequest([], proxied(client="203.0.113.9")), snapshot) is None, (
        "the refusal of this client was not recorded"
    )


def test_denials_that_the_cache_suppresses_are_counted(snapshot, vera):
    decide(by_proxy(), snapshot)
    for _ in range(10):
        from_cache(by_proxy(), snapshot)
    decide(by_proxy(path="/next"), snapshot)
    assert Entry.objects.first().data["suppressed"] == 10


def test_a_flood_of_denials_is_answered_from_the_cache(vera, snapshot, settings, django_assert_num_queries):
    settings.AUDIT_REFUSALS_PER_MINUTE = 1
    decide(by_proxy(), snapshot)
    with django_assert_num_queries(0):
        ids = {decision_of(from_cache(by_proxy(path=f"/{n}"), snapshot)) for n in range(20)}
    assert len(ids) == 20


def test_while_another_thread_records_a_denial_is_a_cache_miss(vera, snapshot):
    decide(by_proxy(), snapshot)
    with record.sampler._lock:
        assert from_cache(by_proxy(), snapshot) is None


def test_under_a_new_revision_a_denial_is_decided_again(vera, snapshot, system):
    decide(by_proxy(), snapshot)
    Route.objects.update(permission="upstream:read")
    assert from_cache(by_proxy(), CacheSnapshot(Epoch())) is None
    assert decide(by_proxy(), CacheSnapshot(Epoch())).status == 200


@pytest.mark.parametrize("auth_request", [by_proxy(), AuthRequest([], proxied())])
def test_a_page_is_never_rendered_in_the_event_loop_and_counts_once(vera, snapshot, auth_request):
    method = {"method": "GET", "uri": "//", "host": "h"}
    page = auth_request._replace(headers=CHROME, proxied=auth_request.proxied._replace(forwarded=method))
    decide(page, snapshot)
    assert from_cache(page, snapshot) is None
    decide(page, snapshot)
    decide(by_proxy(path="/next"), snapshot)
    assert Entry.objects.first().data["suppressed"] == 1


def test_a_bad_credential_is_always_a_cache_miss(snapshot):
    for lines in (bearer("sky_nonsense"), bearer("sky_" + "a" * 62), cookie("a" * 32)):
        decide(AuthRequest(lines, proxied()), snapshot)
        assert from_cache(AuthRequest(lines, proxied()), snapshot) is None


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_returns_the_decision_id(pipeline, endpoint):
    token = make_token(pipeline)[1]
    request = AuthRequest([*bearer(token), (b"host", b"a_b")], proxied(path="//"), "GET", "//", endpoint)
    decision_of(verify.decide(request, ENDPOINTS[endpoint]))
