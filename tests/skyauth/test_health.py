"""The health probes as an ASGI application: their responses, and that concurrent requests share one database check."""

import asyncio
import json
import logging
import threading
import time

import pytest
from django.db import connection

from gateway import threads
from gateway.threads import VerifyThreads
from skyauth import health
from skyauth.health import Health


class Django:
    """Stands in for Django's handler."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"django"})


async def ask(application, path, method="GET", **scope):
    """Return status, headers and body."""
    sent = []

    async def send(message):
        sent.append(message)

    await application({"type": "http", "raw_path": path, "method": method, "headers": [], **scope}, None, send)
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def answer(path, method="GET", **scope):
    return asyncio.run(ask(Health(Django(), VerifyThreads()), path, method, **scope))


@pytest.fixture
def checks(monkeypatch):
    """Count the database checks, each of which takes a moment; `checks.fault` is their result."""

    class Checks:
        count = 0
        fault = ""

        def __call__(self):
            self.count += 1
            time.sleep(0.05)
            return self.fault

    checks = Checks()
    monkeypatch.setattr(health, "_check_database", checks)
    return checks


def test_healthz_is_answered_without_a_check(checks):
    assert answer(b"/healthz") == (200, headers_of(b"ok\n"), b"ok\n")
    assert checks.count == 0


def headers_of(body, kind=b"text/plain"):
    return {b"content-type": kind, b"content-length": str(len(body)).encode(), b"cache-control": b"no-store"}


def test_readyz_is_answered_after_a_check(checks):
    assert answer(b"/readyz") == (200, headers_of(b"ok\n"), b"ok\n")
    assert checks.count == 1


def test_a_503_of_readyz_reveals_no_reason(checks):
    checks.fault = "The database lacks 2 migrations."
    status, headers, body = answer(b"/readyz")
    assert (status, headers[b"content-type"]) == (503, b"application/problem+json")
    assert headers[b"cache-control"] == b"no-store"
    assert json.loads(body)["code"] == "unavailable"
    assert b"migrations" not in body
    assert b"atabase" not in body


def test_a_server_that_is_stopping_is_alive_but_not_ready(checks):
    state = {"stopping": True}
    status, _, body = answer(b"/readyz", state=state)
    assert (status, json.loads(body)["code"]) == (503, "stopping")
    assert answer(b"/readyz", "HEAD", state=state)[0] == 503
    assert answer(b"/healthz", state=state)[0] == 200
    assert checks.count == 0
    assert answer(b"/readyz", state={})[0] == 200


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz"])
def test_head_has_the_headers_and_no_body(checks, path):
    assert answer(path, "HEAD") == (200, headers_of(b"ok\n"), b"")


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "GETz"])
def test_a_probe_only_accepts_get_and_head(checks, path, method):
    status, headers, _ = answer(path, method)
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")
    assert checks.count == 0


@pytest.mark.parametrize(
    "path", [b"/healthz/", b"//healthz", b"/health%7a", b"/HEALTHZ", b"/readyz;x", b"/x/readyz", b"/readyz/../admin/", b"", b"/"]
)
def test_promise_23_only_the_exact_path_is_a_probe(checks, path):
    assert answer(path)[0] == 204
    assert checks.count == 0


def test_concurrent_probes_share_one_check_and_its_result_is_cached(checks, monkeypatch):
    monkeypatch.setattr(health, "_CACHED_SECONDS", 60.0)  # on a busy machine, the probes take longer than half a second

    async def concurrent():
        probes = Health(Django(), VerifyThreads())
        first = await asyncio.gather(*(ask(probes, b"/readyz") for _ in range(200)))
        later = [await ask(probes, b"/readyz") for _ in range(20)]
        return {status for status, _, _ in [*first, *later]}

    assert asyncio.run(concurrent()) == {200}
    assert checks.count == 1


def test_a_change_is_visible_soon_and_logged_once(checks, monkeypatch, caplog):
    monkeypatch.setattr(health, "_CACHED_SECONDS", 0.0)

    async def scenario():
        probes = Health(Django(), VerifyThreads())
        statuses = []
        for checks.fault in ("", "", "It is missing.", "It is missing.", "", ""):
            statuses.append((await ask(probes, b"/readyz"))[0])
        return statuses

    with caplog.at_level(logging.INFO, "skyauth.health"):
        assert asyncio.run(scenario()) == [200, 200, 503, 503, 200, 200]
    assert [record.getMessage() for record in caplog.records] == ["Not ready: It is missing.", "Ready again."]


def test_a_check_that_does_not_end_is_503_in_time_for_all_probes(monkeypatch):
    monkeypatch.setattr(health, "READY_SECONDS", 0.2)
    over = threading.Event()
    monkeypatch.setattr(health, "_check_database", lambda: over.wait(10) and "")

    async def scenario():
        probes = Health(Django(), VerifyThreads())
        started = time.monotonic()
        held = [status for status, _, _ in await asyncio.gather(*(ask(probes, b"/readyz") for _ in range(50)))]
        took = time.monotonic() - started
        alive = (await ask(probes, b"/healthz"))[0]
        over.set()
        await probes._check
        return set(held), took, alive, (await ask(probes, b"/readyz"))[0]

    held, took, alive, after = asyncio.run(scenario())
    assert held == {503}
    assert took < 2
    assert (alive, after) == (200, 200)


def test_promise_53_healthz_fails_only_while_every_thread_of_the_forward_auth_endpoints_is_overdue(checks, monkeypatch):
    monkeypatch.setattr(health, "_CACHED_SECONDS", 0.0)
    monkeypatch.setattr(threads, "_OVERDUE_SECONDS", 0.3)
    monkeypatch.setattr(threads, "statement_seconds", lambda: 0)
    monkeypatch.setattr(health, "READY_SECONDS", 0.2)
    over = threading.Event()

    async def scenario():
        verify = VerifyThreads()
        probes = Health(Django(), verify)

        async def both():
            return (await ask(probes, b"/healthz"))[0], (await ask(probes, b"/readyz"))[0]

        jobs = [verify.submit(over.wait, 20) for _ in range(threads.THREADS - 1)]
        await asyncio.sleep(0.5)
        one_left = await both()
        jobs.append(verify.submit(over.wait, 20))
        none_left = await both()
        await asyncio.sleep(0.5)
        none_left_for_long = await both()
        counts = verify.busy, verify.overdue
        over.set()
        await asyncio.gather(*map(asyncio.wrap_future, jobs))
        await asyncio.sleep(0.1)
        return one_left, none_left, none_left_for_long, counts, await both()

    assert asyncio.run(scenario()) == ((200, 200), (200, 503), (503, 503), (8, 8), (200, 200))


@pytest.mark.django_db
def test_after_migrate_the_database_lacks_nothing():
    assert health.lacking() == ""


@pytest.mark.django_db
def test_a_missing_migration_is_reported():
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_migrations WHERE app = 'accounts' AND name ="
            " (SELECT MAX(name) FROM django_migrations WHERE app = 'accounts')"
        )
    assert health.lacking() == "1 migration is not applied. Run: manage.py migrate"


@pytest.mark.django_db
def test_a_missing_trigger_is_reported():
    where = "" if connection.vendor == "sqlite" else " ON accounts_token"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER skyauth_mark_{trigger()}{where}")
    assert "accounts_token" in health.lacking()


def trigger() -> str:
    from revision import triggers

    name = next(each.name for each in triggers.installed(connection) if each.table == "accounts_token")
    return name.removeprefix(triggers.PREFIX)
