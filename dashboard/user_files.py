"""Import of users from a CSV file by a job, after a preview of each line, and the export of all users as CSV."""

from hashlib import sha256
from secrets import token_hex
from typing import Any, Final

from django import forms
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.urls import reverse

from accounts.models import Job, JobKind
from accounts.services import user_csv, user_import
from accounts.services.jobs import KeyReused, find_job, latest_jobs
from accounts.services.user_csv import MAX_BYTES
from accounts.services.user_csv_columns import IMPORTED
from accounts.services.user_import_job import import_of_key, start_import
from accounts.services.user_import_report import RowAction, RowChange
from core.errors import Invalid
from dashboard.base import FormPage, Page
from dashboard.streams import streamed
from rbac.permissions import Permission

SHOWN_LINES: Final = 1_000  # of a preview, in a browser
_COLUMNS: Final = {
    "role": "Role",
    "email": "E-mail",
    "display_name": "Display name",
    "sign_in": "Sign-in method",
    "active": "Active",
}
_LATEST_JOBS: Final = 5
_EXAMPLE: Final = "username,role,password\ndana@example.com,user,\n"


class ImportUsersForm(forms.Form):
    """CSV text, from a file or typed.

    `seen` is the fingerprint of the preview that the user saw, and `attempt` a random value of this preview, so that an import is
    started once however often the form is sent.
    """

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
    attempt = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

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


class ImportUsersPage(FormPage):
    """Previews the effect of each line. The next POST starts a job that imports the file, if no line has an error."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/users_import.html"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the uploaded file if there is one."""
        return ImportUsersForm(data, self.request.FILES or None) if data is not None else ImportUsersForm()

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        """Return a preview, or import the lines whose preview was seen. After a change in between, preview again."""
        text, update, attempt = values["text"].replace("\r\n", "\n"), values["update"], values["attempt"]
        if values["seen"] and (job := self._started(text, update, attempt)) is not None:
            return self._show(job)
        plan = user_import.plan_import(actor=self.principal, text=text, update=update)
        changes = plan.report.changes
        seen, has_errors = fingerprint(text, changes), bool(plan.report.errors)
        if values["seen"] == seen and changes and not has_errors:
            return self._show(start_import(actor=self.principal, text=text, update=update, key=attempt, plan=plan))
        first = sorted(changes, key=lambda change: (not change.error, not change.makes_admin))[:SHOWN_LINES]
        again = {"text": text, "update": update, "seen": "" if has_errors else seen, "attempt": token_hex(16)}
        return self.render(
            form=ImportUsersForm(initial=again),
            lines=[(change, _cells(change)) for change in first],
            count=len(changes),
            report=plan.report,
            number={action.value: sum(change.action is action for change in changes) for action in RowAction},
            passwords=sum(change.password for change in changes),
            is_repeated=bool(values["seen"]),
        )

    def _started(self, text: str, update: bool, attempt: str) -> Job | None:
        """Return the job that this form has started before, or None."""
        try:
            return import_of_key(actor=self.principal, text=text, update=update, key=attempt)
        except KeyReused:  # the text was changed after that
            return None

    def _show(self, job: Job) -> HttpResponse:
        return self.redirect_to(reverse("dashboard:users-import-job", kwargs={"job": job.pk}))

    def render_form(self, form: BaseForm, status: int = 200) -> HttpResponse:
        """Return the page with this form and the latest imports of the user."""
        return self.render(
            status=status,
            form=form,
            jobs=latest_jobs(actor=self.principal, kind=JobKind.USER_IMPORT, number=_LATEST_JOBS),
        )

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:users")


class ImportJobPage(Page):
    """The progress and the result of an import. It loads itself again until the job ends, and can be closed meanwhile."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/users_import_job.html"
    http_method_names = ["get", "head", "options"]

    def get(self, request: HttpRequest, job: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the page. Raises NotFound."""
        found = find_job(actor=self.principal, job_id=job)
        failures = (found.problem or {}).get("failures", ())
        return self.render(
            job=found,
            percent=100 * found.steps_done // max(found.steps, 1),
            failures=failures[:SHOWN_LINES],
            created=len(found.result["created"]) if found.result else 0,
            changed=len(found.result["changed"]) if found.result else 0,
        )


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
