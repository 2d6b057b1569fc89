"""Cache misses: requests that one thread decides as a batch, and those that are decided alone."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from accounts import token_format
from audit.models import Entry
from authn.proxy_header_middleware import ProxyHeaderMiddleware
from authn.proxy_headers import TrustPolicy, parse_networks
from gateway import asgi, verify
from gateway.asgi import ForwardAuthApp
from revision.epoch import Epoch
from revision.reader import RevisionReader
from tests.races import separate_connections
from tests.verify_client import bearer

__all__ = ["separate_connections"]


@pytest.fixture
def app(separate_connections, read_write):
    """The application with one thread, whose one connection can be closed."""
    application = ForwardAuthApp(None, RevisionReader(lambda: None))
    application._threads.shutdown()
    application._threads = ThreadPoolExecutor(1)
    yield application
    application._threads.submit(connections.close_all).result()
    application._threads.shutdown()


ORIGINAL = [(b"x-forwarded-method", b"GET"), (b"x-forwarded-host", b"h"), (b"x-forwarded-uri", b"/x")]


def look_up(app, *headers, path=b"/authz/verify", original=ORIGINAL):
    header_filter = ProxyHeaderMiddleware(app, TrustPolicy(parse_networks(["10.0.0.0/8"])))
    scope = {
        "method": "GET",
        "raw_path": path,
        "query_string": b"a=b",
        "headers": [*original, *headers],
        "client": ("10.0.0.1", 5),
    }
    return app.look_up(app.endpoint(path), scope, header_filter.filter_headers(scope))


EPOCH = Epoch()


def decide_batch(app, *requests, epoch=EPOCH):
    """Return the number of each request with the status of its answer."""
    answers = []

    async def scenario():
        works = [
            app.add_to_batch(request, epoch, lambda answer, n=n: answers.append((n, answer.status)))
            for n, request in enumerate(requests)
        ]
        assert [work is not None for work in works] == [True] + [False] * (len(requests) - 1), "one batch for all"
        await works[0]

    asyncio.run(scenario())
    return sorted(answers)


def test_each_request_of_a_batch_gets_its_own_answer(app, pipeline_token):
    good, bad = bearer(pipeline_token)[0], bearer(token_format.mint().plaintext)[0]
    requests = [look_up(app, good), look_up(app, bad), look_up(app, good)]
    assert [request.answer for request in requests] == [None] * 3
    assert all(request.batchable for request in requests)
    assert decide_batch(app, *requests) == [(0, 200), (1, 401), (2, 200)]
    assert Entry.objects.filter(event="sign-in.refused").count() == 1, "the refusal was recorded, after a decision of its own"
    again = look_up(app, good)
    assert (again.answer.status, again.epoch) == (200, EPOCH), "the caller was cached"
    assert decide_batch(app, look_up(app, bad)) == [(0, 401)], "a refusal that was recorded a moment ago is answered in the batch"
    assert Entry.objects.filter(event="sign-in.refused").count() == 1


def test_a_denial_is_decided_alone_and_recorded_once(app, pipeline_token):
    original = [(name, b"/a/../b" if name == b"x-forwarded-uri" else value) for name, value in ORIGINAL]
    request = look_up(app, bearer(pipeline_token)[0], original=original)
    assert decide_batch(app, request, request) == [(0, 403), (1, 403)]
    assert decide_batch(app, request) == [(0, 403)]
    assert Entry.objects.filter(event="request.denied").count() == 1


def test_two_credentials_in_one_request_are_refused(app, pipeline_token):
    twice = look_up(app, bearer(pipeline_token)[0], bearer(pipeline_token)[0])
    assert decide_batch(app, twice) == [(0, 401)]
    assert decide_batch(app, twice) == [(0, 401)]


def test_without_a_revision_nothing_in_a_batch_is_cached(app, pipeline_token):
    request = look_up(app, bearer(pipeline_token)[0])
    assert decide_batch(app, request, epoch=None) == [(0, 200)]
    assert look_up(app, bearer(pipeline_token)[0]).answer is None


def test_an_answer_that_cannot_be_delivered_does_not_stop_the_others(app, pipeline_token, caplog):
    answers = []

    async def scenario():
        work = app.add_to_batch(look_up(app, bearer(pipeline_token)[0]), EPOCH, lambda _: answers[7])
        app.add_to_batch(look_up(app, bearer(pipeline_token)[0]), EPOCH, answers.append)
        await work

    asyncio.run(scenario())
    assert [answer.status for answer in answers] == [200]
    assert "could not be delivered" in caplog.text


def test_promise_43_a_failing_thread_is_503_for_the_whole_batch(app, pipeline_token, monkeypatch):
    def broken(*_):
        raise OSError("no thread")

    monkeypatch.setattr(asgi, "_with_request_id", broken)
    request = look_up(app, bearer(pipeline_token)[0])
    assert decide_batch(app, request, request) == [(0, 503), (1, 503)]
    assert asyncio.run(app.decide(request, EPOCH)).status == 503


def test_promise_43_a_failing_look_up_is_503(app, pipeline_token, monkeypatch):
    def broken(*_, **__):
        raise OSError("no database")

    monkeypatch.setattr(verify.identify, "authenticate", broken)
    assert decide_batch(app, look_up(app, bearer(pipeline_token)[0])) == [(0, 503)]


def test_an_oversized_request_is_not_looked_up_and_refused(app):
    request = look_up(app, *[(b"a", b"b")] * 101)
    assert (request.oversized, request.answer, request.batchable) == (True, None, False)
    assert asyncio.run(app.decide(request, EPOCH)).status == 403


def test_an_error_in_the_cache_look_up_is_logged_and_the_database_decides(app, pipeline_token, monkeypatch, caplog):
    monkeypatch.setattr(verify, "evaluate", lambda *_: {}["nothing"])
    assert look_up(app, bearer(pipeline_token)[0]).answer is None
    assert "KeyError" in caplog.text


def test_the_request_of_envoy_keeps_its_path_and_query(app):
    request = look_up(app, (b"host", b"h"), path=b"/authz/envoy/jobs/17").request
    assert (request.suffix, request.method, request.endpoint) == ("/jobs/17?a=b", "GET", b"/authz/envoy/")
    assert app.endpoint(b"/authz/elsewhere") is None
