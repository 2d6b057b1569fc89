"""Log lines: one for each record, which no text of a client can forge (promise 42)."""

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
from skyauth.logs import FIELDS, JsonLineFormatter, RequestId, SeldomFilter, TextFormatter

LINE_START = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
FORGED = "x\n2026-11-25 10:00:00,000 INFO skyauth.audit all is well"


class Clock:
    """A monotonic clock that a test sets."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def written():
    """Return a function that calls `act` and returns its log output in a format."""

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


def test_a_line_has_time_level_logger_message_and_request_id(written):
    assert written(TextFormatter(), log("Not %s.", "ready"))[23:] == " WARNING skyauth.tests Not ready.\n"
    request_id.begin([b"abc"], trusted=True)
    assert written(TextFormatter(), log("Not ready."))[23:] == " WARNING skyauth.tests Not ready. [abc]\n"


def test_a_json_object_has_the_same_fields_and_the_time_in_utc(written):
    request_id.begin([b"abc"], trusted=True)
    fields = json.loads(written(JsonLineFormatter(), log("Not %s.", "ready")))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", fields.pop("time"))
    assert fields == {"level": "WARNING", "logger": "skyauth.tests", "message": "Not ready.", "request_id": "abc"}


def fail():
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("skyauth.tests").exception("It failed.")


@pytest.mark.parametrize("act", [log(FORGED), log("%s", FORGED), log("x\r2026"), log("x\x852026\u20282026\x1b[31m"), fail])
def test_promise_42_no_text_can_begin_a_line(written, act):
    first, *others = written(TextFormatter(), act).splitlines()
    assert LINE_START.match(first)
    assert all(line.startswith("    ") for line in others)
    assert all(c.isprintable() or c == "\n" for c in written(TextFormatter(), act))
    fields = written(JsonLineFormatter(), act)
    assert fields.count("\n") == 1
    assert fields.isascii()
    assert json.loads(fields)["message"]


@given(st.text())
def test_promise_42_any_message_is_one_json_object_on_one_line(text):
    record = logging.LogRecord("skyauth", logging.INFO, "", 0, "%s", (text,), None)
    line = JsonLineFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert json.loads(line).get("message", "") == text
    assert all(part.startswith("    ") for part in TextFormatter().format(record).splitlines()[1:])


def test_promise_42_a_json_object_has_no_field_that_a_library_attached(written):
    extra = {"request": "GET /?token=secret", "cookies": "secret", "target": "GET h/things"}
    fields = json.loads(written(JsonLineFormatter(), log("Bad.", extra=extra)))
    assert fields["target"] == "GET h/things"
    assert set(fields) <= set(FIELDS)
    assert "secret" not in str(fields)


def test_both_formats_contain_the_exception(written):
    assert "ValueError" in json.loads(written(JsonLineFormatter(), fail))["exception"]
    assert "    ValueError: x" in written(TextFormatter(), fail)


def test_the_log_line_of_a_refusal_has_its_decision_id(written, db):
    references = []
    fields = json.loads(written(JsonLineFormatter(), lambda: references.append(refuse()())))
    assert [fields["decision"]] == references
    assert references[0]


def refuse(caller="pipeline", target="GET h/things"):
    actor = principals.claimed(caller, "bearer", "192.0.2.7")
    return lambda: record_refusal(Event.REQUEST_DENIED, actor=actor, target=target, reason="no-route: No route.")


def test_a_refusal_is_logged_as_text_and_as_fields(written, db):
    line = written(TextFormatter(), refuse())
    assert (
        line[23:] == " INFO skyauth.audit request.denied: pipeline (bearer) from 192.0.2.7: GET h/things: no-route: No route.\n"
    )
    fields = json.loads(written(JsonLineFormatter(), refuse(target="GET h/others")))
    assert {name: fields[name] for name in ("event", "caller", "method", "client", "target", "reason")} == {
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
    assert written(TextFormatter(), lambda: [act() for act in refusals]).count("request.denied") == 5


def test_invalid_hosts_do_not_fill_the_log_either(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    suspicious, failure = SeldomFilter(), (ValueError, ValueError("x"), None)

    def passes(name):
        record = logging.LogRecord(name, logging.ERROR, "", 0, "Invalid HTTP_HOST header.", (), failure)
        passed = suspicious.filter(record)
        assert not passed or (record.exc_info is None) is name.startswith("django.security.")
        return passed

    assert [passes("django.security.DisallowedHost") for _ in range(3)] == [True, False, False]
    assert passes("django.security.TooManyFieldsSent")
    assert [passes("skyauth.gateway") for _ in range(3)] == [True] * 3
    clock.now += 61
    assert [passes("django.security.DisallowedHost") for _ in range(2)] == [True, False]


def test_an_outage_logs_one_line_a_minute_of_each_kind_without_tracebacks(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    seldom, failure = SeldomFilter(), (ValueError, ValueError("x"), None)

    def passes(name, text, **extra):
        record = logging.LogRecord(name, logging.ERROR, "", 0, text, (), failure)
        record.__dict__.update(extra)
        passed = seldom.filter(record)
        assert not passed or (record.exc_info is None) is ("seldom" in extra or extra.get("status_code") == 503)
        return passed

    assert [passes("django.request", "Service Unavailable: /a", status_code=503) for _ in range(3)] == [True, False, False]
    assert [passes("django.request", "Internal Server Error: /a", status_code=500) for _ in range(3)] == [True] * 3
    assert [passes("skyauth.gateway", "OperationalError", seldom=True) for _ in range(3)] == [True, False, False]
    assert passes("skyauth.gateway", "KeyError", seldom=True), "another error is another kind"
    clock.now += 61
    assert passes("skyauth.gateway", "OperationalError", seldom=True)


def test_promise_42_the_fields_of_a_refusal_are_bounded_and_printable(written, db):
    fields = json.loads(written(JsonLineFormatter(), refuse(caller=FORGED, target="/" + "a" * 10_000)))
    assert len(fields["target"]) == 512
    assert "\n" not in fields["caller"] + fields["message"]
