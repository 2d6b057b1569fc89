"""Log lines: one for each record, with nothing in it that another could have written (promise 42)."""

import io
import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.events import Event
from audit.record import record_refusal
from core import request_id
from rbac import principals
from skyauth import logs
from skyauth.logs import FIELDS, Json, Lines, RequestId, Seldom

BEGINS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
FORGED = "x\n2026-11-25 10:00:00,000 INFO skyauth.audit all is well"


class Clock:
    """A monotonic clock that a test moves."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def written(request):
    """Log with the formatter that the test asks for; returns what was written."""

    def write(formatter, act):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        handler.addFilter(RequestId())
        logger = logging.getLogger("skyauth")
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            act()
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)
        return stream.getvalue()

    request_id._current.set("")
    return write


def log(message, *args, **kwargs):
    return lambda: logging.getLogger("skyauth.tests").warning(message, *args, **kwargs)


def test_a_line_says_when_how_bad_from_where_what_and_for_which_request(written):
    assert written(Lines(), log("Not %s.", "ready"))[23:] == " WARNING skyauth.tests Not ready.\n"
    request_id.begin([b"abc"], trusted=True)
    assert written(Lines(), log("Not ready."))[23:] == " WARNING skyauth.tests Not ready. [abc]\n"


def test_an_object_has_the_same_and_utc(written):
    request_id.begin([b"abc"], trusted=True)
    found = json.loads(written(Json(), log("Not %s.", "ready")))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", found.pop("time"))
    assert found == {"level": "WARNING", "logger": "skyauth.tests", "message": "Not ready.", "request_id": "abc"}


def fail():
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("skyauth.tests").exception("It failed.")


@pytest.mark.parametrize("act", [log(FORGED), log("%s", FORGED), log("x\r2026"), log("x\x852026\u20282026\x1b[31m"), fail])
def test_promise_42_no_text_begins_a_line(written, act):
    first, *others = written(Lines(), act).splitlines()
    assert BEGINS.match(first)
    assert all(line.startswith("    ") for line in others)
    assert all(c.isprintable() or c == "\n" for c in written(Lines(), act))
    found = written(Json(), act)
    assert found.count("\n") == 1
    assert found.isascii()
    assert json.loads(found)["message"]


@given(st.text())
def test_promise_42_whatever_is_logged_is_one_object_on_one_line(text):
    record = logging.LogRecord("skyauth", logging.INFO, "", 0, "%s", (text,), None)
    line = Json().format(record)
    assert len(line.splitlines()) == 1
    assert json.loads(line).get("message", "") == text
    assert all(part.startswith("    ") for part in Lines().format(record).splitlines()[1:])


def test_promise_42_an_object_shows_nothing_that_a_library_attached(written):
    extra = {"request": "GET /?token=secret", "cookies": "secret", "target": "GET h/things"}
    found = json.loads(written(Json(), log("Bad.", extra=extra)))
    assert found["target"] == "GET h/things"
    assert set(found) <= set(FIELDS)
    assert "secret" not in str(found)


def test_an_exception_is_told_in_both(written):
    assert "ValueError" in json.loads(written(Json(), fail))["exception"]
    assert "    ValueError: x" in written(Lines(), fail)


def test_a_refusal_carries_the_id_by_which_it_is_explained(written, db):
    named = []
    found = json.loads(written(Json(), lambda: named.append(refuse()())))
    assert [found["decision"]] == named
    assert named[0]


def refuse(caller="pipeline", target="GET h/things"):
    actor = principals.claimed(caller, "bearer", "192.0.2.7")
    return lambda: record_refusal(Event.REQUEST_DENIED, actor=actor, target=target, reason="no-route: No route.")


def test_a_refusal_is_logged_in_words_and_in_fields(written, db):
    words = written(Lines(), refuse())
    assert (
        words[23:] == " INFO skyauth.audit request.denied: pipeline (bearer) from 192.0.2.7: GET h/things: no-route: No route.\n"
    )
    found = json.loads(written(Json(), refuse(target="GET h/others")))
    assert {name: found[name] for name in ("event", "caller", "method", "client", "target", "reason")} == {
        "event": "request.denied",
        "caller": "pipeline",
        "method": "bearer",
        "client": "192.0.2.7",
        "target": "GET h/others",
        "reason": "no-route: No route.",
    }


def test_a_flood_of_refusals_does_not_fill_the_log(written, db, settings):
    settings.AUDIT_REFUSALS_PER_MINUTE = 5
    refusals = [refuse(target=f"GET h/{number}") for number in range(100)]
    assert written(Lines(), lambda: [act() for act in refusals]).count("request.denied") == 5


def test_a_stranger_s_odd_hosts_do_not_fill_the_log_either(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    seldom, failure = Seldom(), (ValueError, ValueError("x"), None)

    def passes(name):
        record = logging.LogRecord(name, logging.ERROR, "", 0, "Invalid HTTP_HOST header.", (), failure)
        passed = seldom.filter(record)
        assert not passed or (record.exc_info is None) is name.startswith("django.security.")
        return passed

    assert [passes("django.security.DisallowedHost") for _ in range(3)] == [True, False, False]
    assert passes("django.security.TooManyFieldsSent")
    assert [passes("skyauth.gateway") for _ in range(3)] == [True] * 3
    clock.now += 61
    assert [passes("django.security.DisallowedHost") for _ in range(2)] == [True, False]


def test_promise_42_what_is_logged_of_a_refusal_is_bounded_and_clean(written, db):
    found = json.loads(written(Json(), refuse(caller=FORGED, target="/" + "a" * 10_000)))
    assert len(found["target"]) == 512
    assert "\n" not in found["caller"] + found["message"]
