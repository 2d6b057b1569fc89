"""Explanations of decisions, past denials, and policy packs."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.principal_lookup import current_principal, find_principal_for
from api.base import KIND_CHOICES, ApiViewSet, UntrimmedCharField
from api.etags import expected_version, tagged
from api.permissions import AUTHENTICATED, Need
from api.routes import RouteSerializer, current_table_tag
from api.schema import ETAG, IF_MATCH
from api.strict import RequestSerializer
from core.paths import MAX_PATH
from rbac import packs, services
from rbac.denials import PastDenial, past_denial_for
from rbac.explain import CredentialStatus, Explanation, explain
from rbac.permissions import Permission

_STANDINGS = {
    CredentialStatus.GOOD: "the credentials are accepted",
    CredentialStatus.DISABLED_USER: "the user is disabled",
    CredentialStatus.DISABLED_ACCOUNT: "the service account is disabled",
    CredentialStatus.DISABLED_OWNER: "the owner of the service account is disabled",
    CredentialStatus.SWITCHED_OFF: "service accounts are switched off (ENABLE_SERVICE_ACCOUNTS)",
}


class ExplainSerializer(RequestSerializer):
    """A request to explain."""

    renamed: ClassVar[dict[str, str]] = {"principal": "who"}

    who = UntrimmedCharField(
        max_length=320,
        required=False,
        help_text="The caller: the name or id of a user or a service account, or `anonymous`. By default you.",
    )
    method = UntrimmedCharField(max_length=32, help_text="The HTTP method, such as `GET`.")
    host = UntrimmedCharField(
        max_length=300, required=False, allow_blank=True, help_text="The host. Empty: only routes for any host apply."
    )
    path = UntrimmedCharField(max_length=MAX_PATH, help_text="The path as a client sends it, such as `/jobs/7/logs`.")


class ExplainedPrincipalSerializer(serializers.Serializer[Any]):
    """The caller that a decision is about."""

    kind = serializers.ChoiceField(choices=KIND_CHOICES, help_text="What kind of caller it is.")
    uid = serializers.CharField(allow_blank=True, help_text="The id, or empty.")
    name = serializers.CharField(help_text="The name of the user or service account.")
    role = serializers.CharField(allow_blank=True, help_text="The effective role, or empty.")


class ExplanationSerializer(serializers.Serializer[Explanation]):
    """The decision of the verify endpoint, and the reason for it."""

    allowed = serializers.BooleanField(help_text="Whether the request is allowed.")
    status = serializers.IntegerField(help_text="The status of the verify endpoint: 200, 401 or 403.")
    reason = serializers.CharField(help_text="The reason, as a stable code.")
    message = serializers.CharField(help_text="The reason, as a sentence.")
    standing = serializers.ChoiceField(
        choices=[(standing.value, _STANDINGS[standing]) for standing in CredentialStatus],
        help_text="Whether the caller's credentials are accepted at all.",
    )
    needed = serializers.CharField(allow_null=True, help_text="The permission that the route requires; null: no route matches.")
    rule = serializers.CharField(allow_blank=True, help_text="The route that decides, or empty.")
    roles = serializers.ListField(child=serializers.CharField(), help_text="The roles that would be allowed.")
    principal = ExplainedPrincipalSerializer(help_text="The caller.")


class ExplainView(ApiViewSet):
    """Explains decisions: to every caller about themselves, and about others with policy:explain."""

    needs: ClassVar[dict[str, Need]] = {"explain": AUTHENTICATED, "explain_by_post": AUTHENTICATED}
    bodies: ClassVar[dict[str, type[RequestSerializer]]] = {"explain_by_post": ExplainSerializer}
    queries: ClassVar[dict[str, type[RequestSerializer]]] = {"explain": ExplainSerializer}
    refusals = frozenset({403, 404, 409})
    serializer_class = ExplanationSerializer
    pagination_class = None
    filter_backends = ()

    @extend_schema(
        operation_id="policy_explain",
        summary="Explain a decision",
        description="Returns whether a request would be allowed, and why. "
        "To ask about another principal you need the permission policy:explain.",
        responses=ExplanationSerializer,
    )
    def explain(self, request: Request) -> Response:  # noqa: ARG002 - DRF's signature
        return self._explanation(self.query())

    @extend_schema(
        operation_id="policy_explain_by_post",
        summary="Explain a decision for a long path",
        description="Returns the same as GET, for a path that does not fit into a query.",
        responses={200: ExplanationSerializer},
    )
    def explain_by_post(self, request: Request) -> Response:  # noqa: ARG002
        return self._explanation(self.body())

    def _explanation(self, values: dict[str, Any]) -> Response:
        explanation = explain(*find_principal_for(actor=self.principal, name=values.pop("who", "")), **values)
        return Response(ExplanationSerializer(explanation).data)


class PastDenialSerializer(serializers.Serializer[PastDenial]):
    """A denied request, and the decision that it would get now."""

    decision = serializers.CharField(source="reference", help_text="The id of the decision, as the caller received it.")
    at = serializers.DateTimeField(help_text="When the request was denied.")
    name = serializers.CharField(help_text="The name of the caller.")
    uid = serializers.CharField(allow_blank=True, help_text="The id of the caller, or empty.")
    kind = serializers.ChoiceField(choices=KIND_CHOICES, help_text="What kind of caller it was.")
    role = serializers.CharField(allow_blank=True, help_text="The role of the caller at that time, or empty.")
    identity_source = serializers.CharField(source="source", help_text="How the caller was authenticated, such as `bearer`.")
    peer = serializers.CharField(allow_blank=True, help_text="The address of the client, or empty.")
    method = serializers.CharField(allow_blank=True, help_text="The HTTP method of the request, or empty.")
    host = serializers.CharField(allow_blank=True, help_text="The host of the request, or empty.")
    path = serializers.CharField(allow_blank=True, help_text="The path of the request, or empty.")
    reason = serializers.CharField(help_text="The reason, as a stable code.")
    message = serializers.CharField(help_text="The reason, as a sentence.")
    needed = serializers.CharField(allow_blank=True, help_text="The permission that the route required, or empty.")
    rule = serializers.CharField(allow_blank=True, help_text="The route that decided, or empty.")
    roles = serializers.ListField(child=serializers.CharField(), help_text="The roles that have this permission now.")
    now = ExplanationSerializer(allow_null=True, help_text="The decision that the same request would get now; null: unknown.")
    now_unknown = serializers.CharField(allow_blank=True, help_text="Why `now` is unknown, or empty.")


class DecisionViewSet(ApiViewSet):
    """Past denials, by the id that a 403 contains: the caller's own, and any with policy:explain."""

    needs: ClassVar[dict[str, Need]] = {"retrieve": AUTHENTICATED}
    serializer_class = PastDenialSerializer
    pagination_class = None
    filter_backends = ()
    lookup_field = "decision"
    lookup_value_regex = "[0-9A-Za-z]{12}"
    path_descriptions = {"decision": "The id of the decision, from the body of the 403."}

    @extend_schema(
        summary="Get a past decision",
        description="Returns a denied request, the reason, and the decision that it would get now. "
        "You can see your own denied requests, and all with the permission policy:explain.",
    )
    def retrieve(self, request: Request, decision: str) -> Response:  # noqa: ARG002 - DRF's signature
        denial = past_denial_for(actor=self.principal, reference=decision, current=current_principal)
        return Response(PastDenialSerializer(denial).data)


class PackRouteSerializer(serializers.Serializer[packs.RouteSpec]):
    """A route of a policy pack."""

    host = serializers.CharField(allow_blank=True, help_text="The host that the route applies to. Empty: any host.")
    path = serializers.CharField(help_text="The path pattern.")
    methods = serializers.ListField(child=serializers.CharField(), help_text="The HTTP methods; `*`: any method.")
    permission = serializers.CharField(help_text="The permission that a request needs.")
    note = serializers.CharField(allow_blank=True, help_text="Why the route exists.")


class PackSummarySerializer(serializers.Serializer[packs.Pack]):
    """A policy pack, without its routes."""

    name = serializers.CharField(help_text="The name of the pack.")
    description = serializers.CharField(help_text="What the pack is for.")


class PackSerializer(PackSummarySerializer):
    """A policy pack: a ready-made route table."""

    routes = PackRouteSerializer(many=True, help_text="The routes, in order.")


@extend_schema_view(
    list=extend_schema(summary="List policy packs", description="Returns the ready-made route tables that come with SkyAuth.")
)
class PackViewSet(mixins.ListModelMixin, ApiViewSet):
    """Policy packs, by name."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.ROUTES_READ,
        "retrieve": Permission.ROUTES_READ,
        "load": Permission.ROUTES_WRITE,
    }
    versioned = frozenset({"load"})
    serializer_class = PackSummarySerializer
    lookup_field = "name"
    lookup_value_regex = "[a-z][a-z0-9-]{0,31}"
    path_descriptions = {"name": "The name of the pack."}
    filter_backends = ()

    def get_queryset(self) -> Any:
        return [packs.load(name) for name in packs.names()]

    @extend_schema(summary="Get a policy pack", description="Returns a pack with its routes.", responses=PackSerializer)
    def retrieve(self, request: Request, name: str) -> Response:  # noqa: ARG002 - DRF's signature
        return Response(PackSerializer(packs.load(name)).data)

    @extend_schema(
        summary="Load a policy pack",
        description="Replaces the whole route table by the routes of the pack, and returns the new table. "
        "`If-Match` is the `ETag` of the list of routes.",
        responses=RouteSerializer(many=True),
        parameters=[ETAG, IF_MATCH],
    )
    @action(detail=True, methods=["post"], pagination_class=None)
    def load(self, request: Request, name: str) -> Response:
        packs.load(name)  # a missing pack is a 404 also if the table was changed
        tag = expected_version(request, current_table_tag())
        rows = services.load_pack(actor=self.principal, name=name, if_match=tag)
        return tagged(RouteSerializer(rows, many=True).data, services.table_tag(rows))
