"""The services of deploy/compose/compose.yaml as processes of this machine: there is no container daemon here.

Docker Compose itself validates the file and resolves it with a `.env`. Each process then gets the command, the environment and
the files of its container. Only addresses change: names of services and addresses of networks become loopback addresses.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.http_client import HOST, ask
from tests.requirements import need_program
from tests.servers import ROOT, Postgres, Program, directory, environment, free_port, postgres, start, wait_until

HOME = ROOT / "deploy" / "compose"
EXAMPLE = (HOME / ".env.example").read_text(encoding="utf-8")
COMMAND = re.search(r"^CMD (\[.*\])$", (ROOT / "deploy/container/Containerfile").read_text(encoding="utf-8"), re.MULTILINE)
OAUTH2_PROXY = "127.0.0.2"
# As in the file: the port of each service, and the addresses that the networks give.
PORTS = {"database": 5432, "skyauth": 8000, "gateway": 8080, "upstream": 8081, "oauth2-proxy": 4180}
ADDRESSES = {"172.28.93.2": HOST, "172.28.92.3": OAUTH2_PROXY, "0.0.0.0": HOST}


def resolve(dotenv: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Let Docker Compose resolve the file with the text of a `.env`, as JSON."""
    program = need_program("docker-compose", hint="pip install -r requirements-dev.txt")
    with directory() as home:
        (home / "env").write_text(dotenv, encoding="utf-8")
        command = [program, "--file", str(HOME / "compose.yaml"), "--env-file", str(home / "env"), *options]
        command += ["config", "--format", "json"]
        return subprocess.run(command, env=environment(HOME=str(home)), capture_output=True, text=True, check=False)


def services(dotenv: str, *options: str) -> dict[str, Any]:
    """Return the services with their resolved values, by name."""
    done = resolve(dotenv, *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.replace("$$", "$"))["services"]
    return found


def filled_in(**values: str) -> str:
    """Return .env.example with these values: of lines that are empty, that have another value, or that are comments."""
    text = EXAMPLE
    for name, value in values.items():
        text, places = re.subn(rf"^#?{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert places == 1, name
    return text


@dataclass
class Stack:
    """The running services, each on a port of its own."""

    services: dict[str, Any]
    data: Path
    ports: dict[str, int]
    programs: dict[str, Program] = field(default_factory=dict)
    password: str = ""  # the first admin's

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service's container, with addresses of this machine."""
        values = {name: self.translated(str(value)) for name, value in self.services[service].get("environment", {}).items()}
        return environment(DATA_DIR=str(self.data / "volume"), **values)

    def translated(self, text: str) -> str:
        """Return a text with the names, ports and addresses of this machine."""
        for name, port in PORTS.items():
            text = re.sub(rf"(?<![\w.-])(?:{name}|0\.0\.0\.0):{port}\b", f"{HOST}:{self.ports[name]}", text)
        for address, other in ADDRESSES.items():
            text = text.replace(address, other)
        return re.sub(r"^\d+$", lambda found: str(self._port(found[0])), text)

    def _port(self, text: str) -> int:
        names = {str(port): name for name, port in PORTS.items()}
        return self.ports[names[text]] if text in names else int(text)

    def file(self, service: str, target: str) -> str:
        """Return the file of this machine that a service's container has at `target`."""
        [found] = [volume["source"] for volume in self.services[service]["volumes"] if volume["target"] == target]
        return str(found)

    def manage(self, *words: str) -> str:
        """Run a command of SkyAuth as `docker compose run --rm skyauth` does, and return what it wrote."""
        command = [sys.executable, str(ROOT / "manage.py"), *words]
        values = self.environment("bootstrap")
        done = subprocess.run(command, cwd=self.data, env=values, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, service: str, command: list[str], **values: str) -> Program:
        """Start a service and wait until it listens."""
        program = start(command, self.data / f"{service}.log", {**self.environment(service), **values}, cwd=self.data)
        self.programs[service] = program
        program.wait_for(self.ports[service])
        return program


def prepare(server: Postgres, values: dict[str, str]) -> None:
    """Create the superuser and the database, as PostgreSQL's image does, and require the password from then on."""
    user, name, password = values["POSTGRES_USER"], values["POSTGRES_DB"], values["POSTGRES_PASSWORD"]
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {user} SUPERUSER LOGIN PASSWORD '{password}'")  # type: ignore[call-overload]
        connection.execute(f"CREATE DATABASE {name} OWNER {user}")  # type: ignore[call-overload]
        rules = "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (server.data / "cluster" / "pg_hba.conf").write_text(rules, encoding="ascii")
        connection.execute("SELECT pg_reload_conf()")


@contextmanager
def up(dotenv: str, ports: dict[str, int], **gateway: str) -> Iterator[Stack]:
    """Start what `docker compose up` starts, in its order, except OAuth2 Proxy. `gateway` is added to its environment."""
    with ExitStack() as opened:
        data = opened.enter_context(directory())
        database = opened.enter_context(postgres())
        stack = Stack(services(dotenv), data, {**ports, "database": database.port})
        opened.callback(lambda: [program.end() for program in reversed(stack.programs.values())])
        prepare(database, stack.services["database"]["environment"])
        stack.password = stack.manage(*stack.services["bootstrap"]["command"]).split()[-1]
        python = str(Path(sys.executable))
        assert COMMAND is not None
        words = [stack.translated(word) for word in json.loads(COMMAND[1])]
        stack.run("skyauth", [python, str(ROOT / "manage.py"), *words, "--port", str(ports["skyauth"])])
        wait_until(lambda: ask(ports["skyauth"], "/readyz").status == 200, "SkyAuth is ready")
        script = stack.file("upstream", stack.services["upstream"]["entrypoint"][-1])
        stack.run("upstream", [python, script, *map(stack.translated, stack.services["upstream"]["command"])])
        command = stack.services["gateway"]["command"]
        caddy = need_program(command[0], hint="pip install -r requirements-gateway.txt")
        stack.run("gateway", [caddy, *command[1:-1], stack.file("gateway", command[-1])], HOME=str(data), **gateway)
        yield stack


def free_ports() -> dict[str, int]:
    """Return a free port for each service."""
    return {name: free_port() for name in PORTS}
