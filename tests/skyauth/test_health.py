"""The probes as an ASGI layer: what they answer, and that a crowd costs one look at the database."""

import asyncio
import json
import logging
import threading
import time

import pytest
from django.db import connection

from skyauth import health
from skyauth.health import Health


class Django:
    """Stands where Django's handler stands, and says so."""

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
    return asyncio.run(ask(Health(Django()), path, method, **scope))


@pytest.fixture
def looks(monkeypatch):
    """Count the looks at the database, each of which takes a moment; `looks.lacks` is what they find."""

    class Looks:
        count = 0
        lacks = ""

        def __call__(self):
            self.count += 1
            time.sleep(0.05)
            return self.lacks

    made = Looks()
    monkeypatch.setattr(health, "_look", made)
    return made


def test_alive_is_answered_without_a_look_at_anything(looks):
    assert answer(b"/healthz") == (200, headers_of(b"ok\n"), b"ok\n")
    assert looks.count == 0


def headers_of(body, kind=b"text/plain"):
    return {b"content-type": kind, b"content-length": str(len(body)).encode(), b"cache-control": b"no-store"}


def test_ready_is_answered_after_a_look(looks):
    assert answer(b"/readyz") == (200, headers_of(b"ok\n"), b"ok\n")
    assert looks.count == 1


def test_not_ready_says_no_more_than_that(looks):
    looks.lacks = "The database lacks 2 of its migrations."
    status, headers, body = answer(b"/readyz")
    assert (status, headers[b"content-type"]) == (503, b"application/problem+json")
    assert headers[b"cache-control"] == b"no-store"
    assert json.loads(body)["code"] == "unavailable"
    assert b"migrations" not in body
    assert b"atabase" not in body


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz"])
def test_head_has_the_headers_and_no_body(looks, path):
    assert answer(path, "HEAD") == (200, headers_of(b"ok\n"), b"")


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "GETz"])
def test_a_probe_only_asks(looks, path, method):
    status, headers, _ = answer(path, method)
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")
    assert looks.count == 0


@pytest.mark.parametrize(
    "path", [b"/healthz/", b"//healthz", b"/health%7a", b"/HEALTHZ", b"/readyz;x", b"/x/readyz", b"/readyz/../admin/", b"", b"/"]
)
def test_promise_23_only_the_exact_path_is_a_probe(looks, path):
    assert answer(path)[0] == 204
    assert looks.count == 0


def test_a_crowd_costs_one_look_and_those_right_after_are_told_the_same(looks):
    async def crowd():
        probes = Health(Django())
        first = await asyncio.gather(*(ask(probes, b"/readyz") for _ in range(200)))
        later = [await ask(probes, b"/readyz") for _ in range(20)]
        return {status for status, _, _ in [*first, *later]}

    assert asyncio.run(crowd()) == {200}
    assert looks.count == 1


def test_what_has_changed_is_told_soon_and_logged_once(looks, monkeypatch, caplog):
    monkeypatch.setattr(health, "_HOLDS_SECONDS", 0.0)

    async def story():
        probes = Health(Django())
        statuses = []
        for looks.lacks in ("", "", "It is gone.", "It is gone.", "", ""):
            statuses.append((await ask(probes, b"/readyz"))[0])
        return statuses

    with caplog.at_level(logging.INFO, "skyauth.health"):
        assert asyncio.run(story()) == [200, 200, 503, 503, 200, 200]
    assert [record.getMessage() for record in caplog.records] == ["Not ready: It is gone.", "Ready again."]


def test_a_look_that_does_not_end_is_503_in_time_for_all_who_wait(monkeypatch):
    monkeypatch.setattr(health, "READY_SECONDS", 0.2)
    over = threading.Event()
    monkeypatch.setattr(health, "_look", lambda: over.wait(10) and "")

    async def story():
        probes = Health(Django())
        began = time.monotonic()
        held = [status for status, _, _ in await asyncio.gather(*(ask(probes, b"/readyz") for _ in range(50)))]
        took = time.monotonic() - began
        alive = (await ask(probes, b"/healthz"))[0]
        over.set()
        await probes._look
        return set(held), took, alive, (await ask(probes, b"/readyz"))[0]

    held, took, alive, after = asyncio.run(story())
    assert held == {503}
    assert took < 2
    assert (alive, after) == (200, 200)


@pytest.mark.django_db
def test_nothing_is_lacking_after_migrate():
    assert health.lacking() == ""


@pytest.mark.django_db
def test_a_migration_that_is_not_applied_is_lacking():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'accounts' AND name LIKE '0008%'")
    assert health.lacking() == "1 migration is not applied. Run: manage.py migrate"


@pytest.mark.django_db
def test_a_trigger_that_is_gone_is_lacking():
    where = "" if connection.vendor == "sqlite" else " ON accounts_token"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER skyauth_mark_{trigger()}{where}")
    assert "accounts_token" in health.lacking()


def trigger() -> str:
    from revision import triggers

    name = next(name for name, table in triggers.installed(connection).items() if table == "accounts_token")
    return name.removeprefix(triggers.PREFIX)
