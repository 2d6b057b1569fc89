"""Django's authentication backends, each a thin layer over `authn.identify`.

Each credential's fields are exactly one backend's keyword arguments, so `authenticate(request, **fields)` runs that backend
alone. A bad credential raises PermissionDenied, which ends the chain.
"""

from typing import Any

from django.contrib.auth.backends import BaseBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from accounts import selectors
from accounts.models import ServiceAccount, User
from authn import identify
from authn.credentials import Basic, Bearer, InvalidCredential, ProxyHeader
from authn.requests import proxied_of
from rbac.principals import Kind, Principal


class Backend(BaseBackend):
    """The base of all backends: it grants no permissions, and loads only active users."""

    def get_user(self, user_id: Any) -> User | None:
        """Return the active user of that primary key, or None."""
        return User.objects.select_related("role").filter(pk=user_id, is_active=True).first()

    def _row(self, principal: Principal) -> User | ServiceAccount | None:
        """Return the row behind a principal; None for the shared credential, which opens none of Django's pages."""
        if principal.pk is None:
            return None
        return self.get_user(principal.pk) if principal.kind is Kind.USER else selectors.account_of(principal.pk)


class TokenBackend(Backend):
    """Service-account tokens."""

    def authenticate(self, request: HttpRequest | None, token: bytes = b"") -> Any:  # type: ignore[override]
        """Return the ServiceAccount of a token. Raises PermissionDenied."""
        try:
            return self._row(identify.identify(Bearer(token), client=proxied_of(request).client))
        except InvalidCredential:
            raise PermissionDenied from None


class BasicBackend(Backend):
    """A user's name and password, from HTTP Basic or from a login form."""

    def authenticate(self, request: HttpRequest | None, username: str | None = None, password: str | None = None) -> Any:  # type: ignore[override]
        """Return the User of a name and password. Raises PermissionDenied."""
        if username is None or password is None:
            return None
        client = proxied_of(request).client
        try:
            return self._row(identify.sign_in_with_password(Basic(username, password), client))
        except InvalidCredential as refusal:
            identify.record_bad_credential(refusal, client=client)
            raise PermissionDenied from None


class ProxyHeaderBackend(Backend):
    """The header of a trusted auth proxy. Its arguments come from the header filter and never from a client's own header."""

    def authenticate(  # type: ignore[override]
        self, request: HttpRequest | None, subject: str = "", groups: str | None = None, groups_fault: str = ""
    ) -> Any:
        """Return the User whom the trusted proxy names. Raises PermissionDenied."""
        try:
            return self._row(identify.identify(ProxyHeader(subject, groups, groups_fault), client=proxied_of(request).client))
        except InvalidCredential:
            raise PermissionDenied from None
