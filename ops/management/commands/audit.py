import io
import json
import re
import select
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any, Final

from django.core.management.base import CommandParser
from django.db.models import QuerySet
from django.utils import timezone

from audit.events import Event
from audit.filters import EntryFilterSet
from audit.models import Entry
from core.text import clean
from ops import audit_log, base, filtering, rows
from rbac.permissions import Permission
from rbac.services import require

_NEWEST: Final = 50
_BEFORE: Final = 10  # entries that --follow shows first
_COLUMNS = {"when": "AT (UTC)", "event": "EVENT", "actor": "ACTOR", "target": "TARGET", "reason": "REASON"}
_DENIED: Final = (Event.REQUEST_DENIED, Event.SIGN_IN_REFUSED)
_AGO = re.compile(r"([0-9]{1,6})([mhd])\Z")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


class Command(base.Command):
    help = """Show the newest entries of the audit log, the newest one last. --json has more values.

Times are in UTC: 2026-11-30T13:00:00Z (ISO 8601), or 30m, 12h or 7d before now. With --follow, the command goes on and
prints entries as they are written, each on one line, until it is stopped. With --follow --json, each line is a JSON
object."""
    examples = (
        "audit",
        "audit --event token.issued --since 7d",
        "audit --denied --actor vera@example.com --limit 0 --json",
        "audit --follow",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--search", metavar="TEXT", help="Only entries with these words in the actor, the target or the reason."
        )
        parser.add_argument("--event", metavar="EVENT", help="Only entries of this event, such as token.issued.")
        parser.add_argument("--denied", action="store_true", help="Only denied requests and refused sign-ins.")
        parser.add_argument("--actor", metavar="NAME", help="Only entries of this actor, by the exact name.")
        parser.add_argument("--target", metavar="NAME", help="Only entries about this target, by the exact name.")
        parser.add_argument("--peer", metavar="ADDRESS", help="Only entries of clients with this address.")
        parser.add_argument("--since", metavar="TIME", type=_time, help="Only entries from this time on.")
        parser.add_argument("--until", metavar="TIME", type=_time, help="Only entries before this time.")
        parser.add_argument(
            "--limit",
            metavar="N",
            type=base.number_argument,
            help=f"Show at most N entries, 0 for all. Default: {_NEWEST}, or {_BEFORE} with --follow.",
        )
        parser.add_argument("-f", "--follow", action="store_true", help="Go on, and print new entries.")

    def act(self, *, denied: bool, limit: int | None, follow: bool, **options: Any) -> None:
        if limit is not None and limit < 0:
            self.misused("N must be a whole number of at least 0.")
        if follow and options["until"]:
            self.misused("Use --follow without --until.")
        require(self.actor, Permission.AUDIT_READ)
        names = ("search", "event", "actor", "target", "peer", "since", "until")
        entries = filtering.filtered(EntryFilterSet, Entry.objects.all(), **{name: options[name] for name in names})
        entries = entries.filter(event__in=_DENIED) if denied else entries
        if follow:
            self._follow(entries, _BEFORE if limit is None else limit)
            return
        newest = _newest(entries, _NEWEST if limit is None else limit)
        listed = rows.stream(newest, rows.audit_entry)
        if self.as_json:
            self.print_rows(listed, {}, nothing="")
        else:
            self.print_rows(
                ({**row, "when": f"{row['at']:%Y-%m-%d %H:%M:%S}"} for row in listed), _COLUMNS, nothing="No entries match."
            )

    def _follow(self, entries: "QuerySet[Entry]", limit: int) -> None:
        follower = audit_log.AuditFollower()
        shown = list(_newest(entries, limit))
        follower.skip(shown)
        for entry in shown:
            self._print_line(entry)
        for new in audit_log.follow(entries, follower, self.say):
            if new is None:
                self._require_reader()
            else:
                self._print_line(new)

    def _print_line(self, entry: Entry) -> None:
        row = rows.audit_entry(entry)
        if self.as_json:
            line = json.dumps(row, default=str)
        else:
            parts = [
                f"{entry.at:%Y-%m-%d %H:%M:%S}",
                *(clean(str(row[key]), 1_000) for key in ("event", "actor", "target", "reason")),
            ]
            line = "  ".join(filter(None, parts))
        self.stdout.write(line)
        self.stdout.flush()

    def _require_reader(self) -> None:
        """Raise BrokenPipeError if standard output is a pipe whose reader has gone: there may be nothing to write for hours."""
        try:
            output = self.stdout.fileno()
        except (AttributeError, io.UnsupportedOperation):
            return
        poll = select.poll()
        poll.register(output, select.POLLERR)
        if any(flags & select.POLLERR for _, flags in poll.poll(0)):
            raise BrokenPipeError


def _newest(entries: "QuerySet[Entry]", limit: int) -> "QuerySet[Entry]":
    """Return the newest entries, the newest one last; 0 is no limit."""
    if limit:
        entries = Entry.objects.filter(pk__in=entries.order_by("-at", "-pk").values("pk")[:limit])
    return entries.order_by("at", "pk")


def _time(text: str) -> str:
    """Return the time that is so many minutes, hours or days before now; another text as it is, for the filter to read.

    Raises ArgumentTypeError.
    """
    if not (match := _AGO.match(text)):
        return text
    try:
        return (timezone.now() - timedelta(**{_UNITS[match[2]]: int(match[1])})).isoformat()
    except OverflowError:
        raise ArgumentTypeError("the time is out of range.") from None
