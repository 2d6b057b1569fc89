"""Base classes of the Django admin pages: every write calls a service, and a ServiceError becomes a form error or a message."""

from collections.abc import Iterable
from typing import Any, ClassVar, Final, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse

from authn.requests import principal_of
from core.agreement import asks_first
from core.errors import Invalid, ServiceError
from core.forms import CONFIRMATION, add_service_error, require_confirmation

SEEN_VERSION: Final = "seen_version"


class ServiceForm(forms.ModelForm):  # type: ignore[type-arg] # not generic at run time
    """A form whose validation includes the service call, so that a ServiceError is shown as a form error beside the values.

    The service runs in the transaction that the admin opens for each POST. A form without a version field sends the values
    that it was rendered with as hidden fields: only the values that the user changed are written, and changes that somebody
    else made in the meantime stay.
    """

    actor: ClassVar[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is None:
            return
        if SEEN_VERSION in self.fields:
            self.initial[SEEN_VERSION] = self.instance.version
        else:
            for field in self.fields.values():
                field.show_hidden_initial = True

    def write(self) -> models.Model:
        """Call the service with `cleaned_data` and return the row. Raises ServiceError."""
        raise NotImplementedError

    def confirmation(self) -> str:
        """Return the statement that the user confirms before `write`, or "" for none. Raises ServiceError."""
        return ""

    def changed(self, *names: str) -> dict[str, Any]:
        """Return the values of those of the named fields that the user changed."""
        return {name: self.cleaned_data[name] for name in names if name in self.changed_data}

    def _post_clean(self) -> None:
        """Call the service in place of Django's model validation, which the service does itself."""
        if self.errors:
            return
        try:
            with transaction.atomic():
                if require_confirmation(self, self.confirmation()):
                    self.instance = self.write()
        except ServiceError as error:
            add_service_error(self, error)


class ServiceAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # not generic at run time
    """An admin page whose forms, deletions and actions call services. An action applies to all selected rows or to none."""

    form: type[ServiceForm]
    add_form: type[ServiceForm] | None = None
    change_form_template = "admin/skyauth/change_form.html"
    delete_confirmation_template = "admin/skyauth/delete_confirmation.html"
    delete_selected_confirmation_template = "admin/skyauth/delete_selected_confirmation.html"
    list_per_page = 50
    show_full_result_count = False  # a filtered list would count the whole table, too
    secret_lookups: tuple[str, ...] = ()

    def remove(self, actor: Any, row: Any) -> None:
        """Delete a row through its service. Raises ServiceError."""
        raise NotImplementedError

    def consequences(self, row: Any) -> list[Any]:
        """Return what the delete confirmation lists for one row: a line, and a nested list of further effects."""
        return [str(row)]

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """Return whether the actions are shown; the services check the permission again."""
        return super().has_change_permission(request)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form class of this request, with its actor."""
        if not change and self.add_form is not None:
            kwargs["form"] = self.add_form
        form = cast(type[ServiceForm], super().get_form(request, obj, change, **kwargs))
        form.actor = principal_of(request)
        return form

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Return the field without Django's links that add, change or delete the related row."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        if field is not None:  # with maxlength, a browser cuts a pasted text without a word
            field.widget.attrs.pop("maxlength", None)
        return field

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the page, with the checkbox of a confirmation that the form asks for."""
        form = context["adminform"]
        if CONFIRMATION in form.form.fields:
            form.fieldsets = [*form.fieldsets, ("Confirmation", {"fields": (CONFIRMATION,)})]
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Do nothing: the form called the service."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Do nothing: there are no related rows."""

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.remove(principal_of(request), obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete each row through its service."""
        for row in queryset:
            self.delete_model(request, row)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Return the lines of the confirmation. The service alone checks the permission, when the user confirms."""
        lines = [line for row in objs for line in self.consequences(row)]
        return lines, {str(self.opts.verbose_name_plural): len(objs)}, set(), []

    def changeform_view(self, *args: Any, **kwargs: Any) -> Any:
        """Return the form, or save it. Django does so in a transaction, hence `asks_first` here."""
        return asks_first(super().changeform_view)(*args, **kwargs)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        """Return the confirmation, or delete. A ServiceError redirects to the row's page and is shown there."""
        context = {"title": f"Delete {self.opts.verbose_name}", **(extra_context or {})}
        try:
            return asks_first(super().delete_view)(request, object_id, context)
        except ServiceError as error:
            self.message_user(request, error.message, messages.ERROR)
            name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
            return HttpResponseRedirect(reverse(name, args=[object_id], current_app=self.admin_site.name))

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> Any:
        """Run the action in one transaction, which a ServiceError rolls back."""
        try:
            across = request.POST.get("select_across", "0") not in ("", "0")
            self.require_few(queryset.count() if across else len(request.POST.getlist(ACTION_CHECKBOX_NAME)))
            return asks_first(transaction.atomic(super().response_action))(request, queryset, *args)
        except ServiceError as error:
            self.message_user(request, f"Nothing was changed. {error.message}", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def require_few(self, number: int) -> None:
        """Raise Invalid for more rows than a page has: the transaction of an action holds the lock of all other changes."""
        if number > self.list_per_page:
            raise Invalid(
                f"An action applies to at most {self.list_per_page} rows. For more, use manage.py: import_users --update changes "
                "users, apply changes service accounts, and revoke_token revokes all tokens of a service account."
            )

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Reject filters by a hash or a digest, which could be guessed character by character."""
        return not lookup.startswith(self.secret_lookups) and super().lookup_allowed(lookup, value, request)

    def report(self, request: HttpRequest, result: str, rows: Iterable[Any]) -> None:
        """Show a message with the result of an action and the rows it applied to."""
        self.message_user(request, f"{result}: {', '.join(map(str, rows))}.", messages.SUCCESS)
