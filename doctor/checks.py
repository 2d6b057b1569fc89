"""The one list of checks. `manage.py doctor`, the dashboard and the readiness probe each show the part that is for them."""

from collections.abc import Iterable
from typing import Final

from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connections

from doctor import connection_limits, database, deployment, files, identity, skypilot, stored_data
from doctor.finding import Audience, Check, Finding, Severity


def _system_checks(check: Check) -> Iterable[Finding]:
    """Yield what Django's system checks report, SkyAuth's E001 to E031 among them; `CHECKS` has the W1xx itself."""
    own = {each.code for each in deployment.CHECKS}
    reachable = connections[DEFAULT_DB_ALIAS].connection is not None
    for message in checks.run_checks(include_deployment_checks=True, databases=[DEFAULT_DB_ALIAS] if reachable else None):
        if not message.is_silenced() and message.id not in own:
            mild = Severity.INFO if message.level < checks.WARNING else Severity.WARNING
            severity = check.severity if message.is_serious() else mild
            yield Finding(severity, message.id or "check", message.msg, message.hint or "")


_OPERATOR: Final = frozenset({Audience.OPERATOR})
_ADMIN: Final = frozenset({Audience.OPERATOR, Audience.ADMIN})
_READINESS: Final = frozenset({Audience.OPERATOR, Audience.READINESS})
_ALL: Final = frozenset(Audience)
_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

CHECKS: Final = (
    Check("database.unreachable", _ERROR, _READINESS, database.unreachable, needs_database=False),
    Check("database.migrations", _ERROR, _READINESS, database.migrations),
    Check("database.tables", _ERROR, _READINESS, database.missing_tables),
    Check("database.triggers", _ERROR, _ALL, database.missing_triggers),
    Check("database.revision", _ERROR, _ALL, database.missing_revision),
    Check("database.changes", _ERROR, _ADMIN, database.changes_fail),
    Check("database.connections", _WARNING, _OPERATOR, connection_limits.too_few),
    Check("files.secret-key", _ERROR, _OPERATOR, files.secret_key, needs_database=False),
    Check("files.database", _ERROR, _OPERATOR, files.sqlite_file, needs_database=False),
    Check("files.database-names", _ERROR, _OPERATOR, files.other_names, needs_database=False),
    Check("files.data", _ERROR, _OPERATOR, files.data_files, needs_database=False),
    Check("files.dotenv", _ERROR, _OPERATOR, files.dotenv_file, needs_database=False),
    *deployment.CHECKS,
    Check("*", _ERROR, _OPERATOR, _system_checks, needs_database=False),
    Check("routes.none", _ERROR, _ADMIN, stored_data.no_routes),
    Check("routes.never-decide", _WARNING, _ADMIN, stored_data.dead_routes),
    Check("users.no-admin", _ERROR, _ADMIN, stored_data.no_admin),
    Check("users.admin-by-default", _WARNING, _ADMIN, stored_data.admins_by_default),
    Check("users.admin-unused", _WARNING, _ADMIN, stored_data.unused_admins),
    Check("identity.groups-unread", _WARNING, _ADMIN, identity.groups_unread),
    Check("identity.group-never-matches", _WARNING, _ADMIN, identity.groups_that_never_match),
    Check("identity.groups-missing", _WARNING, _ADMIN, identity.groups_missing),
    Check("identity.groups-ignored", _WARNING, _ADMIN, identity.groups_ignored),
    Check("identity.keys", _ERROR, _OPERATOR, identity.provider_keys_unusable, needs_database=False),
    Check("identity.users-refused", _WARNING, _ADMIN, identity.users_refused),
    Check("identity.group-overage", _ERROR, _ADMIN, identity.group_overage),
    Check("accounts.owner-disabled", _WARNING, _ADMIN, stored_data.disabled_owners),
    Check("accounts.above-owner", _WARNING, _ADMIN, stored_data.roles_above_owner),
    Check("clients.one-address", _WARNING, _ADMIN, stored_data.one_address),
    Check("tokens.expiring", _WARNING, _ADMIN, stored_data.expiring_tokens),
    Check("tokens.endless", _WARNING, _ADMIN, stored_data.endless_tokens),
    Check("tokens.unused", _WARNING, _ADMIN, stored_data.unused_tokens),
    Check("skypilot.*", _ERROR, _OPERATOR, skypilot.find),
)
_BLOCKING: Final = frozenset({"database.unreachable", "database.migrations", "database.tables"})  # later queries would only fail


def findings(audience: Audience) -> list[Finding]:
    """Return what is wrong with the installation, as far as it is for this audience, errors first.

    Raises a database error if the database is unreachable, for an audience that does not include that check.
    """
    found: list[Finding] = []
    usable = True
    for check in CHECKS:
        if audience in check.audience and (usable or not check.needs_database):
            problems = list(check.find(check))
            found += problems
            usable = usable and not (problems and check.code in _BLOCKING)
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))
