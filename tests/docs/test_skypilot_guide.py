"""What the guides for SkyPilot tell an operator to write holds together with the files that it is for."""

import ast
import re

import pytest
import yaml

from skyauth.configuration import env
from tests.servers import ROOT
from tests.sky import guide

PAGE = "".join((ROOT / "docs" / "guides" / name).read_text(encoding="utf-8") for name in ("skypilot.md", "skypilot-sso.md"))
CADDYFILE = (ROOT / "deploy" / "skypilot" / "caddy" / "Caddyfile").read_text(encoding="utf-8")


def test_the_server_is_told_to_believe_the_header_that_the_gateways_send() -> None:
    believing, careful = map(yaml.safe_load, guide())
    assert believing == {
        "auth": {"external_proxy": {"enabled": True, "header_name": "X-Auth-Request-Email", "header_format": "plaintext"}}
    }
    assert careful == {"rbac": {"default_role": "viewer"}}


@pytest.mark.parametrize(
    ("path", "asks_for_sign_in"),
    [
        ("/", True),
        ("/dashboard", True),
        ("/dashboard/users", True),
        ("/token", True),
        ("/auth/authorize", True),
        ("/sign-in", True),
        ("/skyauth/", True),
        ("/admin/", True),
        ("/api/health", False),
        ("/api/v1/auth/token", False),
        ("/status", False),
        ("/users/role", False),
        ("/internal/dashboard/api/health", False),
        ("/tokens", False),
        ("/administration", False),
    ],
)
def test_the_auth_proxy_asks_people_for_sign_in_at_pages_and_lets_programs_through(path: str, asks_for_sign_in: bool) -> None:
    [pattern] = re.findall(r'^skip_auth_routes = \["!=(.+)"\]$', PAGE, re.MULTILINE)
    assert bool(re.search(pattern, path)) is asks_for_sign_in


def test_every_variable_that_is_named_is_one() -> None:
    known = {setting.name for setting in env.settings} | set(re.findall(r"\{\$(\w+)", CADDYFILE))
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    named = {name for block in blocks for name in re.findall(r"^([A-Z_]+)=", block, re.MULTILINE)}
    assert {"SKYPILOT_URL", "AUTH_PROXY", "AUTH_USER_HEADER"} <= named
    assert named <= known


def test_the_examples_can_be_read() -> None:
    folder = ROOT / "deploy" / "skypilot"
    ast.parse((folder / "airflow_dag.py").read_text(encoding="utf-8"))
    steps = yaml.safe_load((folder / "github-actions.yml").read_text(encoding="utf-8"))["jobs"]["launch"]["steps"]
    assert "sky api info" in [step.get("run") for step in steps]
