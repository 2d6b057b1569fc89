from datetime import timedelta
from typing import Any, Final

from axes.models import AccessAttempt
from django.conf import settings
from django.core.management.base import CommandParser
from django.db import transaction
from django.utils import timezone

from accounts.models import CliAuthorization, CliLoginRequest, DeletedUser, Session
from audit.events import Event
from audit.models import Entry
from audit.record import record
from authn.cli_login import LIFETIME
from ops import base

_LABELS: Final = {
    "sessions": "expired sessions",
    "cli_authorizations": "CLI logins that were not completed",
    "cli_login_requests": "requests for a CLI login",
    "audit_entries": "audit entries",
    "sign_in_failures": "sign-in failures",
    "deleted_users": "names of deleted users that are not blocked",
}
_OLD_KEYS: Final = {"handovers": "cli_authorizations", "askers": "cli_login_requests"}


class Command(base.Command):
    help = """Delete rows that are no longer used: expired sessions and CLI logins, audit entries older than
AUDIT_KEEP_DAYS, and sign-in failures older than AUTH_COOL_OFF_MINUTES.

Tokens are kept, also revoked and expired ones. Names of deleted users are kept for AUDIT_KEEP_DAYS, and blocked
ones until they are unblocked. A user who returns through single sign-on after that is a first-time user.

Run this command once a day.

In the JSON output, handovers and askers are the former names of cli_authorizations and cli_login_requests. Use the
new names; the former ones will be removed."""
    examples = ("prune --dry-run", "prune", "prune --json")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count the rows without deleting them.")

    def act(self, *, dry_run: bool, **_: Any) -> None:
        counts = self._prune(dry_run)
        if self.as_json:
            self.print_json({"dry_run": dry_run, **counts, **{old: counts[new] for old, new in _OLD_KEYS.items()}})
        else:
            rows = [(_LABELS[key], number) for key, number in counts.items()]
            self.print_table(["WOULD BE DELETED" if dry_run else "DELETED", "NUMBER"], rows)

    @transaction.atomic
    def _prune(self, dry_run: bool) -> dict[str, int]:
        """Delete or count the rows, and return the numbers by the keys of `_LABELS`."""
        now = timezone.now()
        keep_since = now - timedelta(days=settings.AUDIT_KEEP_DAYS)
        sessions = Session.objects.filter(expire_date__lt=now)
        authorizations = CliAuthorization.objects.filter(expires_at__lt=now)
        login_requests = CliLoginRequest.objects.filter(at__lt=now - LIFETIME)
        failures = AccessAttempt.objects.filter(attempt_time__lt=now - settings.AXES_COOLOFF_TIME)
        deleted = DeletedUser.objects.filter(blocked=False, deleted_at__lt=keep_since)
        if dry_run:
            return {
                "sessions": sessions.count(),
                "cli_authorizations": authorizations.count(),
                "cli_login_requests": login_requests.count(),
                "audit_entries": Entry.objects.filter(at__lt=keep_since).count(),
                "sign_in_failures": failures.count(),
                "deleted_users": deleted.count(),
            }
        counts = {
            "sessions": sessions.delete()[0],
            "cli_authorizations": authorizations.delete()[0],
            "cli_login_requests": login_requests.delete()[0],
            "audit_entries": Entry.objects.prune(before=keep_since),
            "sign_in_failures": failures.delete()[0],
            "deleted_users": deleted.delete()[0],
        }
        if counts["audit_entries"]:
            data = {"entries": counts["audit_entries"], "before": keep_since.isoformat()}
            record(Event.AUDIT_PRUNED, actor=self.actor, target="audit log", data=data)
        return counts
