"""Actions of the Django admin that ask for input or for a confirmation on a page of their own first."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import AdminForm
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from accounts.services.tokens import IssuedToken
from adminsite.base import ServiceAdmin
from authn import nonces
from authn.requests import principal_of
from core.agreement import asks_first
from core.errors import Invalid, ServiceError
from core.forms import add_service_error, require_confirmation
from rbac.models import Role
from rbac.principals import Principal


class ActionStep:
    """The page of one action. `title` is its heading and its button; `result` is what the message says afterwards."""

    name: ClassVar[str]
    title: ClassVar[str]
    explanation: ClassVar[str] = ""
    result: ClassVar[str] = ""
    creates_tokens: ClassVar[bool] = False
    form: ClassVar[type[forms.Form]] = forms.Form

    @classmethod
    def question(cls, actor: Principal, rows: Sequence[Any], values: dict[str, Any]) -> str:  # noqa: ARG003 - for those that have one
        """Return the statement that the user confirms before `perform`, or "" for none."""
        return ""

    @classmethod
    def perform(cls, actor: Principal, rows: Sequence[Any], values: dict[str, Any]) -> Sequence[IssuedToken]:
        """Apply the action to all rows, with the form's values; return the tokens that it created. Raises ServiceError."""
        raise NotImplementedError


class SetRoleStep(ActionStep):
    """Sets one role for all selected rows. A subclass says how the role of a row is stored."""

    name = "set-role"
    title = "Set role"
    result = "Role set"

    class form(forms.Form):  # noqa: N801 - the attribute `form`
        role = forms.ModelChoiceField(Role.objects.all(), empty_label="Select a role")

    @classmethod
    def question(cls, actor: Principal, rows: Sequence[Any], values: dict[str, Any]) -> str:
        """Return the sentences of all rows that gain administrative permissions, after their number."""
        sentences = [sentence for row in rows if (sentence := cls.confirmation(actor, row, values["role"]))]
        return " ".join([f"{len(sentences)} of {len(rows)}:", *sentences] if len(rows) > 1 and sentences else sentences)

    @classmethod
    def perform(cls, actor: Principal, rows: Sequence[Any], values: dict[str, Any]) -> Sequence[IssuedToken]:
        for row in rows:
            cls.set_role(actor, row, values["role"].name)
        return ()

    @staticmethod
    def confirmation(actor: Principal, row: Any, role: Role) -> str:
        """Return the statement for one row, or ""."""
        raise NotImplementedError

    @staticmethod
    def set_role(actor: Principal, row: Any, role: str) -> None:
        """Store the role of one row. Raises ServiceError."""
        raise NotImplementedError


class SteppedAdmin(ServiceAdmin):
    """An admin page with actions that have a page of their own. Each row's page links to the same action pages."""

    steps: tuple[type[ActionStep], ...] = ()

    def get_urls(self) -> list[URLPattern]:
        """Return Django's URLs and one for each step."""
        return [
            path(f"{step.name}/", self.admin_site.admin_view(partial(self.step_view, step=step)), name=self._url_name(step))
            for step in self.steps
        ] + super().get_urls()

    def _url_name(self, step: type[ActionStep]) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{step.name}"

    def step_url(self, step: type[ActionStep], row: Any | None = None) -> str:
        """Return the URL of a step's page, for one row if there is one."""
        url = reverse(f"admin:{self._url_name(step)}", current_app=self.admin_site.name)
        return url if row is None else f"{url}?rows={row.pk}"

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        """Return the row's page, with links to the steps."""
        row = self.get_object(request, object_id) if self.has_manage_permission(request) else None
        links = [(self.step_url(step, row), step.title) for step in self.steps] if row is not None else []
        return super().change_view(request, object_id, form_url, {"step_links": links, **(extra_context or {})})

    @method_decorator(sensitive_post_parameters())
    @asks_first
    def step_view(self, request: HttpRequest, *, step: type[ActionStep]) -> HttpResponseBase:
        """Return the step's page, or apply the step. Created tokens are in the response to this one request and nowhere else."""
        if not self.has_manage_permission(request):
            raise PermissionDenied
        try:
            rows = self._selected(request)
        except Invalid as error:
            return self._redirect_with_error(request, error.message)
        if request.method != "POST":
            return self.render_step(request, step, rows)
        form = step.form(request.POST)
        nonce = request.POST.get("nonce", "")
        actor = principal_of(request)
        if form.is_valid() and require_confirmation(form, step.question(actor, list(rows), form.cleaned_data)):
            try:
                with transaction.atomic():
                    if step.creates_tokens and not nonces.consume(nonce, actor, step.name):
                        return self._redirect_with_error(
                            request, "This form was already used. A token is shown only once: if you lost it, create another one."
                        )
                    selected = list(rows)
                    tokens = step.perform(actor, selected, form.cleaned_data)
                    for row in selected:
                        self.log_change(request, row, f"{step.result}.")
            except ServiceError as error:
                add_service_error(form, error)
            else:
                if tokens:
                    return self._render_tokens(request, step, tokens)
                self.report(request, step.result, selected)
                return HttpResponseRedirect(self._list_url())
        return self.render_step(request, step, rows, form, nonce)

    def _selected(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the selected rows. Raises Invalid for none, and for more than a page has."""
        keys = (request.POST if request.method == "POST" else request.GET).get("rows", "").split(",")
        rows = self.get_queryset(request).filter(
            pk__in=[int(pk) for pk in keys if pk.isascii() and pk.isdigit() and len(pk) <= 18]
        )
        if not rows:
            raise Invalid("The selected rows no longer exist. Select rows in the list.")
        self.require_few(len(rows))
        return rows

    def render_step(
        self, request: HttpRequest, step: type[ActionStep], rows: QuerySet[Any], form: forms.Form | None = None, nonce: str = ""
    ) -> TemplateResponse:
        """Return the step's page; `form` is the one with errors, with the values that the user typed."""
        form = form or step.form()
        if step.creates_tokens and not nonce:
            nonce = nonces.issue(principal_of(request), step.name)
        context = {
            "step": step,
            "rows": rows,
            "selected": ",".join(str(row.pk) for row in rows),
            "nonce": nonce,
            "adminform": AdminForm(form, [(None, {"fields": list(form.fields)})], {}),  # type: ignore[arg-type] # any form works
            "errors": form.errors,
            "action_url": self.step_url(step),
            "list_url": self._list_url(),
        }
        return self._page(request, "admin/skyauth/step.html", step.title, context)

    def _render_tokens(self, request: HttpRequest, step: type[ActionStep], tokens: Sequence[IssuedToken]) -> TemplateResponse:
        context = {"tokens": tokens, "list_url": self._list_url()}
        response = self._page(request, "admin/skyauth/new_tokens.html", step.result, context)
        response["Cache-Control"] = "no-store"
        return response

    def _page(self, request: HttpRequest, template: str, title: str, context: dict[str, Any]) -> TemplateResponse:
        request.current_app = self.admin_site.name
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "title": title, "media": self.media}
        return TemplateResponse(request, template, {**shared, **context})

    def _list_url(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist", current_app=self.admin_site.name)

    def _redirect_with_error(self, request: HttpRequest, message: str) -> HttpResponseRedirect:
        self.message_user(request, message, messages.ERROR)
        return HttpResponseRedirect(self._list_url())


class RoleHolderAdmin(SteppedAdmin):
    """An admin page of rows that have a role and can be disabled: users and service accounts."""

    role_step: type[SetRoleStep]

    def write_active(self, actor: Principal, row: Any, active: bool) -> Any:
        """Enable or disable one row and return it. Raises ServiceError."""
        raise NotImplementedError

    @admin.action(description="Set role of selected %(verbose_name_plural)s…", permissions=["manage"])
    def set_role(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase:
        """Return the page that asks for the role."""
        return self.render_step(request, self.role_step, queryset)

    @admin.action(description="Disable selected %(verbose_name_plural)s", permissions=["manage"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Disable each row, so that its credentials are rejected immediately."""
        self._set_active(request, queryset, False)

    @admin.action(description="Enable selected %(verbose_name_plural)s", permissions=["manage"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._set_active(request, queryset, True)

    def _set_active(self, request: HttpRequest, queryset: QuerySet[Any], active: bool) -> None:
        actor = principal_of(request)
        rows = [self.write_active(actor, row, active) for row in queryset]
        self.report(request, "Enabled" if active else "Disabled", rows)
