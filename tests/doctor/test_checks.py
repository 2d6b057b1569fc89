"""The list of checks: every finding is shown by each reader that it is for, and by no other."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from django.db import OperationalError, connection
from django.utils import timezone
from jwt.algorithms import RSAAlgorithm
from pytest_django import Settings

from accounts.models import RoleSource, Session, SignIn, User
from authn import lockout
from authn.credentials import InvalidCredential, ProxyHeader
from authn.identify import identify, record_bad_credential
from authn.jwt_verify import OVERAGE
from dashboard.health import health_items
from doctor import checks, files, skypilot
from doctor.checks import CHECKS, findings
from doctor.finding import Audience, Check, Finding, Severity
from integrations.skypilot.client import UpstreamUnavailable
from rbac.models import Role, Route
from revision import triggers
from skyauth import __version__, health
from tests.commands.run_command import run
from tests.databases import on_postgres
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def healthy(alice: User, read_write: None, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation without a finding."""
    User.objects.update(role_source=RoleSource.MANUAL)
    settings.DATA_DIR = tmp_path
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    settings.SILENCED_SYSTEM_CHECKS = [*settings.SILENCED_SYSTEM_CHECKS, *(f"security.W{number:03}" for number in range(30))]
    monkeypatch.setattr(files, "reachable_by_others", lambda path: False)
    return settings


def drop_trigger() -> None:
    name = next(each.name for each in triggers.installed(connection) if each.table == "accounts_token")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {name}" + ("" if connection.vendor == "sqlite" else " ON accounts_token"))


def execute(statement: str) -> None:
    connection.check_constraints()  # runs the deferred triggers of PostgreSQL, which would fail at the end of the test
    with connection.cursor() as cursor:
        cursor.execute(statement)


def forget_migration() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_migrations WHERE app = 'accounts'"
            " AND name = (SELECT max(name) FROM django_migrations WHERE app = 'accounts')"
        )


def disable_owner() -> None:
    ServiceAccountFactory(name="stopped", owner=UserFactory(is_active=False))


def raise_above_owner() -> None:
    viewer, user = (Role.objects.get(name=name) for name in ("viewer", "user"))
    ServiceAccountFactory(name="tall", owner=UserFactory(role=viewer), role=user)


def use_from(addresses: list[str]) -> None:
    """Let as many service accounts use a token, one from each of these addresses."""
    for address in addresses:
        make_token(ServiceAccountFactory(), last_used_at=timezone.now(), last_used_from=address)


def unused_admin() -> None:
    long_ago = timezone.now() - timedelta(days=100)
    UserFactory(role=Role.objects.get(name="admin"), role_source=RoleSource.MANUAL, created_at=long_ago)


def group_header(settings: Any) -> None:
    settings.AUTH_USER_HEADER_FORMAT, settings.AUTH_GROUPS_HEADER = "plaintext", "X-Auth-Request-Groups"


def sign_in(groups: str | None = None) -> None:
    identify(ProxyHeader("carol@example.com", groups), client="192.0.2.7")


def sign_in_with_unreadable_groups() -> None:
    identify(ProxyHeader("carol@example.com", groups_fault="the groups header is not UTF-8"), client="192.0.2.7")


def refuse_overage() -> None:
    refusal = InvalidCredential(OVERAGE, method="proxy", claimed="carol@example.com")
    record_bad_credential(refusal, client="192.0.2.7")


def refuse(name: str) -> None:
    with pytest.raises(InvalidCredential):
        identify(ProxyHeader(name), client="192.0.2.7")


def signed_by(settings: Any, key_set: str) -> None:
    """Switch assertions on, with this key set."""
    file = settings.DATA_DIR / "keys.json"
    file.write_text(key_set)
    settings.AUTH_USER_HEADER_FORMAT, settings.AUTH_JWT_JWKS = "jwt", str(file)
    settings.AUTH_JWT_ISSUER, settings.AUTH_JWT_AUDIENCE = "https://idp.example.com", ["skyauth"]


def no_server(*_: Any, **__: Any) -> None:
    raise UpstreamUnavailable("The SkyPilot API server does not answer.")


BREAK: dict[str, Callable[[Any, pytest.MonkeyPatch], object]] = {
    "database.migrations": lambda _, __: forget_migration(),
    "database.tables": lambda _, __: execute("DROP TABLE accounts_policychange"),
    "database.triggers": lambda _, __: drop_trigger(),
    "database.revision": lambda _, __: execute("DELETE FROM accounts_generation"),
    "database.changes": lambda _, __: execute("ALTER TABLE accounts_policychange RENAME COLUMN kind TO former"),
    "files.secret-key": lambda settings, patch: (
        (settings.DATA_DIR / "secret_key").touch(),
        patch.setattr(files, "reachable_by_others", lambda path: path.name == "secret_key"),
    ),
    "files.database": lambda settings, patch: (
        (settings.DATA_DIR / "db").touch(),
        patch.setattr(files, "reachable_by_others", lambda path: path.name == "db"),
        patch.setitem(settings.DATABASES, "default", {"NAME": settings.DATA_DIR / "db"}),
        patch.setattr(files, "connections", {"default": SimpleNamespace(vendor="sqlite")}),
    ),
    "files.database-names": lambda settings, patch: (
        (settings.DATA_DIR / "db").touch(),
        (settings.DATA_DIR / "other").hardlink_to(settings.DATA_DIR / "db"),
        patch.setitem(settings.DATABASES, "default", {"NAME": settings.DATA_DIR / "db"}),
        patch.setattr(files, "connections", {"default": SimpleNamespace(vendor="sqlite")}),
    ),
    "files.data": lambda settings, patch: (
        (settings.DATA_DIR / "backup.sqlite3").touch(),
        patch.setattr(files, "reachable_by_others", lambda path: path.name == "backup.sqlite3"),
    ),
    "files.dotenv": lambda settings, patch: (
        (settings.DATA_DIR / ".env").write_text("DEBUG=1\nSECRET_KEY=abc\n"),
        setattr(settings, "BASE_DIR", settings.DATA_DIR),
        patch.setattr(files, "reachable_by_others", lambda path: path.name == ".env"),
    ),
    "skyauth.W101": lambda settings, _: setattr(settings, "RBAC_DEFAULT_ROLE", "admin"),
    "skyauth.W102": lambda settings, _: setattr(settings, "TRUSTED_PROXIES", []),
    "skyauth.W103": lambda settings, _: setattr(settings, "PUBLIC_URL", "http://auth.example.com"),
    "skyauth.W104": lambda settings, _: setattr(settings, "TRUSTED_PROXIES", ["10.0.0.0/8"]),
    "skyauth.W106": lambda settings, _: setattr(settings, "AUTH_STRING", f"team:$2b$10${'a' * 53}"),
    "skyauth.W107": lambda settings, _: setattr(settings, "UNUSED_SETTINGS", {"CACHE_URL": "There is no cache."}),
    "skyauth.W108": lambda settings, _: setattr(settings, "CHANGED_SETTINGS", {"AUTH_GROUPS_HEADER"}),
    "skyauth.E010": lambda settings, _: (setattr(settings, "TOKEN_MAX_DAYS", 7), setattr(settings, "TOKEN_DEFAULT_DAYS", 30)),
    "skyauth.E030": lambda settings, _: (setattr(settings, "DEBUG", True), setattr(settings, "SECURE_COOKIES", True)),
    "skyauth.E031": lambda settings, _: (setattr(settings, "ALLOWED_HOSTS", ["*"]), setattr(settings, "SECURE_COOKIES", True)),
    "routes.none": lambda _, __: Route.objects.all().delete(),
    "routes.never-decide": lambda _, __: Route.objects.bulk_create(
        [Route(position=99, path="/late", methods=["GET"], permission="upstream:read")]
    ),
    "users.no-admin": lambda _, __: User.objects.update(is_active=False),
    "users.admin-by-default": lambda _, __: User.objects.update(role_source=RoleSource.DEFAULT),
    "users.admin-unused": lambda _, __: unused_admin(),
    "identity.groups-unread": lambda _, __: GroupRoleFactory(),
    "identity.group-never-matches": lambda settings, _: (group_header(settings), GroupRoleFactory(group="dev,ops")),
    "identity.groups-missing": lambda settings, _: (group_header(settings), sign_in()),
    "identity.group-overage": lambda _, __: refuse_overage(),
    "identity.keys": lambda settings, _: signed_by(settings, '{"keys": []}'),
    "identity.users-refused": lambda settings, _: (group_header(settings), refuse("CORP\\carol")),
    "identity.groups-ignored": lambda settings, _: (group_header(settings), sign_in("dev"), sign_in_with_unreadable_groups()),
    "accounts.owner-disabled": lambda _, __: disable_owner(),
    "accounts.above-owner": lambda _, __: raise_above_owner(),
    "clients.one-address": lambda _, __: use_from(["10.0.0.5"] * 5),
    "tokens.endless": lambda _, __: make_token(ServiceAccountFactory(), days=None),
    "tokens.expiring": lambda _, __: make_token(ServiceAccountFactory(), days=2),
    "tokens.unused": lambda _, __: make_token(ServiceAccountFactory(), created_at=timezone.now() - timedelta(days=100)),
    "skypilot.unreachable": lambda settings, patch: (
        setattr(settings, "SKYPILOT_URL", "http://127.0.0.1:46580"),
        patch.setattr(skypilot, "ask", no_server),
    ),
}

if on_postgres():
    BREAK["database.connections"] = lambda settings, _: setattr(settings, "DATABASE_POOL_SIZE", 1_000)


def check_of(code: str) -> Check:
    """Return the check that reports a code."""
    exact = [check for check in CHECKS if check.code == code]
    family = [check for check in CHECKS if check.code.endswith("*") and code.startswith(check.code[:-1])]
    return (exact + sorted(family, key=lambda check: -len(check.code)))[0]


def test_a_healthy_installation_has_no_finding_for_any_reader(healthy: Settings) -> None:
    assert {audience: findings(audience) for audience in Audience} == {audience: [] for audience in Audience}
    assert json.loads(run("doctor", "--json").out) == {"version": __version__, "findings": []}
    assert (health_items(), health.lacking()) == ([], "")


@pytest.mark.parametrize("code", BREAK)
def test_every_reader_that_a_finding_is_for_shows_it(healthy: Settings, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    BREAK[code](healthy, monkeypatch)
    check = check_of(code)
    assert check_shown(code) == {audience: audience in check.audience for audience in Audience}


def check_shown(code: str) -> dict[Audience, bool]:
    """Return which readers show the finding that `doctor` has under this code."""
    ended = run("doctor", "--json")
    rows = {row["code"]: row for row in json.loads(ended.out)["findings"]}
    assert ended.code == int(any(row["severity"] == "error" for row in rows.values()))
    what = rows[code]["what"] if code in rows else code
    return {
        Audience.OPERATOR: code in rows,
        Audience.ADMIN: any(what.startswith(item.what) for item in health_items()),
        Audience.READINESS: what in health.lacking(),
    }


def test_every_check_is_provoked_by_the_test_above() -> None:
    provoked = {check_of(code).code for code in BREAK}
    unprovoked = {"database.unreachable"} | (set() if on_postgres() else {"database.connections"})
    assert {check.code for check in CHECKS} - provoked == unprovoked
    assert len({check.code for check in CHECKS}) == len(CHECKS)


def test_a_database_that_cannot_be_queried_is_the_only_finding_about_it(healthy: Settings) -> None:
    def fail(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> None:
        raise OperationalError("disk I/O error\nat line 7")

    with connection.execute_wrapper(fail):
        [found] = findings(Audience.OPERATOR)
        lacking = health.lacking()
    assert found == Finding(
        Severity.ERROR, "database.unreachable", "The database cannot be used: disk I/O error.", "Check DATABASE_URL."
    )
    assert lacking == "The database cannot be used: disk I/O error. Check DATABASE_URL."


def test_nothing_that_needs_the_tables_is_checked_before_the_migrations(healthy: Settings) -> None:
    forget_migration()
    Route.objects.all().delete()
    assert [finding.code for finding in findings(Audience.OPERATOR)] == ["database.migrations"]


def test_a_missing_trigger_is_named_with_its_table_and_what_to_run(healthy: Settings) -> None:
    drop_trigger()
    [found] = findings(Audience.ADMIN)
    assert (found.code, found.severity, found.names) == ("database.triggers", Severity.ERROR, ("accounts_token",))
    assert health.lacking() == f"{found.text} Run: manage.py migrate"


def test_the_checks_of_the_deployment_are_found_once(healthy: Settings) -> None:
    healthy.TRUSTED_PROXIES = []
    assert [finding.code for finding in findings(Audience.OPERATOR)] == ["skyauth.W102"]


def test_errors_stand_first(healthy: Settings) -> None:
    healthy.TRUSTED_PROXIES = []
    Route.objects.all().delete()
    assert [finding.code for finding in findings(Audience.ADMIN)] == ["routes.none", "skyauth.W102"]


def test_a_check_of_rows_names_the_first_and_counts_the_others(healthy: Settings) -> None:
    for number in range(7):
        UserFactory(username=f"admin{number}@example.com", role=Role.objects.get(name="admin"), role_source=RoleSource.DEFAULT)
    [found] = findings(Audience.ADMIN)
    assert (len(found.names), found.total) == (5, 7)
    assert found.text.endswith("admin3@example.com, admin4@example.com and 2 more.")
    [item] = health_items()
    assert (len(item.names), item.others) == (3, 4)


def test_a_role_is_above_the_owners_when_it_holds_one_permission_more(healthy: Settings) -> None:
    low = Role.objects.create(name="low", permissions=["users:read"])
    other = Role.objects.create(name="other", permissions=["roles:read"])
    owner = UserFactory(role=low)
    ServiceAccountFactory(name="same", owner=owner, role=low)
    ServiceAccountFactory(name="nobodys", owner=None, role=other)
    assert findings(Audience.ADMIN) == []
    ServiceAccountFactory(name="sideways", owner=owner, role=other)
    [found] = findings(Audience.ADMIN)
    assert (found.code, found.names) == ("accounts.above-owner", ("sideways",))


def test_a_system_check_that_is_silenced_is_no_finding(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.core.checks import Warning as CheckWarning

    monkeypatch.setattr(checks.checks, "run_checks", lambda **_: [CheckWarning("No.", id="security.W001")])
    assert findings(Audience.OPERATOR) == []
    healthy.SILENCED_SYSTEM_CHECKS = []
    assert [finding.code for finding in findings(Audience.OPERATOR)] == ["security.W001"]


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        (["10.0.0.5"] * 5, True),
        (["127.0.0.1"] * 5, True),
        (["fd00::5"] * 6, True),
        (["10.0.0.5"] * 4, False),
        (["10.0.0.5"] * 5 + ["10.0.0.6"], False),
        (["8.8.8.8"] * 5, False),
        (["2001:4860:4860::8888"] * 5, False),
        ([""] * 5, False),
    ],
)
def test_one_internal_address_of_all_callers_is_reported(healthy: Settings, addresses: list[str], found: bool) -> None:
    use_from(addresses)
    assert [finding.code for finding in findings(Audience.ADMIN)] == ["clients.one-address"] * found


def test_failed_sign_ins_and_sessions_count_as_callers_of_an_address(healthy: Settings, bob: User, time_machine: Any) -> None:
    for name in ("one", "two", "three", "bob@example.com"):
        lockout.count_failure(name, "10.0.0.5")
    Session.objects.create(session_key="a" * 64, user=bob, expire_date=timezone.now(), address="10.0.0.5")
    use_from(["10.0.0.5"])
    [found] = findings(Audience.ADMIN)
    assert found.what == "All 5 callers of the last 7 days have the address 10.0.0.5."
    time_machine.move_to(timezone.now() + timedelta(days=8))
    assert findings(Audience.ADMIN) == []


def test_groups_are_missing_only_where_none_comes_for_anybody(healthy: Settings) -> None:
    group_header(healthy)
    assert findings(Audience.ADMIN) == [], "nobody has signed in yet"
    sign_in()
    assert [found.code for found in findings(Audience.ADMIN)] == ["identity.groups-missing"]
    sign_in("dev")
    assert findings(Audience.ADMIN) == []
    User.objects.update(groups_seen_at=timezone.now() - timedelta(days=8))
    [found] = findings(Audience.ADMIN)
    assert "header X-Auth-Request-Groups" in found.what
    healthy.AUTH_USER_HEADER_FORMAT = "jwt"
    assert not [one for one in findings(Audience.ADMIN) if one.code.startswith("identity")], "nobody relies on the default claim"
    healthy.AUTH_JWT_GROUPS_CLAIM = "realm_access.roles"
    assert "claim realm_access.roles" in findings(Audience.ADMIN)[0].what


def test_a_group_role_that_the_settings_cannot_use_is_named(healthy: Settings) -> None:
    GroupRoleFactory(group="dev|ops")
    [found] = findings(Audience.ADMIN)
    assert (found.code, found.names) == ("identity.groups-unread", ("dev|ops",))
    assert "Single sign-on is off" in found.what
    group_header(healthy)
    assert findings(Audience.ADMIN) == []
    healthy.AUTH_GROUPS_SEPARATOR = "|"
    assert [found.code for found in findings(Audience.ADMIN)] == ["identity.group-never-matches"]


def test_users_whose_groups_cannot_be_read_are_named(healthy: Settings, time_machine: Any) -> None:
    group_header(healthy)
    sign_in("dev")
    assert findings(Audience.ADMIN) == []
    sign_in_with_unreadable_groups()
    [found] = findings(Audience.ADMIN)
    assert (found.code, found.severity, found.names) == ("identity.groups-ignored", Severity.WARNING, ("carol@example.com",))
    time_machine.move_to(timezone.now() + timedelta(days=8))
    assert findings(Audience.ADMIN) == []


def test_users_whose_groups_can_be_read_again_are_no_longer_named(healthy: Settings, time_machine: Any) -> None:
    group_header(healthy)
    sign_in_with_unreadable_groups()
    assert "identity.groups-ignored" in [found.code for found in findings(Audience.ADMIN)]
    time_machine.move_to(timezone.now() + timedelta(minutes=5))
    sign_in("dev")
    assert findings(Audience.ADMIN) == []


def test_more_groups_than_the_provider_sends_are_an_error_with_the_users(healthy: Settings) -> None:
    refuse_overage()
    [found] = findings(Audience.ADMIN)
    assert (found.code, found.severity, found.names) == ("identity.group-overage", Severity.ERROR, ("carol@example.com",))
    sign_in()
    User.objects.update(last_seen_at=timezone.now() + timedelta(minutes=5))
    assert findings(Audience.ADMIN) == [], "they could sign in since then"


def test_a_name_that_skyauth_refuses_is_reported_until_the_settings_accept_it(healthy: Settings) -> None:
    group_header(healthy)
    healthy.AUTH_GROUPS_HEADER = ""
    refuse("idp:carol@example.com")
    [found] = findings(Audience.ADMIN)
    assert (found.code, found.severity, found.names) == ("identity.users-refused", Severity.WARNING, ("idp:carol@example.com",))
    assert "An identity is one e-mail address" in found.what
    sign_in()
    assert findings(Audience.ADMIN) != [], "another user is not refused"
    healthy.AUTH_USER_PREFIX = "idp:"
    assert findings(Audience.ADMIN) == []


def test_a_refused_assertion_is_reported_until_somebody_signs_in(healthy: Settings) -> None:
    healthy.AUTH_USER_HEADER_FORMAT = "jwt"
    for reason in ("the issuer is not AUTH_JWT_ISSUER (iss)", "expired (exp)"):
        record_bad_credential(InvalidCredential(f"assertion: {reason}", method="proxy"), client="192.0.2.7")
    record_bad_credential(InvalidCredential("disabled user", method="proxy", claimed="carol@example.com"), client="192.0.2.7")
    [found] = findings(Audience.ADMIN)
    assert (found.code, found.names) == ("identity.users-refused", ("users without a name",))
    assert "(assertion: the issuer is not AUTH_JWT_ISSUER (iss))" in found.what
    UserFactory(sign_in=SignIn.SSO, last_seen_at=timezone.now() + timedelta(minutes=5))
    assert findings(Audience.ADMIN) == []


def test_a_key_set_that_cannot_be_used_is_reported_with_what_is_wrong(healthy: Settings) -> None:
    private = RSAAlgorithm.to_jwk(generate_private_key(65_537, 2_048), as_dict=True)
    public = {name: private[name] for name in ("kty", "n", "e")}
    for keys, algorithms, text in (
        ([public], ["RS256"], None),
        ([public, {**private, "kid": "mine"}], ["RS256"], "not safe: mine (a private key"),
        ([public], ["ES256"], "No key of AUTH_JWT_JWKS is for an algorithm in AUTH_JWT_ALGORITHMS"),
        ([], ["RS256"], "has no key that SkyAuth can use"),
    ):
        healthy.AUTH_JWT_ALGORITHMS = algorithms
        signed_by(healthy, json.dumps({"keys": keys}))
        found = [one.text for one in findings(Audience.OPERATOR) if one.code == "identity.keys"]
        assert [text in one for one in found if text] == ([True] if text else []), found
    signed_by(healthy, "<html>")
    assert "it is not JSON" in findings(Audience.OPERATOR)[0].what
    healthy.AUTH_JWT_JWKS = "http://idp.example.com/keys"
    assert "identity.keys" not in [found.code for found in findings(Audience.OPERATOR)], "it is E007, and not fetched"


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="not Linux")
def test_a_database_that_is_mounted_alone_is_found(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(healthy.DATABASES, "default", {"NAME": Path("/proc")})  # a mount point everywhere
    monkeypatch.setattr(files, "connections", {"default": SimpleNamespace(vendor="sqlite")})
    found = list(files.other_names(check_of("files.database-names")))
    assert any("is mounted alone" in finding.what for finding in found)


@pytest.mark.parametrize("name", ["SECRET_KEY", "SECRET_KEY_FALLBACKS", "DATABASE_URL", "AUTH_STRING", "METRICS_TOKEN"])
def test_a_dotenv_with_any_secret_that_others_can_read_is_found(
    healthy: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (healthy.DATA_DIR / ".env").write_text(f"DEBUG=1\nexport {name}=abc\n")
    healthy.BASE_DIR = healthy.DATA_DIR
    monkeypatch.setattr(files, "reachable_by_others", lambda path: path.name == ".env")
    assert "files.dotenv" in [finding.code for finding in findings(Audience.OPERATOR)]
