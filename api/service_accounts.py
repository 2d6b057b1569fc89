"""Service accounts and their tokens. A token is in the answer that made it, and in no other."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.filters import ServiceAccountFilterSet, TokenFilterSet
from accounts.models import ServiceAccount, Token, User
from accounts.services import service_accounts, tokens
from accounts.services.tokens import MAX_DAYS, MAX_GRACE_SECONDS, IssuedToken
from accounts.services.users import get_user
from api.base import Resource, Text, location
from api.permissions import Need
from api.schema import LOCATION
from core.errors import Invalid, NotFound
from rbac.permissions import Permission

# Which accounts: the service layer says, by `visible` and by refusing.
_READ: Need = (Permission.SERVICE_ACCOUNTS_OWN, Permission.SERVICE_ACCOUNTS_READ, Permission.SERVICE_ACCOUNTS_WRITE)
_WRITE: Need = (Permission.SERVICE_ACCOUNTS_OWN, Permission.SERVICE_ACCOUNTS_WRITE)


class ServiceAccountOut(serializers.ModelSerializer[ServiceAccount]):
    """A service account."""

    role = serializers.CharField(source="role.name")
    owner = serializers.CharField(source="owner.uid", default=None, allow_null=True, help_text="The owner's id.")
    owner_name = serializers.CharField(source="owner.username", default=None, allow_null=True)
    active = serializers.BooleanField(source="is_active")

    class Meta:
        model = ServiceAccount
        fields = ("uid", "name", "description", "role", "owner", "owner_name", "active", "created_by", "created_at")
        read_only_fields = fields


class ServiceAccountChange(serializers.Serializer[Any]):
    """What can be changed of a service account."""

    role = Text(max_length=32, required=False)
    active = serializers.BooleanField(required=False)
    description = Text(max_length=200, required=False, allow_blank=True)
    owner = Text(max_length=16, required=False, allow_null=True, help_text="A user's id; null for no owner.")


class ServiceAccountNew(serializers.Serializer[Any]):
    """A new service account. Without `owner` it belongs to whoever creates it; with null to nobody."""

    name = Text(max_length=64)
    role = Text(max_length=32, required=False, allow_null=True)
    description = Text(max_length=200, required=False, allow_blank=True)
    owner = Text(max_length=16, required=False, allow_null=True)


class TokenOut(serializers.ModelSerializer[Token]):
    """What is known of a token; the token itself is not."""

    state = serializers.SerializerMethodField()
    replaced_by = serializers.CharField(source="replaced_by.key_id", default=None, allow_null=True)

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

    def get_state(self, token: Token) -> str:
        """Return active, expired or revoked."""
        return token.state()


class TokenIssued(TokenOut):
    """A new token."""

    token = serializers.CharField(help_text="The token. It is shown this once and can never be shown again.")

    class Meta(TokenOut.Meta):
        fields = (*TokenOut.Meta.fields, "token")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]


class TokenNew(serializers.Serializer[Any]):
    """A token to be made."""

    days = serializers.IntegerField(
        min_value=0, max_value=MAX_DAYS, required=False, allow_null=True, help_text="0: it never expires."
    )
    name = Text(max_length=64, required=False, allow_blank=True, help_text="What it is for.")


class TokenRotation(serializers.Serializer[Any]):
    """How a token is replaced."""

    days = serializers.IntegerField(
        min_value=0, max_value=MAX_DAYS, required=False, allow_null=True, help_text="Unless given, as long as the old one."
    )
    grace = serializers.IntegerField(
        min_value=0, max_value=MAX_GRACE_SECONDS, default=0, help_text="Seconds for which the old one still works."
    )


class ServiceAccountViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Resource):
    """Service accounts, by their id: all of them for who manages all, one's own for everybody else."""

    needs: ClassVar[dict[str, Need]] = {
        "list": _READ,
        "retrieve": _READ,
        "create": _WRITE,
        "partial_update": _WRITE,
        "destroy": _WRITE,
    }
    queryset = ServiceAccount.objects.none()
    serializer_class = ServiceAccountOut
    lookup_field = "uid"
    lookup_value_regex = "sa-[0-9a-f]{1,16}"
    filterset_class = ServiceAccountFilterSet
    ordering_fields = ("name", "created_at", "role")
    ordering = ("name",)

    def get_queryset(self) -> QuerySet[ServiceAccount]:
        """Return the accounts that the caller may know of."""
        return self.queryset if getattr(self, "swagger_fake_view", False) else service_accounts.visible(self.principal)

    @extend_schema(request=ServiceAccountNew, responses={201: ServiceAccountOut}, parameters=[LOCATION])
    def create(self, request: Request) -> Response:  # noqa: ARG002 - DRF's signature
        """Create a service account."""
        account = service_accounts.create_service_account(actor=self.principal, **_with_owner(self.given(ServiceAccountNew)))
        headers = location("service-account-detail", uid=account.uid)
        return Response(ServiceAccountOut(account).data, status=201, headers=headers)

    @extend_schema(request=ServiceAccountChange, responses=ServiceAccountOut)
    def partial_update(self, request: Request, uid: str) -> Response:  # noqa: ARG002
        """Change a service account."""
        account = self.get_object()
        changes = _with_owner(self.given(ServiceAccountChange))
        account = service_accounts.update_service_account(actor=self.principal, account=account, **changes)
        return Response(ServiceAccountOut(account).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uid: str) -> Response:  # noqa: ARG002
        """Delete a service account with all its tokens."""
        service_accounts.delete_service_account(actor=self.principal, account=self.get_object())
        return Response(status=204)


def _with_owner(given: dict[str, Any]) -> dict[str, Any]:
    """Return the body as the service layer's arguments: `owner` is a user, and null says that there is none."""
    if "owner" not in given:
        return given
    uid = given.pop("owner")
    return {**given, "unowned": True} if uid is None else {**given, "owner": _owner(uid)}


def _owner(uid: str) -> User:
    try:
        return get_user(uid)
    except NotFound as error:
        raise Invalid.field("owner", error.message) from None


class TokenViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Resource):
    """The tokens of one service account, by their key id."""

    needs: ClassVar[dict[str, Need]] = {
        "list": _READ,
        "retrieve": _READ,
        "create": _WRITE,
        "rotate": _WRITE,
        "revoke": _WRITE,
    }
    queryset = Token.objects.none()
    serializer_class = TokenOut
    lookup_field = "key_id"
    lookup_value_regex = "[0-9A-Za-z]{12}"
    filterset_class = TokenFilterSet
    ordering_fields = ("created_at", "expires_at", "last_used_at", "name")
    ordering = ("-created_at",)

    def get_queryset(self) -> QuerySet[Token]:
        """Return the account's tokens. Raises NotFound when there is no such account, or it may not be known of."""
        if getattr(self, "swagger_fake_view", False):
            return self.queryset
        return tokens.visible_tokens(self.principal).filter(account=self._account())

    def _account(self) -> ServiceAccount:
        return service_accounts.get_account(self.principal, self.kwargs["account"])

    @extend_schema(request=TokenNew, responses={201: TokenIssued}, parameters=[LOCATION])
    def create(self, request: Request, account: str) -> Response:  # noqa: ARG002
        """Issue a token. It is in this answer and in no other."""
        owner = self._account()
        return _shown_once(tokens.issue_token(actor=self.principal, account=owner, **self.given(TokenNew)), account)

    @extend_schema(request=TokenRotation, responses={201: TokenIssued}, parameters=[LOCATION], filters=False)
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, account: str, key_id: str) -> Response:  # noqa: ARG002
        """Replace a token by a new one; the old one ends at once, or after `grace` seconds."""
        token = self.get_object()
        return _shown_once(tokens.rotate_token(actor=self.principal, token=token, **self.given(TokenRotation)), account)

    @extend_schema(request=None, responses=TokenOut, filters=False)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, account: str, key_id: str) -> Response:  # noqa: ARG002
        """Revoke a token at once."""
        return Response(TokenOut(tokens.revoke_token(actor=self.principal, token=self.get_object())).data)


def _shown_once(issued: IssuedToken, account: str) -> Response:
    """Return the 201 that shows a new token."""
    body = {**TokenOut(issued.token).data, "token": issued.plaintext}
    headers = location("token-detail", account=account, key_id=issued.token.key_id)
    return Response(body, status=201, headers={**headers, "Cache-Control": "no-store"})
