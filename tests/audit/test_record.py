"""What is written to the audit log, and how much of what strangers cause."""

import re
from types import SimpleNamespace

import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import record as module
from audit.events import Event
from audit.models import Entry
from audit.record import RefusalSampler, Slot, clean, record, record_refusal, suppress
from rbac import principals
from tests.factories import principal

LIMIT = 60


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    moved = Clock()
    monkeypatch.setattr(module, "time", moved)
    return moved


def test_an_entry_says_who_did_what_to_what_and_why(alice):
    entry = record(Event.ROLE_UPDATED, actor=principal(alice), target="ops", reason="asked for", data={"old": [], "new": ["a"]})
    entry.refresh_from_db()
    assert (entry.event, entry.actor, entry.actor_uid, entry.method) == ("role.updated", alice.username, alice.uid, "session")
    assert (entry.target, entry.reason, entry.data) == ("ops", "asked for", {"old": [], "new": ["a"]})
    assert str(entry).endswith("alice@example.com role.updated ops")


@pytest.mark.django_db
def test_an_entry_without_details_is_still_one(system):
    entry = record(Event.ROUTES_REORDERED, actor=system)
    assert (entry.target, entry.reason, entry.data, entry.peer) == ("", "", {}, "")
    assert str(entry).endswith("tests routes.reordered")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain text", "plain text"),
        ("a\nrole.updated admin", "a\ufffdrole.updated admin"),
        ("a\r\nb", "a\ufffd\ufffdb"),
        ("\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
        ("nul\x00", "nul\ufffd"),
        ("bidi\u202eevil", "bidi\ufffdevil"),
        ("line\u2028sep", "line\ufffdsep"),
        ("half\ud800", "half\ufffd"),
        ("zoë €", "zoë €"),
        ("x" * 20, "x" * 20),
        ("x" * 21, "x" * 20),
    ],
)
def test_promise_42_no_text_forges_a_line(text, kept):
    assert clean(text, 30 if len(kept) < 20 or len(text) == len(kept) else 20) == kept


@settings(deadline=None)
@given(st.text(), st.integers(0, 50))
def test_promise_42_what_is_cleaned_is_short_printable_and_stays_as_it_is(text, limit):
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit
    assert all(c.isprintable() or c == "\ufffd" for c in cleaned)
    assert clean(cleaned, limit) == cleaned


@pytest.mark.django_db
def test_promise_42_every_field_is_cleaned_and_cut():
    actor = principals.claimed("mallory\n" * 100, "basic", "203.0.113.9\n" + "x" * 100)
    entry = record(Event.SIGN_IN_REFUSED, actor=actor, target="t\n" * 600, reason="r\x00" * 600)
    entry.refresh_from_db()
    texts = [entry.actor, entry.peer, entry.target, entry.reason]
    assert [len(text) for text in texts] == [320, 64, 512, 512]
    assert not any("\n" in text or "\x00" in text for text in texts)


@pytest.mark.django_db
def test_promise_44_an_entry_goes_with_the_change_it_speaks_of(system):
    with transaction.atomic():
        record(Event.ROLE_CREATED, actor=system, target="ops")
        transaction.set_rollback(True)
    assert not Entry.objects.exists()


def suppressed_before(sampler, key, limit=LIMIT, event="e"):
    """Return how many refusals were left out before this one is written, or None when it is left out itself."""
    return sampler.take(event, (key,), limit).suppressed_before


def test_the_same_refusal_is_written_once_a_minute(clock):
    sampler = RefusalSampler()
    assert suppressed_before(sampler, "a") == 0
    assert suppressed_before(sampler, "a") is None
    assert suppressed_before(sampler, "b") == 1, "the next written one has the number of those left out"
    assert suppressed_before(sampler, "b") is None
    clock.now += 59
    assert suppressed_before(sampler, "a") is None
    clock.now += 1
    assert suppressed_before(sampler, "a") == 2
    assert suppressed_before(sampler, "c") == 0


def test_all_refusals_of_an_event_together_have_a_limit_that_ends_with_the_minute(clock):
    sampler = RefusalSampler()
    taken = [suppressed_before(sampler, str(n), 3) for n in range(10)]
    assert taken == [0, 0, 0, *[None] * 7]
    clock.now += 60
    assert suppressed_before(sampler, "0", 3) == 7


def test_a_flood_of_one_event_takes_nothing_from_another(clock):
    sampler = RefusalSampler()
    for n in range(10):
        suppressed_before(sampler, str(n), 3, "denied")
    assert [suppressed_before(sampler, str(n), 3, "refused") for n in range(4)] == [0, 0, 0, None]


def test_the_same_refusal_keeps_its_reference_for_a_minute(clock):
    sampler = RefusalSampler()
    first = sampler.take("e", ("a",), LIMIT).reference
    assert re.fullmatch(r"[0-9A-Za-z]{12}", first)
    clock.now += 59
    assert sampler.take("e", ("a",), LIMIT).reference == first
    assert sampler.suppress("e", ("a",), LIMIT) == Slot(first)
    assert sampler.take("e", ("b",), LIMIT).reference != first
    clock.now += 1
    assert sampler.take("e", ("a",), LIMIT).reference != first


def test_what_a_flood_suppresses_gets_a_reference_of_its_own(clock):
    sampler = RefusalSampler()
    written = sampler.take("e", ("a",), 1)
    suppressed = [sampler.take("e", (str(n),), 1) for n in range(50)]
    assert all(place.suppressed_before is None for place in suppressed)
    assert len({place.reference for place in [written, *suppressed]}) == 51


def test_only_what_is_not_to_be_written_can_be_left_out(clock):
    sampler = RefusalSampler()
    assert sampler.suppress("e", ("a",), 1) is None
    sampler.take("e", ("a",), 1)
    assert sampler.suppress("e", ("a",), 1) is not None
    assert sampler.suppress("e", ("b",), 1) is not None, "the limit is reached"
    clock.now += 60
    assert sampler.suppress("e", ("a",), 1) is None
    assert suppressed_before(sampler, "a", 1) == 2, "what was left out was counted"


def test_leaving_out_waits_for_nobody():
    sampler = RefusalSampler()
    sampler.take("e", ("a",), LIMIT)
    with sampler._lock:
        assert sampler.suppress("e", ("a",), LIMIT) is None
    assert sampler.suppress("e", ("a",), LIMIT) is not None


def test_what_is_remembered_of_refusals_is_bounded(clock):
    sampler = RefusalSampler()
    for n in range(sampler.MAX_KEYS + 5):
        assert suppressed_before(sampler, str(n), 10**6) == 0
    assert len(sampler._seen) == sampler.MAX_KEYS
    assert suppressed_before(sampler, "4", 10**6) == 0, "the oldest key was dropped"
    assert suppressed_before(sampler, str(sampler.MAX_KEYS), 10**6) is None


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 5), st.floats(0, 90), st.booleans()), max_size=60), st.integers(1, 5)
)
def test_no_minute_has_more_refusals_than_the_limit_and_none_is_lost(steps, limit):
    sampler, now, written = RefusalSampler(), 1_000.0, []
    suppressed = {"x": 0, "y": 0}
    real = module.time
    module.time = SimpleNamespace(monotonic=lambda: now)
    try:
        for event, key, pause, in_loop in steps:
            now += pause
            if in_loop and sampler.suppress(event, (str(key),), limit) is not None:
                suppressed[event] += 1
                continue
            number = suppressed_before(sampler, str(key), limit, event)
            if number is None:
                suppressed[event] += 1
                continue
            assert number == suppressed[event]
            suppressed[event] = 0
            assert not [at for at, *other in written if other == [event, key] and now - at < 60]
            written.append((now, event, key))
    finally:
        module.time = real
    # windows are fixed, not sliding: any sixty seconds touch at most two of them
    for event in "xy":
        times = [at for at, other, _ in written if other == event]
        assert all(sum(1 for other in times if at <= other < at + 60) <= 2 * limit for at in times)


def refuse(target="t", **fields):
    return record_refusal(Event.REQUEST_DENIED, actor=principals.anonymous("203.0.113.9"), target=target, reason="no", **fields)


@pytest.mark.django_db
def test_a_refusal_is_written_once_for_its_key():
    for _ in range(3):
        refuse()
    refuse("another")
    refuse("third", key=("anonymous",))
    refuse("fourth", key=("anonymous",))
    assert [(entry.target, entry.data) for entry in Entry.objects.order_by("id")] == [
        ("t", {}),
        ("another", {"suppressed": 2}),
        ("third", {}),
    ]


@pytest.mark.django_db
def test_a_refusal_with_facts_is_found_by_its_reference():
    references = [refuse(key=("k",), facts={"path": "/x"}) for _ in range(2)]
    entry = Entry.objects.get()
    assert references == [entry.reference] * 2
    assert (len(entry.reference), entry.data) == (12, {"path": "/x"})
    assert suppress(Event.REQUEST_DENIED, ("k",)) == entry.reference
    assert suppress(Event.SIGN_IN_REFUSED, ("k",)) is None
    refuse("another", facts={"path": "/y"})
    assert Entry.objects.first().data == {"path": "/y", "suppressed": 2}


@pytest.mark.django_db
def test_a_refusal_without_facts_has_no_reference():
    refuse()
    assert Entry.objects.get().reference == ""


@pytest.mark.django_db
def test_denied_requests_leave_refused_sign_ins_their_places(settings):
    settings.AUDIT_REFUSALS_PER_MINUTE = 3
    for n in range(5):
        refuse(str(n))
    record_refusal(Event.SIGN_IN_REFUSED, actor=principals.anonymous("203.0.113.9"), reason="wrong password")
    assert Entry.objects.filter(event="sign-in.refused").count() == 1


@pytest.mark.django_db
def test_a_flood_of_refusals_cannot_fill_the_disk(settings):
    settings.AUDIT_REFUSALS_PER_MINUTE = 7
    for n in range(50):
        refuse(str(n))
    assert Entry.objects.count() == 7


@pytest.mark.django_db
def test_promise_43_a_refusal_that_cannot_be_written_stays_a_refusal(caplog):
    # a real error of the database: nothing can be inserted any more
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_entry RENAME TO audit_entry_gone")
    refuse("secret-free target")
    assert "could not be written" in caplog.text
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_entry_gone RENAME TO audit_entry")
    assert not Entry.objects.exists()


@pytest.mark.django_db
def test_promise_43_a_lost_connection_does_not_turn_a_refusal_into_an_error(caplog):
    from django.db import InterfaceError

    def lose(execute, sql, params, many, context):
        raise InterfaceError("connection already closed")

    with connection.execute_wrapper(lose):
        refuse()
    assert "could not be written" in caplog.text
