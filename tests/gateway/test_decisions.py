"""Every 403 carries an id, and the id leads to what happened."""

import json
import re

import pytest

from audit import record
from audit.models import Entry
from authn.proxy_headers import ProxyInfo
from gateway import verify
from gateway.cache import CacheSnapshot
from gateway.forwarded import DIALECTS, AuthRequest, x_forwarded
from rbac import services as rbac
from rbac.models import Route
from rbac.packs import RouteSpec
from tests.factories import make_token
from tests.verify_client import CLIENT, PROXY, bearer, cookie, proxied

pytestmark = pytest.mark.django_db

CHROME = [(b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8")]


@pytest.fixture(autouse=True)
def header_mode(settings, read_write):
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"


@pytest.fixture
def known():
    return CacheSnapshot("mark")


def judged(question, known=None):
    return verify.judge(question, x_forwarded, known)


def recalled(question, known):
    """Return the answer from memory alone, or None."""
    try:
        return verify.answer(question, x_forwarded, verify.CacheOnly(known))
    except verify.CacheMiss:
        return None


def by_proxy(method="POST", path="/things", subject="vera@example.com", lines=(), **said):
    return AuthRequest(list(lines), proxied(method, path, subject=subject, **said))


def decision_of(answer):
    """Return the id of a 403, which its header and its body agree on."""
    assert answer.status == 403
    [told] = [value.decode() for name, value in answer.headers if name == b"x-skyauth-decision"]
    if answer.body.startswith(b"{"):
        assert json.loads(answer.body)["decision"] == told
    assert re.fullmatch(r"[0-9A-Za-z]{12}", told)
    return told


def test_the_id_leads_to_who_was_denied_what_and_why(vera):
    decision = decision_of(judged(by_proxy(path="/things/7?secret=hunter2")))
    entry = Entry.objects.get(reference=decision)
    assert (entry.event, entry.actor, entry.actor_uid, entry.method, entry.peer, entry.target) == (
        "request.denied", "vera@example.com", vera.uid, "proxy", CLIENT, "POST api.example.com/things/7",
    )  # fmt: skip
    assert entry.reason == "not-permitted: This needs upstream:write, which the role does not hold."
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


def test_a_machines_denial_names_the_machine(pipeline, pipeline_token):
    Route.objects.update(permission="upstream:admin")
    entry = Entry.objects.get(reference=decision_of(judged(AuthRequest(bearer(pipeline_token), proxied()))))
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


@pytest.mark.parametrize("question", UNREADABLE)
def test_what_cannot_be_read_is_kept_as_it_was_told_without_its_query(vera, question):
    entry = Entry.objects.get(reference=decision_of(judged(question)))
    said = question.proxied.forwarded if question.proxied.trusted and not question.proxied.repeated else {}
    assert entry.data["method"] == said.get("method", "")
    assert entry.data["host"] == said.get("host", "")
    assert entry.data["path"] == re.split(r"[?#]", said.get("uri", ""), maxsplit=1)[0]
    assert "secret" not in str(list(Entry.objects.values()))


@pytest.mark.parametrize("path", ["/a\nrequest.denied admin", "/" + "\u202e\x00" * 5, "/\ud800"])
def test_promise_42_a_path_forges_no_line_and_is_stored_at_all(vera, path):
    entry = Entry.objects.get(reference=decision_of(judged(by_proxy(path=path))))
    assert entry.data["path"].isprintable()
    assert len(entry.data["path"]) == len(path)


def test_a_long_path_is_cut_and_shows_that_it_is(vera):
    entry = Entry.objects.get(reference=decision_of(judged(by_proxy(path="/" + "a" * 5_000))))
    assert (len(entry.data["path"]), entry.data["path"][-1]) == (1_000, "\N{HORIZONTAL ELLIPSIS}")


def test_the_same_denial_has_the_same_id_for_a_minute_whoever_says_it(vera, known, monkeypatch):
    question = by_proxy()
    first = decision_of(judged(question, known))
    assert {decision_of(judged(question, known)) for _ in range(5)} == {first}
    assert decision_of(recalled(question, known)) == first
    assert Entry.objects.filter(reference=first).count() == 1
    now = record.time.monotonic()
    monkeypatch.setattr("audit.record.time.monotonic", lambda: now + 60)
    assert recalled(question, known) is None
    assert decision_of(judged(question, known)) != first


def test_whatever_differs_has_an_id_of_its_own(vera, bob, system):
    rbac.create_route(actor=system, spec=RouteSpec("/admin", ("*",), "upstream:admin"), position=1)
    questions = [
        by_proxy(),
        by_proxy(path="/other"),
        by_proxy(method="PUT"),
        by_proxy(host="other.example.com"),
        by_proxy(client="203.0.113.9"),
        by_proxy(path="/admin"),
        by_proxy(path="/admin", subject="bob@example.com"),
    ]
    assert len({decision_of(judged(question)) for question in questions}) == len(questions)


def test_another_reason_for_the_same_request_is_another_decision(vera):
    before = decision_of(judged(by_proxy()))
    Route.objects.update(permission="upstream:admin")
    after = decision_of(judged(by_proxy()))
    assert before != after
    assert Entry.objects.get(reference=after).data["needed"] == "upstream:admin"


def test_of_a_strangers_odd_requests_one_of_each_kind_is_written_down(db):
    decisions = [decision_of(judged(AuthRequest([], proxied(path=path)))) for path in ("//", "/a//b", "/a%2f", "/..", "/a/..")]
    assert decisions[0] == decisions[1] != decisions[2] != decisions[3] == decisions[4]
    assert Entry.objects.filter(event="request.denied").count() == 3
    assert judged(AuthRequest([], proxied())).status == 401
    assert Entry.objects.filter(event="request.denied", reference__in=decisions).count() == 3


def test_a_flood_still_gets_ids_that_lead_nowhere(vera, settings, known):
    settings.AUDIT_REFUSALS_PER_MINUTE = 2
    judged(AuthRequest([], proxied(subject="vera@example.com")), known)
    decisions = [decision_of(judged(by_proxy(path=f"/{n}"), known)) for n in range(6)]
    assert len(set(decisions)) == 6
    assert Entry.objects.filter(reference__in=decisions).count() == 2


# in the event loop


def test_a_denial_that_was_written_down_lately_is_answered_from_memory_without_a_query(vera, known, django_assert_num_queries):
    answer = judged(by_proxy(), known)
    with django_assert_num_queries(0):
        assert recalled(by_proxy(), known) == answer


def test_a_denial_that_has_to_be_written_down_is_not_answered_from_memory(vera, known):
    judged(by_proxy(), known)
    assert recalled(by_proxy(path="/new"), known) is None
    assert recalled(by_proxy(path="/new"), known) is None, "asking memory alone writes nothing"
    judged(by_proxy(path="/new"), known)
    assert recalled(by_proxy(path="/new"), known) is not None


def test_a_stranger_is_told_to_sign_in_from_memory(known, django_assert_num_queries):
    question = AuthRequest([], proxied(path="/first"))
    assert recalled(question, known) is None
    answer = judged(question, known)
    assert answer.status == 401
    with django_assert_num_queries(0):
        assert recalled(AuthRequest([], proxied(path="/second")), known) == answer
    assert recalled(AuthRequest([], proxied(client="203.0.113.9")), known) is None, "whose refusal was not recorded"


def test_what_memory_leaves_out_is_counted(known, vera):
    judged(by_proxy(), known)
    for _ in range(10):
        recalled(by_proxy(), known)
    judged(by_proxy(path="/next"), known)
    assert Entry.objects.first().data["suppressed"] == 10


def test_a_flood_is_answered_from_memory(vera, known, settings, django_assert_num_queries):
    settings.AUDIT_REFUSALS_PER_MINUTE = 1
    judged(by_proxy(), known)
    with django_assert_num_queries(0):
        ids = {decision_of(recalled(by_proxy(path=f"/{n}"), known)) for n in range(20)}
    assert len(ids) == 20


def test_while_another_thread_writes_memory_gives_no_answer(vera, known):
    judged(by_proxy(), known)
    with record.sampler._lock:
        assert recalled(by_proxy(), known) is None


def test_under_a_new_mark_a_denial_is_decided_anew(vera, known, system):
    judged(by_proxy(), known)
    Route.objects.update(permission="upstream:read")
    assert recalled(by_proxy(), CacheSnapshot("another")) is None
    assert judged(by_proxy(), CacheSnapshot("another")).status == 200


@pytest.mark.parametrize("question", [by_proxy(), AuthRequest([], proxied())])
def test_a_page_is_never_made_in_the_loop_and_counts_once(vera, known, question):
    method = {"method": "GET", "uri": "//", "host": "h"}
    page = question._replace(headers=CHROME, proxied=question.proxied._replace(forwarded=method))
    judged(page, known)
    assert recalled(page, known) is None
    judged(page, known)
    judged(by_proxy(path="/next"), known)
    assert Entry.objects.first().data["suppressed"] == 1


def test_a_bad_credential_is_never_refused_from_memory(known):
    for lines in (bearer("sky_nonsense"), bearer("sky_" + "a" * 62), cookie("a" * 32)):
        judged(AuthRequest(lines, proxied()), known)
        assert recalled(AuthRequest(lines, proxied()), known) is None


@pytest.mark.parametrize("endpoint", DIALECTS)
def test_every_endpoint_gives_the_id(pipeline, endpoint):
    token = make_token(pipeline)[1]
    question = AuthRequest([*bearer(token), (b"host", b"a_b")], proxied(path="//"), "GET", "//", endpoint)
    decision_of(verify.judge(question, DIALECTS[endpoint]))
