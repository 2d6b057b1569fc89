"""Routes: in the order in which they are tried, moved, changed with a preview, and replaced by a pack."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.principal_lookup import permissions_of
from core.errors import Conflict, Invalid, NotFound
from core.paths import AmbiguousPath, Segments, split_path
from dashboard.access import AccessForm, AccessPage, Tried, may_route
from dashboard.access_forms import RouteFilter, RouteForm
from rbac import packs, preview, services
from rbac.models import Route
from rbac.packs import RouteSpec
from rbac.patterns import BadPattern
from rbac.permissions import Permission
from rbac.preview import Preview
from rbac.routes import ANY_METHOD, insert_at

_FIELDS = ("host", "path", "methods", "permission", "note")


class Routes(AccessPage):
    """The list of routes, all of them: the order is what counts."""

    needs = (Permission.ROUTES_READ,)
    template = "dashboard/access/routes.html"
    tab = "routes"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show it."""
        return self.show_routes(request.GET)

    def show_routes(self, asked: QueryDict, template: str = "", **context: Any) -> HttpResponse:
        """Return the page with the routes that are asked for."""
        rows = list(Route.objects.all())
        hosts, permissions = sorted({row.host for row in rows if row.host}), sorted({row.permission for row in rows})
        form = RouteFilter(asked, hosts=hosts, permissions=permissions)
        given = form.cleaned_data if form.is_valid() else {}
        found = _filtered(rows, given) if form.is_valid() else []
        writes = may_route(self.principal)
        return self.render(
            template,
            filter=form,
            filtered=any(given.values()) or not form.is_valid(),
            rows=found,
            total=len(rows),
            tag=services.table_tag(rows),
            writes=writes,
            moves=writes and len(found) == len(rows) > 1,
            first=rows[0].pk if rows else None,
            last=rows[-1].pk if rows else None,
            **context,
        )


def _filtered(rows: Sequence[Route], given: dict[str, Any]) -> list[Route]:
    """Return the routes that are asked for: those that have the text in them, and those that match it, where it is a path."""
    text = given["q"].strip()
    path: Segments | None = None
    if text.startswith("/") and "*" not in text:
        with suppress(AmbiguousPath):
            path = split_path(text)
    return [
        row
        for row in rows
        if (not text or _has(row, text.lower()) or (path is not None and _matches(row, path)))
        and (not given["host"] or row.host in {"", given["host"]})
        and (not given["method"] or given["method"] in row.methods or ANY_METHOD in row.methods)
        and (not given["permission"] or row.permission == given["permission"])
    ]


def _has(row: Route, text: str) -> bool:
    return any(text in value.lower() for value in (f"{row.host}{row.path}", row.note))


def _matches(row: Route, path: Segments) -> bool:
    try:
        return row.compiled().pattern.matches(path)
    except BadPattern:
        return False


class RouteMove(Routes):
    """Moves a route by one place. Who may ask about others is asked first where a request that was noted would be let through
    no more, or now; htmx gets the list as it is then.
    """

    needs = (Permission.ROUTES_WRITE,)
    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest) -> HttpResponse:
        """Move it: `up` or `down` says which, `seen` which table the person looked at, `step` "save" that they were asked."""
        services.require_routes(self.principal)
        step, way = (-1, "up") if "up" in request.POST else (1, "down")
        wanted, seen = request.POST.get(way, ""), request.POST.get("seen", "")
        rows = list(Route.objects.all())
        place = next((n for n, row in enumerate(rows) if str(row.pk) == wanted), None)
        if place is None:
            raise NotFound("There is no such route.")
        if not 0 <= place + step < len(rows):
            raise Conflict("There is no further place in that direction.")
        services.check_table_tag(rows, seen)
        row, other = rows[place], rows[place + step]
        rows[place], rows[place + step] = other, row
        if request.POST.get("step") != "save":
            tried = _tried(self, [each.spec for each in rows])
            if tried is not None and (tried.lost_count or tried.gained_count):
                return self._asked(row, other, way, seen, tried)
        moved = services.reorder_routes(actor=self.principal, order=[each.pk for each in rows], if_match=seen)
        done = f"Moved {way}: {moved[place + step]}."
        if self.is_partial:
            return self.show_routes(QueryDict(), template="dashboard/access/parts/routes_list.html", done=done)
        return self.redirect_to(f"{self.page_path()}#route-{wanted}", done)

    def _asked(self, row: Route, other: Route, way: str, seen: str, tried: Tried) -> HttpResponse:
        """Return the page that says what it would do; htmx puts its content in the place of the list's."""
        answer = self.render("dashboard/access/route_move.html", row=row, other=other, way=way, tag=seen, preview=tried)
        for name, value in (("Retarget", "#content"), ("Reselect", "#content"), ("Reswap", "outerHTML show:window:top")):
            answer[f"HX-{name}"] = value
        return answer

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:routes")


class RouteForms(AccessForm):
    """A form that changes the routes: what the table would be is what is previewed."""

    needs = (Permission.ROUTES_WRITE,)
    tab = "routes"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the form to who may send it."""
        services.require_routes(self.principal)
        return super().get(request, *args, **kwargs)

    def preview(self, given: dict[str, Any]) -> Preview:
        """Return what the table would do. Raises ServiceError."""
        services.require_routes(self.principal)
        rows = list(Route.objects.all())
        services.check_table_tag(rows, given["seen"])
        return preview.of_routes(actor=self.principal, specs=self.planned(rows, given), permissions_of=permissions_of)

    def planned(self, rows: Sequence[Route], given: dict[str, Any]) -> list[RouteSpec]:
        """Return the routes as they would be."""
        raise NotImplementedError


class RouteNew(RouteForms):
    """Adds a route, at the end or, with `before`, in front of another one."""

    template = "dashboard/access/route.html"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the place that was asked for."""
        before = self.request.GET.get("before", "")
        place = int(before) if before.isascii() and before.isdigit() and len(before) < 7 else None
        return RouteForm(data, initial={"position": place, "seen": services.table_tag(Route.objects.all())})

    def planned(self, rows: Sequence[Route], given: dict[str, Any]) -> list[RouteSpec]:
        """Return the routes with the new one in its place."""
        return insert_at([row.spec for row in rows], _spec(given), given["position"])

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Add it."""
        row = services.create_route(actor=self.principal, spec=_spec(given), position=given["position"], if_match=given["seen"])
        return self.redirect_to(f"{reverse('dashboard:routes')}#route-{row.pk}", f"Added: {row}.")


class RouteEdit(RouteForms):
    """Changes a route, and its place."""

    template = "dashboard/access/route.html"

    @property
    def row(self) -> Route:
        """The route of the address. Raises NotFound."""
        return find_route(self.kwargs["pk"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form."""
        row = self.row
        initial: dict[str, Any] = {name: getattr(row, name) for name in (*_FIELDS, "position")}
        initial |= {"methods": ", ".join(row.methods), "seen": services.table_tag(Route.objects.all())}
        return RouteForm(data, initial=initial)

    def render_form(self, form: BaseForm, status: int = 200, **context: Any) -> HttpResponse:
        """Return the page."""
        return super().render_form(form, status, row=self.row, **context)

    def planned(self, rows: Sequence[Route], given: dict[str, Any]) -> list[RouteSpec]:
        """Return the routes with this one changed."""
        others = [row.spec for row in rows if row.pk != self.kwargs["pk"]]
        return insert_at(others, _spec(given), given["position"] or self.row.position)

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Change it."""
        row = services.update_route(
            actor=self.principal,
            pk=self.kwargs["pk"],
            changes={name: given[name] for name in _FIELDS},
            position=given["position"],
            if_match=given["seen"],
        )
        return self.redirect_to(f"{reverse('dashboard:routes')}#route-{row.pk}", f"Changed: {row}.")


class RouteDelete(AccessPage):
    """Deletes a route, after it was shown what that would do."""

    needs = (Permission.ROUTES_WRITE,)
    template = "dashboard/access/route_delete.html"
    tab = "routes"

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Ask, and say what would be otherwise."""
        services.require_routes(self.principal)
        row, rows = find_route(pk), list(Route.objects.all())
        tried = _tried(self, [other.spec for other in rows if other.pk != pk])
        return self.render(row=row, tag=services.table_tag(rows), preview=tried)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Delete it."""
        row = find_route(pk)
        services.delete_route(actor=self.principal, pk=pk, if_match=request.POST.get("seen", ""))
        return self.redirect_to(reverse("dashboard:routes"), f"Deleted: {row}.")


class Packs(AccessPage):
    """The ready-made route tables."""

    needs = (Permission.ROUTES_READ,)
    template = "dashboard/access/packs.html"
    tab = "routes"

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Show them."""
        now = [row.spec for row in Route.objects.all()]
        found = [packs.load(name) for name in packs.names()]
        return self.render(packs=[(pack, _same(pack.routes, now)) for pack in found], writes=may_route(self.principal))


class OnePack(AccessPage):
    """A ready-made route table: what it would do in the place of the routes that there are, and the button that does it."""

    needs = (Permission.ROUTES_READ,)
    template = "dashboard/access/pack.html"
    tab = "routes"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Show it."""
        pack, rows = packs.load(name), list(Route.objects.all())
        now, then = [row.spec for row in rows], list(pack.routes)
        writes = may_route(self.principal)
        return self.render(
            pack=pack,
            same=_same(then, now),
            total=len(now),
            gone=[spec for spec in now if spec not in then],
            tag=services.table_tag(rows),
            writes=writes,
            preview=_tried(self, then) if writes else None,
        )

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        """Replace the routes by it."""
        rows = services.load_pack(actor=self.principal, name=name, if_match=request.POST.get("seen", ""))
        return self.redirect_to(reverse("dashboard:routes"), f"The pack {name} is loaded: {len(rows)} routes.")


def find_route(pk: int) -> Route:
    """Return the route. Raises NotFound."""
    row = Route.objects.filter(pk=pk).first() if pk < 10**18 else None
    if row is None:
        raise NotFound("There is no such route. Somebody may have deleted it, or loaded a pack.")
    return row


def _spec(given: dict[str, Any]) -> RouteSpec:
    return RouteSpec(**{name: given[name] for name in _FIELDS})


def _same(then: Sequence[RouteSpec], now: Sequence[RouteSpec]) -> bool:
    return list(then) == list(now)


def _tried(page: AccessPage, specs: Sequence[RouteSpec]) -> Tried | None:
    """Return what these routes would do, to who may know it."""
    if not page.principal.holds(Permission.POLICY_EXPLAIN):
        return None
    with suppress(Invalid, Conflict):  # what is stored cannot be read: to delete or replace it is the way out
        return Tried.of(preview.of_routes(actor=page.principal, specs=specs, permissions_of=permissions_of))
    return None
