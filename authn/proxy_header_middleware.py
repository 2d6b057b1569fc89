"""The outermost ASGI layer: applies the trusted-proxy header filter to every request before anything reads its headers."""

from typing import Final

from django.conf import settings

from authn.proxy_headers import UNIX, FilteredHeaders, TrustPolicy, filter_headers, parse_networks
from core.asgi import Application, Receive, Scope, Send

SCOPE_KEY: Final = "skyauth.proxied"
OVERSIZED_KEY: Final = "skyauth.oversized"


def policy_from_settings() -> TrustPolicy:
    """Return the trusted networks and the identity headers of the settings."""
    reads_users = settings.AUTH_USER_HEADER_FORMAT != "off"
    return TrustPolicy(
        parse_networks(settings.TRUSTED_PROXIES),
        settings.AUTH_USER_HEADER if reads_users else "",
        settings.AUTH_GROUPS_HEADER if reads_users else "",
        unix=UNIX in settings.TRUSTED_PROXIES,
    )


class ProxyHeaderMiddleware:
    """Wraps an ASGI application; puts the `ProxyInfo` of a request into its scope under SCOPE_KEY."""

    def __init__(self, application: Application, policy: TrustPolicy) -> None:
        self.application = application
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"SkyAuth does not support {scope['type']} connections.")
        filtered = self.filter_headers(scope)
        new_scope = {**scope, "headers": filtered.headers, SCOPE_KEY: filtered.proxied, OVERSIZED_KEY: filtered.oversized}
        if scheme := filtered.proxied.forwarded.get("proto"):
            new_scope["scheme"] = scheme
        await self.application(new_scope, receive, send)

    def filter_headers(self, scope: Scope) -> FilteredHeaders:
        """Return the result of the header filter for a request."""
        client = scope.get("client")
        return filter_headers(scope["headers"], client[0] if client else None, self._policy)
