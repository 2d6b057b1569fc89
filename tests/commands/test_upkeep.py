"""prune and doctor."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from axes.models import AccessAttempt
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts.models import (
    CliAuthorization,
    CliLoginRequest,
    DeletedUser,
    Job,
    JobKind,
    JobState,
    RoleSource,
    ServiceAccount,
    Session,
    Token,
    User,
)
from audit.models import Entry, EntryQuerySet
from doctor import files
from doctor.checks import CHECKS, findings
from doctor.finding import Audience
from rbac.models import Role
from tests.commands.run_command import run
from tests.factories import ServiceAccountFactory, make_token


@pytest.fixture
def old_and_new(pipeline: ServiceAccount, bob: User) -> None:
    """For each model, one row that is no longer used and one that is."""
    now = timezone.now()
    for days in (-1, 1):
        Session.objects.create(session_key=f"s{days}", session_data="", expire_date=now + timedelta(days=days))
        CliAuthorization.objects.create(
            challenge=f"c{days}", user=bob, session_auth_hash="", expires_at=now + timedelta(days=days)
        )
    for days in (400, 300):
        Entry.objects.create(event="user.created", actor="tests", at=now - timedelta(days=days))
    for minutes in (60, 1):
        CliLoginRequest.objects.create(challenge=f"c{minutes}", address="192.0.2.1", at=now - timedelta(minutes=minutes))
        attempt = AccessAttempt.objects.create(
            username=f"a{minutes}", ip_address="192.0.2.1", user_agent="", get_data="", post_data="", failures_since_start=1
        )
        AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=now - timedelta(minutes=minutes))
    for days, blocked in ((400, False), (300, False), (400, True)):
        name = f"{days}-{blocked}@example.com"
        DeletedUser.objects.create(username=name, role="user", blocked=blocked, deleted_at=now - timedelta(days=days))
    for days in (8, 6):
        Job.objects.create(
            kind=JobKind.USER_IMPORT, state=JobState.DONE, actor_kind="user", actor_pk=days, ended_at=now - timedelta(days=days)
        )
    Job.objects.create(kind=JobKind.USER_IMPORT, actor_kind="user", actor_pk=9, leased_at=now - timedelta(days=9))
    make_token(pipeline, days=-500)


def test_prune_deletes_rows_that_are_no_longer_used_and_nothing_else(old_and_new: None) -> None:
    expected = {"sessions": 1, "cli_authorizations": 1, "cli_login_requests": 1, "audit_entries": 1, "sign_in_failures": 1}
    expected |= {"deleted_users": 1, "jobs": 2}
    expected |= {"handovers": 1, "askers": 1}  # the former names
    assert json.loads(run("prune", "--dry-run", "--json").out) == {"dry_run": True, **expected}
    assert (Session.objects.count(), Entry.objects.count(), AccessAttempt.objects.count()) == (2, 2, 2)
    assert json.loads(run("prune", "--json").out) == {"dry_run": False, **expected}
    assert Session.objects.get().session_key == "s1"
    assert CliAuthorization.objects.get().challenge == "c1"
    assert CliLoginRequest.objects.get().challenge == "c1"
    assert Entry.objects.get(event="user.created").at > timezone.now() - timedelta(days=301)
    pruned = Entry.objects.get(event="audit.pruned")
    assert (pruned.actor.split()[0], pruned.data["entries"]) == ("manage.py", 1)
    assert AccessAttempt.objects.get().username == "a1"
    assert Token.objects.count() == 1
    assert [row.username for row in DeletedUser.objects.all()] == ["300-False@example.com", "400-True@example.com"]
    assert Job.objects.get().actor_pk == 6


def test_prune_deletes_many_rows_in_parts_and_records_them_once(old_and_new: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.management.commands.prune._AT_ONCE", 2)
    old = timezone.now() - timedelta(days=400)
    Entry.objects.bulk_create([Entry(event="user.created", actor="tests", at=old) for _ in range(4)])
    with CaptureQueriesContext(connection) as queries:
        assert json.loads(run("prune", "--json").out)["audit_entries"] == 5
    deletions = [query["sql"] for query in queries if query["sql"].startswith('DELETE FROM "audit_entry"')]
    assert len(deletions) == 3
    assert Entry.objects.get(event="audit.pruned").data["entries"] == 5


def test_a_prune_that_is_stopped_is_recorded(old_and_new: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.management.commands.prune._AT_ONCE", 1)
    Entry.objects.create(event="user.created", actor="tests", at=timezone.now() - timedelta(days=400))
    prune = EntryQuerySet.prune

    def stopped(entries: EntryQuerySet, before: datetime, at_most: int) -> int:
        if Entry.objects.filter(event="audit.pruned").count() and Entry.objects.filter(event="user.created").count() == 2:
            raise KeyboardInterrupt
        return prune(entries, before, at_most)

    monkeypatch.setattr(EntryQuerySet, "prune", stopped)
    assert run("prune").code == 130
    assert Entry.objects.filter(event="user.created").count() == 2, "one of two old ones is deleted"
    assert Entry.objects.get(event="audit.pruned").data["entries"] == 2


def test_prune_keeps_audit_entries_for_audit_keep_days(old_and_new: None, settings: Settings) -> None:
    settings.AUDIT_KEEP_DAYS = 500
    run("prune")
    assert Entry.objects.count() == 2


def test_prune_prints_the_numbers_of_deleted_rows(old_and_new: None) -> None:
    lines = [line.split() for line in run("prune").out.splitlines()]
    assert ["expired", "sessions", "1"] in lines


def codes() -> dict[str, str]:
    """Return the findings of doctor, code to severity."""
    return {row["code"]: row["severity"] for row in json.loads(run("doctor", "--json").out)["findings"]}


@pytest.fixture
def healthy(alice: User, read_write: None, settings: Settings, tmp_path: Path) -> None:
    """An installation without a finding, except security warnings of Django."""
    settings.DATA_DIR = tmp_path
    User.objects.update(role_source=RoleSource.MANUAL)
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    settings.TRUSTED_PROXIES = ["127.0.0.1"]


def test_a_healthy_installation_has_no_error_and_exit_code_0(healthy: None) -> None:
    assert not [code for code, severity in codes().items() if severity == "error" or not code.startswith("security.")]
    assert run("doctor").code == 0


def test_doctor_says_what_to_do_when_first_admin_is_used_up(alice: User, settings: Settings) -> None:
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    User.objects.all().delete()
    out = " ".join(run("doctor").out.split())
    assert "no first sign-in creates one: first-admin works once. Run: manage.py create_user NAME --role admin." in out


def test_an_empty_installation_has_errors_and_exit_code_1(db: None) -> None:
    ended = run("doctor")
    assert ended.code == 1
    assert codes().items() >= {"users.no-admin": "error", "routes.none": "error", "skyauth.W101": "warning"}.items()
    assert "Run: manage.py create_user NAME --role admin" in ended.out
    assert ended.out.index("error") < ended.out.index("warning")


def test_doctor_shows_the_checks_that_stop_other_commands(healthy: None, settings: Settings) -> None:
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    settings.TRUSTED_PROXIES = []
    settings.RBAC_DEFAULT_ROLE = "nonsense"
    assert codes().items() >= {"skyauth.E003": "error", "skyauth.E011": "error", "skyauth.W102": "warning"}.items()


def test_doctor_names_tokens_that_never_expire_expire_soon_or_are_unused(healthy: None, pipeline: ServiceAccount) -> None:
    now = timezone.now()
    make_token(pipeline)
    assert not [code for code in codes() if code.startswith("tokens.")]
    make_token(pipeline, days=None)
    make_token(pipeline, days=6)
    row = make_token(pipeline, created_at=now - timedelta(days=95))[0]
    make_token(pipeline, days=None, revoked_at=now)
    found = {each.code: each for each in findings(Audience.OPERATOR) if each.code.startswith("tokens.")}
    assert set(found) == {"tokens.endless", "tokens.expiring", "tokens.unused"}
    assert found["tokens.unused"].text == f"Tokens that have not been used for 90 days: pipeline {row.key_id}."


def test_doctor_names_service_accounts_that_their_owner_limits(
    healthy: None, pipeline: ServiceAccount, bob: User, vera: User
) -> None:
    assert not [code for code in codes() if code.startswith("accounts.")]
    User.objects.filter(pk=bob.pk).update(is_active=False)
    ServiceAccountFactory(name="tall", owner=vera)
    found = {each.code: each.text for each in findings(Audience.OPERATOR)}
    assert found["accounts.owner-disabled"].endswith("their owner is disabled: pipeline.")
    assert found["accounts.above-owner"].endswith("their owner's role has fewer: tall.")


def test_doctor_names_admins_without_an_assigned_role(healthy: None, bob: User) -> None:
    assert "users.admin-by-default" not in codes()
    User.objects.filter(pk=bob.pk).update(role=Role.objects.get(name="admin"), role_source=RoleSource.DEFAULT)
    assert codes()["users.admin-by-default"] == "warning"


def test_a_long_list_of_names_is_shortened(healthy: None) -> None:
    for n in range(8):
        make_token(ServiceAccountFactory(name=f"m{n}"), days=None)
    text = next(each.text for each in findings(Audience.OPERATOR) if each.code == "tokens.endless")
    assert text.endswith(" and 3 more.")


OPEN = [(0o755, 0o644, True), (0o755, 0o640, True), (0o755, 0o602, True), (0o700, 0o644, False), (0o755, 0o600, False)]


@pytest.mark.parametrize(("folder", "mode", "is_open"), OPEN)
@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("secret_key", "files.secret-key"),
        ("db.sqlite3", "files.database"),
        ("db.sqlite3-wal", "files.database"),
        ("db.sqlite3-shm", "files.database"),
        ("copy.sqlite3", "files.data"),
        ("people.csv", "files.data"),
        (".env", "files.dotenv"),
    ],
)
def test_a_file_of_the_data_that_others_can_read_or_change_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, folder: int, mode: int, is_open: bool, file: str, code: str
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:  # the directories of pytest are not readable by other users
        data = Path(name)
        monkeypatch.setattr(files, "connections", {"default": SimpleNamespace(vendor="sqlite")})
        monkeypatch.setitem(settings.DATABASES, "default", {"NAME": data / "db.sqlite3"})
        settings.DATA_DIR, settings.BASE_DIR = (data / "data" if file == ".env" else data), data
        (data / file).write_text("SECRET_KEY=x")
        (data / file).chmod(mode)
        data.chmod(folder)
        found = [finding for check in CHECKS if check.code == code for finding in check.find(check)]
    assert bool(found) is is_open
    assert [finding.todo for finding in found] == [f"Run: chmod 600 {data / file}"] * is_open
