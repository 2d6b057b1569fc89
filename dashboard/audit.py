"""The audit log: what happened, who did it, and why something was refused."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse

from accounts.principal_lookup import current_principal
from audit.events import Event
from audit.filters import EntryFilterSet
from audit.models import Entry
from core.csv_lines import csv_line
from dashboard.audit_text import REFUSALS, told
from dashboard.base import Page
from dashboard.lists import paginate
from dashboard.streams import streamed
from rbac import denials
from rbac.permissions import Permission

SORTS: Final = {"at": ("at",)}
MOST_EXPORTED: Final = 1_000_000
_COLUMNS: Final = ("at", "event", "actor", "actor_uid", "method", "peer", "target", "reason", "reference", "data")
_FILES: Final = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


class AuditFilter(forms.Form):
    """Which entries a list shows."""

    q = forms.CharField(label="Search", required=False, max_length=320)
    event = forms.ChoiceField(
        label="What", required=False, choices=(("", "everything"), ("refusals", "refusals"), *((str(e), str(e)) for e in Event))
    )
    actor = forms.CharField(label="Who", required=False, max_length=320)
    target = forms.CharField(label="About", required=False, max_length=512)
    since = forms.DateField(label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To", required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, asked: QueryDict) -> None:
        super().__init__(asked, auto_id="filter_%s")
        self.fields["q"].widget = forms.TextInput(attrs={"type": "search", "placeholder": "whom, what or why"})
        for name in ("actor", "target"):
            self.fields[name].widget = forms.TextInput(attrs={"placeholder": "a name", "autocomplete": "off"})


def filtered(asked: QueryDict) -> tuple[QuerySet[Entry], AuditFilter]:
    """Return the entries that an address asks for, and the form that says which; none where it asks for what cannot be."""
    form = AuditFilter(asked)
    if not form.is_valid():
        return Entry.objects.none(), form
    values = form.cleaned_data
    since, until = values["since"], values["until"]
    refusals = values["event"] == "refusals"
    filters = {
        "search": values["q"],
        "event": "" if refusals else values["event"],
        "actor": values["actor"],
        "target": values["target"],
        "since": _start(since).isoformat() if since else "",
        "until": (_start(until) + timedelta(days=1)).isoformat() if until else "",
    }
    rows = EntryFilterSet(filters, queryset=Entry.objects.filter(event__in=REFUSALS) if refusals else Entry.objects.all()).qs
    return rows, form


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


class Audit(Page):
    """The list, the newest first."""

    needs = (Permission.AUDIT_READ,)
    section = "audit"
    template = "dashboard/audit.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show a page of it."""
        rows, form = filtered(request.GET)
        found = paginate(rows, request.GET, sorts=SORTS, default="-at")
        is_filtered = any(form.cleaned_data.values()) if form.is_valid() else True
        return self.render(filter=form, filtered=is_filtered, page=found, entries=told(found.rows, self.principal))


class Export(Page):
    """The entries that the list's filter lets through, as a file."""

    needs = (Permission.AUDIT_READ,)
    section = "audit"
    http_method_names = ["get", "head", "options"]

    def get(self, request: HttpRequest, kind: str) -> HttpResponseBase:
        """Stream it, the newest first."""
        rows, _ = filtered(request.GET)
        found = rows.order_by("-at", "-id")[:MOST_EXPORTED].iterator(chunk_size=1_000)
        lines = _csv(found) if kind == "csv" else _json(found)
        name = f"skyauth-audit-{datetime.now(UTC):%Y%m%d-%H%M%S}.{kind}"
        return StreamingHttpResponse(
            streamed(request, lines, at_once=500),
            content_type=_FILES[kind],
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


def _values(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _COLUMNS} | {"at": entry.at.isoformat()}


def _csv(entries: Iterator[Entry]) -> Iterator[str]:
    """Yield lines that no spreadsheet takes for formulas."""
    yield csv_line(_COLUMNS)
    for entry in entries:
        values = _values(entry) | {"data": json.dumps(entry.data, ensure_ascii=False) if entry.data else ""}
        yield csv_line(values.values())


def _json(entries: Iterator[Entry]) -> Iterator[str]:
    """Yield one array, an entry to a line."""
    before = "[\n"
    for entry in entries:
        yield before + json.dumps(_values(entry), ensure_ascii=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


class Decision(Page):
    """What a request was refused for, by the id that its caller was told; what they would be answered now."""

    section = "audit"
    template = "dashboard/decision.html"

    def get(self, request: HttpRequest, reference: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Show it: to everybody what was refused to them, and to those who may ask about others everything."""
        found = denials.past_denial_for(actor=self.principal, reference=reference, current=current_principal)
        return self.render(decision=found, reads=self.principal.holds(Permission.AUDIT_READ))
