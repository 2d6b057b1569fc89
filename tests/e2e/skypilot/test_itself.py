"""The server and the CLI that the tests of this folder start, alone: they are the real ones, and end whole."""

import os
from pathlib import Path

import pytest

from tests.servers import listens
from tests.sky import Mode, Sky, skypilot_server

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot itself"), pytest.mark.sqlite]


def test_the_real_server_takes_whoever_sends_no_identity_for_an_admin_and_the_real_cli_can_be_typed_to(tmp_path: Path) -> None:
    with skypilot_server(Mode.HEADER) as server:
        known = server.ask("/users/role", ("X-Auth-Request-Email", "bob@example.com"))
        nobody = server.ask("/users/role")
        group = server.programs[-1].process.pid
        sky = Sky(tmp_path / "home")
        ran = sky("api", "login", "-e", server.address)
        with sky.at_a_terminal("api", "login", "--relogin", "-e", server.address) as typing:
            typing.wait_for("ctrl+c to fall back")
            typing.interrupt()
            typing.wait_for("/token?local_port=")
            typing.interrupt()
            typing.wait_for("Paste the token")
            typing.type("rubbish\n")
            pasted = typing.ended()
    assert (known.json["name"], known.json["role"]) == ("bob@example.com", "user")
    assert nobody.json["role"] == "admin"
    assert ran.code == 0, ran.output
    assert "Logged into SkyPilot API server" in ran.output
    assert [address.split("=")[0].removeprefix(server.address) for address in sky.opened] == [
        "/auth/authorize?code_challenge",
        "/token?local_port",
    ]
    assert pasted.code == 1
    assert "Malformed token" in pasted.output
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    assert not listens(server.port)
