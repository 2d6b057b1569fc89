from datetime import datetime, timedelta
from typing import Any, Final

from axes.models import AccessAttempt
from django.conf import settings
from django.core.management.base import CommandParser
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import CliAuthorization, CliLoginRequest, DeletedUser, Job, Session
from accounts.services.jobs import KEEP_DAYS
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
    "jobs": "jobs that ended",
}
_AT_ONCE: Final = 1_000  # rows in one transaction
_OLD_KEYS: Final = {"handovers": "cli_authorizations", "askers": "cli_login_requests"}


class Command(base.Command):
    help = """Delete rows that are no longer used: expired sessions and CLI logins, audit entries older than
AUDIT_KEEP_DAYS, sign-in failures older than AUTH_COOL_OFF_MINUTES, and jobs that ended more than a week ago.

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

    def _prune(self, dry_run: bool) -> dict[str, int]:
        """Delete or count the rows, and return the numbers by the keys of `_LABELS`."""
        now = timezone.now()
        keep_since = now - timedelta(days=settings.AUDIT_KEEP_DAYS)
        rows: dict[str, QuerySet[Any]] = {
            "sessions": Session.objects.filter(expire_date__lt=now),
            "cli_authorizations": CliAuthorization.objects.filter(expires_at__lt=now),
            "cli_login_requests": CliLoginRequest.objects.filter(at__lt=now - LIFETIME),
            "audit_entries": Entry.objects.filter(at__lt=keep_since),
            "sign_in_failures": AccessAttempt.objects.filter(attempt_time__lt=now - settings.AXES_COOLOFF_TIME),
            "deleted_users": DeletedUser.objects.filter(blocked=False, deleted_at__lt=keep_since),
            "jobs": Job.objects.ended_before(KEEP_DAYS),
        }
        if dry_run:
            return {key: found.count() for key, found in rows.items()}
        return {key: self._prune_audit(keep_since) if key == "audit_entries" else _delete(found) for key, found in rows.items()}

    def _prune_audit(self, before: datetime) -> int:
        """Delete old audit entries, and record it with the first of them: a run that is stopped has a record, too."""
        number = Entry.objects.filter(at__lt=before).count()
        deleted = 0
        while deleted < number:
            with transaction.atomic():
                if not deleted:
                    data = {"entries": number, "before": before.isoformat()}
                    record(Event.AUDIT_PRUNED, actor=self.actor, target="audit log", data=data)
                some = Entry.objects.prune(before, _AT_ONCE)
            if not some:  # another process deletes them, too
                break
            deleted += some
        return deleted


def _delete(rows: QuerySet[Any]) -> int:
    """Delete the rows, and return how many. No lock is held for longer than _AT_ONCE rows take."""
    deleted = 0
    while keys := list(rows.order_by("pk").values_list("pk", flat=True)[:_AT_ONCE]):
        deleted += rows.filter(pk__in=keys).delete()[0]
    return deleted
