"""The addresses that the real server listens on: the same with one worker and with several."""

import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.http_client import TARGET, bearer, encode
from tests.servers import SkyAuth, free_port, start, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("raw"), pytest.mark.sqlite]


def status(host: str, port: int, token: str) -> int:
    """Return the status of a verify request to this address, or 0 if nothing listens there."""
    with suppress(ConnectionRefusedError), socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall(encode("GET", "/authz/verify", [*TARGET, bearer(token)]))
        return int(connection.recv(100).split()[1])
    return 0


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this kernel has no dual-stack sockets")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("host", "listening"),
    [
        ("::", {"127.0.0.1": 200, "::1": 403}),
        ("::1", {"127.0.0.1": 0, "::1": 403}),
        ("0.0.0.0", {"127.0.0.1": 200, "::1": 0}),
        ("127.0.0.1", {"127.0.0.1": 200, "::1": 0}),
    ],
)
def test_an_address_means_the_same_with_any_number_of_workers(
    server: SkyAuth, token: str, tmp_path: Path, host: str, workers: int, listening: dict[str, int]
) -> None:
    """Only 127.0.0.1 is a trusted proxy, also where a dual-stack socket calls it ::ffff:127.0.0.1."""
    port = free_port()
    command = [sys.executable, "manage.py", "serve", "--host", host, "--port", str(port), "--workers", str(workers)]
    program = start(command, tmp_path / "log", server.environment)
    try:
        expected = next(address for address, answer in listening.items() if answer)
        wait_until(lambda: status(expected, port, token) != 0, program.output)
        assert {address: status(address, port, token) for address in listening} == listening
    finally:
        assert program.end() in {0, -15}
    assert "Traceback" not in program.output
