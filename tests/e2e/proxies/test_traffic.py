"""The gateway stays out of the way of whatever it lets through: large bodies, slow answers, WebSockets."""

import secrets
import socket
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException

import pytest

from tests.e2e.conftest import Stage, identity
from tests.servers import caddy
from tests.upstream import PAUSE, STREAMED, upstream
from tests.wire import HOST, bearer, encode, send

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stage")]

MEGABYTE = 1 << 20


@pytest.mark.parametrize("expect", [(), (("Expect", "100-continue"),)])
def test_a_body_of_30_megabytes_arrives_whole(stage: Stage, pipeline: str, expect: tuple[tuple[str, str], ...]) -> None:
    raw = encode("PUT", "/blob", [bearer(pipeline), *expect], bytes(30 * MEGABYTE))
    assert send(stage.run.gateway, raw, method="PUT").json["body_bytes"] == 30 * MEGABYTE


def test_a_body_without_a_length_arrives_whole(stage: Stage, pipeline: str) -> None:
    connection = HTTPConnection(HOST, stage.run.gateway, timeout=30)
    connection.request("POST", "/", iter([b"x" * MEGABYTE] * 5), dict([bearer(pipeline)]), encode_chunked=True)
    assert connection.getresponse().read()
    connection.close()
    assert stage.upstream.arrived[-1].body_bytes == 5 * MEGABYTE


def test_the_question_carries_neither_a_body_nor_an_upgrade_and_names_the_request_once() -> None:
    """The place of SkyAuth is taken by an upstream here, which shows what it was asked."""
    asked = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Expect", "100-continue"), ("X-Forwarded-Uri", "/forged")]
    with upstream() as questions, upstream() as behind, caddy(questions.server_address[1], behind.address) as gateway:
        raw = encode("PUT", "/blob?x=1", [("Host", "api.example:8080"), *asked], b"x" * MEGABYTE)
        with suppress(OSError, HTTPException):
            send(gateway, raw, method="PUT")
        [question] = questions.arrived
    assert (question.method, question.target, question.body_bytes) == ("GET", "/authz/verify", 0)
    assert question.all("X-Forwarded-Method") == ["PUT"]
    assert question.all("X-Forwarded-Uri") == ["/blob?x=1"]
    assert question.all("X-Forwarded-Host") == ["api.example:8080"]
    for name in ("Upgrade", "Connection", "Expect", "Transfer-Encoding"):
        assert question.all(name) == [], name
    assert question.all("Content-Length") in ([], ["0"])


def test_a_refused_upload_never_reaches_the_upstream(stage: Stage, reader: str) -> None:
    before = len(stage.upstream.arrived)
    reply = send(stage.run.gateway, encode("PUT", "/blob", [bearer(reader)], bytes(MEGABYTE)), method="PUT")
    assert reply.status == 403
    assert len(stage.upstream.arrived) == before


@pytest.mark.parametrize("target", ["/stream", "/drip"])
def test_streamed_lines_come_as_they_are_written(stage: Stage, reader: str, target: str) -> None:
    connection = HTTPConnection(HOST, stage.run.gateway, timeout=30)
    connection.request("GET", target, headers=dict([bearer(reader)]))
    response = connection.getresponse()
    times = []
    for n in range(STREAMED):
        assert response.readline() == b"line %d\n" % n
        times.append(time.monotonic())
    connection.close()
    assert times[-1] - times[0] > (STREAMED - 2) * PAUSE


def handshake(stage: Stage, *headers: tuple[str, str | bytes]) -> socket.socket:
    """Return a connection on which a WebSocket handshake was sent."""
    wanted = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    connection = socket.create_connection((HOST, stage.run.gateway), timeout=10)
    connection.sendall(encode("GET", "/socket", [*wanted, *headers]))
    return connection


def test_a_websocket_is_upgraded_and_carries_frames_both_ways(stage: Stage, reader: str) -> None:
    before = len(stage.upstream.arrived)
    with handshake(stage, bearer(reader)) as connection, connection.makefile("rb") as stream:
        assert stream.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        while stream.readline() != b"\r\n":
            pass
        for payload in (b"ping", secrets.token_bytes(100)):
            mask = secrets.token_bytes(4)
            masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
            connection.sendall(bytes((0x82, 0x80 | len(payload))) + mask + masked)
            assert stream.read(2 + len(payload)) == bytes((0x82, len(payload))) + payload
    arrived = stage.upstream.arrived[before]
    assert identity(arrived)["role"] == ["viewer"]
    assert not arrived.all("Authorization")


def test_a_websocket_without_a_credential_is_refused_before_the_upstream_hears_of_it(stage: Stage) -> None:
    before = len(stage.upstream.arrived)
    with handshake(stage) as connection, connection.makefile("rb") as stream:
        assert stream.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    assert len(stage.upstream.arrived) == before
