"""SIGTERM: the server writes what it has collected in memory before it ends."""

import pytest

from tests.http_client import HOST, bearer
from tests.servers import skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("shutdown")]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_last_requests_before_a_shutdown_are_written(workers: int) -> None:
    with skyauth_server() as server:
        server.stop()
        server.start(workers=workers)
        server.console("create_account", name="pipeline", role="viewer")
        token = server.console("issue", account="pipeline")
        assert server.ask(bearer(token)).status == 200
        server.stop()
        assert server.console("last_used", token=token) == HOST
        assert len(server.console("recent", method="GET")) == 1
        assert "Traceback" not in server.log
