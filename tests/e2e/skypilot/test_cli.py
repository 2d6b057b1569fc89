"""The released `sky` signs in through the gateway, in every way that needs no browser, and works as far as its credential does.

Who came, and with which role, the real server says in the end.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from accounts.identifiers import user_uid
from tests.e2e.skypilot.conftest import BOB, VERA, Gateway, Ground
from tests.factories import PASSWORD
from tests.http_client import HOST, ask
from tests.servers import ROOT
from tests.sky import AUTH_PROXY, Sky

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

SECRET = PASSWORD.replace(" ", "%20")
TOKENS = "/users/service-account-tokens"


@pytest.fixture
def caddy(ground: Ground) -> Gateway:
    """The gateway that `make run` starts."""
    return Gateway("caddy", ground.gateways["caddy"], ground)


@pytest.fixture
def nginx(ground: Ground) -> Gateway:
    """The other one, through which the CLI goes once: what it sends is in test_gateway.py for both."""
    return Gateway("nginx", ground.gateways["nginx"], ground)


def with_password(gateway: Gateway, name: str, password: str = SECRET) -> str:
    """Return the endpoint with a name and a password in it, as one types it."""
    return f"http://{name.replace('@', '%40')}:{password}@{HOST}:{gateway.port}"


def post(gateway: Gateway, path: str, **body: Any) -> Any:
    """Return what SkyPilot's dashboard gets when bob presses a button on its page of service accounts."""
    headers = [("X-Auth-Request-Email", BOB), ("Content-Type", "application/json")]
    path = f"/internal/dashboard{TOKENS}{path}"
    answer = ask(gateway.port, path, headers, method="POST", body=json.dumps(body).encode(), source=AUTH_PROXY)
    assert answer.status == 200, answer
    return answer.json


def test_a_password_in_the_address(nginx: Gateway, sky: Sky) -> None:
    login = sky("api", "login", "-e", with_password(nginx, BOB))
    assert login.code == 0, login.output
    assert f"User: {BOB} ({user_uid(BOB)})" in login.output
    info = sky("api", "info")
    assert info.code == 0
    assert BOB in info.output
    assert PASSWORD not in info.output
    status = sky("status")
    assert status.code == 0, status.output
    assert "No existing clusters" in status.output
    assert nginx.ground.server.users()[BOB] == "user"


def test_a_wrong_password_is_told_in_a_line_and_nothing_is_kept(caddy: Gateway, sky: Sky) -> None:
    for name in (BOB, "mallory@example.com"):
        login = sky("api", "login", "-e", with_password(caddy, name, "wrong"))
        assert login.code == 1
        assert "Basic auth is enabled but no valid user is found" in login.output
        assert sky.config == ""
        assert sky.opened == []
    assert "mallory@example.com" not in caddy.ground.server.users()


def test_a_token_that_is_then_rotated_and_its_account_deleted(caddy: Gateway, sky: Sky, tmp_path: Path) -> None:
    made = post(caddy, "", token_name="ci", role="user", expires_in_days=30)
    login = sky("api", "login", "-e", caddy.address, "--token", made["token"])
    assert login.code == 0, login.output
    assert f"User: ci ({made['service_account_user_id']})" in login.output
    assert sky("status").code == 0
    roles = caddy.ground.server.users()
    [name] = [name for name in roles if name.startswith("ci@sa-")]
    assert (roles[name], user_uid(name)) == ("user", made["service_account_user_id"])

    rotated = post(caddy, "/rotate", token_id=made["token_id"])
    refused = sky("status")
    assert refused.code == 1
    assert f"sky api login -e {caddy.address}" in refused.output
    again = Sky(tmp_path / "again")
    assert again("api", "login", "-e", caddy.address, "--token", rotated["token"]).code == 0
    post(caddy, "/delete", token_id=made["token_id"])
    assert again("status").code == 1


def test_a_token_in_the_environment_as_in_a_pipeline(caddy: Gateway, sky: Sky) -> None:
    token = caddy.ground.machine("nightly", "viewer")
    values = {"secrets.SKYPILOT_SERVICE_ACCOUNT_TOKEN": token, "vars.SKYPILOT_API_ENDPOINT": caddy.address}
    workflow = yaml.safe_load((ROOT / "deploy" / "skypilot" / "github-actions.yml").read_text(encoding="utf-8"))
    variables = {name: values[text.strip("${} ")] for name, text in workflow["jobs"]["launch"]["env"].items()}
    assert set(variables) == set(
        re.findall(r'"(SKYPILOT_\w+)"', (ROOT / "deploy/skypilot/airflow_dag.py").read_text(encoding="utf-8"))
    )
    info = sky("api", "info", **variables)
    assert info.code == 0
    assert "nightly" in info.output
    status = sky("status", **variables)
    assert status.code == 0, status.output
    assert token not in sky.config
    refused = sky("api", "cancel", "-a", "-y", **variables)
    assert "upstream:write" in refused.output, "a viewer cancels nothing, and is told why in a line"
    assert "Traceback" not in refused.output


@pytest.mark.parametrize("how", ["revoked", "expired", "never issued"])
def test_a_token_that_is_no_good_is_refused_at_the_login(caddy: Gateway, sky: Sky, how: str) -> None:
    token = caddy.ground.machine("nightly", "viewer")
    if how == "revoked":
        caddy.ground.skyauth.console("revoke", token=token)
    elif how == "expired":
        caddy.ground.skyauth.console("expire", token=token)
    else:
        token = f"{token[:-1]}{'a' if token[-1] != 'a' else 'b'}"
    login = sky("api", "login", "-e", caddy.address, "--token", token)
    assert login.code == 1
    assert "Service account token authentication failed" in login.output


def test_a_user_who_is_disabled_is_out_at_once_and_back_at_once(caddy: Gateway, sky: Sky) -> None:
    endpoint = with_password(caddy, VERA)
    assert sky("api", "login", "-e", endpoint).code == 0
    caddy.ground.skyauth.console("set_active", name=VERA, active=False)
    try:
        refused = sky("status")
    finally:
        caddy.ground.skyauth.console("set_active", name=VERA, active=True)
    assert refused.code == 1
    back = sky("status")
    assert back.code == 0, back.output
    assert caddy.ground.server.users()[VERA] == "viewer"


def test_the_cli_forgets_at_a_logout(caddy: Gateway, sky: Sky) -> None:
    assert sky("api", "login", "-e", with_password(caddy, BOB)).code == 0
    assert str(caddy.port) in sky.config
    assert sky("api", "logout").code == 0
    assert str(caddy.port) not in sky.config
