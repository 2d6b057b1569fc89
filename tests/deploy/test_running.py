"""SkyAuth and the gateway, started with exactly the settings and the file that the chart renders. Only ports and paths differ."""

import json
import runpy
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import certifi
import pytest
from django.core.management import get_commands, load_command_class

from tests.deploy.value_sets import JOBS, OKTA, VALUE_SETS
from tests.helm import CHART, Object, container, containers, named, plain_environment, pods, template
from tests.http_client import HOST, ask, bearer
from tests.requirements import need_program
from tests.servers import ROOT, SECRET_KEY, SkyAuth, directory, environment, free_port, skyauth_server, start
from tests.sky import AUTH_PROXY
from tests.upstream import Upstream, upstream

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("helm"), pytest.mark.sqlite]

NINA = ("X-Forwarded-Email", "nina@example.com")
STRANGER = AUTH_PROXY  # another loopback address than OAuth2 Proxy has in the pod


def caddy() -> str:
    return need_program("caddy", hint="pip install -r requirements-gateway.txt")


@contextmanager
def gateway(objects: list[Object], skyauth: int, api: int) -> Iterator[int]:
    """Run Caddy with the rendered file and environment between these ports; yields its own."""
    with directory() as home:
        port = free_port()
        file = home / "Caddyfile"
        file.write_text(named(objects, "ConfigMap", "skyauth-gateway")["data"]["Caddyfile"], encoding="utf-8")
        values = plain_environment(container(objects, "gateway")) | {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "XDG_DATA_HOME": str(home),
            "SKYAUTH": f"{HOST}:{skyauth}",
            "UPSTREAM": f"http://{HOST}:{api}",
            "GATEWAY_BIND": HOST,
            "GATEWAY_PORT": str(port),
        }
        command = [caddy(), *container(objects, "gateway")["command"][1:]]
        command[command.index("/etc/caddy/Caddyfile")] = str(file)
        running = start(command, home / "caddy.log", environment(**values))
        try:
            running.wait_for(port)
            yield port
        finally:
            running.end()


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return template({**JOBS, "auth": {"oauth": OKTA}}).objects


@pytest.fixture(scope="module")
def skyauth(objects: list[Object]) -> Iterator[SkyAuth]:
    settings = plain_environment(container(objects, "skyauth"))
    del settings["DATA_DIR"]
    with skyauth_server(**settings) as server:
        yield server


@pytest.fixture(scope="module")
def api() -> Iterator[Upstream]:
    with upstream() as server:
        yield server


def test_oauth2_proxy_names_users_and_nobody_else_does(objects: list[Object], skyauth: SkyAuth, api: Upstream) -> None:
    with gateway(objects, skyauth.port, api.port) as port:
        assert ask(port, "/things").status == 401
        assert ask(port, "/things", [NINA], source=STRANGER).status == 401
        assert ask(port, "/things", [NINA, ("X-Auth-Request-Email", "eve@example.com")]).status == 200
        arrived = api.arrived[-1]
        assert arrived.all("X-Auth-Request-Email") == ["nina@example.com"]
        assert arrived.all("X-Auth-Request-Role") == ["admin"], "the first user is the admin"
        assert arrived.all("X-Forwarded-Email") == []
        assert ask(port, "/things", [("X-Forwarded-Email", "omar@example.com")]).status == 200
        assert api.arrived[-1].all("X-Auth-Request-Role") == ["user"]


def test_skyauths_pages_are_served_beside_the_api(objects: list[Object], skyauth: SkyAuth, api: Upstream) -> None:
    host = [("Host", "127.0.0.1:8080")]  # of the rendered PUBLIC_URL
    with gateway(objects, skyauth.port, api.port) as port:
        before = len(api.arrived)
        assert b"Sign in" in ask(port, "/sign-in", host).body
        assert ask(port, "/skyauth/", [*host, NINA]).status == 200
        assert ask(port, "/static/skyauth/page.css", host).status == 200
        browser = [*host, ("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
        redirect = ask(port, "/things", browser)
        assert redirect.status == 302
        assert (redirect.header("Location") or "").startswith("http://127.0.0.1:8080/sign-in?next=")
        assert len(api.arrived) == before
    without = template({**JOBS, "auth": {"oauth": OKTA}, "gateway": {"pages": False}}).objects
    with gateway(without, skyauth.port, api.port) as port:
        assert ask(port, "/sign-in", [*host, NINA]).status == 200
        assert api.arrived[-1].target == "/sign-in"


def test_every_rendered_file_of_the_gateway_is_valid(tmp_path: Path) -> None:
    seen = set[tuple[str, str]]()
    for name in ("skypilot", "load-balancer", "any-api", "any-api-without-pages", "load-balancer-any-api", "okta",
                 "okta-any-api", "own-auth-proxy", "ipv6", "okta-groups"):  # fmt: skip
        rendered = template(VALUE_SETS[name]).objects
        file = tmp_path / "Caddyfile"
        file.write_text(named(rendered, "ConfigMap", "skyauth-gateway")["data"]["Caddyfile"], encoding="utf-8")
        values = plain_environment(container(rendered, "gateway"))
        seen.add((file.read_text(encoding="utf-8"), json.dumps(values)))
        done = subprocess.run(
            [caddy(), "validate", "--adapter", "caddyfile", "--config", str(file)],
            env=environment(**values), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (name, done.stderr)
    assert len(seen) == 10


def test_every_command_of_a_pod_is_one_of_skyauth() -> None:
    seen = set()
    for values in VALUE_SETS.values():
        if not {"bootstrap", "database", "auth", "workers", "drainSeconds"} & set(values):
            continue
        for _, pod in pods(template(values).objects):
            for one in containers(pod):
                if "skyauth:" not in one["image"] or "args" not in one:
                    continue
                name, *arguments = one["args"]
                parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
                parser.parse_args(arguments)
                seen.add(name)
    assert seen == {"bootstrap", "serve", "prune"}


def test_the_pod_sets_itself_up_serves_and_stops_in_time() -> None:
    """The containers `bootstrap` and `skyauth`, with their arguments and settings, as a kubelet runs and probes them."""
    objects = template({"drainSeconds": 1}).objects
    spec = named(objects, "Deployment")["spec"]["template"]["spec"]
    served = container(objects, "skyauth")
    token, port = secrets.token_hex(32), free_port()
    with directory() as home:
        values = environment(
            **plain_environment(served) | {"DATA_DIR": str(home), "METRICS_TOKEN": token, "SECRET_KEY": SECRET_KEY}
        )
        manage = [sys.executable, str(ROOT / "manage.py")]
        for expected in ("Admin admin created.", "There is an admin, so none is created."):  # a pod can start again
            command = [*manage, *container(objects, "bootstrap")["args"]]
            done = subprocess.run(command, env=values, capture_output=True, text=True, timeout=120, check=True)
            assert expected in done.stderr
        replaced = {"--host=0.0.0.0": f"--host={HOST}", "--port=8000": f"--port={port}"}
        assert replaced.keys() <= set(served["args"])
        running = start([*manage, *(replaced.get(word, word) for word in served["args"])], home / "log", values)
        try:
            running.wait_for(port)
            probe = [("Host", "10.244.0.7:8000")]  # of the pod
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert ask(port, served[kind]["httpGet"]["path"], probe).status == 200
            assert ask(port, "/metrics", [*probe, bearer(token)]).status == 200
            began = time.monotonic()
        finally:
            assert running.end() == 0
        assert time.monotonic() - began < spec["terminationGracePeriodSeconds"]


class KubernetesApi(BaseHTTPRequestHandler):
    """Accepts each Secret once."""

    secrets: dict[str, Any]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["metadata"]["name"]
        exists = name in self.secrets
        self.secrets.setdefault(name, {**body, "path": self.path, "authorization": self.headers["Authorization"]})
        self.send_response(409 if exists else 201)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_the_job_creates_the_keys_once(tmp_path: Path) -> None:
    scope = runpy.run_path(str(CHART / "files" / "create_keys.py"))
    (tmp_path / "token").write_text("token-of-the-account\n", encoding="ascii")
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    KubernetesApi.secrets = {}
    server = HTTPServer((HOST, 0), KubernetesApi)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        arguments = (f"http://{HOST}:{server.server_port}", "skypilot", "skyauth-keys", tmp_path)
        assert scope["create"](*arguments) == "Secret skyauth-keys created."
        first: Mapping[str, str] = KubernetesApi.secrets["skyauth-keys"]["stringData"]
        assert scope["create"](*arguments) == "Secret skyauth-keys exists, and stays as it is."
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    made = KubernetesApi.secrets["skyauth-keys"]
    assert made["stringData"] is first
    assert (made["path"], made["authorization"]) == ("/api/v1/namespaces/skypilot/secrets", "Bearer token-of-the-account")
    assert set(first) == {"SECRET_KEY", "METRICS_TOKEN", "cookie-secret", "postgres-password"}
    assert len(first["SECRET_KEY"]) >= 50
