"""OpenTelemetry traces (TRACING): a span for each request to SkyAuth that is traced, and one for each of its database queries.

The packages are those of requirements-tracing.txt. The exporter and the sampler read the variables of OpenTelemetry itself, such
as OTEL_EXPORTER_OTLP_ENDPOINT (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.postgresql.base import DatabaseWrapper as PostgresWrapper
from django.urls import Resolver404, resolve
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from authn.proxy_header_middleware import SCOPE_KEY
from authn.proxy_headers import ProxyInfo
from core.asgi import Application, Receive, Scope, Send
from gateway.asgi import ForwardAuthApp
from gateway.threads import VerifyThreads

_CONTEXT_HEADERS: Final = {b"traceparent", b"tracestate", b"baggage"}
_SHOWN: Final = ("type", "asgi", "http_version", "method", "scheme", "client", "server")
_SCOPE_KEY: Final = "skyauth.traced"


class ContextThreads(VerifyThreads):
    """Runs work in the context of the caller, so that a query's span belongs to its request's."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run a job in one of the threads."""
        return super().submit(copy_context().run, fn, *args, **kwargs)


class TracedForwardAuthApp(ForwardAuthApp):
    """`ForwardAuthApp` with a span for each request that comes here; the protocol passes on those with a sampled trace."""

    traced = True

    def __init__(self, application: Application, threads: VerifyThreads) -> None:
        super().__init__(application, threads=threads)
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "skyauth"}).merge(OTELResourceDetector().detect()))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
        PsycopgInstrumentor().instrument()
        SQLite3Instrumentor().instrument()
        database = connections[DEFAULT_DB_ALIAS]
        if isinstance(database, PostgresWrapper):
            database.close_pool()  # connections that the checks before the start have opened would make no spans
        self._with_span = OpenTelemetryMiddleware(
            self._without_span, default_span_details=lambda scope: (scope["path"], {}), exclude_spans=["receive", "send"]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer within a span. Its name and attributes have the pattern of the path, and nothing that a client can choose.

        A target or a query of the upstream can contain secrets. The trace of a peer that is not trusted is not continued.
        """
        proxied = scope.get(SCOPE_KEY)
        trusted = isinstance(proxied, ProxyInfo) and proxied.trusted
        headers = [line for line in scope["headers"] if trusted and line[0] in _CONTEXT_HEADERS]
        shown = {
            name: scope[name]
            for name in ("type", "asgi", "http_version", "method", "scheme", "client", "server")
            if name in scope
        }
        shown |= {"path": self._pattern(scope), "headers": headers, "query_string": b"", _SCOPE_KEY: scope}
        await self._with_span(shown, receive, send)

    async def _without_span(self, shown: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(shown[_SCOPE_KEY], receive, send)

    def _pattern(self, scope: Scope) -> str:
        """Return the verify endpoint, or the pattern of Django's URL, or "other"."""
        endpoint = self.endpoint(scope.get("raw_path", b""))
        if endpoint is not None:
            return endpoint[0].decode("ascii")
        try:
            return "/" + resolve(scope["path"]).route
        except Resolver404:
            return "other"


def flush() -> None:
    """Send the spans that have not been sent, before the process ends."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()
