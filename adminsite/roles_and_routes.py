"""Roles and routes in the Django admin."""

from contextlib import suppress
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join

from adminsite.base import ServiceAdmin, ServiceForm
from authn.requests import principal_of
from core.errors import Conflict
from core.numbers import WholeNumberField
from rbac import grants, services
from rbac.models import Role, Route
from rbac.packs import RouteSpec
from rbac.patterns import BadPattern
from rbac.permissions import ADMIN, MEANINGS, Permission
from rbac.routes import insert_at
from rbac.shadows import last_useful_position, shadowing

_PERMISSIONS = [(str(permission), f"{permission} - {MEANINGS[permission]}") for permission in Permission]
_ROUTE_FIELDS = ("host", "path", "methods", "permission", "note")


class RoleAdminForm(ServiceForm):
    """The form that changes a role. Its name cannot be changed."""

    permissions = forms.MultipleChoiceField(choices=_PERMISSIONS, required=False, widget=forms.CheckboxSelectMultiple)
    seen_version = WholeNumberField(widget=forms.HiddenInput)

    class Meta:
        model = Role
        fields = ("name", "description", "permissions")

    def confirmation(self) -> str:
        stored = Role.objects.get(pk=self.instance.pk)
        holders = sum(getattr(stored, name).count() for name in ("users", "service_accounts", "group_roles"))
        return grants.to_role(self.actor, stored.name, self.cleaned_data["permissions"], stored.holds, holders)

    def write(self) -> Role:
        values = self.cleaned_data
        return services.update_role(
            actor=self.actor,
            name=self.instance.name,
            permissions=values["permissions"],
            description=values["description"],
            version=values["seen_version"],
        )


class NewRoleAdminForm(RoleAdminForm):
    """The form that creates a role. It needs no version, because nobody else can have changed the role."""

    seen_version = None  # type: ignore[assignment] # how Django removes an inherited field

    def confirmation(self) -> str:
        return grants.to_role(self.actor, self.cleaned_data["name"], self.cleaned_data["permissions"])

    def write(self) -> Role:
        return services.create_role(actor=self.actor, **self.cleaned_data)


@admin.register(Role)
class RoleAdmin(ServiceAdmin):
    """Roles. `admin` is shown with every permission, which is what it grants."""

    form = RoleAdminForm
    add_form = NewRoleAdminForm
    list_display = ("name", "description", "permissions_shown", "builtin", "version")
    list_filter = ("builtin",)
    search_fields = ("name", "description")
    readonly_fields = ("permissions_shown", "builtin", "version")

    def get_fieldsets(self, request: HttpRequest, obj: Role | None = None) -> Any:
        """Return the fields of a new row, of one that can be changed, or of one that can only be read."""
        if obj is None:
            return [(None, {"fields": ("name", "description", "permissions")})]
        if not self.has_change_permission(request, obj):
            return [(None, {"fields": ("name", "description", "permissions_shown", "builtin", "version")})]
        return [(None, {"fields": ("name", "description", "permissions", "builtin", "version", "seen_version")})]

    def get_readonly_fields(self, request: HttpRequest, obj: Role | None = None) -> Any:
        """Return the fields that cannot be changed. The name is one, because requests and manifests refer to a role by name."""
        return self.readonly_fields if obj is None else ("name", *self.readonly_fields)

    def has_change_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        """Return whether the role can be changed. `admin` cannot."""
        return super().has_change_permission(request, obj) and (obj is None or obj.name != ADMIN)

    def has_delete_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        """Return whether the role can be deleted. Built-in roles cannot."""
        return super().has_delete_permission(request, obj) and (obj is None or not obj.builtin)

    def remove(self, actor: Any, row: Role) -> None:
        services.delete_role(actor=actor, name=row.name)

    @admin.display(description="permissions")
    def permissions_shown(self, role: Role) -> str:
        """Return the permissions that the role grants, one per line."""
        return format_html_join("", "<div>{}</div>", ((name,) for name in sorted(role.holds)))


class RouteAdminForm(ServiceForm):
    """The form that changes a route. The actions of the list change its position."""

    methods = forms.CharField(
        help_text="Upper-case method names separated by commas, for example GET, HEAD. * matches every method.",
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    permission = forms.ChoiceField(choices=_PERMISSIONS)
    seen_version = WholeNumberField(widget=forms.HiddenInput)

    class Meta:
        model = Route
        fields = _ROUTE_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None:
            self.initial["methods"] = ", ".join(self.instance.methods)

    def clean_methods(self) -> tuple[str, ...]:
        """Return the method names; the service validates them."""
        return tuple(self.cleaned_data["methods"].replace(",", " ").split())

    def confirmation(self) -> str:
        """Return what the user confirms about a route that would never decide a request."""
        spec = RouteSpec(**{name: self.cleaned_data[name] for name in _ROUTE_FIELDS})
        others = [row.spec for row in Route.objects.exclude(pk=self.instance.pk)]
        position = self.cleaned_data.get("position") or self.instance.position or last_useful_position(others, spec)
        with suppress(BadPattern):  # the service names what is wrong with it
            if other := shadowing(insert_at(others, spec, position), min(position, len(others) + 1) - 1):
                return f"Save a route that never decides a request, because this one matches first: {other}"
        return ""

    def write(self) -> Route:
        """Change the route."""
        changes = {name: self.cleaned_data[name] for name in _ROUTE_FIELDS}
        version = self.cleaned_data["seen_version"]
        return services.update_route(actor=self.actor, pk=self.instance.pk, changes=changes, version=version)


class NewRouteAdminForm(RouteAdminForm):
    """The form that adds a route, at a position or at the last one at which it can decide."""

    seen_version = None  # type: ignore[assignment] # how Django removes an inherited field
    position = WholeNumberField(
        required=False,
        min_value=1,
        help_text="The route that has this position now follows it. Empty: the last position at which the new route can decide.",
    )

    def write(self) -> Route:
        values = dict(self.cleaned_data)
        position = values.pop("position")
        return services.create_route(actor=self.actor, spec=RouteSpec(**values), position=position)


@admin.register(Route)
class RouteAdmin(ServiceAdmin):
    """Routes, in the order in which they are matched."""

    form = RouteAdminForm
    add_form = NewRouteAdminForm
    list_display = ("position", "methods_shown", "host_shown", "path", "permission", "note")
    list_display_links = ("position", "path")
    list_filter = ("permission",)
    list_per_page = 200
    search_fields = ("host", "path", "permission", "note")
    sortable_by = ()
    readonly_fields = ("version",)
    actions = ("move_up", "move_down")

    def get_fieldsets(self, request: HttpRequest, obj: Route | None = None) -> Any:
        """Return the fields of a new row, of one that can be changed, or of one that can only be read."""
        fields = ("position", *_ROUTE_FIELDS)
        if obj is None:
            return [(None, {"fields": fields})]
        version = ("version", "seen_version") if self.has_change_permission(request, obj) else ("version",)
        return [(None, {"fields": (*fields, *version)})]

    def get_readonly_fields(self, request: HttpRequest, obj: Route | None = None) -> Any:
        """Return the fields that cannot be edited. The actions of the list change the position of a route."""
        return self.readonly_fields if obj is None else ("position", *self.readonly_fields)

    def remove(self, actor: Any, row: Route) -> None:
        services.delete_route(actor=actor, pk=row.pk)

    @admin.display(description="methods")
    def methods_shown(self, route: Route) -> str:
        """Return the methods in the form in which users type them."""
        return ", ".join(map(str, route.methods))

    @admin.display(description="host", empty_value="any")
    def host_shown(self, route: Route) -> str | None:
        """Return the host, or None for any host."""
        return route.host or None

    @admin.action(description="Move selected routes up", permissions=["manage"])
    def move_up(self, request: HttpRequest, queryset: QuerySet[Route]) -> None:
        """Move the selected routes one position up."""
        self._move(request, queryset, -1)

    @admin.action(description="Move selected routes down", permissions=["manage"])
    def move_down(self, request: HttpRequest, queryset: QuerySet[Route]) -> None:
        """Move the selected routes one position down."""
        self._move(request, queryset, 1)

    def _move(self, request: HttpRequest, queryset: QuerySet[Route], step: int) -> None:
        """Move each selected route by one position. Selected routes that are first or last already stay where they are."""
        selected = set(queryset.values_list("pk", flat=True))
        rows = list(Route.objects.all())
        order = [row.pk for row in rows]
        for index in range(len(order)) if step < 0 else reversed(range(len(order))):
            target = index + step
            if order[index] in selected and 0 <= target < len(order) and order[target] not in selected:
                order[index], order[target] = order[target], order[index]
        if order == [row.pk for row in rows]:
            raise Conflict(f"The selected routes are {'first' if step < 0 else 'last'} already.")
        services.reorder_routes(actor=principal_of(request), order=order, if_match=services.table_tag(rows))
        self.report(request, "Moved up" if step < 0 else "Moved down", Route.objects.filter(pk__in=selected))
