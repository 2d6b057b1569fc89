"""What is counted, that the numbers are true, and who may read them."""

import asyncio
import base64
import re
import threading
import time
from datetime import timedelta
from time import perf_counter

import bcrypt
import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from accounts import selectors
from accounts.models import ServiceAccount, User
from audit.models import Entry
from authn import identify, passwords
from authn.credentials import Basic, InvalidCredential
from authn.passwords import Busy
from core.histogram import BOUNDS, LatencyHistogram
from gateway import headers, inventory, metrics
from gateway.cache import DecisionCache
from gateway.headers import Cause
from gateway.inventory import Inventory
from rbac import principals
from rbac.models import Role
from rbac.permissions import MEANINGS, Permission
from rbac.policy import Decision, Reason
from revision.reader import RevisionReader, reads
from tests.factories import PASSWORD, ServiceAccountFactory, UserFactory, make_token
from tests.verify_client import CLIENT

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]
ALICE = principals.Principal(principals.Kind.USER, "96ed8a5c", "alice@example.com", role="admin")
NOBODY = principals.anonymous(CLIENT)


def numbers(collector) -> Numbers:
    """Return every sample of a collector."""
    return {(s.name, frozenset(s.labels.items())): s.value for family in collector.collect() for s in family.samples}


def told() -> Numbers:
    """Return what Prometheus would be told now of what was counted."""
    return numbers(metrics.collected())


def grown(before: Numbers, name: str, **labels: str) -> float:
    """Return by how much a number grew."""
    key = (name, frozenset(labels.items()))
    return told()[key] - before[key]


def test_every_reason_has_an_outcome_and_no_label_comes_from_elsewhere():
    assert set(metrics.OUTCOMES) == set(Reason) | set(Cause)
    assert set(metrics.OUTCOMES.values()) == {"allowed", "unauthenticated", "denied", "unavailable"}


def denied(reason, principal=ALICE):
    return headers.denied(principal, Decision(False, reason, "No."), "aB3dEf6hIj9k", basic=True)


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (headers.allowed(ALICE), "allowed", "granted"),
        (denied(Reason.NOT_PERMITTED), "denied", "not-permitted"),
        (denied(Reason.NO_ROUTE), "denied", "no-route"),
        (denied(Reason.UNKNOWN_PERMISSION), "denied", "unknown-permission"),
        (denied(Reason.UNREADABLE_TARGET), "denied", "unreadable-target"),
        (denied(Reason.UNREADABLE_TARGET, NOBODY), "denied", "unreadable-target"),
        (denied(Reason.NO_ROUTE, NOBODY), "unauthenticated", "no-credential"),
        (headers.unauthenticated(basic=True), "unauthenticated", "bad-credential"),
        (headers.refused(Reason.HEADERS_TOO_LARGE, "Too large."), "denied", "headers-too-large"),
        (denied(Reason.HEADERS_TOO_LARGE, NOBODY), "denied", "headers-too-large"),
        (headers.page(denied(Reason.NO_ROUTE), b"", ""), "denied", "no-route"),
        (headers.sent_to("https://auth.example.com/sign-in"), "unauthenticated", "no-credential"),
        (headers.unavailable(), "unavailable", "unavailable"),
    ],
)
@pytest.mark.parametrize("way", [metrics.MEMORY, metrics.DATABASE])
def test_an_answer_is_counted_once_by_outcome_reason_and_way(answer, outcome, reason, way):
    expected = {200: "allowed", 302: "unauthenticated", 401: "unauthenticated", 403: "denied", 503: "unavailable"}
    assert outcome == expected[answer.status]
    before = told()
    way.decided(answer, perf_counter() - 0.3)
    after = told()
    changed = {
        (name, labels): after[name, labels] - value
        for (name, labels), value in before.items()
        if name.startswith("skyauth_decision") and after[name, labels] != value
    }
    ways = frozenset({("way", way.name)})
    assert changed.pop(("skyauth_decisions_total", ways | {("outcome", outcome), ("reason", reason)})) == 1
    assert changed.pop(("skyauth_decision_seconds_count", ways)) == 1
    assert changed.pop(("skyauth_decision_seconds_sum", ways)) == pytest.approx(0.3, abs=0.1)
    reached = {float(dict(labels)["le"]) for _, labels in changed}
    assert set(changed.values()) == {1}
    assert reached == {bound for bound in (*BOUNDS, float("inf")) if bound > 0.4}


def test_the_names_of_the_series_are_there_before_anything_happens():
    named = {labels for name, labels in told() if name == "skyauth_decisions_total"}
    assert len(named) == 2 * len(metrics.OUTCOMES)


@given(st.lists(st.floats(min_value=0, max_value=1e4) | st.sampled_from(BOUNDS), min_size=1))
def test_a_time_is_counted_in_the_first_bucket_that_holds_it(seconds):
    timings = LatencyHistogram()
    for each in seconds:
        timings.add(each)
    bounds = (*BOUNDS, float("inf"))
    for index, bound in enumerate(bounds):
        assert sum(timings.counts[: index + 1]) == sum(each <= bound for each in seconds)
    assert timings.total == pytest.approx(sum(seconds))


def test_numbers_that_grow_while_they_are_told_are_neither_lost_nor_told_twice():
    before = told()
    answer = headers.allowed(ALICE)
    tellers = [threading.Thread(target=lambda: [metrics.flush() for _ in range(200)]) for _ in range(3)]
    for teller in tellers:
        teller.start()
    for _ in range(20_000):
        metrics.MEMORY.decided(answer, perf_counter())
    for teller in tellers:
        teller.join()
    assert grown(before, "skyauth_decisions_total", outcome="allowed", reason="granted", way="memory") == 20_000
    assert grown(before, "skyauth_decision_seconds_count", way="memory") == 20_000


def test_the_memory_s_size_is_told():
    memory = DecisionCache()
    metrics.watch(memory)
    assert told()["skyauth_remembered_callers", frozenset()] == 0
    known = memory.at("mark")
    known._callers.update({(b"1", ""): None, (b"2", ""): None})
    assert told()["skyauth_remembered_callers", frozenset()] == 2


class Told:
    """A reader of the mark that tells what it is given, after a while."""

    def __init__(self, *marks: str | None) -> None:
        self.marks = list(marks)

    def begin(self, heard):
        time.sleep(0.03)
        heard(self.marks.pop(0))

    def close(self):
        pass


def test_a_read_of_the_mark_is_timed_and_one_that_failed_is_counted_apart():
    async def read():
        fresh = RevisionReader(lambda: reader)
        return [await fresh.mark() for _ in range(3)]

    reader = Told("one", None, "two")
    before = told()
    assert asyncio.run(read()) == ["one", None, "two"]
    assert grown(before, "skyauth_mark_read_seconds_count") == 2
    assert 0.06 <= grown(before, "skyauth_mark_read_seconds_sum") < 5
    assert grown(before, "skyauth_mark_read_seconds_bucket", le="0.025") == 0
    assert grown(before, "skyauth_mark_reads_failed_total") == 1
    assert reads.failed >= 1


def hashing() -> dict[str, float]:
    found = told()
    return {state: found["skyauth_password_hashing", frozenset({("state", state)})] for state in ("running", "waiting")}


def test_passwords_that_are_checked_wait_or_are_turned_away_are_counted(monkeypatch):
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(passwords, "_slots", threading.BoundedSemaphore(1))
    monkeypatch.setattr(passwords, "_queue", threading.BoundedSemaphore(2))
    before = told()
    assert hashing() == {"running": 0, "waiting": 0}
    gave_up = threading.Event()

    def wait_in_vain():
        with pytest.raises(Busy), passwords._slot():
            pass
        gave_up.set()

    with passwords._slot():
        assert hashing() == {"running": 1, "waiting": 0}
        waiter = threading.Thread(target=wait_in_vain)
        waiter.start()
        deadline = time.monotonic() + 5
        while hashing() != {"running": 1, "waiting": 1}:
            assert time.monotonic() < deadline
        with pytest.raises(Busy, match="waiting"), passwords._slot():
            pass
        assert gave_up.wait(5)
    waiter.join()
    assert hashing() == {"running": 0, "waiting": 0}
    assert grown(before, "skyauth_password_busy_total") == 2


@pytest.mark.django_db
def test_a_password_that_is_refused_leaves_nothing_counted_as_running(bob):
    with pytest.raises(InvalidCredential):
        passwords.verify(Basic(bob.username, "wrong"), CLIENT)
    assert hashing() == {"running": 0, "waiting": 0}


def test_tokens_that_are_accepted_and_expire_soon_are_counted(bob, pipeline, django_assert_num_queries):
    for days in (0.5, 3, 5, 10, 30, None, -1):
        make_token(pipeline, days=days)
    make_token(pipeline, days=0.5, revoked_at=timezone.now())
    make_token(ServiceAccountFactory(), days=0.5)  # without an owner
    make_token(ServiceAccountFactory(is_active=False), days=0.5)
    make_token(ServiceAccountFactory(owner=UserFactory(is_active=False)), days=0.5)
    with django_assert_num_queries(3):
        found = numbers(Inventory())
    assert found["skyauth_tokens", frozenset()] == 7
    assert {
        days: found["skyauth_tokens_expiring", frozenset({("within_days", str(days))})] for days in inventory.WITHIN_DAYS
    } == {1: 2, 7: 4, 14: 5}
    states = {(name, dict(labels)["state"]): value for (name, labels), value in found.items() if "state" in dict(labels)}
    assert states == {
        ("skyauth_users", "active"): 1,
        ("skyauth_users", "disabled"): 1,
        ("skyauth_service_accounts", "active"): 3,
        ("skyauth_service_accounts", "disabled"): 1,
    }


def test_a_token_that_is_counted_as_accepted_is_accepted(pipeline):
    """The query says in SQL what `authn.unusable` says in Python."""
    now = timezone.now()
    accounts = [pipeline, ServiceAccountFactory(), ServiceAccountFactory(is_active=False)]
    accounts.append(ServiceAccountFactory(owner=UserFactory(is_active=False)))
    rows = [
        make_token(account, days=days, revoked_at=revoked)[0]
        for account in accounts
        for days in (1, None, -1)
        for revoked in (None, now - timedelta(hours=1))
    ]
    usable = sum(not identify.unusable(selectors.token_by_key(row.key_id)) for row in rows)
    assert numbers(Inventory())["skyauth_tokens", frozenset()] == usable == 4


# Who may read them


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


@pytest.fixture
def scraper(db):
    """The headers of a service account whose role holds one permission."""
    role = Role.objects.create(name="metrics", permissions=["metrics:read"])
    return {"Authorization": f"Bearer {make_token(ServiceAccountFactory(name='prometheus', role=role))[1]}"}


def test_a_scraper_s_token_reads_the_metrics_and_nothing_else(scraper):
    answer = Client().get("/metrics", headers=scraper)
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain; version=")
    assert answer["Cache-Control"] == "no-store"
    names = {family.name for family in text_string_to_metric_families(answer.content.decode())}
    assert {"skyauth_decisions", "skyauth_mark_read_seconds", "skyauth_tokens_expiring", "process_cpu_seconds"} <= names
    assert Client().get("/api/v1/users", headers=scraper).status_code == 403


def test_openmetrics_are_told_to_whoever_asks_for_them(scraper):
    wanted = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1"}
    answer = Client().get("/metrics", headers=scraper | wanted)
    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_promise_35_without_a_credential_there_are_no_metrics(db, method):
    answer = Client().generic(method, "/metrics")
    assert answer.status_code == 401
    assert "Basic" in answer["WWW-Authenticate"]
    assert b"skyauth_" not in answer.content


@pytest.mark.parametrize("role", ["user", "viewer", "most"])
def test_promise_35_whoever_lacks_the_permission_is_refused_and_recorded(db, role):
    Role.objects.create(name="most", permissions=sorted(MEANINGS.keys() - {Permission.METRICS_READ}))
    user = UserFactory(role=Role.objects.get(name=role))
    answer = Client().get("/metrics", headers=basic(user.username, PASSWORD))
    assert (answer.status_code, answer.json()["code"]) == (403, "not-permitted")
    entry = Entry.objects.get()
    assert (entry.event, entry.actor, entry.target) == ("request.denied", user.username, "GET /metrics")


def test_promise_35_the_shared_password_reads_no_metrics(db, settings):
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"
    assert Client().get("/metrics", headers=basic("team", "secret")).status_code == 403


def test_an_admin_reads_them_in_the_browser(alice: User):
    browser = Client(enforce_csrf_checks=True)
    assert browser.login(username=alice.username, password=PASSWORD)
    assert browser.get("/metrics").status_code == 200
    assert browser.head("/metrics").content == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_metrics_are_only_read(scraper, method):
    answer = Client(enforce_csrf_checks=True).generic(method, "/metrics", headers=scraper)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


def test_a_revoked_scraper_reads_no_more(scraper):
    ServiceAccount.objects.update(is_active=False)
    assert Client().get("/metrics", headers=scraper).status_code == 401


def test_the_whole_page_is_one_that_prometheus_reads(scraper):
    text = Client().get("/metrics", headers=scraper).content.decode()
    named = [line.split()[2] for line in text.splitlines() if line.startswith("# HELP")]
    assert len(named) == len(set(named))
    assert len(named) == len(list(text_string_to_metric_families(text)))


def test_the_metrics_page_names_every_metric_and_no_other(scraper):
    page = (settings.BASE_DIR / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`(?:skyauth|process)_.*?`) \|", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    text = Client().get("/metrics", headers=scraper).content.decode()
    assert named == {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
