"""What `doctor` looks for: what is unsafe or missing in the configuration that runs, and in its database and files."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from accounts.models import RoleSource, ServiceAccount, Token, User
from accounts.querysets import SOON_DAYS, UNUSED_DAYS
from accounts.services.users import active_admins
from doctor import skypilot
from doctor.finding import Finding, Severity
from rbac.models import Route
from rbac.permissions import ADMIN

_SHOWN: Final = 5  # names in one finding


def examine() -> list[Finding]:
    """Return all findings, the worst first."""
    found = [*_database(), *_files()]
    reachable = not any(finding.code == "database.unreachable" for finding in found)
    found += [_of_check(message) for message in _checks(with_database=reachable)]
    return sorted(found, key=lambda finding: (list(Severity).index(finding.severity), finding.code))


def _checks(*, with_database: bool) -> list[CheckMessage]:
    messages = checks.run_checks(include_deployment_checks=True, databases=[DEFAULT_DB_ALIAS] if with_database else None)
    return [message for message in messages if not message.is_silenced()]


def _of_check(message: CheckMessage) -> Finding:
    mild = Severity.INFO if message.level < checks.WARNING else Severity.WARNING
    severity = Severity.ERROR if message.is_serious() else mild
    return Finding(severity, message.id or "check", message.msg, message.hint or "")


def _database() -> Iterator[Finding]:
    """Yield what is wrong with the database and, where it can be read, with what is in it."""
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        connection.ensure_connection()
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        yield Finding(Severity.ERROR, "database.unreachable", f"The database does not answer: {line}", "See DATABASE_URL.")
        return
    if waiting:
        what = f"The database lacks {len(waiting)} migrations."
        yield Finding(Severity.ERROR, "database.migrations", what, "Run: manage.py migrate")
        return
    yield from _policy()
    yield from _people()
    yield from _machines()
    yield from _tokens()
    yield from skypilot.examine()


def _policy() -> Iterator[Finding]:
    if not Route.objects.exists():
        what = "There are no routes, so every request is refused."
        yield Finding(Severity.ERROR, "routes.none", what, "Run: manage.py load_pack --list")


def _people() -> Iterator[Finding]:
    if not active_admins():
        what = "There is no active admin."
        yield Finding(Severity.ERROR, "users.no-admin", what, "Run: manage.py create_user NAME --role admin")
    by_default = User.objects.filter(is_active=True, role__name=ADMIN, role_source=RoleSource.DEFAULT)
    if names := list(by_default.values_list("username", flat=True)):
        yield Finding(
            Severity.WARNING,
            "users.admin-by-default",
            f"Admin because nobody gave them a role: {_list(names)}.",
            "Decide it: manage.py set_role NAME ROLE",
        )


def _machines() -> Iterator[Finding]:
    accounts = list(ServiceAccount.objects.filter(is_active=True).exclude(owner=None).select_related("role", "owner__role"))
    if names := [account.name for account in accounts if account.owner and not account.owner.is_active]:
        yield Finding(
            Severity.WARNING,
            "accounts.owner-disabled",
            f"Stopped, because their owner is disabled: {_list(names)}.",
            "Give them another owner or none, or delete them.",
        )
    if names := [account.name for account in accounts if account.owner and not account.role.holds <= account.owner.role.holds]:
        yield Finding(
            Severity.WARNING,
            "accounts.above-owner",
            f"Their role is above their owner's, so they do less than it says: {_list(names)}.",
            "Give them the role they need, another owner or none.",
        )


def _tokens() -> Iterator[Finding]:
    tokens = Token.objects.select_related("account").active()
    groups = (
        (
            "tokens.endless",
            "Never expire",
            tokens.filter(expires_at=None),
            "Rotate them with an end: manage.py rotate_token KEY_ID --days 90",
        ),
        (
            "tokens.expiring",
            f"Expire within {SOON_DAYS} days",
            tokens.expiring_within(SOON_DAYS),
            "Rotate them in time: manage.py rotate_token KEY_ID --grace 3600",
        ),
        (
            "tokens.unused",
            f"Unused for {UNUSED_DAYS} days",
            tokens.unused_for(UNUSED_DAYS),
            "Revoke what nobody needs: manage.py revoke_token KEY_ID",
        ),
    )
    for code, what, rows, todo in groups:
        if names := [f"{token.account.name} {token.key_id}" for token in rows]:
            yield Finding(Severity.WARNING, code, f"{what}: {_list(names)}.", todo)


def _files() -> Iterator[Finding]:
    """Yield the files with secrets that others on this machine can read."""
    files = {"files.secret-key": settings.DATA_DIR / "secret_key"}
    if connections[DEFAULT_DB_ALIAS].vendor == "sqlite":
        files["files.database"] = Path(str(settings.DATABASES[DEFAULT_DB_ALIAS]["NAME"]))
    for code, path in files.items():
        if path.is_file() and _open_to_others(path):
            what = f"{path} can be read by others on this machine."
            yield Finding(Severity.ERROR, code, what, f"Run: chmod 700 {path.parent}")


def _open_to_others(path: Path) -> bool:
    """Return whether somebody but the owner can read the file: its own mode, and those of all folders above it."""
    readable = path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    return bool(readable) and all(folder.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) for folder in path.resolve().parents)


def _list(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
