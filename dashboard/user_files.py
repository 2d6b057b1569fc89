"""Users from a CSV file, each line shown before anything is written, and into one."""

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
from accounts.services.user_csv import IMPORTED, MAX_BYTES
from accounts.services.user_import import Line, Outcome
from core.errors import Invalid, ServiceError
from dashboard.base import FormPage, Page
from dashboard.navigation import links
from dashboard.streams import streamed
from rbac.permissions import Permission

MOST_LINES: Final = 2_000  # more would keep a browser waiting; manage.py import_users takes more
_COLUMNS: Final = {
    "role": "Role",
    "email": "E-mail",
    "display_name": "Display name",
    "sign_in": "Signs in by",
    "active": "Active",
}
_LINES_OF_PROGRESS: Final = 20
_MARKER: Final = "<!-- here -->"
_EXAMPLE: Final = "username,role,password\ndana@example.com,user,\n"


class Csv(forms.Form):
    """A CSV text, from a file or typed; `seen` is what was shown before it is applied."""

    file = forms.FileField(label="File", required=False, help_text="CSV, UTF-8. It is read into the text below.")
    text = forms.CharField(
        label="Text",
        required=False,
        strip=False,
        max_length=MAX_BYTES,
        widget=forms.Textarea(attrs={"rows": 10, "spellcheck": "false", "autocomplete": "off", "placeholder": _EXAMPLE}),
        help_text=f"The first line names the columns: {', '.join(IMPORTED)}. Only username is needed.",
    )
    update = forms.BooleanField(
        label="Change users who exist already",
        required=False,
        help_text="They become what the file says, but get no password. An empty email or display_name empties it.",
    )
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        """Return what was given, with the file's content as the text."""
        given = super().clean() or {}
        file = given.get("file")
        if file is not None:
            if file.size > MAX_BYTES:
                raise forms.ValidationError({"file": f"The file is larger than {MAX_BYTES // 1_000_000} MB. Split it."})
            try:
                given["text"] = file.read().decode("utf-8-sig")
            except UnicodeDecodeError:
                raise forms.ValidationError({"file": "The file is not UTF-8. Save it as CSV UTF-8."}) from None
        if not given.get("text", "").strip():
            raise forms.ValidationError({"text": "Choose a file, or type the lines."})
        return given


def mark(text: str, lines: tuple[Line, ...]) -> str:
    """Return what stands for a text and what it would do: with another default role, say, it would do something else."""
    return sha256(repr((text, lines)).encode("utf-8", "surrogatepass")).hexdigest()


def _cells(line: Line) -> list[tuple[str, str, str | None]]:
    """Return each column's title, what it is afterwards, and what it was before where that is something else."""
    return [(title, line.values.get(name, ""), line.before.get(name)) for name, title in _COLUMNS.items()]


class Import(FormPage):
    """Shows what each line of a file would do, and then, when nothing is wrong with any, does it."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/users_import.html"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form."""
        return Csv(data, self.request.FILES or None) if data is not None else Csv()

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Show the lines, or import those that were shown. What was changed since then is shown again first."""
        text, update = given["text"].replace("\r\n", "\n"), given["update"]
        if len(user_csv.read(text)[0]) > MOST_LINES:
            raise Invalid.field(
                "text", f"A browser takes {MOST_LINES:,} lines at most. For more: manage.py import_users takes them."
            )
        report = user_import.import_users(actor=self.principal, text=text, dry_run=True, update=update)
        seen, faulty = mark(text, report.lines), bool(report.failures)
        if given["seen"] == seen and report.lines and not faulty:
            return self._running(text, update, report.lines)  # type: ignore[return-value] # a response like any other
        return self.render(
            form=Csv(initial={"text": text, "update": update, "seen": "" if faulty else seen}),
            lines=[(line, _cells(line)) for line in sorted(report.lines, key=lambda line: not line.fault)],
            number={outcome.value: sum(line.outcome is outcome for line in report.lines) for outcome in Outcome},
            passwords=sum(line.password for line in report.lines),
            otherwise=bool(given["seen"]),
        )

    def _running(self, text: str, update: bool, lines: tuple[Line, ...]) -> StreamingHttpResponse:
        """Return a page that grows while the import is done."""
        shared = {"principal": self.principal, "links": links(self.principal), "section": self.section, "marker": _MARKER}
        page = render_to_string("dashboard/users_import_running.html", {**shared, "count": len(lines)}, self.request)
        head, _, tail = page.partition(_MARKER)
        return StreamingHttpResponse(streamed(self.request, self._pieces(head, text, update, lines, tail)))

    def _pieces(self, head: str, text: str, update: bool, lines: tuple[Line, ...], tail: str) -> Iterator[str]:
        yield head
        told = 0
        steps = user_import.importing(actor=self.principal, text=text, update=update, expected=lines)
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                yield self._result(end.value)
                break
            except ServiceError as error:
                yield format_html('<p class="message error" role="alert">{} Nothing was written.</p>', error.message)
                break
            if done * _LINES_OF_PROGRESS // total > told:
                told = done * _LINES_OF_PROGRESS // total
                yield format_html("<p>{} %</p>\n", told * 100 // _LINES_OF_PROGRESS)
        yield tail

    def _result(self, report: user_import.ImportReport) -> str:
        template = "dashboard/parts/users_imported.html"
        return render_to_string(template, {"report": report, "created": len(report.created), "changed": len(report.changed)})

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:users")


class ExportUsers(Page):
    """All users as CSV, without passwords."""

    needs = (Permission.USERS_READ,)
    section = "users"
    http_method_names = ["get", "head", "options"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Stream it."""
        lines = user_csv.export_users(self.principal)
        return StreamingHttpResponse(
            streamed(request, lines, at_once=500),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="skyauth-users.csv"'},
        )
