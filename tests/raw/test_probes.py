"""The health probes and the metrics of the real server, as clients, forgers and kubelets request them."""

import pytest

from tests.http_client import HOST, Reply, ask, bearer, encode, send
from tests.servers import SkyAuth

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("raw"), pytest.mark.sqlite]

PROBES = ("/healthz", "/readyz")
FORGED = [
    ("X-Auth-Request-Email", "alice@example.com"),
    ("X-Forwarded-User", "alice@example.com"),
    ("X-Forwarded-Method", "GET"),
    ("X-Forwarded-Host", HOST),
    ("X-Forwarded-Uri", "/authz/verify"),
    ("X-Original-URI", "/authz/verify"),
    ("X-Rewrite-URL", "/authz/verify"),
]


def has_only_probe_headers(reply: Reply) -> bool:
    """Return whether the headers are those of a probe, without any identity header."""
    return {name.lower() for name, _ in reply.headers} == {
        "content-type",
        "content-length",
        "cache-control",
        "date",
        "connection",
    }


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("host", ["10.20.30.40:8000", "[fd00::1]", "nobody.example", "a b", ""])
def test_a_probe_is_answered_for_any_host(server: SkyAuth, path: str, host: str) -> None:
    reply = ask(server.port, path, [("Host", host)])
    assert (reply.status, reply.body, reply.header("Cache-Control")) == (200, b"ok\n", "no-store")
    assert ask(server.port, "/admin/login/", [("Host", host)]).status == 400, "Django itself refuses this host"


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("source", [HOST, "127.0.0.2"])
def test_promise_27_forwarded_headers_do_not_change_a_probe(server: SkyAuth, token: str, path: str, source: str) -> None:
    plain = ask(server.port, path, source=source)
    for headers in (FORGED, [*FORGED, bearer(token)], [bearer("sky_bad")], [("X-Skypilot-Auth-Mode", "token")]):
        reply = ask(server.port, path, headers, source=source)
        assert (reply.status, reply.body) == (plain.status, plain.body) == (200, b"ok\n")
        assert has_only_probe_headers(reply)


@pytest.mark.parametrize("path", [*PROBES, "/metrics", "/authz/verify"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("agent", ["kube-probe/1.37", "Prometheus/3.5", "ELB-HealthChecker/2.0", "GoogleHC/1.0"])
def test_promise_27_a_probe_of_the_upstream_is_decided_like_any_other_path(
    server: SkyAuth, token: str, path: str, method: str, agent: str
) -> None:
    user_agent = ("User-Agent", agent)
    assert (
        server.ask(user_agent, uri=path, method=method).status
        == server.ask(user_agent, uri="/things", method=method).status
        == 401
    )
    assert (
        server.ask(user_agent, bearer(token), uri=path, method=method).status == server.ask(bearer(token), method=method).status
    )
    assert server.ask(user_agent, bearer("sky_bad"), uri=path, method=method).status == 401


def test_promise_27_a_probe_of_the_upstream_without_a_route_is_denied(server: SkyAuth, token: str) -> None:
    server.console("no_routes")
    try:
        for path in (*PROBES, "/metrics"):
            assert server.ask(bearer(token), uri=path).status == 403
            assert server.ask(uri=path).status == 401
    finally:
        server.console("load_pack", name="read-write")


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_a_probe_only_accepts_get_and_head(server: SkyAuth, path: str, method: str) -> None:
    reply = send(server.port, encode(method, path), method=method)
    assert (reply.status, reply.header("Allow"), reply.json["code"]) == (405, "GET, HEAD", "method-not-allowed")


@pytest.mark.parametrize("path", PROBES)
def test_the_response_to_head_has_no_body(server: SkyAuth, path: str) -> None:
    reply = send(server.port, encode("HEAD", path), method="HEAD")
    assert (reply.status, reply.header("Content-Length"), reply.body) == (200, "3", b"")


@pytest.mark.parametrize("target", ["/healthz?x=/authz/verify", "/readyz?", f"http://{HOST}/healthz"])
def test_a_query_does_not_change_a_probe(server: SkyAuth, target: str) -> None:
    assert ask(server.port, target).body == b"ok\n"


@pytest.mark.parametrize(
    "target",
    ["/healthz/", "//healthz", "/%68ealthz", "/healthz%00", "/healthz/../admin/", "/authz/verify/../../healthz", "/x/readyz"],
)
def test_promise_23_only_the_exact_path_is_a_probe(server: SkyAuth, target: str) -> None:
    assert ask(server.port, target).status in {301, 302, 400, 403, 404}


def test_invalid_hosts_log_one_line_a_minute_without_a_traceback(server: SkyAuth) -> None:
    before = server.log.count("Invalid HTTP_HOST")
    for number in range(50):
        assert ask(server.port, "/admin/login/", [("Host", f"h{number}.example")]).status == 400
    assert before + server.log.count("Invalid HTTP_HOST") >= 1
    assert server.log.count("Invalid HTTP_HOST") - before <= 1
    assert "DisallowedHost(" not in server.log


def test_a_probe_with_an_oversized_header_section_is_refused(server: SkyAuth) -> None:
    assert ask(server.port, "/healthz", [(f"X-{number}", "a") for number in range(101)]).status == 431


def test_promise_35_the_metrics_need_a_permission(server: SkyAuth, token: str) -> None:
    assert ask(server.port, "/metrics").status == 401
    assert ask(server.port, "/metrics", [bearer(token)]).status == 403
    assert ask(server.port, "/metrics", FORGED, source="127.0.0.2").status == 401, "an untrusted peer cannot set a user"


def test_the_metrics_are_read_under_any_host_and_nothing_else_is(server: SkyAuth) -> None:
    """Prometheus' discovery names a pod by its address: see https://prometheus.io/docs/prometheus/latest/configuration."""
    host = ("Host", "10.244.1.7:8000")
    assert ask(server.port, "/metrics", [host]).status == 401
    server.console("ensure_role", name="metrics", permissions=["metrics:read"])
    server.console("ensure_account", name="prometheus", role="metrics")
    scraper = bearer(str(server.console("issue", account="prometheus")))
    assert ask(server.port, "/metrics", [scraper, host]).status == 200
    for path in ("/metrics/", "/metrics/x", "//metrics", "/%6Detrics/", "/admin/login/", "/api/v1/me"):
        assert ask(server.port, path, [scraper, host]).status == 400, path


def test_only_the_request_id_of_a_trusted_proxy_is_returned(server: SkyAuth) -> None:
    headers = [("X-Request-Id", "edge-7f3c")]
    assert ask(server.port, "/metrics", headers).header("X-Request-Id") == "edge-7f3c"
    assert len(ask(server.port, "/metrics", headers, source="127.0.0.2").header("X-Request-Id") or "") == 32
    assert len(ask(server.port, "/metrics", headers * 2).header("X-Request-Id") or "") == 32


def series(server: SkyAuth) -> set[str]:
    """Return the names and labels of all series."""
    server.console("ensure_role", name="metrics", permissions=["metrics:read"])
    server.console("ensure_account", name="prometheus", role="metrics")
    reply = ask(server.port, "/metrics", [bearer(str(server.console("issue", account="prometheus")))])
    assert reply.status == 200
    return {line.rpartition(" ")[0] for line in reply.body.decode().splitlines() if not line.startswith("#")}


def test_no_request_adds_a_series_or_a_label(server: SkyAuth, token: str) -> None:
    before = series(server)
    for number in range(50):
        original = [("X-Forwarded-Method", f"M{number}"), ("X-Forwarded-Host", f"h{number}"), ("X-Forwarded-Uri", f"/{number}")]
        for credential in ([], [bearer(token)], [bearer(f"sky_{number}")], [("Authorization", f"Odd{number} x")]):
            ask(server.port, "/authz/verify", [*original, *credential])
        ask(server.port, f"/authz/nginx?{number}", [("X-Original-Method", f"M{number}")])
        ask(server.port, f"/nowhere/{number}")
    assert series(server) == before
