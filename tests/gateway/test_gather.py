"""What memory does not suffice for: questions that share one turn of a thread, and those that have one of their own."""

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
from revision.reader import RevisionReader
from tests.races import separate_connections
from tests.verify_client import bearer

__all__ = ["separate_connections"]


@pytest.fixture
def line(separate_connections, read_write):
    """A verify line with one thread, whose one connection can be closed."""
    made = ForwardAuthApp(None, RevisionReader(lambda: None))
    made._threads.shutdown()
    made._threads = ThreadPoolExecutor(1)
    yield made
    made._threads.submit(connections.close_all).result()
    made._threads.shutdown()


TOLD = [(b"x-forwarded-method", b"GET"), (b"x-forwarded-host", b"h"), (b"x-forwarded-uri", b"/x")]


def recalled(line, *headers, path=b"/authz/verify", told=TOLD):
    gate = ProxyHeaderMiddleware(line, TrustPolicy(parse_networks(["10.0.0.0/8"])))
    scope = {"method": "GET", "raw_path": path, "query_string": b"a=b", "headers": [*told, *headers], "client": ("10.0.0.1", 5)}
    return line.recall(line.asked(path), scope, gate.filter_headers(scope))


def gathered(line, *questions, mark="m"):
    """Return the statuses of the answers, in the order in which they were given."""
    given = []

    async def scenario():
        works = [line.gather(one, mark, lambda answer, n=n: given.append((n, answer.status))) for n, one in enumerate(questions)]
        assert [work is not None for work in works] == [True] + [False] * (len(questions) - 1), "one turn for all"
        await works[0]

    asyncio.run(scenario())
    return sorted(given)


def test_questions_that_come_together_are_each_answered_for_itself(line, pipeline_token):
    good, bad = bearer(pipeline_token)[0], bearer(token_format.mint().plaintext)[0]
    questions = [recalled(line, good), recalled(line, bad), recalled(line, good)]
    assert [one.answer for one in questions] == [None] * 3
    assert all(one.quick for one in questions)
    assert gathered(line, *questions) == [(0, 200), (1, 401), (2, 200)]
    assert Entry.objects.filter(event="sign-in.refused").count() == 1, "the refusal is written down, in a turn of its own"
    again = recalled(line, good)
    assert (again.answer.status, again.mark) == (200, "m"), "who was found is remembered"
    assert gathered(line, recalled(line, bad)) == [(0, 401)], "one that was written down lately has its answer at once"
    assert Entry.objects.filter(event="sign-in.refused").count() == 1


def test_a_denial_has_a_turn_of_its_own_and_is_written_down_once(line, pipeline_token):
    told = [(name, b"/a/../b" if name == b"x-forwarded-uri" else value) for name, value in TOLD]
    asked = recalled(line, bearer(pipeline_token)[0], told=told)
    assert gathered(line, asked, asked) == [(0, 403), (1, 403)]
    assert gathered(line, asked) == [(0, 403)]
    assert Entry.objects.filter(event="request.denied").count() == 1


def test_two_credentials_at_once_are_refused_in_a_turn_of_their_own(line, pipeline_token):
    twice = recalled(line, bearer(pipeline_token)[0], bearer(pipeline_token)[0])
    assert gathered(line, twice) == [(0, 401)]
    assert gathered(line, twice) == [(0, 401)]


def test_without_a_mark_nothing_that_was_gathered_is_remembered(line, pipeline_token):
    question = recalled(line, bearer(pipeline_token)[0])
    assert gathered(line, question, mark=None) == [(0, 200)]
    assert recalled(line, bearer(pipeline_token)[0]).answer is None


def test_one_answer_that_cannot_be_given_keeps_no_other_waiting(line, pipeline_token, caplog):
    given = []

    async def scenario():
        work = line.gather(recalled(line, bearer(pipeline_token)[0]), "m", lambda _: given[7])
        line.gather(recalled(line, bearer(pipeline_token)[0]), "m", given.append)
        await work

    asyncio.run(scenario())
    assert [answer.status for answer in given] == [200]
    assert "could not be given" in caplog.text


def test_promise_43_trouble_of_a_thread_is_503_for_all_who_share_it(line, pipeline_token, monkeypatch):
    def broken(*_):
        raise OSError("no thread")

    monkeypatch.setattr(asgi, "_begun", broken)
    question = recalled(line, bearer(pipeline_token)[0])
    assert gathered(line, question, question) == [(0, 503), (1, 503)]
    assert asyncio.run(line.judge(question, "m")).status == 503


def test_promise_43_trouble_of_a_look_up_is_503(line, pipeline_token, monkeypatch):
    def broken(*_, **__):
        raise OSError("no database")

    monkeypatch.setattr(verify.identify, "resolve", broken)
    assert gathered(line, recalled(line, bearer(pipeline_token)[0])) == [(0, 503)]


def test_an_oversized_question_is_not_recalled_and_refused(line):
    question = recalled(line, *[(b"a", b"b")] * 101)
    assert (question.oversized, question.answer, question.quick) == (True, None, False)
    assert asyncio.run(line.judge(question, "m")).status == 403


def test_what_goes_wrong_in_memory_is_left_to_the_database(line, pipeline_token, monkeypatch, caplog):
    monkeypatch.setattr(verify, "answer", lambda *_: {}["nothing"])
    assert recalled(line, bearer(pipeline_token)[0]).answer is None
    assert "KeyError" in caplog.text


def test_envoys_question_keeps_its_path_and_query(line):
    question = recalled(line, (b"host", b"h"), path=b"/authz/envoy/jobs/17").question
    assert (question.rest, question.method, question.endpoint) == ("/jobs/17?a=b", "GET", b"/authz/envoy/")
    assert line.asked(b"/authz/elsewhere") is None
