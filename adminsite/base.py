"""What SkyAuth's pages of the Django admin share: every write is a call of a service, and a refusal is shown, never a 500."""

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse

from core.errors import ServiceError
from core.forms import add_service_error

SEEN_VERSION: Final = "seen_version"


class ServiceForm(forms.ModelForm):  # type: ignore[type-arg] # not generic at run time
    """A form that is valid when the service has done what it asks for; a refusal is an error, beside what was typed.

    What the service does lies in the transaction that the admin opens round each POST. A form without a version sends its
    first values along, so that only what the person changed is written, not what somebody else changed meanwhile.
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

    def changed(self, *names: str) -> dict[str, Any]:
        """Return the values that the person changed, of these fields."""
        return {name: self.cleaned_data[name] for name in names if name in self.changed_data}

    def _post_clean(self) -> None:
        """Write, in place of Django's validation of the row, which the service does itself."""
        if self.errors:
            return
        try:
            with transaction.atomic():
                self.instance = self.write()
        except ServiceError as error:
            add_service_error(self, error)


class ServiceAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # not generic at run time
    """A page whose forms, deletions and actions are calls of services. An action does all that was asked, or nothing."""

    form: type[ServiceForm]
    add_form: type[ServiceForm] | None = None
    change_form_template = "admin/skyauth/change_form.html"
    delete_confirmation_template = "admin/skyauth/delete_confirmation.html"
    delete_selected_confirmation_template = "admin/skyauth/delete_selected_confirmation.html"
    list_per_page = 50
    secret_lookups: tuple[str, ...] = ()

    def remove(self, actor: Any, row: Any) -> None:
        """Delete a row through its service. Raises ServiceError."""
        raise NotImplementedError

    def consequences(self, row: Any) -> list[Any]:
        """Return what the confirmation of a deletion says of one row: a line, and a list of what follows from it."""
        return [str(row)]

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """Return whether the actions are offered; the services decide whether they are done."""
        return super().has_change_permission(request)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form class, made for this request, with its actor."""
        if not change and self.add_form is not None:
            kwargs["form"] = self.add_form
        form = super().get_form(request, obj, change, **kwargs)
        form.actor = request.principal  # type: ignore[attr-defined]
        return form

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Return the field without links that change or delete the row it names, which is another page's matter."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Do nothing: the form has written."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Do nothing: there is nothing that a service has not written."""

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete through the service."""
        self.remove(request.principal, obj)  # type: ignore[attr-defined]

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete each through the service."""
        for row in queryset:
            self.delete_model(request, row)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Return what follows. That the service refuses is said when it does: there is no second set of rules here."""
        lines = [line for row in objs for line in self.consequences(row)]
        return lines, {str(self.opts.verbose_name_plural): len(objs)}, set(), []

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        """Show the confirmation, or delete; a refusal leads back to the row."""
        try:
            return super().delete_view(request, object_id, extra_context)
        except ServiceError as error:
            self.message_user(request, error.message, messages.ERROR)
            name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
            return HttpResponseRedirect(reverse(name, args=[object_id], current_app=self.admin_site.name))

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> Any:
        """Run the action in one transaction; a refusal undoes all of it."""
        try:
            with transaction.atomic():
                return super().response_action(request, queryset, *args)
        except ServiceError as error:
            self.message_user(request, f"Nothing was changed. {error.message}", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Refuse to filter by a hash or a digest, which would tell it letter by letter."""
        return not lookup.startswith(self.secret_lookups) and super().lookup_allowed(lookup, value, request)

    def done(self, request: HttpRequest, did: str, rows: Iterable[Any]) -> None:
        """Tell the person what an action did, and to what."""
        self.message_user(request, f"{did}: {', '.join(map(str, rows))}.", messages.SUCCESS)
