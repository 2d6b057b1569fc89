"""Which users, service accounts, tokens and group roles a list shows: the same for the REST API and the dashboard."""

from typing import ClassVar, Final

from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet
from django_filters import CharFilter, FilterSet

from accounts.models import DeletedUser, GroupRole, ServiceAccount, SignIn, Token, User
from accounts.querysets import SOON_DAYS, UNUSED_DAYS
from core.errors import Invalid
from core.filters import ChoiceFilter, SearchFilter, StrictBooleanFilter
from rbac.services import get_role

TOKEN_CHOICES: Final = (
    ("soon", f"expire within {SOON_DAYS} days"),
    ("never", "never expire"),
    ("unused", f"not used for {UNUSED_DAYS} days"),
    ("none", "no active token"),
)


class RoleField(forms.CharField):
    """The name of a role that exists."""

    def clean(self, value: str | None) -> str:
        """Return the name. Raises ValidationError with the names that exist: no row is not the answer to a typing error."""
        name = str(super().clean(value))
        if name:
            try:
                get_role(name)
            except Invalid as error:
                raise forms.ValidationError(error.message) from None
        return name


class RoleFilter(CharFilter):  # type: ignore[misc]
    """Filters by the name of a role."""

    field_class = RoleField

    def __init__(self) -> None:
        super().__init__(field_name="role__name", label="The name of a role.")


class OwnerField(forms.CharField):
    """The id or the name of a user."""

    def clean(self, value: str | None) -> str:
        """Return the text. Raises ValidationError if there is no such user."""
        text = str(super().clean(value))
        if text and not User.objects.filter(Q(uid=text) | Q(username=text.lower())).exists():
            raise forms.ValidationError(f"There is no user named {text!r}.")
        return text


class OwnerFilter(CharFilter):  # type: ignore[misc]
    """Filters by the id or the name of the owner."""

    field_class = OwnerField

    def __init__(self) -> None:
        super().__init__(label="The id or the name of the owner.")

    def filter(self, qs: QuerySet[ServiceAccount], value: str) -> QuerySet[ServiceAccount]:
        return qs.filter(Q(owner__uid=value) | Q(owner__username=value.lower())) if value else qs


class UserFilterSet(FilterSet):  # type: ignore[misc]
    """Filters of the list of users."""

    search = SearchFilter(
        "display_name__icontains",
        lower_case=("username__contains", "email__contains", "uid"),
        label="Words to find in the username, the e-mail address or the display name, or a whole id.",
    )
    role = RoleFilter()
    active = StrictBooleanFilter(field_name="is_active", label="Whether the user is active, and not disabled.")
    sign_in = ChoiceFilter(choices=SignIn.choices, label="How the user signs in.")

    class Meta:
        model = User
        fields: ClassVar[list[str]] = []


class DeletedUserFilterSet(FilterSet):  # type: ignore[misc]
    """Filters of the list of deleted users."""

    search = SearchFilter(lower_case=("username__contains",), label="Words to find in the username.")
    blocked = StrictBooleanFilter(label="Whether single sign-on refuses the name.")

    class Meta:
        model = DeletedUser
        fields: ClassVar[list[str]] = []


class ServiceAccountFilterSet(FilterSet):  # type: ignore[misc]
    """Filters of the list of service accounts."""

    search = SearchFilter(
        "description__icontains",
        lower_case=("name__contains", "owner__username", "uid"),
        label="Words to find in the name or the description, or a whole id, or the whole username of the owner.",
    )
    role = RoleFilter()
    active = StrictBooleanFilter(field_name="is_active", label="Whether the account is active, and not disabled.")
    owner = OwnerFilter()
    unowned = StrictBooleanFilter(field_name="owner", lookup_expr="isnull", label="Whether the account has no owner.")
    tokens = ChoiceFilter(
        choices=TOKEN_CHOICES,
        method="filter_tokens",
        label="Which tokens the account has.",
    )

    class Meta:
        model = ServiceAccount
        fields: ClassVar[list[str]] = []

    def filter_tokens(self, queryset: QuerySet[ServiceAccount], name: str, value: str) -> QuerySet[ServiceAccount]:  # noqa: ARG002
        return queryset.filter(_has_tokens(value))


def _has_tokens(choice: str) -> Exists | Q:
    """Return the condition of an account that has such a token, or that has no active one."""
    tokens = Token.objects.filter(account=OuterRef("pk"))
    match choice:
        case "soon":
            return Exists(tokens.expiring_within(SOON_DAYS))
        case "never":
            return Exists(tokens.active().filter(expires_at=None))
        case "unused":
            return Exists(tokens.unused_for(UNUSED_DAYS))
        case _:
            return ~Q(Exists(tokens.active()))


class TokenFilterSet(FilterSet):  # type: ignore[misc]
    """Filters of the list of an account's tokens."""

    search = SearchFilter("name__icontains", "key_id__icontains", label="Words to find in the name or the key id.")

    class Meta:
        model = Token
        fields: ClassVar[list[str]] = []


class GroupRoleFilterSet(FilterSet):  # type: ignore[misc]
    """Filters of the list of groups and their roles."""

    search = SearchFilter("group__icontains", label="Words to find in the name of the group.")
    group = CharFilter(label="The exact name of a group.")
    role = RoleFilter()

    class Meta:
        model = GroupRole
        fields: ClassVar[list[str]] = []
