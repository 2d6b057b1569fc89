"""Service accounts and their tokens. A token is in the response that created it, and in no other."""

from typing import Any, ClassVar

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.filters import ServiceAccountFilterSet, TokenFilterSet
from accounts.identifiers import MAX_NAME
from accounts.models import ServiceAccount, Token
from accounts.services import service_accounts, tokens
from accounts.services.tokens import MAX_DAYS, MAX_GRACE_SECONDS, IssuedToken
from api.base import ApiViewSet, NumberField, UntrimmedCharField, location, user_of_field
from api.etags import TaggedByContentMixin
from api.permissions import Need
from api.schema import ETAG, LOCATION, OPTIONAL_IF_MATCH, describe_list_and_retrieve
from api.strict import RequestSerializer
from api.user_serializers import LEAST_ROLE
from core.agreement import asks_first
from rbac.permissions import Permission
from rbac.principals import Principal

# The services decide which accounts: `visible` filters the rows, and a write of another's account is refused.
_READ: Need = (Permission.SERVICE_ACCOUNTS_OWN, Permission.SERVICE_ACCOUNTS_READ, Permission.SERVICE_ACCOUNTS_WRITE)
_WRITE: Need = (Permission.SERVICE_ACCOUNTS_OWN, Permission.SERVICE_ACCOUNTS_WRITE)
_ROLE = "The name of the role. You must have all of its permissions."
_DESCRIPTION = "What the account is for."
_ACTIVE = "Whether the account is active. Every token of a disabled account is rejected."
_DAYS = "The number of days until the token expires; 0: it never expires."
_PURPOSE = "What the token is for."


class ServiceAccountSerializer(serializers.ModelSerializer[ServiceAccount]):
    """A service account. It never has more permissions than its owner."""

    role = serializers.CharField(source="role.name", help_text="The name of the account's role.")
    owner = serializers.CharField(
        source="owner.uid", default=None, allow_null=True, help_text="The id of the owner; null: no owner."
    )
    owner_name = serializers.CharField(
        source="owner.username", default=None, allow_null=True, help_text="The username of the owner; null: no owner."
    )
    active = serializers.BooleanField(source="is_active", help_text=_ACTIVE)
    upstream_name = serializers.CharField(
        help_text="The name that upstreams receive, for example in X-Auth-Request-Email: `name@uid`."
    )

    class Meta:
        model = ServiceAccount
        fields = (
            "uid",
            "name",
            "upstream_name",
            "description",
            "role",
            "owner",
            "owner_name",
            "active",
            "created_by",
            "created_at",
        )
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "uid": {"help_text": "The id of the account. It starts with `sa-`."},
            "name": {"help_text": "Letters, digits, `.`, `_` and `-`, in lower case."},
            "description": {"help_text": _DESCRIPTION},
            "created_by": {"help_text": "The name of the user or command that created the account."},
            "created_at": {"help_text": "When the account was created."},
        }


class ServiceAccountUpdateSerializer(RequestSerializer):
    """The fields of a service account that can be changed."""

    role = UntrimmedCharField(max_length=32, required=False, help_text=_ROLE)
    active = serializers.BooleanField(required=False, help_text=_ACTIVE)
    description = UntrimmedCharField(max_length=200, required=False, allow_blank=True, help_text=_DESCRIPTION)
    owner = UntrimmedCharField(
        max_length=MAX_NAME, required=False, allow_null=True, help_text="The id or name of the new owner; null: no owner."
    )


class ServiceAccountCreateSerializer(RequestSerializer):
    """A new service account."""

    name = UntrimmedCharField(max_length=64, help_text="Letters, digits, `.`, `_` and `-`, such as `nightly-sweep`.")
    role = UntrimmedCharField(max_length=32, required=False, allow_null=True, help_text=f"{_ROLE} {LEAST_ROLE}")
    description = UntrimmedCharField(max_length=200, required=False, allow_blank=True, help_text=_DESCRIPTION)
    owner = UntrimmedCharField(
        max_length=MAX_NAME,
        required=False,
        allow_null=True,
        help_text="The id or name of the owner; by default you; null: no owner.",
    )


class TokenSerializer(serializers.ModelSerializer[Token]):
    """What is stored about a token. The token itself is not stored."""

    state = serializers.SerializerMethodField(help_text="`active`, `expired` or `revoked`.")
    replaced_by = serializers.CharField(
        source="replaced_by.key_id",
        default=None,
        allow_null=True,
        help_text="The key id of the token that replaced this one in a rotation; null: none.",
    )

    class Meta:
        model = Token
        fields = (
            "key_id",
            "name",
            "state",
            "created_by",
            "created_at",
            "expires_at",
            "revoked_at",
            "replaced_by",
            "last_used_at",
            "last_used_from",
        )
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "key_id": {"help_text": "The id of the token: the 12 characters after `sky_`."},
            "name": {"help_text": _PURPOSE},
            "created_by": {"help_text": "The name of the user or command that created the token."},
            "created_at": {"help_text": "When the token was created."},
            "expires_at": {"help_text": "When the token expires; null: never."},
            "revoked_at": {"help_text": "When the token was revoked; null: never."},
            "last_used_at": {"help_text": "When the token was last used, to the minute; null: never."},
            "last_used_from": {"help_text": "The address that last used the token, or empty."},
        }

    def get_state(self, token: Token) -> str:
        return token.state()


class IssuedTokenSerializer(TokenSerializer):
    """A new token, with the secret itself."""

    token = serializers.CharField(help_text="The token. Store it now: it cannot be shown again.")

    class Meta(TokenSerializer.Meta):
        fields = (*TokenSerializer.Meta.fields, "token")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]


class TokenCreateSerializer(RequestSerializer):
    """A new token."""

    days = NumberField(
        min_value=0, max_value=MAX_DAYS, required=False, allow_null=True, help_text=f"{_DAYS} Default: TOKEN_DEFAULT_DAYS."
    )
    name = UntrimmedCharField(max_length=64, required=False, allow_blank=True, help_text=_PURPOSE)


class TokenRotateSerializer(RequestSerializer):
    """How a token is replaced."""

    days = NumberField(
        min_value=0, max_value=MAX_DAYS, required=False, allow_null=True, help_text=f"{_DAYS} Default: as long as the old token."
    )
    grace = NumberField(
        min_value=0,
        max_value=MAX_GRACE_SECONDS,
        default=0,
        help_text="The number of seconds for which the old token stays valid; 0: it is revoked immediately.",
    )


@describe_list_and_retrieve(
    "service accounts",
    "a service account",
    of_list="Returns the service accounts that you are allowed to see: all, or your own.",
    of_one="Returns one service account.",
    tagged=True,
)
class ServiceAccountViewSet(mixins.ListModelMixin, TaggedByContentMixin, ApiViewSet):
    """Service accounts, by id."""

    needs: ClassVar[dict[str, Need]] = {
        "list": _READ,
        "retrieve": _READ,
        "create": _WRITE,
        "partial_update": _WRITE,
        "destroy": _WRITE,
    }
    bodies: ClassVar[dict[str, type[RequestSerializer]]] = {
        "create": ServiceAccountCreateSerializer,
        "partial_update": ServiceAccountUpdateSerializer,
    }
    versioned = frozenset({"partial_update", "destroy"})
    queryset = ServiceAccount.objects.none()
    serializer_class = ServiceAccountSerializer
    lookup_field = "uid"
    lookup_value_regex = "[^/]+"
    path_descriptions = {"uid": "The id of the service account, or the name."}
    filterset_class = ServiceAccountFilterSet
    ordering_fields = ("name", "created_at", "role")
    ordering = ("name",)

    def get_queryset(self) -> QuerySet[ServiceAccount]:
        return self.queryset if getattr(self, "swagger_fake_view", False) else service_accounts.visible(self.principal)

    def get_object(self) -> ServiceAccount:
        """Return the account that the path names. Raises NotFound."""
        return _account_of_path(self.principal, self.kwargs["uid"])

    @extend_schema(
        summary="Create a service account",
        description="Creates a service account without tokens. It never has more permissions than its owner.",
        responses={201: ServiceAccountSerializer},
        parameters=[ETAG, LOCATION],
    )
    def create(self, request: Request) -> Response:  # noqa: ARG002 - DRF's signature
        values = _with_owner(self.body())
        account = service_accounts.create_service_account(actor=self.principal, **values)
        headers = location("service-account-detail", uid=account.uid)
        return self.tagged(account, ServiceAccountSerializer(account).data, status=201, headers=headers)

    @extend_schema(
        summary="Update a service account",
        description="Changes a service account. Fields that are not sent keep their values.",
        responses=ServiceAccountSerializer,
        parameters=[ETAG, OPTIONAL_IF_MATCH],
    )
    @asks_first
    @transaction.atomic
    def partial_update(self, request: Request, uid: str) -> Response:  # noqa: ARG002
        account = self.object_to_change(request)
        changes = _with_owner(self.body(ServiceAccountSerializer(account).data))
        account = service_accounts.update_service_account(actor=self.principal, account=account, **changes)
        return self.tagged(account, ServiceAccountSerializer(account).data)

    @extend_schema(
        summary="Delete a service account",
        description="Deletes a service account with all its tokens.",
        responses={204: None},
        parameters=[OPTIONAL_IF_MATCH],
    )
    @asks_first
    @transaction.atomic
    def destroy(self, request: Request, uid: str) -> Response:  # noqa: ARG002
        service_accounts.delete_service_account(actor=self.principal, account=self.object_to_change(request))
        return Response(status=204)


def _account_of_path(principal: Principal, uid_or_name: str) -> ServiceAccount:
    """Return the account with this id or name. Raises NotFound."""
    return service_accounts.get_account(principal, uid_or_name.replace("\x00", "\N{REPLACEMENT CHARACTER}"))


def _with_owner(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields as arguments of the service: `owner` is a user, and null becomes `unowned`."""
    if "owner" not in values:
        return values
    uid = values.pop("owner")
    return {**values, "unowned": True} if uid is None else {**values, "owner": user_of_field(uid, "owner")}


@describe_list_and_retrieve(
    "tokens",
    "a token",
    of_list="Returns the tokens of a service account, newest first.",
    of_one="Returns what is stored about one token.",
)
class TokenViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ApiViewSet):
    """The tokens of one service account, by key id."""

    needs: ClassVar[dict[str, Need]] = {
        "list": _READ,
        "retrieve": _READ,
        "create": _WRITE,
        "rotate": _WRITE,
        "revoke": _WRITE,
    }
    bodies: ClassVar[dict[str, type[RequestSerializer]]] = {"create": TokenCreateSerializer, "rotate": TokenRotateSerializer}
    queryset = Token.objects.none()
    serializer_class = TokenSerializer
    lookup_field = "key_id"
    lookup_value_regex = "[0-9A-Za-z]{12}"
    path_descriptions = {"account": "The id of the service account, or the name.", "key_id": "The key id of the token."}
    filterset_class = TokenFilterSet
    ordering_fields = ("created_at", "expires_at", "last_used_at", "name")
    ordering = ("-created_at",)

    def get_queryset(self) -> QuerySet[Token]:
        """Return the account's tokens. Raises NotFound if the account does not exist or the caller is not allowed to see it."""
        if getattr(self, "swagger_fake_view", False):
            return self.queryset
        return tokens.visible_tokens(self.principal).filter(account=self._account())

    def _account(self) -> ServiceAccount:
        return _account_of_path(self.principal, self.kwargs["account"])

    @extend_schema(
        summary="Create a token",
        description="Creates a token. Only this response contains it.",
        responses={201: IssuedTokenSerializer},
        parameters=[LOCATION],
    )
    def create(self, request: Request, account: str) -> Response:  # noqa: ARG002
        service_account = self._account()
        values = self.body()
        return _issued(tokens.issue_token(actor=self.principal, account=service_account, **values), account)

    @extend_schema(
        summary="Rotate a token",
        description="Replaces a token by a new one. The old token is revoked immediately, or after `grace` seconds. "
        "Only this response contains the new token.",
        responses={201: IssuedTokenSerializer},
        parameters=[LOCATION],
    )
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, account: str, key_id: str) -> Response:  # noqa: ARG002
        token = self.get_object()
        return _issued(tokens.rotate_token(actor=self.principal, token=token, **self.body()), account)

    @extend_schema(
        summary="Revoke a token",
        description="Revokes a token immediately. It cannot be made valid again.",
        responses=TokenSerializer,
    )
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, account: str, key_id: str) -> Response:  # noqa: ARG002
        return Response(TokenSerializer(tokens.revoke_token(actor=self.principal, token=self.get_object())).data)


def _issued(issued: IssuedToken, account: str) -> Response:
    """Return the 201 with a new token."""
    body = {**TokenSerializer(issued.token).data, "token": issued.plaintext}
    headers = location("token-detail", account=account, key_id=issued.token.key_id)
    return Response(body, status=201, headers={**headers, "Cache-Control": "no-store"})
