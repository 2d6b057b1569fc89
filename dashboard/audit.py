"""The pages of the audit log and of a past decision."""

import json
from collections.abc import Iterable, Iterator
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
from dashboard.audit_text import DENIALS, describe
from dashboard.base import Page
from dashboard.lists import ListFilter, paginate
from dashboard.remedies import Decided, remedies
from dashboard.streams import streamed
from rbac import denials
from rbac.permissions import Permission

SORTS: Final = {"at": ("at",)}
MOST_EXPORTED: Final = 1_000_000
_COLUMNS: Final = ("at", "event", "actor", "actor_uid", "method", "peer", "target", "reason", "reference", "data")
_FILES: Final = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


class AuditFilter(ListFilter):
    """Filters the list of entries."""

    q = forms.CharField(label="Search", required=False, max_length=320)
    event = forms.ChoiceField(
        label="Event",
        required=False,
        choices=(("", "all"), ("refusals", "denied requests and sign-ins"), *((str(event), str(event)) for event in Event)),
    )
    actor = forms.CharField(label="Actor", required=False, max_length=320)
    target = forms.CharField(label="Target", required=False, max_length=512)
    since = forms.DateField(label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To", required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def clean(self) -> dict[str, Any]:
        """Return the values. Raises ValidationError for a period that ends before it begins, which has no entries."""
        values = super().clean()
        if values.get("since") and values.get("until") and values["since"] > values["until"]:
            raise forms.ValidationError({"until": "This day is before the first one. Exchange From and To."})
        return values

    def __init__(self, query: QueryDict) -> None:
        super().__init__(query, auto_id="filter_%s")
        self.fields["q"].widget = forms.TextInput(attrs={"type": "search", "placeholder": "actor, target, reason or decision ID"})
        for name in ("actor", "target"):
            self.fields[name].widget = forms.TextInput(attrs={"placeholder": "exact name", "autocomplete": "off"})


def filter_entries(query: QueryDict) -> tuple[QuerySet[Entry], AuditFilter]:
    """Return the entries that match the filters in the URL, and the filter form. Invalid filters match no entries."""
    form = AuditFilter(query)
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
    rows = EntryFilterSet(filters, queryset=Entry.objects.filter(event__in=DENIALS) if refusals else Entry.objects.all()).qs
    return rows, form


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


class AuditPage(Page):
    """The audit log, newest entries first."""

    needs = (Permission.AUDIT_READ,)
    section = "audit"
    template = "dashboard/audit.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return a page of the list."""
        rows, form = filter_entries(request.GET)
        page = paginate(rows, request.GET, sorts=SORTS, default="-at")
        is_filtered = any(form.cleaned_data.values()) if form.is_valid() else True
        return self.render(filter=form, filtered=is_filtered, page=page, entries=describe(page.rows, self.principal))


class AuditExport(Page):
    """The entries that match the filters, as a CSV or JSON file."""

    needs = (Permission.AUDIT_READ,)
    section = "audit"
    http_method_names = ["get", "head", "options"]

    def get(self, request: HttpRequest, kind: str) -> HttpResponseBase:
        """Return the streamed file, newest entries first."""
        rows, form = filter_entries(request.GET)
        form.require_valid()
        entries = rows.order_by("-at", "-id").values(*_COLUMNS)[:MOST_EXPORTED].iterator(chunk_size=1_000)
        lines = _csv(entries) if kind == "csv" else _json(entries)
        name = f"skyauth-audit-{datetime.now(UTC):%Y%m%d-%H%M%S}.{kind}"
        return StreamingHttpResponse(
            streamed(request, lines, at_once=500),
            content_type=_FILES[kind],
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


def _csv(entries: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield CSV lines in which no cell can run as a spreadsheet formula."""
    yield csv_line(_COLUMNS)
    for entry in entries:
        data = json.dumps(entry["data"], ensure_ascii=False) if entry["data"] else ""
        yield csv_line((entry | {"at": entry["at"].isoformat(), "data": data}).values())


def _json(entries: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of one JSON array, an entry per line."""
    before = "[\n"
    for entry in entries:
        yield before + json.dumps(entry | {"at": entry["at"].isoformat()}, ensure_ascii=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


class DecisionPage(Page):
    """A past denial by its decision ID, and the decision that the same request would get now."""

    section = "audit"
    template = "dashboard/decision.html"

    def get(self, request: HttpRequest, reference: str) -> HttpResponse:
        """Return the decision. Callers see their own denials; `policy:explain` shows all of them."""
        decision = denials.past_denial_for(actor=self.principal, reference=reference, current=current_principal)
        decided = Decided(
            kind=decision.kind,
            uid=decision.uid,
            role=decision.role,
            method=decision.method,
            host=decision.host,
            path=decision.path,
            needed=decision.needed,
            rule=decision.rule,
            allowed=decision.now is not None and decision.now.allowed,
        )
        return self.render(
            decision=decision,
            remedies=remedies(self.principal, decided, decision.roles, back=request.path),
            reads=self.principal.holds(Permission.AUDIT_READ),
        )
