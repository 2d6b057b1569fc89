"""Roles and routes in the Django admin."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join

from adminsite.base import ServiceAdmin, ServiceForm
from core.errors import Conflict
from rbac import services
from rbac.models import Role, Route
from rbac.packs import RouteSpec
from rbac.permissions import ADMIN, MEANINGS, Permission

_PERMISSIONS = [(str(permission), f"{permission} - {MEANINGS[permission]}") for permission in Permission]
_ROUTE_FIELDS = ("host", "path", "methods", "permission", "note")


class RoleForm(ServiceForm):
    """A role: its name is given once, its permissions are ticked."""

    permissions = forms.MultipleChoiceField(choices=_PERMISSIONS, required=False, widget=forms.CheckboxSelectMultiple)
    seen_version = forms.IntegerField(widget=forms.HiddenInput)

    class Meta:
        model = Role
        fields = ("name", "description", "permissions")

    def write(self) -> Role:
        """Change the role."""
        given = self.cleaned_data
        return services.update_role(
            actor=self.actor,
            name=self.instance.name,
            permissions=given["permissions"],
            description=given["description"],
            version=given["seen_version"],
        )


class NewRoleForm(RoleForm):
    """A role that does not exist yet, so that nobody can have changed it."""

    seen_version = None  # type: ignore[assignment] # Django's way to take a declared field off

    def write(self) -> Role:
        """Create the role."""
        return services.create_role(actor=self.actor, **self.cleaned_data)


@admin.register(Role)
class RoleAdmin(ServiceAdmin):
    """Roles. `admin` is shown with everything, which is what it holds."""

    form = RoleForm
    add_form = NewRoleForm
    list_display = ("name", "description", "held", "builtin", "version")
    list_filter = ("builtin",)
    search_fields = ("name", "description")
    readonly_fields = ("held", "builtin", "version")

    def get_fieldsets(self, request: HttpRequest, obj: Role | None = None) -> Any:
        """Return what is typed at first, what may be changed later, or what may be read."""
        if obj is None:
            return [(None, {"fields": ("name", "description", "permissions")})]
        if not self.has_change_permission(request, obj):
            return [(None, {"fields": ("name", "description", "held", "builtin", "version")})]
        return [(None, {"fields": ("name", "description", "permissions", "builtin", "version", "seen_version")})]

    def get_readonly_fields(self, request: HttpRequest, obj: Role | None = None) -> Any:
        """Return the fields that never change; a role's name is what everything else knows it by."""
        return self.readonly_fields if obj is None else ("name", *self.readonly_fields)

    def has_change_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        """Return whether the role can be changed at all; `admin` cannot."""
        return super().has_change_permission(request, obj) and (obj is None or obj.name != ADMIN)

    def has_delete_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        """Return whether the role can be deleted at all; those that came with SkyAuth cannot."""
        return super().has_delete_permission(request, obj) and (obj is None or not obj.builtin)

    def remove(self, actor: Any, row: Role) -> None:
        """Delete a role that nobody holds."""
        services.delete_role(actor=actor, name=row.name)

    @admin.display(description="permissions")
    def held(self, role: Role) -> str:
        """Return what the role really gives, one a line."""
        return format_html_join("", "<div>{}</div>", ((name,) for name in sorted(role.holds)))


class RouteForm(ServiceForm):
    """A route. Its place in the order is changed by the list's actions."""

    methods = forms.CharField(
        help_text="Upper-case names separated by commas, such as GET, HEAD; or * alone for all.",
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    permission = forms.ChoiceField(choices=_PERMISSIONS)
    seen_version = forms.IntegerField(widget=forms.HiddenInput)

    class Meta:
        model = Route
        fields = _ROUTE_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None:
            self.initial["methods"] = ", ".join(self.instance.methods)

    def clean_methods(self) -> tuple[str, ...]:
        """Return the names of the methods; the service judges them."""
        return tuple(self.cleaned_data["methods"].replace(",", " ").split())

    def write(self) -> Route:
        """Change the route."""
        changes = {name: self.cleaned_data[name] for name in _ROUTE_FIELDS}
        version = self.cleaned_data["seen_version"]
        return services.update_route(actor=self.actor, pk=self.instance.pk, changes=changes, version=version)


class NewRouteForm(RouteForm):
    """A route that does not exist yet, which may go between others."""

    seen_version = None  # type: ignore[assignment] # Django's way to take a declared field off
    position = forms.IntegerField(required=False, min_value=1, help_text="It goes before the one there now. Empty: at the end.")

    def write(self) -> Route:
        """Insert the route."""
        given = dict(self.cleaned_data)
        position = given.pop("position")
        return services.create_route(actor=self.actor, spec=RouteSpec(**given), position=position)


@admin.register(Route)
class RouteAdmin(ServiceAdmin):
    """Routes, always in the order in which they are tried."""

    form = RouteForm
    add_form = NewRouteForm
    list_display = ("position", "methods_shown", "host_shown", "path", "permission", "note")
    list_display_links = ("position", "path")
    list_filter = ("permission",)
    list_per_page = 200
    search_fields = ("host", "path", "permission", "note")
    sortable_by = ()
    readonly_fields = ("version",)
    actions = ("move_up", "move_down")

    def get_fieldsets(self, request: HttpRequest, obj: Route | None = None) -> Any:
        """Return what is typed at first, what may be changed later, or what may be read."""
        shown = ("position", *_ROUTE_FIELDS)
        if obj is None:
            return [(None, {"fields": shown})]
        version = ("version", "seen_version") if self.has_change_permission(request, obj) else ("version",)
        return [(None, {"fields": (*shown, *version)})]

    def get_readonly_fields(self, request: HttpRequest, obj: Route | None = None) -> Any:
        """Return the fields that are not typed; the position of a route that exists is changed by moving it."""
        return self.readonly_fields if obj is None else ("position", *self.readonly_fields)

    def remove(self, actor: Any, row: Route) -> None:
        """Delete a route and close the gap."""
        services.delete_route(actor=actor, pk=row.pk)

    @admin.display(description="methods")
    def methods_shown(self, route: Route) -> str:
        """Return the methods as they are typed."""
        return ", ".join(map(str, route.methods))

    @admin.display(description="host", empty_value="any")
    def host_shown(self, route: Route) -> str | None:
        """Return the host, or None for any."""
        return route.host or None

    @admin.action(description="Move up", permissions=["manage"])
    def move_up(self, request: HttpRequest, queryset: QuerySet[Route]) -> None:
        """Let the selected routes be tried one place earlier."""
        self._move(request, queryset, -1)

    @admin.action(description="Move down", permissions=["manage"])
    def move_down(self, request: HttpRequest, queryset: QuerySet[Route]) -> None:
        """Let the selected routes be tried one place later."""
        self._move(request, queryset, 1)

    def _move(self, request: HttpRequest, queryset: QuerySet[Route], step: int) -> None:
        """Move each selected route by one place; those that stand at the end together stay there together."""
        selected = set(queryset.values_list("pk", flat=True))
        rows = list(Route.objects.all())
        order = [row.pk for row in rows]
        places = range(len(order)) if step < 0 else reversed(range(len(order)))
        for place in places:
            beyond = place + step
            if order[place] in selected and 0 <= beyond < len(order) and order[beyond] not in selected:
                order[place], order[beyond] = order[beyond], order[place]
        if order == [row.pk for row in rows]:
            raise Conflict("There is no further place in that direction.")
        services.reorder_routes(actor=request.principal, order=order, if_match=services.table_tag(rows))  # type: ignore[attr-defined]
        self.done(request, "Moved up" if step < 0 else "Moved down", Route.objects.filter(pk__in=selected))
