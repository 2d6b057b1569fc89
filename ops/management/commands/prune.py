from datetime import timedelta
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.core.management.base import CommandParser
from django.db import transaction
from django.utils import timezone

from accounts.models import CliAuthorization, CliLoginRequest, Session
from audit.events import Event
from audit.models import Entry
from audit.record import record
from authn.cli_login import LIFETIME
from ops import base


class Command(base.Command):
    help = """Forget what is over: ended sessions, sign-ins of command lines that nobody fetched and from where
they were asked for, audit entries older than AUDIT_KEEP_DAYS, and sign-in failures that no longer count.

Tokens stay, also revoked and expired ones. Run it once a day."""
    examples = ("prune --dry-run", "prune", "prune --json")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Forget nothing; count.")

    def act(self, *, dry_run: bool, **_: Any) -> None:
        counts = self._prune(dry_run)
        if self.as_json:
            self.print_json({"dry_run": dry_run, **counts})
        else:
            titles = {
                "sessions": "ended sessions",
                "handovers": "sign-ins of command lines that nobody fetched",
                "askers": "notes from where command lines asked",
                "audit_entries": "audit entries",
                "sign_in_failures": "sign-in failures",
            }
            self.print_table(["WOULD FORGET" if dry_run else "FORGOT", "NUMBER"], [(titles[key], n) for key, n in counts.items()])

    @transaction.atomic
    def _prune(self, dry_run: bool) -> dict[str, int]:
        """Delete, or count, and return how many of each."""
        now = timezone.now()
        sessions = Session.objects.filter(expire_date__lt=now)
        handovers = CliAuthorization.objects.filter(expires_at__lt=now)
        askers = CliLoginRequest.objects.filter(at__lt=now - LIFETIME)
        kept_since = now - timedelta(days=settings.AUDIT_KEEP_DAYS)
        failures = AccessAttempt.objects.filter(attempt_time__lt=now - settings.AXES_COOLOFF_TIME)
        if dry_run:
            entries = Entry.objects.filter(at__lt=kept_since).count()
            return {
                "sessions": sessions.count(),
                "handovers": handovers.count(),
                "askers": askers.count(),
                "audit_entries": entries,
                "sign_in_failures": failures.count(),
            }
        counts = {
            "sessions": sessions.delete()[0],
            "handovers": handovers.delete()[0],
            "askers": askers.delete()[0],
            "audit_entries": Entry.objects.prune(before=kept_since),
            "sign_in_failures": failures.delete()[0],
        }
        if counts["audit_entries"]:
            data = {"entries": counts["audit_entries"], "before": kept_since.isoformat()}
            record(Event.AUDIT_PRUNED, actor=self.actor, target="audit log", data=data)
        return counts
