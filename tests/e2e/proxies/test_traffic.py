"""The proxies stay out of the way of whatever they let through: large bodies, slow answers, WebSockets, connections that stay."""

import re
import secrets
import socket
import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest

from tests.e2e.proxies.conftest import Gateway, Ground
from tests.http_client import HOST, Reply, bearer, encode, send
from tests.proxies import PROXIES, running
from tests.servers import wait_until
from tests.upstream import PATIENCE, STREAMED

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("proxies"), pytest.mark.sqlite]

MEGABYTE = 1 << 20


def test_a_body_of_100_megabytes_arrives_whole_and_skyauth_sees_none_of_it(gateway: Gateway, pipeline: str) -> None:
    headers = [bearer(pipeline), ("Content-Length", str(100 * MEGABYTE))]
    with gateway.ground.tapped.listening_in() as asked, connected(gateway) as connection:
        connection.sendall(encode("PUT", "/blob", headers))
        for _ in range(100):
            connection.sendall(bytes(MEGABYTE))
        assert answer(connection).json["body_bytes"] == 100 * MEGABYTE
    assert 0 < len(asked) < 4_096


def test_a_body_reaches_the_upstream_while_it_is_still_being_sent(gateway: Gateway, pipeline: str) -> None:
    part = bytes(256 * 1024)
    with connected(gateway) as connection:
        connection.sendall(encode("PUT", "/blob", [bearer(pipeline), ("Content-Length", str(2 * len(part)))]) + part)
        wait_until(lambda: gateway.upstream.body_bytes == len(part), "the first half arrived", PATIENCE)
        connection.sendall(part)
        assert answer(connection).json["body_bytes"] == 2 * len(part)


def test_a_body_without_a_length_arrives_whole(gateway: Gateway, pipeline: str) -> None:
    with closing(HTTPConnection(HOST, gateway.port, timeout=30)) as connection:
        connection.request("POST", "/", iter([b"x" * MEGABYTE] * 5), dict([bearer(pipeline)]), encode_chunked=True)
        assert connection.getresponse().read()
    assert gateway.upstream.arrived[-1].body_bytes == 5 * MEGABYTE


def test_who_waits_to_be_told_to_continue_is_told_so(gateway: Gateway, pipeline: str) -> None:
    headers = [bearer(pipeline), ("Expect", "100-continue"), ("Content-Length", str(MEGABYTE))]
    with connected(gateway) as connection:
        connection.sendall(encode("PUT", "/blob", headers))
        assert connection.recv(200).startswith(b"HTTP/1.1 100 Continue\r\n")
        connection.sendall(bytes(MEGABYTE))
        assert answer(connection).json["body_bytes"] == MEGABYTE


def test_a_refused_upload_never_reaches_the_upstream(gateway: Gateway, reader: str) -> None:
    before = len(gateway.upstream.arrived)
    headers = [bearer(reader), ("Expect", "100-continue"), ("Content-Length", str(MEGABYTE))]
    with connected(gateway) as connection:
        connection.sendall(encode("PUT", "/blob", headers))
        told = connection.recv(20, socket.MSG_PEEK)
        assert told.startswith(b"HTTP/1.1 100" if gateway.differs.invites else b"HTTP/1.1 403")
    chunked = encode("PUT", "/blob", [bearer(reader), ("Transfer-Encoding", "Chunked")]) + b"1\r\nx\r\n0\r\n\r\n"
    for upload in (encode("PUT", "/blob", [bearer(reader)], bytes(MEGABYTE)), chunked):
        reply = send(gateway.port, upload, method="PUT")
        assert reply.status == 403
        assert ("needed" in reply.json) == gateway.differs.explains_refused_uploads
    assert len(gateway.upstream.arrived) == before


@pytest.mark.parametrize("status", [401, 503])
def test_an_upload_of_somebody_unknown_or_in_times_of_trouble_is_answered_at_once(gateway: Gateway, status: int) -> None:
    """A million bytes are announced, and none is sent: whoever waits for them, or keeps them, holds what a stranger chose."""
    with ExitStack() as stack:
        if status == 503:
            answered = b"HTTP/1.1 503 X\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
            stack.enter_context(gateway.ground.tapped.answering(answered))
        connection = stack.enter_context(connected(gateway))
        connection.settimeout(PATIENCE / 4)
        connection.sendall(encode("PUT", "/blob", [("Content-Length", "1000000")]))
        assert answer(connection).status == status


PAGE = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-WebSocket-Key": "AAAA"}


def test_the_question_carries_neither_a_body_nor_an_upgrade(gateway: Gateway, pipeline: str) -> None:
    headers = [
        bearer(pipeline), ("Connection", "Upgrade, X-Forwarded-Uri"), ("Upgrade", "websocket"), ("Expect", "100-continue"),

        ("X-Request-Id", "0123456789abcdef"), *PAGE.items(),
        ("X-Forwarded-Uri", "/forged"), ("X-Original-URI", "/forged"), ("X-Forwarded-Host", "forged"),
        ("X-Forwarded-Method", "FORGED"), ("X-Original-Method", "FORGED"), ("X-Original-Host", "forged"),
    ]  # fmt: skip
    with gateway.ground.tapped.listening_in() as asked:
        send(gateway.port, encode("PUT", "/blob?x=1", headers, b"x" * 10_000), method="PUT")
    head, _, body = bytes(asked).partition(b"\r\n\r\n")
    names = {line.partition(b":")[0].lower() for line in head.splitlines()[1:]}
    assert body == b""
    assert not names & {b"upgrade", b"expect", b"transfer-encoding", b"te", b"trailer"}
    assert b"forged" not in head.lower()
    assert b"/blob?x=1" in head
    assert b"PUT" in head
    assert b"x-request-id" in names  # that our log and the proxy's can be read side by side
    assert names >= {name.lower().encode() for name in PAGE}, "by which SkyAuth recognizes other origins' pages"


def test_one_id_of_the_proxy_is_in_the_question_the_forwarded_request_and_the_response(gateway: Gateway, reader: str) -> None:
    """A client's own id could be that of somebody else's request. Traefik makes none, so the client's goes on."""
    sent = "0123456789abcdef"
    for caller, status in ((bearer(reader), 200), (bearer("sky_x"), 401)):
        before = len(gateway.upstream.arrived)
        with gateway.ground.tapped.listening_in() as asked:
            reply = gateway.ask(caller, ("X-Request-Id", sent))
        assert reply.status == status
        ids = re.findall(rb"(?im)^x-request-id: *(.*?)\r$", bytes(asked))
        forwarded = [value for request in gateway.upstream.arrived[before:] for value in request.all("X-Request-Id")]
        assert len(forwarded) == (status == 200)
        if gateway.differs.makes_ids:
            made = reply.header("X-Request-Id")
            assert made is not None
            assert re.fullmatch(r"[A-Za-z0-9-]{32,36}", made)
            assert {value.decode() for value in ids} | set(forwarded) == {made}
        else:
            assert {value.decode() for value in ids} | set(forwarded) == {sent}


def test_a_trace_goes_on_to_skyauth_and_to_the_upstream(gateway: Gateway, reader: str) -> None:
    """W3C Trace Context: https://www.w3.org/TR/trace-context/."""
    trace = [("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"), ("tracestate", "vendor=1")]
    with gateway.ground.tapped.listening_in() as asked:
        assert gateway.ask(bearer(reader), *trace).status == 200
    for name, value in trace:
        assert re.findall(rf"(?im)^{name}: *(.*?)\r$".encode(), bytes(asked)) == [value.encode()]
        assert gateway.upstream.arrived[-1].all(name) == [value]


@pytest.mark.parametrize("target", ["/stream", "/drip"])
def test_streamed_lines_come_as_they_are_written(gateway: Gateway, reader: str, target: str) -> None:
    """The upstream writes a line only when the one before was read. HAProxy holds each back for 0.2 s but for `http-no-delay`."""
    lags = []
    with closing(HTTPConnection(HOST, gateway.port, timeout=PATIENCE / 4)) as connection:
        connection.request("GET", target, headers=dict([bearer(reader)]))
        response = connection.getresponse()
        for n in range(STREAMED):
            assert response.readline() == b"line %d\n" % n
            lags.append(time.monotonic() - gateway.upstream.written)
            gateway.upstream.read.release()
        assert response.read() == b""
    assert sorted(lags)[STREAMED // 2] < 0.18


def test_an_answer_to_head_has_no_body(gateway: Gateway, reader: str) -> None:
    allowed, refused = gateway.ask(bearer(reader), method="HEAD"), gateway.ask(method="HEAD")
    assert (allowed.status, refused.status) == (200, 401)
    assert (allowed.body, refused.body) == (b"", b"")
    assert int(allowed.header("Content-Length") or 0) > 0
    assert gateway.upstream.arrived[-1].method == "HEAD"


def test_callers_who_share_a_connection_are_told_apart(gateway: Gateway, pipeline: str, reader: str) -> None:
    """As behind a load balancer, which keeps connections for everybody."""
    callers = [(bearer(pipeline), 200, "user"), (bearer(reader), 200, "viewer"), (None, 401, None), (bearer("sky_x"), 401, None)]
    with connected(gateway) as connection:
        for credential, status, role in callers * 3:
            before = len(gateway.upstream.arrived)
            connection.sendall(encode("GET", "/v1/things", [*([credential] if credential else []), ("Connection", "keep-alive")]))
            assert answer(connection).status == status
            arrived = gateway.upstream.arrived[before:]
            assert [gateway.identity(one)["role"] for one in arrived] == ([role] if role else [])


def test_requests_in_one_piece_get_each_its_own_answer(gateway: Gateway, pipeline: str, reader: str) -> None:
    keep = ("Connection", "keep-alive")
    before = len(gateway.upstream.arrived)
    with connected(gateway) as connection, connection.makefile("rb") as stream:
        connection.sendall(
            encode("GET", "/1", [bearer(pipeline), keep])
            + encode("POST", "/2", [bearer(reader), keep])
            + encode("GET", "/3", [keep])
            + encode("GET", "/4", [bearer(reader)])
        )
        assert re.findall(rb"HTTP/1\.1 (\d+) ", stream.read()) == [b"200", b"403", b"401", b"200"]
    arrived = gateway.upstream.arrived[before:]
    assert [(one.target, gateway.identity(one)["role"]) for one in arrived] == [("/1", "user"), ("/4", "viewer")]


def connected(gateway: Gateway) -> socket.socket:
    """Return a connection to the proxy."""
    return socket.create_connection((HOST, gateway.port), timeout=30)


def answer(connection: socket.socket) -> Reply:
    """Read one answer that is final, and nothing behind it."""
    with connection.makefile("rb", buffering=0) as stream:
        line = _line(stream)
        while line.startswith(b"HTTP/1.1 100 "):  # Caddy hands on the upstream's, too
            while _line(stream):
                pass
            line = _line(stream)
        headers = []
        while field := _line(stream):
            name, _, value = field.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        reply = Reply(int(line.split()[1]), tuple(headers), b"")
        body = b""
        while len(body) < int(reply.header("Content-Length") or 0):
            body += stream.read(int(reply.header("Content-Length") or 0) - len(body))
        return Reply(reply.status, reply.headers, body)


def _line(stream: socket.SocketIO) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        byte = stream.read(1)
        assert byte, f"the connection ended after {line!r}"
        line += byte
    return line[:-2]


def handshake(gateway: Gateway, *headers: tuple[str, str | bytes]) -> socket.socket:
    """Return a connection on which a WebSocket handshake was sent."""
    wanted = [
        ("Connection", "keep-alive, Upgrade"),  # as Firefox writes it
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    connection = connected(gateway)
    connection.sendall(encode("GET", "/socket", [*wanted, *headers]))
    return connection


def test_a_websocket_is_upgraded_and_carries_frames_both_ways(gateway: Gateway, reader: str) -> None:
    before = len(gateway.upstream.arrived)
    with handshake(gateway, bearer(reader)) as connection, connection.makefile("rb") as stream:
        assert stream.readline().startswith(b"HTTP/1.1 101 ")
        while stream.readline() != b"\r\n":
            pass
        for payload in (b"ping", secrets.token_bytes(100)):
            mask = secrets.token_bytes(4)
            masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
            connection.sendall(bytes((0x82, 0x80 | len(payload))) + mask + masked)
            assert stream.read(2 + len(payload)) == bytes((0x82, len(payload))) + payload
    arrived = gateway.upstream.arrived[before]
    assert gateway.identity(arrived)["role"] == "viewer"
    assert not arrived.all("Authorization")


def test_a_websocket_without_a_credential_is_refused_before_the_upstream_hears_of_it(gateway: Gateway) -> None:
    before = len(gateway.upstream.arrived)
    with handshake(gateway) as connection:
        assert answer(connection).status == 401
    assert len(gateway.upstream.arrived) == before


def test_a_head_that_does_not_end_is_cut_off_and_a_stream_that_is_long_silent_is_not(ground: Ground, reader: str) -> None:
    """All proxies at a time: this takes as long as they are patient. Envoy's own bound on an answer would be 15 seconds."""
    ports = {"skyauth": ground.tapped.port, "upstream": ground.upstream.port, "billing": ground.billing.port}
    impatient = {proxy.name for proxy in PROXIES if proxy.differences.cuts_slow_heads}
    with ExitStack() as stack:
        began = time.monotonic()
        heads: dict[str, socket.socket] = {}
        streams: list[socket.socket] = []
        for proxy in PROXIES:
            port = stack.enter_context(running(proxy, **ports))
            heads[proxy.name] = stack.enter_context(socket.create_connection((HOST, port), timeout=PATIENCE))
            heads[proxy.name].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            streams.append(stack.enter_context(socket.create_connection((HOST, port), timeout=PATIENCE)))
            streams[-1].sendall(encode("GET", "/stream", [bearer(reader)]))
        cut: set[str] = set()
        while time.monotonic() < began + 18 or (cut != impatient and time.monotonic() < began + 25):
            time.sleep(0.5)
            cut |= {name for name, connection in heads.items() if ended(connection)}
        assert cut == impatient
        ground.upstream.read.release(len(streams) * STREAMED)
        for connection in streams:
            with connection.makefile("rb") as stream:
                assert b"line %d\n" % (STREAMED - 1) in stream.read()


def ended(connection: socket.socket) -> bool:
    """Send one byte more of a head, and return whether the other side has closed, be it with an answer."""
    try:
        connection.sendall(b"x")
        connection.setblocking(False)
        while connection.recv(1_000):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.setblocking(True)
    return True
