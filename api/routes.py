"""The ordered route table. A change needs If-Match: of one route, or of the whole table."""

from typing import Any, ClassVar, cast

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from api.base import NUMBER, ApiViewSet, NumberField, UntrimmedCharField, location
from api.etags import etag, expected_version, tagged
from api.permissions import Need
from api.schema import ETAG, IF_MATCH, LOCATION, OPTIONAL_IF_MATCH, describe_list_and_retrieve
from api.strict import RequestSerializer
from rbac import services, shadows
from rbac.filters import RouteFilterSet
from rbac.models import Route
from rbac.packs import RouteSpec
from rbac.patterns import MAX_PATTERN
from rbac.permissions import Permission

MAX_POSITION = 1_000_000
_HOST = "The host that the route applies to, such as `api.example.com`. Empty: any host."
_PATH = "The path pattern, such as `/api/**` or `/jobs/*/logs`."
_METHODS = 'The HTTP methods, such as `["GET", "HEAD"]`, or `["*"]` for any method.'
_PERMISSION = "The permission that a request needs, such as `upstream:read`."
_NOTE = "Why the route exists."


class RouteSerializer(serializers.ModelSerializer[Route]):
    """A route: the permission that requests with this host, path and method need."""

    methods = serializers.ListField(child=serializers.CharField(), help_text=_METHODS)

    class Meta:
        model = Route
        fields = ("id", "position", "host", "path", "methods", "permission", "note", "version")
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "id": {"help_text": "The number of the route. It never changes."},
            "position": {"help_text": "Routes are tried from the lowest position up; the first match decides."},
            "host": {"help_text": _HOST},
            "path": {"help_text": _PATH},
            "permission": {"help_text": _PERMISSION},
            "note": {"help_text": _NOTE},
            "version": {
                "help_text": "The version of the route. In quotes it is the `ETag`, for `If-Match`. Each change increments it."
            },
        }


class ChangedRouteSerializer(RouteSerializer):
    """A route that was created or changed."""

    warnings = serializers.SerializerMethodField(help_text="What was accepted, but needs attention.")

    class Meta(RouteSerializer.Meta):
        fields = (*RouteSerializer.Meta.fields, "warnings")  # type: ignore[assignment] # one more than the base class
        read_only_fields = fields  # type: ignore[assignment]

    @staticmethod
    def get_warnings(route: Route) -> list[str]:
        """Return the warnings about the route."""
        other = shadows.shadowed(Route.objects.order_by("position", "id")).get(route.pk)
        return [f"This route never decides a request: routes before it match all of them, the last is {other}."] if other else []


class RouteUpdateSerializer(RequestSerializer):
    """The fields of a route that can be changed. Reorder the table to change its position."""

    host = UntrimmedCharField(max_length=253, required=False, allow_blank=True, help_text=_HOST)
    path = UntrimmedCharField(max_length=MAX_PATTERN, required=False, help_text=_PATH)
    methods = serializers.ListField(
        child=UntrimmedCharField(max_length=20), required=False, min_length=1, max_length=50, help_text=_METHODS
    )
    permission = UntrimmedCharField(max_length=64, required=False, help_text=_PERMISSION)
    note = UntrimmedCharField(max_length=200, required=False, allow_blank=True, help_text=_NOTE)


class RouteCreateSerializer(RequestSerializer):
    """A new route."""

    host = UntrimmedCharField(max_length=253, default="", allow_blank=True, help_text=_HOST)
    path = UntrimmedCharField(max_length=MAX_PATTERN, help_text=_PATH)
    methods = serializers.ListField(child=UntrimmedCharField(max_length=20), min_length=1, max_length=50, help_text=_METHODS)
    permission = UntrimmedCharField(max_length=64, help_text=_PERMISSION)
    note = UntrimmedCharField(max_length=200, default="", allow_blank=True, help_text=_NOTE)
    position = NumberField(
        min_value=1,
        max_value=MAX_POSITION,
        required=False,
        allow_null=True,
        help_text="The position to insert the route at. By default it is the last one at which the route can decide a request.",
    )


class RouteOrderSerializer(RequestSerializer):
    """The new order of the route table."""

    order = serializers.ListField(
        child=NumberField(min_value=1), max_length=100_000, help_text="The ids of all routes, in the new order."
    )


@describe_list_and_retrieve(
    "routes",
    "a route",
    of_list="Returns the routes in the order in which they are tried. The `ETag` header is the version of the whole table, "
    "also when the list is filtered; reordering needs it.",
    of_one="Returns a route. The `ETag` header is its version.",
)
class RouteViewSet(mixins.ListModelMixin, ApiViewSet):
    """Routes, by number."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.ROUTES_READ,
        "retrieve": Permission.ROUTES_READ,
        "create": Permission.ROUTES_WRITE,
        "partial_update": Permission.ROUTES_WRITE,
        "destroy": Permission.ROUTES_WRITE,
        "reorder": Permission.ROUTES_WRITE,
    }
    bodies: ClassVar[dict[str, type[RequestSerializer]]] = {
        "create": RouteCreateSerializer,
        "partial_update": RouteUpdateSerializer,
        "reorder": RouteOrderSerializer,
    }
    versioned = frozenset({"create", "partial_update", "destroy", "reorder"})
    queryset = Route.objects.order_by("position", "id")
    serializer_class = RouteSerializer
    lookup_value_regex = NUMBER
    path_descriptions = {"id": "The number of the route."}
    filterset_class = RouteFilterSet
    ordering_fields = ("position", "path")
    ordering = ("position",)

    @extend_schema(parameters=[ETAG])
    def list(self, request: Request) -> Response:
        tag = current_table_tag()  # before the rows are read, so that a change in between shows as stale
        response = super().list(request)
        response.headers["ETag"] = etag(tag)
        return response

    @extend_schema(responses=RouteSerializer, parameters=[ETAG])
    def retrieve(self, request: Request, pk: str) -> Response:  # noqa: ARG002 - DRF's signature
        return _tagged(RouteSerializer(self.get_object()))

    @extend_schema(
        summary="Create a route",
        description="Inserts a route at `position`, or at the last position at which it can decide a request. `If-Match`, if it "
        "is sent, is the `ETag` of the list.",
        responses={201: ChangedRouteSerializer},
        parameters=[ETAG, LOCATION, OPTIONAL_IF_MATCH],
    )
    def create(self, request: Request) -> Response:
        tag = expected_version(request, current_table_tag()) if "If-Match" in request.headers else None
        values = self.body()
        position = values.pop("position", None)
        spec = RouteSpec(methods=tuple(values.pop("methods")), **values)
        row = services.create_route(actor=self.principal, spec=spec, position=position, if_match=tag)
        return _tagged(ChangedRouteSerializer(row), status=201, headers=location("route-detail", pk=row.pk))

    @extend_schema(
        summary="Update a route",
        description="Changes a route. Fields that are not sent keep their values.",
        responses=ChangedRouteSerializer,
        parameters=[ETAG, IF_MATCH],
    )
    def partial_update(self, request: Request, pk: str) -> Response:  # noqa: ARG002
        row = self.get_object()
        version = expected_version(request, row.version)
        changes = self.body(ChangedRouteSerializer(row).data)
        row = services.update_route(actor=self.principal, pk=row.pk, changes=changes, version=version)
        return _tagged(ChangedRouteSerializer(row))

    @extend_schema(
        summary="Delete a route",
        description="Deletes a route. Requests that no other route matches are then denied.",
        responses={204: None},
        parameters=[IF_MATCH],
    )
    def destroy(self, request: Request, pk: str) -> Response:  # noqa: ARG002
        row = self.get_object()
        services.delete_route(actor=self.principal, pk=row.pk, version=expected_version(request, row.version))
        return Response(status=204)

    @extend_schema(
        summary="Reorder routes",
        description="Puts all routes into a new order. `If-Match` is the `ETag` of the list.",
        responses=RouteSerializer(many=True),
        parameters=[ETAG, IF_MATCH],
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def reorder(self, request: Request) -> Response:
        tag = expected_version(request, current_table_tag())
        order = self.body()["order"]
        rows = services.reorder_routes(actor=self.principal, order=order, if_match=tag)
        return tagged(RouteSerializer(rows, many=True).data, services.table_tag(rows))


def current_table_tag() -> str:
    """Return the version of the whole route table, its entity tag."""
    return services.table_tag(Route.objects.only("id", "version", "position"))


def _tagged(serializer: RouteSerializer, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    row = cast(Route, serializer.instance)
    return tagged(serializer.data, row.version, status=status, headers=headers)
