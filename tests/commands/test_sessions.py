"""list_sessions, end_session."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import CliAuthorization, Session, SessionKind, User
from audit.models import Entry
from authn import sessions
from authn.session_store import digest
from core.errors import Forbidden
from tests.commands.run_command import run
from tests.factories import UserFactory, principal

AGENT = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"


def make_session(user: User | None, key: str, kind: str = SessionKind.BROWSER, *, minutes: int = 60, used: int = 0) -> Session:
    """Return a session with this key, which was used so many minutes ago."""
    now = timezone.now()
    return Session.objects.create(
        session_key=digest(key), session_data="", user=user, kind=kind, expire_date=now + timedelta(minutes=minutes),
        address="203.0.113.9", agent=AGENT, last_used_at=now - timedelta(minutes=used),
    )  # fmt: skip


@pytest.fixture
def several(alice: User, bob: User) -> dict[str, Session]:
    """Sessions of alice and bob, and what is not listed: an expired one, an anonymous one and one of a disabled user."""
    make_session(None, "anonymous")
    make_session(UserFactory(is_active=False), "disabled")
    return {
        "browser": make_session(bob, "browser"),
        "cli": make_session(bob, "cli", SessionKind.CLI, used=2),
        "alice": make_session(alice, "alice", used=1),
        "expired": make_session(bob, "expired", minutes=-1),
    }


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["browser", "alice", "cli"]),
        (["--user", "Bob@example.com"], ["browser", "cli"]),
        (["--kind", "cli"], ["cli"]),
        (["--user", "alice@example.com", "--kind", "cli"], []),
    ],
)
def test_live_sessions_are_listed_the_last_used_one_first(
    several: dict[str, Session], words: list[str], names: list[str]
) -> None:
    answer = json.loads(run("list_sessions", *words, "--json").out)
    assert [row["id"] for row in answer] == [several[name].session_key for name in names]


def test_a_listed_session_names_its_client_and_no_secret(several: dict[str, Session]) -> None:
    row = json.loads(run("list_sessions", "--kind", "cli", "--json").out)[0]
    assert (row["user"], row["kind"], row["address"], row["agent"]) == ("bob@example.com", "cli", "203.0.113.9", AGENT)
    assert row["expires_at"] == several["cli"].expires_at.isoformat()
    table = run("list_sessions").out
    assert several["cli"].session_key[:12] in table
    assert several["cli"].session_key[:13] not in table
    assert "session_data" not in run("list_sessions", "--json").out


def test_a_table_of_sessions_fits_a_terminal_of_80_columns(several: dict[str, Session], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("django.core.management.base.OutputWrapper.isatty", lambda self: True)
    lines = run("list_sessions", "--no-color").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("───" in line for line in lines)


def test_no_sessions_are_said_beside_standard_output(bob: User) -> None:
    assert run("list_sessions").err == "No sessions match.\n"
    assert run("list_sessions", "--json").out == "[]\n"
    assert run("list_sessions", "--user", "mallory").code == 1


def test_sessions_are_ended_by_the_ids_that_the_table_shows(several: dict[str, Session]) -> None:
    ids = [line.split()[0] for line in run("list_sessions", "--user", "bob@example.com").out.splitlines()[1:]]
    assert run("end_session", *ids).err == "2 sessions ended.\n"
    assert [row["user"] for row in json.loads(run("list_sessions", "--json").out)] == ["alice@example.com"]
    assert set(Entry.objects.values_list("event", "target")) == {("session.ended", "bob@example.com")}
    assert json.loads(run("end_session", several["alice"].session_key, "--json").out) == {"ended": 1}


def test_all_sessions_of_a_user_and_unfinished_logins_are_ended(several: dict[str, Session], bob: User) -> None:
    CliAuthorization.objects.create(challenge="c" * 43, user=bob, session_auth_hash="h", expires_at=timezone.now())
    assert run("end_session", "--user", "bob@example.com", "--all").err == "3 sessions ended.\n"
    assert not CliAuthorization.objects.exists()
    assert set(Session.objects.filter(user__is_active=True)) == {several["alice"]}
    assert run("end_session", "--user", "bob@example.com", "--all").err == "0 sessions ended.\n"


def test_ending_several_is_all_or_nothing(several: dict[str, Session]) -> None:
    ended = run("end_session", several["cli"].session_key, "0" * 12)
    assert (ended.code, "There is no session '000000000000'." in ended.err) == (1, True)
    assert Session.objects.filter(pk=several["cli"].pk).exists()


def test_a_beginning_of_several_ids_is_an_error(bob: User) -> None:
    for letter in "ab":
        Session.objects.create(
            session_key="0" * 63 + letter, session_data="", user=bob, expire_date=timezone.now() + timedelta(hours=1)
        )
    assert "Several session ids begin with '0000000000'." in run("end_session", "0" * 10).err
    assert Session.objects.count() == 2


@pytest.mark.parametrize(
    "words", [[], ["--all"], ["--user", "bob@example.com"], ["0" * 12, "--user", "bob@example.com", "--all"]]
)
def test_wrong_usage_ends_no_session(several: dict[str, Session], words: list[str]) -> None:
    assert run("end_session", *words).code == 2
    assert Session.objects.count() == 6


def test_a_cookie_instead_of_an_id_is_an_error_that_does_not_show_it(bob: User) -> None:
    ended = run("end_session", "kqx4secretcookievalue")
    assert ended.code != 0
    assert "kqx4" not in ended.err + ended.out


def test_only_an_actor_with_every_permission_lists_the_sessions_of_all_users(alice: User, bob: User) -> None:
    assert sessions.list_all_sessions(actor=principal(alice)).count() == 0
    with pytest.raises(Forbidden):
        sessions.list_all_sessions(actor=principal(bob))
