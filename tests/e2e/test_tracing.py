"""TRACING=true sends spans to a collector: of the requests that are traced, with the trace of the proxy, and no secrets."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.http_client import HOST, bearer
from tests.http_client import ask as send
from tests.servers import SkyAuth, skyauth_server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("watching")]

SAMPLED, UNSAMPLED = "01", "00"


class Collector(ThreadingHTTPServer):
    """Receives OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp)."""

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.requests: list[ExportTraceServiceRequest] = []
        self.raw = b""

    def spans(self, trace_id: str) -> list[Span]:
        """Return the spans of a trace."""
        found = [
            span for request in list(self.requests) for resource in request.resource_spans
            for scope in resource.scope_spans for span in scope.spans
        ]  # fmt: skip
        return [span for span in found if span.trace_id.hex() == trace_id]

    def server_span(self, trace_id: str) -> Span:
        """Wait for the span of the request, which ends last and can come in a later message than its queries."""
        wait_until(lambda: any(span.kind == Span.SPAN_KIND_SERVER for span in self.spans(trace_id)), "the span", 30)
        (span,) = (span for span in self.spans(trace_id) if span.kind == Span.SPAN_KIND_SERVER)
        return span


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.raw += body
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Write nothing."""


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        Thread(target=collector.serve_forever, args=(0.05,), daemon=True).start()
        yield collector
        collector.shutdown()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def server(collector: Collector) -> Iterator[SkyAuth]:
    settings = {
        "TRACING": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{collector.server_address[1]}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    with skyauth_server(**settings) as server:
        yield server


def traced(flag: str = SAMPLED) -> tuple[str, tuple[str, str]]:
    """Return a new trace's id, and the header of a request that belongs to it."""
    trace_id = secrets.token_hex(16)
    return trace_id, ("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-{flag}")


def test_a_traced_question_has_a_span_with_the_queries_that_it_needed(server: SkyAuth, collector: Collector) -> None:
    server.console("create_account", name="robot", role="user")
    token = str(server.console("issue", account="robot"))
    trace_id, header = traced()
    assert server.ask(bearer(token), header, uri="/things?password=hunter2").status == 200
    request = collector.server_span(trace_id)
    spans = collector.spans(trace_id)
    assert request.name == "/authz/verify"
    assert request.parent_span_id.hex() == header[1].split("-")[2]
    queries = [span for span in spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert queries
    assert {span.parent_span_id for span in queries} == {request.span_id}
    assert token.encode() not in collector.raw
    assert b"hunter2" not in collector.raw


def test_a_page_has_a_span_under_the_pattern_of_its_url(server: SkyAuth, collector: Collector) -> None:
    server.console("ensure_account", name="robot", role="user")
    token = str(server.console("issue", account="robot"))
    for path, name in (("/api/v1/users/0123456789abcdef?x=hunter3", "/api/v1/users/"), ("/nothing/here", "other")):
        trace_id, header = traced()
        assert send(server.port, path, [bearer(token), header]).status in {400, 403, 404}
        assert collector.server_span(trace_id).name.startswith(name)
    assert b"0123456789abcdef" not in collector.raw
    assert b"hunter3" not in collector.raw


def test_a_question_that_is_not_sampled_has_no_span_and_a_strangers_trace_is_not_continued(
    server: SkyAuth, collector: Collector
) -> None:
    unsampled, header = traced(UNSAMPLED)
    strange, strangers = traced()
    known, trusted = traced()
    assert server.ask(header).status == 401
    assert server.ask(strangers, source="127.0.0.2").status in {401, 403}
    assert server.ask(trusted).status == 401
    collector.server_span(known)
    assert not collector.spans(unsampled)
    assert not collector.spans(strange)


def test_answers_are_given_while_the_collector_is_away() -> None:
    settings = {"TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:9", "TRUSTED_PROXIES": "127.0.0.1"}
    with skyauth_server(**settings) as server:
        assert [server.ask(traced()[1]).status for _ in range(5)] == [401] * 5
