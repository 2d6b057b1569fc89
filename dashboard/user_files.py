"""Import of users from a CSV file, with a preview of each line, and the export of all users as CSV."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

from django import forms
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html

from accounts.services import user_csv, user_import
from accounts.services.user_csv import MAX_BYTES
from accounts.services.user_csv_columns import IMPORTED
from accounts.services.user_import import ImportPlan
from accounts.services.user_import_report import ImportReport, RowAction, RowChange
from core.errors import Invalid, ServiceError
from dashboard.base import FormPage, Page
from dashboard.navigation import links
from dashboard.streams import streamed
from rbac.permissions import Permission

MAX_LINES: Final = 2_000  # more would keep a browser waiting; manage.py import_users takes more
_COLUMNS: Final = {
    "role": "Role",
    "email": "E-mail",
    "display_name": "Display name",
    "sign_in": "Sign-in method",
    "active": "Active",
}
_PROGRESS_STEPS: Final = 20
_MARKER: Final = "<!-- progress -->"
_EXAMPLE: Final = "username,role,password\ndana@example.com,user,\n"


class ImportUsersForm(forms.Form):
    """CSV text, from a file or typed. `seen` is the fingerprint of the preview that the user saw."""

    file = forms.FileField(
        label="File",
        required=False,
        help_text="A CSV file, or an export of Okta, Google Workspace or Microsoft Entra. It replaces the text below.",
    )
    text = forms.CharField(
        label="CSV text",
        required=False,
        strip=False,
        max_length=MAX_BYTES,
        widget=forms.Textarea(attrs={"rows": 10, "spellcheck": "false", "autocomplete": "off", "placeholder": _EXAMPLE}),
        help_text=f"The first line names the columns: {', '.join(IMPORTED)}. Only username is required.",
    )
    update = forms.BooleanField(
        label="Update existing users",
        required=False,
        help_text="Existing users get the values in the file; their passwords stay. An empty email or display_name clears it.",
    )
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        """Return the values, with the content of the file as `text`."""
        values = super().clean() or {}
        file = values.get("file")
        if file is not None:
            if file.size > MAX_BYTES:
                raise forms.ValidationError({"file": f"The file is larger than {MAX_BYTES // 1_000_000} MB. Split it."})
            try:
                values["text"] = user_csv.decode(file.read()).removeprefix(user_csv.BOM)
            except Invalid as error:
                raise forms.ValidationError({"file": error.message}) from None
            # Browsers do not send a file again: after an error, its text is in the field below, to correct it there.
            self.data = {**self.data.dict(), "text": values["text"]}  # type: ignore[attr-defined] # a QueryDict
        if not values.get("text", "").strip():
            raise forms.ValidationError({"text": "Choose a file or enter CSV text."})
        return values


def fingerprint(text: str, changes: tuple[RowChange, ...]) -> str:
    """Return a hash of a text and its effect: the same text has another effect after the default role changes, for example."""
    return sha256(repr((text, changes)).encode("utf-8", "surrogatepass")).hexdigest()


def _cells(change: RowChange) -> list[tuple[str, str, str | None]]:
    """Return for each column its title, the new value, and the old value if that differs."""
    return [(title, change.values.get(name, ""), change.before.get(name)) for name, title in _COLUMNS.items()]


def _step(percent: int) -> str:
    """Return the progress bar at this percentage. The style sheet hides each bar as soon as something follows it."""
    return format_html(
        '<p class="step"><progress max="100" value="{0}" aria-label="Progress of the import"></progress> {0} %</p>\n', percent
    )


class ImportUsersPage(FormPage):
    """Previews the effect of each line, and imports the file on the next POST if no line has an error."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/users_import.html"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the uploaded file if there is one."""
        return ImportUsersForm(data, self.request.FILES or None) if data is not None else ImportUsersForm()

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        """Return a preview, or import the lines whose preview was seen. After a change in between, preview again."""
        text, update = values["text"].replace("\r\n", "\n"), values["update"]
        if len(user_csv.read_rows(text).rows) > MAX_LINES:
            raise Invalid.field(
                "text", f"The dashboard imports at most {MAX_LINES:,} lines. Use manage.py import_users for larger files."
            )
        plan = user_import.plan_import(actor=self.principal, text=text, update=update)
        changes = plan.report.changes
        seen, has_errors = fingerprint(text, changes), bool(plan.report.errors)
        if values["seen"] == seen and changes and not has_errors:
            return self._import(plan)  # type: ignore[return-value] # a response like any other
        return self.render(
            form=ImportUsersForm(initial={"text": text, "update": update, "seen": "" if has_errors else seen}),
            lines=[
                (change, _cells(change))
                for change in sorted(changes, key=lambda change: (not change.error, not change.makes_admin))
            ],
            report=plan.report,
            number={action.value: sum(change.action is action for change in changes) for action in RowAction},
            passwords=sum(change.password for change in changes),
            is_repeated=bool(values["seen"]),
        )

    def _import(self, plan: ImportPlan) -> StreamingHttpResponse:
        """Return a page that streams the progress of the import."""
        shared = {
            "principal": self.principal,
            "links": links(self.principal),
            "section": self.section,
            "marker": _MARKER,
        }
        page = render_to_string("dashboard/users_import_running.html", {**shared, "count": len(plan.rows)}, self.request)
        head, _, tail = page.partition(_MARKER)
        return StreamingHttpResponse(streamed(self.request, self._pieces(head, plan, tail)))

    def _pieces(self, head: str, plan: ImportPlan, tail: str) -> Iterator[str]:
        yield head + _step(0)
        sent = 0
        steps = user_import.apply_plan(actor=self.principal, plan=plan)
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                yield self._result(end.value)
                break
            except ServiceError as error:
                yield format_html('<p class="message error" role="alert">Import failed. {}</p>', error.message)
                break
            if done * _PROGRESS_STEPS // total > sent:
                sent = done * _PROGRESS_STEPS // total
                yield _step(sent * 100 // _PROGRESS_STEPS)
        yield tail

    def _result(self, report: ImportReport) -> str:
        template = "dashboard/parts/users_imported.html"
        return render_to_string(template, {"report": report, "created": len(report.created), "changed": len(report.changed)})

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:users")


class UserExport(Page):
    """All users as CSV, without passwords."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    http_method_names = ["get", "head", "options"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Stream the file."""
        lines = user_csv.export_users(self.principal, for_spreadsheet=True)
        return StreamingHttpResponse(
            streamed(request, lines, at_once=500),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="skyauth-users.csv"'},
        )
