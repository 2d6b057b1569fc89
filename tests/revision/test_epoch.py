"""Which cached data is valid after a read of the policy revision: only a log without a gap, of the same history, keeps any."""

import pytest

from core.watched import ROUTES
from revision import epoch as epoch_module
from revision.epoch import MAX_CHANGES, Epoch, Follower, LoggedChange, Position, is_chain

KNOWN = Position(5, "e")
CHAIN = [
    LoggedChange(6, "e", "f", "user", "1"),
    LoggedChange(7, "f", "g", "role", "viewer"),
    LoggedChange(7, "f", "g", "user", "2"),
    LoggedChange(8, "g", "h", "routes", ""),
]
NOW = Position(8, "h")
BOB, VERA, VIEWER = ("user", "1"), ("user", "2"), ("role", "viewer")


def changed(place, **fields):
    return [change._replace(**fields) if n == place else change for n, change in enumerate(CHAIN)]


def test_an_unbroken_chain_keeps_the_epoch_and_what_did_not_change():
    follower = Follower()
    first = follower.follow(KNOWN, [], "here")
    assert follower.follow(NOW, CHAIN, "here") is first
    assert first.number == 8
    assert not first.is_current(5, [BOB])
    assert first.is_current(6, [BOB])
    assert not first.is_current(6, [BOB, VIEWER])
    assert first.is_current(7, [BOB, VIEWER, VERA])
    assert not first.is_current(7, [ROUTES])
    assert first.is_current(5, [("user", "3")])
    assert [first.is_current(number, None) for number in (7, 8)] == [False, True], "what depends on everything"


@pytest.mark.parametrize(
    ("now", "changes"),
    [
        (NOW, []),
        (NOW, CHAIN[1:]),
        (NOW, CHAIN[:-1]),
        (NOW, [CHAIN[0], *CHAIN[3:]]),
        (NOW, list(reversed(CHAIN))),
        (NOW, changed(0, previous="x")),
        (NOW, changed(1, previous="x")),
        (NOW, changed(2, value="x")),
        (NOW, changed(3, value="x")),
        (NOW, changed(3, number=9)),
        (NOW._replace(value="x"), CHAIN),
        (NOW._replace(number=9), CHAIN),
        (Position(5, "x"), []),
        (Position(4, "d"), []),
        (Position(4, "e"), []),
        (Position(6, "x"), CHAIN[:1]),
    ],
)
def test_promise_54_a_gap_or_another_history_begins_an_epoch(now, changes):
    follower = Follower()
    first = follower.follow(KNOWN, [], "here")
    second = follower.follow(now, changes, "here")
    assert second is not first
    assert second.number == now.number
    assert follower.follow(now, [], "here") is second


def test_promise_54_another_file_or_server_begins_an_epoch():
    follower = Follower()
    first = follower.follow(KNOWN, [], "here")
    assert follower.follow(KNOWN, [], "there") is not first


def test_promise_54_a_log_that_may_be_cut_off_begins_an_epoch():
    """The last change of a full page can have rows on the next one."""
    row = LoggedChange(6, "e", "f", "user", "1")
    assert is_chain(KNOWN, Position(6, "f"), [row] * (MAX_CHANGES - 1))
    assert not is_chain(KNOWN, Position(6, "f"), [row] * MAX_CHANGES)


@pytest.mark.parametrize("kind", ["all", ""])
def test_a_change_of_everything_ends_what_was_read_before_it(kind):
    epoch = Epoch(5)
    epoch.advance(6, [LoggedChange(6, "e", "f", kind or "all", "")])
    assert not epoch.is_current(5, [BOB])
    assert not epoch.is_current(5, [])
    assert epoch.is_current(6, [BOB])


def test_an_epoch_forgets_the_oldest_changes_and_what_was_read_before_them(monkeypatch):
    monkeypatch.setattr(epoch_module, "_MAX_TAGS", 2)
    epoch = Epoch(0)
    for number in range(1, 5):
        epoch.advance(number, [LoggedChange(number, "", "", "user", str(number))])
    assert len(epoch._changed) == 2
    assert [epoch.is_current(number, [("user", "1")]) for number in range(4)] == [False, False, True, True]
    epoch.advance(5, [LoggedChange(5, "", "", "user", "3")])
    epoch.advance(6, [LoggedChange(6, "", "", "user", "6")])
    assert not epoch.is_current(3, [("user", "3")])
    assert not epoch.is_current(3, [("user", "4")]), "it was forgotten: 3 changed again and is newer"
