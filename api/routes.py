"""The ordered route table. Every change needs If-Match, on a route or on the whole table."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from api.base import Resource, Text, location
from api.etags import etag, matched
from api.permissions import Need
from api.schema import ETAG, IF_MATCH, LOCATION
from rbac import services
from rbac.filters import RouteFilterSet
from rbac.models import Route
from rbac.packs import RouteSpec
from rbac.patterns import MAX_PATTERN
from rbac.permissions import Permission

MAX_POSITION = 1_000_000


class RouteOut(serializers.ModelSerializer[Route]):
    """A route: which permission a method and path of a protected API need."""

    methods = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = Route
        fields = ("id", "position", "host", "path", "methods", "permission", "note", "version")
        read_only_fields = fields


class RouteChange(serializers.Serializer[Any]):
    """What can be changed of a route; its place is changed by reordering the table."""

    host = Text(max_length=253, required=False, allow_blank=True, help_text="Empty: any host.")
    path = Text(max_length=MAX_PATTERN, required=False, help_text="Such as /api/**, /jobs/*/logs.")
    methods = serializers.ListField(
        child=Text(max_length=20), required=False, max_length=50, help_text='Such as ["GET", "HEAD"], or ["*"].'
    )
    permission = Text(max_length=64, required=False)
    note = Text(max_length=200, required=False, allow_blank=True)


class RouteNew(serializers.Serializer[Any]):
    """A new route, put before the one at `position`, or at the end."""

    host = Text(max_length=253, default="", allow_blank=True)
    path = Text(max_length=MAX_PATTERN)
    methods = serializers.ListField(child=Text(max_length=20), max_length=50)
    permission = Text(max_length=64)
    note = Text(max_length=200, default="", allow_blank=True)
    position = serializers.IntegerField(min_value=1, max_value=MAX_POSITION, required=False, allow_null=True)


class Order(serializers.Serializer[Any]):
    """The ids of all routes, in the order that they shall have."""

    order = serializers.ListField(child=serializers.IntegerField(min_value=1), max_length=100_000)


class RouteViewSet(mixins.ListModelMixin, Resource):
    """Routes, by their number; they are tried in the order of their positions."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.ROUTES_READ,
        "retrieve": Permission.ROUTES_READ,
        "create": Permission.ROUTES_WRITE,
        "partial_update": Permission.ROUTES_WRITE,
        "destroy": Permission.ROUTES_WRITE,
        "reorder": Permission.ROUTES_WRITE,
    }
    queryset = Route.objects.order_by("position", "id")
    serializer_class = RouteOut
    lookup_value_regex = "[0-9]{1,18}"
    filterset_class = RouteFilterSet
    ordering_fields = ("position", "path")
    ordering = ("position",)

    @extend_schema(parameters=[ETAG])
    def list(self, request: Request) -> Response:
        """Return routes in order. The ETag is the whole table's, whatever part of it is asked for: reordering wants it."""
        tag = services.table_tag(Route.objects.only("id", "version", "position"))  # first: a change in between shows as stale
        response = super().list(request)
        response.headers["ETag"] = etag(tag)
        return response

    @extend_schema(responses=RouteOut, parameters=[ETAG])
    def retrieve(self, request: Request, pk: str) -> Response:  # noqa: ARG002 - DRF's signature
        """Return a route."""
        return _route(self.get_object())

    @extend_schema(request=RouteNew, responses={201: RouteOut}, parameters=[ETAG, LOCATION])
    def create(self, request: Request) -> Response:  # noqa: ARG002
        """Insert a route."""
        given = self.given(RouteNew)
        position = given.pop("position", None)
        spec = RouteSpec(methods=tuple(given.pop("methods")), **given)
        row = services.create_route(actor=self.principal, spec=spec, position=position)
        return _route(row, status=201, headers=location("route-detail", pk=row.pk))

    @extend_schema(request=RouteChange, responses=RouteOut, parameters=[ETAG, IF_MATCH])
    def partial_update(self, request: Request, pk: str) -> Response:  # noqa: ARG002
        """Change a route."""
        row = self.get_object()
        version = row.version if matched(request, row.version) else None
        given = self.given(RouteChange)
        return _route(services.update_route(actor=self.principal, pk=row.pk, changes=given, version=version))

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request: Request, pk: str) -> Response:  # noqa: ARG002
        """Delete a route."""
        row = self.get_object()
        version = row.version if matched(request, row.version) else None
        services.delete_route(actor=self.principal, pk=row.pk, version=version)
        return Response(status=204)

    @extend_schema(request=Order, responses=RouteOut(many=True), parameters=[ETAG, IF_MATCH], filters=False)
    @action(detail=False, methods=["post"], pagination_class=None, filter_backends=())
    def reorder(self, request: Request) -> Response:
        """Put the routes into another order. If-Match is the ETag of the list."""
        tag = services.table_tag(Route.objects.only("id", "version", "position"))
        if_match = tag if matched(request, tag) else None
        rows = services.reorder_routes(actor=self.principal, order=self.given(Order)["order"], if_match=if_match)
        return Response(RouteOut(rows, many=True).data, headers={"ETag": etag(services.table_tag(rows))})


def _route(row: Route, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(RouteOut(row).data, status=status, headers={**(headers or {}), "ETag": etag(row.version)})
