"""The metrics: that they are correct, and who can read them."""

import asyncio
import base64
import platform
import re
import threading
import time
from datetime import timedelta
from time import perf_counter

import bcrypt
import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from accounts import selectors
from accounts.models import ServiceAccount, User
from audit import record
from audit.events import Event
from audit.models import Entry
from authn import identify, passwords
from authn.credentials import Basic, InvalidCredential
from authn.passwords import Busy
from core.histogram import BOUNDS, LatencyHistogram
from gateway import database_metrics, headers, metrics
from gateway.cache import DecisionCache
from gateway.exposition import exposition
from gateway.headers import Cause
from gateway.requests import CountedRequests
from gateway.threads import VerifyThreads
from rbac import principals
from rbac.models import Role
from rbac.permissions import MEANINGS, Permission
from rbac.policy import Decision, Reason
from revision.epoch import Epoch
from revision.reader import RevisionReader, read_times
from skyauth import __version__
from tests.factories import PASSWORD, ServiceAccountFactory, UserFactory, make_token
from tests.servers import wait_until
from tests.verify_client import CLIENT

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]
ALICE = principals.Principal(principals.Kind.USER, "96ed8a5c", "alice@example.com", role="admin")
ANONYMOUS = principals.anonymous(CLIENT)


def numbers(families) -> Numbers:
    """Return every sample of these metrics."""
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def scrape() -> Numbers:
    """Return the current metrics of the gateway."""
    return numbers(metrics.collected().collect())


def increase(before: Numbers, name: str, **labels: str) -> float:
    """Return by how much a number has grown."""
    key = (name, frozenset(labels.items()))
    return scrape()[key] - before[key]


def test_every_reason_has_an_outcome_and_there_are_no_other_labels():
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
        (denied(Reason.UNREADABLE_TARGET, ANONYMOUS), "denied", "unreadable-target"),
        (denied(Reason.NO_ROUTE, ANONYMOUS), "unauthenticated", "no-credential"),
        (headers.unauthenticated(basic=True), "unauthenticated", "bad-credential"),
        (denied(Reason.HEADERS_TOO_LARGE, ANONYMOUS), "denied", "headers-too-large"),
        (headers.page(denied(Reason.NO_ROUTE), b"", ""), "denied", "no-route"),
        (headers.redirect("https://auth.example.com/sign-in"), "unauthenticated", "no-credential"),
        (headers.unavailable(), "unavailable", "unavailable"),
    ],
)
@pytest.mark.parametrize("path", [metrics.FAST_PATH, metrics.SLOW_PATH])
def test_an_answer_is_counted_once_by_outcome_reason_and_way(answer, outcome, reason, path):
    expected = {200: "allowed", 302: "unauthenticated", 401: "unauthenticated", 403: "denied", 503: "unavailable"}
    assert outcome == expected[answer.status]
    before = scrape()
    path.count(answer, perf_counter() - 0.3)
    after = scrape()
    changed = {
        (name, labels): after[name, labels] - value
        for (name, labels), value in before.items()
        if name.startswith("skyauth_decision") and after[name, labels] != value
    }
    ways = frozenset({("way", path.name)})
    assert changed.pop(("skyauth_decisions_total", ways | {("outcome", outcome), ("reason", reason)})) == 1
    assert changed.pop(("skyauth_decision_seconds_count", ways)) == 1
    assert changed.pop(("skyauth_decision_seconds_sum", ways)) == pytest.approx(0.3, abs=0.1)
    reached = {float(dict(labels)["le"]) for _, labels in changed}
    assert set(changed.values()) == {1}
    assert reached == {bound for bound in (*BOUNDS, float("inf")) if bound > 0.4}


def test_all_series_exist_before_the_first_request():
    named = {labels for name, labels in scrape() if name == "skyauth_decisions_total"}
    assert len(named) == 2 * len(metrics.OUTCOMES)


@given(st.lists(st.floats(min_value=0, max_value=1e4) | st.sampled_from(BOUNDS), min_size=1))
def test_a_duration_is_counted_in_the_first_bucket_that_contains_it(seconds):
    timings = LatencyHistogram()
    for each in seconds:
        timings.add(each)
    bounds = (*BOUNDS, float("inf"))
    for index, bound in enumerate(bounds):
        assert sum(timings.counts[: index + 1]) == sum(each <= bound for each in seconds)
    assert timings.total == pytest.approx(sum(seconds))


def test_a_number_that_grows_during_a_flush_is_neither_lost_nor_counted_twice():
    before = scrape()
    answer = headers.allowed(ALICE)
    flushers = [threading.Thread(target=lambda: [metrics.flush() for _ in range(200)]) for _ in range(3)]
    for flusher in flushers:
        flusher.start()
    for _ in range(20_000):
        metrics.FAST_PATH.count(answer, perf_counter())
    for flusher in flushers:
        flusher.join()
    assert increase(before, "skyauth_decisions_total", outcome="allowed", reason="granted", way="memory") == 20_000
    assert increase(before, "skyauth_decision_seconds_count", way="memory") == 20_000


def test_the_size_of_the_cache_is_a_metric():
    cache = DecisionCache()
    metrics.watch(cache, VerifyThreads())
    assert scrape()["skyauth_remembered_callers", frozenset()] == 0
    snapshot = cache.of(Epoch())
    snapshot._callers.update({(b"1", ""): None, (b"2", ""): None})
    assert scrape()["skyauth_remembered_callers", frozenset()] == 2


class SlowSource:
    """A source that returns the given epochs, each after 0.03 seconds."""

    def __init__(self, *epochs: Epoch | None) -> None:
        self.epochs = list(epochs)

    def begin(self, callback):
        time.sleep(0.03)
        callback(self.epochs.pop(0))

    def close(self):
        pass


@pytest.mark.parametrize(
    ("path", "status", "interface", "label"),
    [
        (b"/api/v1/users", 200, "api", "2xx"),
        (b"/users/create", 503, "api", "5xx"),
        (b"/skyauth/users", 302, "pages", "3xx"),
        (b"/apis", 404, "pages", "4xx"),
    ],
)
def test_a_response_of_an_api_or_a_page_is_counted_by_status_class_and_timed(path, status, interface, label):
    async def application(scope, receive, send):
        await asyncio.sleep(0.02)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def send(message):
        pass

    before = scrape()
    asyncio.run(CountedRequests(application)({"raw_path": path}, None, send))
    assert increase(before, "skyauth_requests_total", interface=interface, status=label) == 1
    assert increase(before, "skyauth_request_seconds_count", interface=interface) == 1
    assert increase(before, "skyauth_request_seconds_sum", interface=interface) >= 0.02
    assert sum(scrape()[key] - before[key] for key in before if key[0] == "skyauth_requests_total") == 1


def test_busy_threads_of_the_forward_auth_endpoints_are_a_metric():
    threads, over = VerifyThreads(), threading.Event()
    metrics.watch(DecisionCache(), threads)
    jobs = [threads.submit(over.wait, 20) for _ in range(3)]
    wait_until(lambda: threads.busy == 3, "the jobs run")
    assert scrape()["skyauth_verify_threads", frozenset({("state", "busy")})] == 3
    over.set()
    assert [job.result() for job in jobs] == [True] * 3
    assert scrape()["skyauth_verify_threads", frozenset({("state", "busy")})] == 0
    threads.shutdown()


def test_the_result_of_the_last_readiness_probe_is_a_metric():
    for ready in (False, True):
        metrics.report_ready(ready=ready)
        assert scrape()["skyauth_ready", frozenset()] == ready


@pytest.mark.django_db
def test_a_refusal_that_cannot_be_written_is_counted(monkeypatch):
    def fail(self, **options):
        raise OperationalError("disk full")

    monkeypatch.setattr(Entry, "save", fail)
    before = scrape()
    record.record_refusal(Event.REQUEST_DENIED, actor=ANONYMOUS, target=f"GET h/{time.monotonic()}")
    assert increase(before, "skyauth_audit_writes_lost_total") == 1


def test_a_read_of_the_revision_is_timed_and_a_failed_one_is_counted_apart():
    async def read():
        reader = RevisionReader(lambda: source)
        return [await reader.epoch() for _ in range(3)]

    one, two = Epoch(), Epoch()
    source = SlowSource(one, None, two)
    before = scrape()
    assert asyncio.run(read()) == [one, None, two]
    assert increase(before, "skyauth_mark_read_seconds_count") == 2
    assert 0.06 <= increase(before, "skyauth_mark_read_seconds_sum") < 5
    assert increase(before, "skyauth_mark_read_seconds_bucket", le="0.025") == 0
    assert increase(before, "skyauth_mark_reads_failed_total") == 1
    assert read_times.failed >= 1


def hashing() -> dict[str, float]:
    numbers = scrape()
    return {state: numbers["skyauth_password_hashing", frozenset({("state", state)})] for state in ("running", "waiting")}


def test_running_waiting_and_rejected_password_checks_are_counted(monkeypatch):
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(passwords, "_slots", threading.BoundedSemaphore(1))
    monkeypatch.setattr(passwords, "_queue", threading.BoundedSemaphore(2))
    before = scrape()
    assert hashing() == {"running": 0, "waiting": 0}
    gave_up = threading.Event()

    def wait_without_success():
        with pytest.raises(Busy), passwords._slot():
            pass
        gave_up.set()

    with passwords._slot():
        assert hashing() == {"running": 1, "waiting": 0}
        waiter = threading.Thread(target=wait_without_success)
        waiter.start()
        deadline = time.monotonic() + 5
        while hashing() != {"running": 1, "waiting": 1}:
            assert time.monotonic() < deadline
        with pytest.raises(Busy, match="waiting"), passwords._slot():
            pass
        assert gave_up.wait(5)
    waiter.join()
    assert hashing() == {"running": 0, "waiting": 0}
    assert increase(before, "skyauth_password_busy_total") == 2


@pytest.mark.django_db
def test_after_a_wrong_password_no_check_is_counted_as_running(bob):
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
    with django_assert_num_queries(5 if connection.vendor == "sqlite" else 6):  # with the savepoint, and the time-out
        counts = numbers(database_metrics.counted())
    assert counts["skyauth_tokens", frozenset()] == 7
    assert {
        days: counts["skyauth_tokens_expiring", frozenset({("within_days", str(days))})] for days in database_metrics.WITHIN_DAYS
    } == {1: 2, 7: 4, 14: 5}
    states = {(name, dict(labels)["state"]): value for (name, labels), value in counts.items() if "state" in dict(labels)}
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
    assert numbers(database_metrics.counted())["skyauth_tokens", frozenset()] == usable == 4


def test_what_the_database_cannot_count_is_missing_and_everything_else_is_there(db):
    def fail(execute, sql, params, many, context):
        if "accounts_user" in sql:
            raise OperationalError("canceling statement due to statement timeout")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        counted = database_metrics.counted()
    text, _ = exposition("", counted)
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert families["skyauth_database_counted"].samples[0].value == 0
    assert not {"skyauth_tokens", "skyauth_users", "skyauth_service_accounts"} & set(families)
    assert {"skyauth_decisions", "skyauth_ready", "skyauth_build_info", "process_resident_memory_bytes"} <= set(families)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_count_that_takes_too_long_ends_in_time_and_leaves_the_connection_usable(monkeypatch):
    monkeypatch.setattr(database_metrics, "_QUERY_SECONDS", 1)
    monkeypatch.setattr(database_metrics, "_tokens", lambda: connection.cursor().execute("SELECT pg_sleep(20)"))
    started = time.monotonic()
    assert numbers(database_metrics.counted()) == {("skyauth_database_counted", frozenset()): 0}
    assert time.monotonic() - started < 10
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("30s",)


def test_the_version_is_a_metric(db):
    text, _ = exposition("", [])
    [sample] = next(f for f in text_string_to_metric_families(text.decode()) if f.name == "skyauth_build_info").samples
    assert (sample.value, sample.labels["version"], sample.labels["database"]) == (1, __version__, connection.vendor)
    assert sample.labels["python"] == platform.python_version()


# who can read them


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


def test_openmetrics_are_returned_if_the_accept_header_asks_for_them(scraper):
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
def test_promise_35_a_caller_without_the_permission_is_refused_and_recorded(db, role):
    Role.objects.create(name="most", permissions=sorted(MEANINGS.keys() - {Permission.METRICS_READ}))
    user = UserFactory(role=Role.objects.get(name=role))
    answer = Client().get("/metrics", headers=basic(user.username, PASSWORD))
    assert (answer.status_code, answer.json()["code"]) == (403, "not-permitted")
    entry = Entry.objects.get()
    assert (entry.event, entry.actor, entry.target) == ("request.denied", user.username, "GET /metrics")


def test_promise_35_the_shared_password_reads_no_metrics(db, settings):
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"
    assert Client().get("/metrics", headers=basic("team", "secret")).status_code == 403


def test_an_admin_can_open_the_metrics_in_a_browser(alice: User):
    browser = Client(enforce_csrf_checks=True)
    assert browser.login(username=alice.username, password=PASSWORD)
    assert browser.get("/metrics").status_code == 200
    assert browser.head("/metrics").content == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_metrics_endpoint_only_accepts_get_and_head(scraper, method):
    answer = Client(enforce_csrf_checks=True).generic(method, "/metrics", headers=scraper)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


def test_a_disabled_scraper_is_refused(scraper):
    ServiceAccount.objects.update(is_active=False)
    assert Client().get("/metrics", headers=scraper).status_code == 401


def test_prometheus_can_parse_the_whole_response(scraper):
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
