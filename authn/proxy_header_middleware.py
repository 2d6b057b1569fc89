"""The outermost ASGI layer: takes the headers that speak for a client off every request, before anything reads one."""

from typing import Final

from django.conf import settings

from authn.proxy_headers import FilteredHeaders, TrustPolicy, filter_headers, parse_networks
from core.asgi import Application, Receive, Scope, Send

SCOPE_KEY: Final = "skyauth.proxied"
OVERSIZED_KEY: Final = "skyauth.oversized"


def policy_from_settings() -> TrustPolicy:
    """Return whom the configuration trusts, and with which headers."""
    reads_users = settings.AUTH_USER_HEADER_FORMAT != "off"
    return TrustPolicy(
        parse_networks(settings.TRUSTED_PROXIES),
        settings.AUTH_USER_HEADER if reads_users else "",
        settings.AUTH_GROUPS_HEADER if reads_users else "",
    )


class ProxyHeaderMiddleware:
    """Wraps an ASGI application; what the gate found lies in the scope under SCOPE_KEY as one `ProxyInfo`."""

    def __init__(self, application: Application, policy: TrustPolicy) -> None:
        self.application = application
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass HTTP requests on, cleaned. SkyAuth speaks nothing else."""
        if scope["type"] != "http":
            raise ValueError(f"SkyAuth does not speak {scope['type']}.")
        admitted = self.filter_headers(scope)
        cleaned = {**scope, "headers": admitted.headers, SCOPE_KEY: admitted.proxied, OVERSIZED_KEY: admitted.oversized}
        if admitted.proxied.forwarded.get("proto") in {"http", "https"}:
            cleaned["scheme"] = admitted.proxied.forwarded["proto"]
        await self.application(cleaned, receive, send)

    def filter_headers(self, scope: Scope) -> FilteredHeaders:
        """Return what the gate makes of a request's headers."""
        client = scope.get("client")
        return filter_headers(scope["headers"], client[0] if client else None, self._policy)
