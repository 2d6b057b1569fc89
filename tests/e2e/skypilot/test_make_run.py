"""`make run UPSTREAM=...` in front of a real SkyPilot server is all that its operator types."""

import re
from pathlib import Path

import pytest

from tests.e2e.skypilot.conftest import Ground
from tests.http_client import ask, basic, bearer
from tests.servers import database, directory, free_port, launched
from tests.sky import Sky
from tests.upstream import upstream

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]


def test_the_lines_that_a_first_run_prints_sign_the_real_cli_in(ground: Ground, tmp_path: Path) -> None:
    with directory() as data, database() as where, launched(data, UPSTREAM=ground.server.address, **where) as run:
        commands = re.findall(r"^  sky (api login .+)$", run.output, re.MULTILINE)
        assert f"Upstream  {ground.server.address}   SkyPilot 0.14.1" in run.output
        assert len(commands) == 3
        by_password, by_token, _ = (command.split() for command in commands)
        sky = Sky(tmp_path / "admin")
        assert "User: admin" in sky(*by_password).output
        assert sky("status").code == 0
        machine = Sky(tmp_path / "demo")
        assert "User: demo" in machine(*by_token).output
        assert ask(run.gateway, "/workspaces", [bearer(by_token[-1])]).status == 200
        browser = [("Host", f"127.0.0.1:{run.gateway}"), ("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")]
        shown = ask(run.gateway, "/dashboard/", browser)
        assert shown.status == 302
        assert (shown.header("Location") or "").startswith(f"http://127.0.0.1:{run.gateway}/sign-in")
        assert ask(run.gateway, "/workspaces/config", [basic("admin", run.password)]).status == 200
        roles = ground.server.users()
    assert roles["admin"] == "admin"
    assert [role for name, role in roles.items() if name.startswith("demo@sa-")] == ["viewer"]


def test_another_api_gets_the_gateway_for_any_api_and_so_does_one_that_does_not_answer() -> None:
    believing = {"AUTH_USER_HEADER_FORMAT": "plaintext", "AUTH_USER_HEADER": "X-Webauth-User", "RBAC_DEFAULT_ROLE": "admin"}
    with (
        directory() as data,
        database() as where,
        upstream() as behind,
        launched(data, UPSTREAM=behind.address, **believing, **where) as run,
    ):
        assert "SkyPilot" not in run.output
        assert ask(run.gateway, "/", [("X-Webauth-User", "eve@example.com")]).status == 401, "no client says who it is"
    with directory() as data, database() as where, launched(data, UPSTREAM=f"http://127.0.0.1:{free_port()}", **where) as run:
        assert "does not accept connections yet" in run.output
        assert "SkyPilot" not in run.output


def test_at_skypilots_own_port_one_that_does_not_answer_yet_is_taken_for_it() -> None:
    with directory() as data, database() as where, launched(data, UPSTREAM="http://127.0.0.1:46580", **where) as run:
        assert "the port of SkyPilot, which does not accept connections yet" in run.output
        assert ask(run.gateway, "/", [basic("admin", run.password)]).status == 503, "nobody passes who was not told of"
