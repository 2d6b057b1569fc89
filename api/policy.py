"""What anybody would be answered, and why; and the ready-made route tables."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.principal_lookup import current_principal, find_principal_for
from api.base import Resource, Text
from api.etags import etag, matched
from api.permissions import ANYBODY, Need
from api.routes import RouteOut
from api.schema import ETAG, IF_MATCH
from core.paths import MAX_PATH
from rbac import packs, services
from rbac.denials import PastDenial, past_denial_for
from rbac.explain import Explanation, Standing, explain
from rbac.models import Route
from rbac.permissions import Permission
from rbac.principals import Kind


class Question(serializers.Serializer[Any]):
    """A request that somebody might make. Without `principal`, oneself."""

    principal = Text(
        max_length=320, required=False, help_text="A user's or a service account's name or id, or anonymous. Unless given: you."
    )
    method = Text(max_length=32, help_text="Such as GET.")
    host = Text(max_length=300, required=False, allow_blank=True, help_text="Empty: only routes for any host are asked.")
    path = Text(max_length=MAX_PATH, help_text="The path as a client sends it, such as /jobs/7/logs.")


class AboutWhom(serializers.Serializer[Any]):
    """Whom an explanation is about."""

    kind = serializers.ChoiceField(choices=[(kind.value, kind.value) for kind in Kind])
    uid = serializers.CharField(allow_blank=True)
    name = serializers.CharField()
    role = serializers.CharField(allow_blank=True)


class ExplainedOut(serializers.Serializer[Explanation]):
    """The answer that the verify endpoint would give, and why."""

    allowed = serializers.BooleanField()
    status = serializers.IntegerField(help_text="200, 401 or 403.")
    reason = serializers.CharField(help_text="A stable word.")
    message = serializers.CharField()
    standing = serializers.ChoiceField(choices=[(word.value, word.value) for word in Standing])
    needed = serializers.CharField(allow_null=True, help_text="The permission that the route asks for.")
    rule = serializers.CharField(allow_blank=True, help_text="The route that decides.")
    roles = serializers.ListField(child=serializers.CharField(), help_text="The roles that would be let through.")
    principal = AboutWhom()


class ExplainView(Resource):
    """Explains decisions. About oneself anybody may ask; about others it takes policy:explain."""

    needs: ClassVar[dict[str, Need]] = {"ask": ANYBODY, "ask_by_post": ANYBODY}
    refusals = frozenset({403, 404, 409})
    serializer_class = ExplainedOut
    pagination_class = None
    filter_backends = ()

    @extend_schema(parameters=[Question], responses=ExplainedOut, operation_id="policy_explain")
    def ask(self, request: Request) -> Response:
        """Say whether somebody may make a request, and why."""
        return self._answer(request.query_params)

    @extend_schema(request=Question, responses={200: ExplainedOut}, operation_id="policy_explain_by_post")
    def ask_by_post(self, request: Request) -> Response:
        """Say whether somebody may make a request, and why, for a path that does not fit into a query."""
        return self._answer(request.data)

    def _answer(self, asked: Any) -> Response:
        body = Question(data=asked)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        found = explain(*find_principal_for(actor=self.principal, name=given.pop("principal", "")), **given)
        return Response(ExplainedOut(found).data)


class PastDenialOut(serializers.Serializer[PastDenial]):
    """A request that was denied, and what it would be answered now."""

    decision = serializers.CharField(source="reference", help_text="The id that the caller was told.")
    at = serializers.DateTimeField()
    name = serializers.CharField()
    uid = serializers.CharField(allow_blank=True)
    kind = serializers.ChoiceField(choices=[(kind.value, kind.value) for kind in Kind])
    role = serializers.CharField(allow_blank=True)
    identity_source = serializers.CharField(source="source", help_text="How the caller was recognised: session, bearer ...")
    peer = serializers.CharField(allow_blank=True, help_text="The client's address.")
    method = serializers.CharField(allow_blank=True)
    host = serializers.CharField(allow_blank=True)
    path = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(help_text="A stable word.")
    message = serializers.CharField()
    needed = serializers.CharField(allow_blank=True, help_text="The permission that the route asked for.")
    rule = serializers.CharField(allow_blank=True, help_text="The route that decided.")
    roles = serializers.ListField(child=serializers.CharField(), help_text="The roles that hold that permission today.")
    now = ExplainedOut(allow_null=True)
    now_unknown = serializers.CharField(allow_blank=True, help_text="Why `now` cannot be told.")


class DecisionViewSet(Resource):
    """Decisions of the past by the id that a 403 carries: one's own, or anybody's with policy:explain."""

    needs: ClassVar[dict[str, Need]] = {"retrieve": ANYBODY}
    serializer_class = PastDenialOut
    pagination_class = None
    filter_backends = ()
    lookup_field = "decision"
    lookup_value_regex = "[0-9A-Za-z]{12}"

    def retrieve(self, request: Request, decision: str) -> Response:  # noqa: ARG002 - DRF's signature
        """Say what was refused and why, and whether it would be now."""
        return Response(PastDenialOut(past_denial_for(actor=self.principal, reference=decision, current=current_principal)).data)


class PackRoute(serializers.Serializer[packs.RouteSpec]):
    """A route of a pack."""

    host = serializers.CharField(allow_blank=True)
    path = serializers.CharField()
    methods = serializers.ListField(child=serializers.CharField())
    permission = serializers.CharField()
    note = serializers.CharField(allow_blank=True)


class PackOut(serializers.Serializer[packs.Pack]):
    """A ready-made route table."""

    name = serializers.CharField()
    description = serializers.CharField()
    routes = PackRoute(many=True)


class PackLine(serializers.Serializer[packs.Pack]):
    """A ready-made route table, in a line."""

    name = serializers.CharField()
    description = serializers.CharField()


class PackViewSet(mixins.ListModelMixin, Resource):
    """The route tables that ship with SkyAuth."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.ROUTES_READ,
        "retrieve": Permission.ROUTES_READ,
        "load": Permission.ROUTES_WRITE,
    }
    serializer_class = PackLine
    lookup_field = "name"
    lookup_value_regex = "[a-z][a-z0-9-]{0,31}"
    filter_backends = ()

    def get_queryset(self) -> Any:
        """Return the packs."""
        return [packs.load(name) for name in packs.names()]

    @extend_schema(responses=PackOut)
    def retrieve(self, request: Request, name: str) -> Response:  # noqa: ARG002 - DRF's signature
        """Return a pack with its routes."""
        return Response(PackOut(packs.load(name)).data)

    @extend_schema(request=None, responses=RouteOut(many=True), parameters=[ETAG, IF_MATCH])
    @action(detail=True, methods=["post"], pagination_class=None)
    def load(self, request: Request, name: str) -> Response:
        """Replace the whole route table by a pack, and return it. If-Match is the ETag of the list of routes."""
        tag = services.table_tag(Route.objects.only("id", "version", "position"))
        if_match = tag if matched(request, tag) else None
        rows = services.load_pack(actor=self.principal, name=name, if_match=if_match)
        return Response(RouteOut(rows, many=True).data, headers={"ETag": etag(services.table_tag(rows))})
