"""audit: the audit log in a terminal, filtered and followed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from audit.events import Event
from audit.models import Entry
from ops.audit_log import AuditFollower
from tests.commands.run_command import ROOT, run
from tests.servers import database, directory, environment


def make_entry(event: str, actor: str = "alice@example.com", target: str = "x", *, ago: float = 0, **values: object) -> Entry:
    """Return an entry that is so many hours old."""
    at = timezone.now() - timedelta(hours=ago)
    return Entry.objects.create(event=event, actor=actor, target=target, at=at, **values)


@pytest.fixture
def entries(db: None) -> None:
    """Four entries, the oldest one first."""
    make_entry(Event.USER_CREATED, target="bob@example.com", ago=50)
    make_entry(Event.REQUEST_DENIED, "bob@example.com", "GET /jobs", ago=3, reason="needs upstream:read", peer="192.0.2.7")
    make_entry(Event.SIGN_IN_REFUSED, "anonymous", ago=2)
    make_entry(Event.TOKEN_ISSUED, target="pipeline", ago=1, data={"key_id": "4Qd0Zp7XmKaB"})


@pytest.mark.parametrize(
    ("words", "events"),
    [
        ([], ["user.created", "request.denied", "sign-in.refused", "token.issued"]),
        (["--limit", "2"], ["sign-in.refused", "token.issued"]),
        (["--limit", "0"], ["user.created", "request.denied", "sign-in.refused", "token.issued"]),
        (["--event", "token.issued"], ["token.issued"]),
        (["--denied"], ["request.denied", "sign-in.refused"]),
        (["--denied", "--actor", "bob@example.com"], ["request.denied"]),
        (["--target", "pipeline"], ["token.issued"]),
        (["--peer", "192.0.2.7"], ["request.denied"]),
        (["--search", "upstream"], ["request.denied"]),
        (["--since", "150m"], ["sign-in.refused", "token.issued"]),
        (["--since", "1d"], ["request.denied", "sign-in.refused", "token.issued"]),
        (["--until", "2h"], ["user.created", "request.denied", "sign-in.refused"]),
        (["--since", "4h", "--until", "150m"], ["request.denied"]),
        (["--actor", "nobody"], []),
    ],
)
def test_entries_are_shown_by_what_is_asked_the_newest_one_last(entries: None, words: list[str], events: list[str]) -> None:
    assert [row["event"] for row in json.loads(run("audit", *words, "--json").out)] == events


def test_a_time_can_be_written_in_iso_8601(db: None) -> None:
    for hour in (11, 13):
        Entry.objects.create(event="user.created", actor="a", at=datetime(2026, 11, 30, hour, tzinfo=UTC))
    for text, number in (("2026-11-30T12:00:00Z", 1), ("2026-11-30T12:30:00+01:00", 1), ("2026-11-30", 2), ("2026-12-01", 0)):
        assert len(json.loads(run("audit", "--since", text, "--json").out)) == number, text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--since", "yesterday"], "--since: Write the time as in 2026-11-30T13:00:00Z (ISO 8601)."),
        (["--since", "999999d"], "the time is out of range."),
        (["--event", "token.isued"], "--event: There is no event named 'token.isued'. Did you mean token.issued?"),
        (["--since", "1h", "--until", "2h"], "--until: The end is before the start."),
        (["--limit", "-1"], "N must be a whole number of at least 0."),
        (["--follow", "--until", "1h"], "Use --follow without --until."),
    ],
)
def test_a_wrong_filter_is_an_error(entries: None, words: list[str], message: str) -> None:
    ended = run("audit", *words)
    assert ended.code != 0
    assert ended.out == ""
    assert message in ended.err


def test_json_has_everything_of_an_entry(entries: None) -> None:
    row = json.loads(run("audit", "--event", "token.issued", "--json").out)[0]
    assert (row["actor"], row["target"], row["data"]) == ("alice@example.com", "pipeline", {"key_id": "4Qd0Zp7XmKaB"})
    assert set(row) == {"id", "at", "event", "actor", "actor_uid", "method", "peer", "target", "reason", "reference", "data"}


def test_the_table_has_seconds_and_cannot_be_forged(db: None) -> None:
    make_entry("user.created", actor="\x1b[2Jmallory\nuser.created", target="[red]")
    table = run("audit").out
    assert "\x1b" not in table
    assert len(table.splitlines()) == 2
    assert f"{Entry.objects.get().at:%Y-%m-%d %H:%M:%S}" in table
    assert "[red]" in table


def test_the_table_fits_a_terminal_of_80_columns(entries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make_entry(Event.SERVICE_ACCOUNT_CREATED, "manage.py create_service_account (operator)", "GET /api/v1/users/4d6a7c5f/tokens")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("django.core.management.base.OutputWrapper.isatty", lambda self: True)
    lines = run("audit", "--no-color").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("───" in line for line in lines)


def test_an_empty_log_is_said_beside_standard_output(db: None) -> None:
    assert (run("audit").out, run("audit").err) == ("", "No entries match.\n")
    assert run("audit", "--json").out == "[]\n"


def test_a_follower_finds_each_new_entry_once(entries: None) -> None:
    follower = AuditFollower()
    assert list(follower.new(Entry.objects.all())) == []
    first = make_entry("user.created")
    second = make_entry("user.updated")
    assert list(follower.new(Entry.objects.all())) == [first, second]
    assert list(follower.new(Entry.objects.all())) == []


def test_a_follower_finds_an_entry_that_is_committed_after_others_with_higher_numbers(entries: None) -> None:
    number = Entry.objects.latest("pk").pk
    follower = AuditFollower()
    later = make_entry("user.created", pk=number + 10)
    assert list(follower.new(Entry.objects.all())) == [later]
    for late in (number + 5, number + 7, number + 1):
        assert list(follower.new(Entry.objects.all())) == []
        assert list(follower.new(Entry.objects.filter(actor="alice@example.com"))) == []
        entry = make_entry("user.created", pk=late)
        assert list(follower.new(Entry.objects.all())) == [entry]


def test_a_follower_forgets_what_is_long_past_and_misses_nothing(entries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr("ops.audit_log.time.monotonic", lambda: now[0])
    follower = AuditFollower()
    found = []
    for _ in range(50):
        now[0] += 20
        made = [make_entry("user.created").pk for _ in range(3)]
        found += [(made, [entry.pk for entry in follower.new(Entry.objects.all())])]
    assert [new for _, new in found] == [made for made, _ in found]
    assert len(follower._seen) <= 3 * 5


@contextmanager
def following(data: Path, *words: str, **where: str) -> "Iterator[subprocess.Popen[str]]":
    """Follow the log in a child process."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "audit", "--follow", *words], cwd=ROOT, env=environment(DATA_DIR=str(data), **where),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def manage(data: Path, *words: str, **where: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *words], cwd=ROOT, env=environment(DATA_DIR=str(data), **where),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.e2e
def test_entries_are_followed_as_lines_and_as_json_until_it_is_stopped() -> None:
    with directory() as data, database() as where:
        manage(data, "bootstrap", **where)
        with following(data, **where) as text, following(data, "--json", "--event", "service-account.created", **where) as lines:
            assert text.stdout is not None
            assert lines.stdout is not None
            assert "user.created  manage.py bootstrap (" in text.stdout.readline(), "It begins with the newest entries."
            for name in ("first", "second"):
                manage(data, "create_service_account", name, **where)
                row = json.loads(lines.stdout.readline())
                assert (row["event"], row["target"]) == ("service-account.created", name)
                assert "service-account.created  manage.py create_service_account (" in text.stdout.readline()
            text.send_signal(signal.SIGINT)
            assert (text.wait(60), text.stderr and text.stderr.read()) == (130, "CommandError: Stopped.\n")


@pytest.mark.e2e
@pytest.mark.sqlite
def test_following_ends_quietly_when_the_reader_has_gone_although_nothing_happens() -> None:
    with directory() as data, database() as where:
        manage(data, "bootstrap", **where)
        with following(data, **where) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert (process.stderr.read(), process.wait(60)) == ("", 141)


@pytest.mark.e2e
@pytest.mark.sqlite
def test_a_closed_pipe_ends_a_long_log_quietly() -> None:
    with directory() as data, database() as where:
        manage(data, "bootstrap", **where)
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "manage.py", "audit", "--limit", "0", "--json"], cwd=ROOT,
            env=environment(DATA_DIR=str(data), **where), stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")
