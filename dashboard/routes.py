"""The pages about routes and policy packs."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.principal_lookup import permissions_of
from core.errors import Conflict, Invalid, NotFound
from dashboard.access import AccessFormPage, AccessPage, PreviewTable, can_change_routes
from dashboard.access_forms import RouteFilter, RouteForm
from rbac import packs, preview, services
from rbac.filters import matching_routes
from rbac.models import Route
from rbac.packs import RouteSpec
from rbac.patterns import BadPattern
from rbac.permissions import Permission
from rbac.preview import Preview
from rbac.routes import insert_at
from rbac.shadows import last_useful_position, shadowed, shadowing

_FIELDS = ("host", "path", "methods", "permission", "note")


class RoutesPage(AccessPage):
    """The list of routes. It has no pages, because the order of all routes matters."""

    needs = (Permission.ROUTES_READ,)
    template = "dashboard/access/routes.html"
    tab = "routes"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return the list."""
        return self.render_routes(request.GET)

    def render_routes(self, query: QueryDict, template: str = "", **context: Any) -> HttpResponse:
        """Return the page with the routes that match the filters."""
        rows = list(Route.objects.all())
        hosts, permissions = sorted({row.host for row in rows if row.host}), sorted({row.permission for row in rows})
        form = RouteFilter(query, hosts=hosts, permissions=permissions)
        filters = form.cleaned_data if form.is_valid() else {}
        matching = matching_routes(rows, filters) if form.is_valid() else []
        writes = can_change_routes(self.principal)
        return self.render(
            template,
            filter=form,
            filtered=any(filters.values()) or not form.is_valid(),
            rows=matching,
            total=len(rows),
            tag=services.table_tag(rows),
            writes=writes,
            moves=writes and len(matching) == len(rows) > 1,
            first=rows[0].pk if rows else None,
            last=rows[-1].pk if rows else None,
            shadowed=shadowed(rows),
            **context,
        )


class MoveRoutePage(RoutesPage):
    """Moves a route by one position. A move that changes a decision on a recent request needs a confirmation, if the user has
    the permission for previews. htmx receives the new list.
    """

    needs = (Permission.ROUTES_WRITE,)
    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest) -> HttpResponse:
        """Move the route `up` or `down`; `seen` is the tag of the table on the page, `step` "save" means confirmed."""
        services.require_routes(self.principal)
        step, direction = (-1, "up") if "up" in request.POST else (1, "down")
        wanted, seen = request.POST.get(direction, ""), request.POST.get("seen", "")
        rows = list(Route.objects.all())
        index = next((number for number, row in enumerate(rows) if str(row.pk) == wanted), None)
        if index is None:
            raise NotFound("This route does not exist. It may have been deleted.")
        if not 0 <= index + step < len(rows):
            raise Conflict(f"The route is {'first' if step < 0 else 'last'} already.")
        services.check_table_tag(rows, seen)
        row, other = rows[index], rows[index + step]
        rows[index], rows[index + step] = other, row
        if request.POST.get("step") != "save":
            preview = _preview_routes(self, [each.spec for each in rows])
            if preview is not None and (preview.lost_count or preview.gained_count):
                return self._render_confirmation(row, other, direction, seen, preview)
        moved = services.reorder_routes(actor=self.principal, order=[each.pk for each in rows], if_match=seen)
        message = f"Route moved {direction}: {moved[index + step]}."
        if self.is_partial:
            return self.render_routes(QueryDict(), template="dashboard/access/parts/routes_list.html", done=message)
        return self.redirect_to(f"{self.page_path()}#route-{wanted}", message)

    def _render_confirmation(self, row: Route, other: Route, direction: str, seen: str, preview: PreviewTable) -> HttpResponse:
        """Return the page that shows the preview and asks; htmx replaces the content of the list's page with its content."""
        response = self.render(
            "dashboard/access/route_move.html", row=row, other=other, direction=direction, tag=seen, preview=preview
        )
        for name, value in (("Retarget", "#content"), ("Reselect", "#content"), ("Reswap", "outerHTML show:window:top")):
            response[f"HX-{name}"] = value
        return response

    def page_path(self) -> str:
        return reverse("dashboard:routes")


class RouteFormPage(AccessFormPage):
    """A page with a form that changes the routes. Its preview uses the route table that saving would create."""

    needs = (Permission.ROUTES_WRITE,)
    tab = "routes"
    noun = "route"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Return the form, to users who are allowed to save it."""
        services.require_routes(self.principal)
        return super().get(request, *args, **kwargs)

    def preview(self, values: dict[str, Any]) -> Preview:
        """Return the effect of the new table. Raises ServiceError."""
        services.require_routes(self.principal)
        rows = list(Route.objects.all())
        services.check_table_tag(rows, values["seen"])
        specs, _ = self.planned(rows, values)
        return preview.of_routes(actor=self.principal, specs=specs, permissions_of=permissions_of)

    def confirmation(self, values: dict[str, Any]) -> str:
        """Return what the user confirms about a route that would never decide a request."""
        specs, index = self.planned(list(Route.objects.all()), values)
        with suppress(BadPattern):  # the service names what is wrong with it
            if other := shadowing(specs, index):
                return (
                    f"Save a route at position {index + 1} that never decides a request, because this one matches first: {other}"
                )
        return ""

    def planned(self, rows: Sequence[Route], values: dict[str, Any]) -> tuple[list[RouteSpec], int]:
        """Return the routes that the table would have, and the index of the one that the form is about."""
        raise NotImplementedError


class NewRoutePage(RouteFormPage):
    """Adds a route, at the last position at which it can decide or, with `before`, in front of another route."""

    template = "dashboard/access/route.html"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the position and the values in the URL."""
        before = self.request.GET.get("before", "")
        position = int(before) if before.isascii() and before.isdigit() and len(before) < 7 else None
        asked = {name: self.request.GET[name] for name in ("methods", "host", "path") if name in self.request.GET}
        return RouteForm(data, initial={**asked, "position": position, "seen": services.table_tag(Route.objects.all())})

    def planned(self, rows: Sequence[Route], values: dict[str, Any]) -> tuple[list[RouteSpec], int]:
        """Return the routes with the new one at its position."""
        others = [row.spec for row in rows]
        return _insert(others, _spec(values), values["position"] or last_useful_position(others, _spec(values)))

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        row = services.create_route(
            actor=self.principal, spec=_spec(values), position=values["position"], if_match=values["seen"]
        )
        return self.redirect_to(f"{reverse('dashboard:routes')}#route-{row.pk}", f"Route added: {row}.")


class RoutePage(RouteFormPage):
    """Changes a route and its position."""

    template = "dashboard/access/route.html"

    @property
    def row(self) -> Route:
        """The route in the URL. Raises NotFound."""
        return find_route(self.kwargs["pk"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        row = self.row
        initial: dict[str, Any] = {name: getattr(row, name) for name in (*_FIELDS, "position")}
        initial |= {"methods": ", ".join(row.methods), "seen": services.table_tag(Route.objects.all())}
        return RouteForm(data, initial=initial)

    def render_form(self, form: BaseForm, status: int = 200, **context: Any) -> HttpResponse:
        """Return the page."""
        return super().render_form(form, status, row=self.row, **context)

    def planned(self, rows: Sequence[Route], values: dict[str, Any]) -> tuple[list[RouteSpec], int]:
        """Return the routes with this one changed."""
        others = [row.spec for row in rows if row.pk != self.kwargs["pk"]]
        return _insert(others, _spec(values), values["position"] or self.row.position)

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        row = services.update_route(
            actor=self.principal,
            pk=self.kwargs["pk"],
            changes={name: values[name] for name in _FIELDS},
            position=values["position"],
            if_match=values["seen"],
        )
        return self.redirect_to(f"{reverse('dashboard:routes')}#route-{row.pk}", f"Route saved: {row}.")


class DeleteRoutePage(AccessPage):
    """Shows the preview, asks for a confirmation and deletes a route."""

    needs = (Permission.ROUTES_WRITE,)
    template = "dashboard/access/route_delete.html"
    tab = "routes"

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the confirmation with the preview."""
        services.require_routes(self.principal)
        row, rows = find_route(pk), list(Route.objects.all())
        preview = _preview_routes(self, [other.spec for other in rows if other.pk != pk])
        return self.render(row=row, tag=services.table_tag(rows), preview=preview)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Delete the route."""
        row = find_route(pk)
        services.delete_route(actor=self.principal, pk=pk, if_match=request.POST.get("seen", ""))
        return self.redirect_to(reverse("dashboard:routes"), f"Route deleted: {row}.")


class PacksPage(AccessPage):
    """The list of policy packs."""

    needs = (Permission.ROUTES_READ,)
    template = "dashboard/access/packs.html"
    tab = "routes"

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the list."""
        current = [row.spec for row in Route.objects.all()]
        rows = [(pack, list(pack.routes) == current) for pack in map(packs.load, packs.names())]
        return self.render(packs=rows, writes=can_change_routes(self.principal))


class PackPage(AccessPage):
    """A policy pack, with the preview of loading it and the button that loads it."""

    needs = (Permission.ROUTES_READ,)
    template = "dashboard/access/pack.html"
    tab = "routes"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the policy pack."""
        pack, rows = packs.load(name), list(Route.objects.all())
        current, new = [row.spec for row in rows], list(pack.routes)
        writes = can_change_routes(self.principal)
        return self.render(
            pack=pack,
            is_loaded=new == current,
            total=len(current),
            removed=[spec for spec in current if spec not in new],
            tag=services.table_tag(rows),
            writes=writes,
            preview=_preview_routes(self, new) if writes else None,
        )

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        """Replace all routes with those of the policy pack."""
        rows = services.load_pack(actor=self.principal, name=name, if_match=request.POST.get("seen", ""))
        return self.redirect_to(reverse("dashboard:routes"), f"The policy pack {name} was loaded: {len(rows)} routes.")


def find_route(pk: int) -> Route:
    """Return the route. Raises NotFound."""
    row = Route.objects.filter(pk=pk).first() if pk < 10**18 else None
    if row is None:
        raise NotFound("This route does not exist. It may have been deleted, or a policy pack may have been loaded.")
    return row


def _insert(others: Sequence[RouteSpec], spec: RouteSpec, position: int) -> tuple[list[RouteSpec], int]:
    """Return the routes with one more at the position, and its index."""
    return insert_at(others, spec, position), min(position, len(others) + 1) - 1


def _spec(values: dict[str, Any]) -> RouteSpec:
    return RouteSpec(**{name: values[name] for name in _FIELDS})


def _preview_routes(page: AccessPage, specs: Sequence[RouteSpec]) -> PreviewTable | None:
    """Return the effect of these routes, or None if the user does not have the permission for previews."""
    if not page.principal.holds(Permission.POLICY_EXPLAIN):
        return None
    with suppress(Invalid, Conflict):  # a stored route is invalid: deleting or replacing it must stay possible
        return PreviewTable.of(preview.of_routes(actor=page.principal, specs=specs, permissions_of=permissions_of))
    return None
