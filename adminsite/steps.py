"""Pages between an action and its doing: they ask with a form, then do, through a service."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
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
from core.errors import ServiceError
from core.forms import add_service_error
from rbac.principals import Principal


class Step:
    """One such page. `perform` does it for all the rows or raises ServiceError; the tokens it returns are shown, once."""

    name: ClassVar[str]
    title: ClassVar[str]
    explanation: ClassVar[str] = ""
    did: ClassVar[str] = ""
    mints: ClassVar[bool] = False
    form: ClassVar[type[forms.Form]] = forms.Form

    @staticmethod
    def perform(actor: Principal, rows: Sequence[Any], given: dict[str, Any]) -> Sequence[IssuedToken]:
        """Do it, with the form's values, and return the tokens that it minted."""
        raise NotImplementedError


class SteppedAdmin(ServiceAdmin):
    """A page of the admin some of whose actions ask first. The same pages are linked from each row's own page."""

    steps: tuple[type[Step], ...] = ()

    def get_urls(self) -> list[URLPattern]:
        """Return Django's pages and one for each step."""
        return [
            path(f"{step.name}/", self.admin_site.admin_view(partial(self.step_view, step=step)), name=self._url_name(step))
            for step in self.steps
        ] + super().get_urls()

    def _url_name(self, step: type[Step]) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{step.name}"

    def step_url(self, step: type[Step], row: Any | None = None) -> str:
        """Return the address of a step's page, for one row if given."""
        url = reverse(f"admin:{self._url_name(step)}", current_app=self.admin_site.name)
        return url if row is None else f"{url}?rows={row.pk}"

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        """Show the row's own page, with links to the steps."""
        row = self.get_object(request, object_id) if self.has_manage_permission(request) else None
        links = [(self.step_url(step, row), step.title) for step in self.steps] if row is not None else []
        return super().change_view(request, object_id, form_url, {"step_links": links, **(extra_context or {})})

    @method_decorator(sensitive_post_parameters())
    def step_view(self, request: HttpRequest, *, step: type[Step]) -> HttpResponseBase:
        """Ask, or do what was asked. What a step minted is in the answer to this one request and nowhere else."""
        if not self.has_manage_permission(request):
            raise PermissionDenied
        numbers = (request.POST if request.method == "POST" else request.GET).get("rows", "").split(",")
        rows = self.get_queryset(request).filter(
            pk__in=[int(pk) for pk in numbers if pk.isascii() and pk.isdigit() and len(pk) <= 18]
        )
        if not rows:
            return self._back(request, "What was selected is not there any more.")
        if request.method != "POST":
            return self.ask(request, step, rows)
        form = step.form(request.POST)
        nonce = request.POST.get("nonce", "")
        if form.is_valid():
            actor: Principal = request.principal  # type: ignore[attr-defined]
            try:
                with transaction.atomic():
                    if step.mints and not nonces.consume(nonce, actor, step.name):
                        return self._back(
                            request, "This form was used before. A token is shown once; issue another if it is lost."
                        )
                    shown = list(rows)
                    minted = step.perform(actor, shown, form.cleaned_data)
                    for row in shown:
                        self.log_change(request, row, f"{step.did}.")
            except ServiceError as error:
                add_service_error(form, error)
            else:
                if minted:
                    return self._show(request, step, minted)
                self.done(request, step.did, shown)
                return HttpResponseRedirect(self._list_url())
        return self.ask(request, step, rows, form, nonce)

    def ask(
        self, request: HttpRequest, step: type[Step], rows: QuerySet[Any], form: forms.Form | None = None, nonce: str = ""
    ) -> TemplateResponse:
        """Return the page that asks; `form` is the one that was refused, with what was typed."""
        form = form or step.form()
        if step.mints and not nonce:
            nonce = nonces.issue(request.principal, step.name)  # type: ignore[attr-defined]
        context = {
            "step": step,
            "rows": rows,
            "selected": ",".join(str(row.pk) for row in rows),
            "nonce": nonce,
            "adminform": AdminForm(form, [(None, {"fields": list(form.fields)})], {}),  # type: ignore[arg-type] # any form will do
            "errors": form.errors,
            "action_url": self.step_url(step),
            "list_url": self._list_url(),
        }
        return self._page(request, "admin/skyauth/step.html", step.title, context)

    def _show(self, request: HttpRequest, step: type[Step], minted: Sequence[IssuedToken]) -> TemplateResponse:
        response = self._page(request, "admin/skyauth/minted.html", step.did, {"minted": minted, "list_url": self._list_url()})
        response["Cache-Control"] = "no-store"
        return response

    def _page(self, request: HttpRequest, template: str, title: str, context: dict[str, Any]) -> TemplateResponse:
        request.current_app = self.admin_site.name
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "title": title, "media": self.media}
        return TemplateResponse(request, template, {**shared, **context})

    def _list_url(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist", current_app=self.admin_site.name)

    def _back(self, request: HttpRequest, message: str) -> HttpResponseRedirect:
        self.message_user(request, message, messages.ERROR)
        return HttpResponseRedirect(self._list_url())
