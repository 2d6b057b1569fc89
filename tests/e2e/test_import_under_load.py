"""Changes of many users or service accounts hold the lock for a short time only: others go on meanwhile."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.examples import examples
from tests.servers import ROOT, SkyAuth, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.long]

ROWS = examples(2_000, long=10_000)
AT_MOST = 1.0  # seconds, for 99 % of the calls


def run(server: SkyAuth, *words: str, output: Path, meanwhile: Callable[[], None]) -> Any:
    """Run a command, call `meanwhile` until it ends, and return its JSON."""
    command = [sys.executable, "manage.py", *words, "--json"]
    with (
        output.open("wb") as out,
        subprocess.Popen(command, cwd=ROOT, env=server.environment, stdout=out, stderr=subprocess.DEVNULL) as running,
    ):
        while running.poll() is None:
            meanwhile()
    return json.loads(output.read_text())


def p99(seconds: list[float]) -> float:
    assert len(seconds) >= 20, "too few calls to say anything"
    return sorted(seconds)[int(len(seconds) * 0.99)]


class Others:
    """Revocations and first-time users while a command runs, and how long each took, in seconds."""

    def __init__(self, server: SkyAuth) -> None:
        self._server, self._number = server, count()
        self._taken: dict[str, list[float]] = {"command": [], "revocation": [], "first-time user": []}
        server.console("create_account", name="robot", role="user")

    def timed(self, what: str, call: Callable[[], Any]) -> Any:
        start = time.monotonic()
        result = call()
        self._taken[what].append(time.monotonic() - start)
        return result

    def act(self) -> None:
        token = self._server.console("issue", account="robot")
        self.timed("revocation", lambda: self._server.console("revoke", token=token))
        user = ("X-Auth-Request-Email", f"first{next(self._number)}@example.com")
        assert self.timed("first-time user", lambda: self._server.ask(user)).status == 200

    def check(self) -> None:
        """Show the times (pytest -s), and fail if others waited."""
        taken = dict(self._taken)
        sys.stdout.write(f"{ROWS} rows in {taken.pop('command')} s\n")
        for what, seconds in taken.items():
            sys.stdout.write(f"{what}: {len(seconds)} times, p99 {p99(seconds):.3f} s, longest {max(seconds):.3f} s\n")
        assert all(p99(seconds) < AT_MOST for seconds in taken.values())


def test_revocations_and_first_time_users_go_on_during_an_import(tmp_path: Path) -> None:
    file, output = tmp_path / "people.csv", tmp_path / "output.json"
    with skyauth_server(AUTH_USER_HEADER_FORMAT="plaintext", RBAC_DEFAULT_ROLE="viewer") as server:
        others = Others(server)
        words = ("import_users", str(file), "--update")
        for name in ("New", "Renamed"):
            file.write_text("username,role,display_name\n" + "".join(f"p{n}@x.example,user,{name} {n}\n" for n in range(ROWS)))
            result = others.timed("command", lambda: run(server, *words, output=output, meanwhile=others.act))
            assert (len(result["created"]), len(result["changed"])) == ((ROWS, 0) if name == "New" else (0, ROWS))
    others.check()


def test_revocations_and_first_time_users_go_on_while_a_manifest_is_applied(tmp_path: Path) -> None:
    file, output = tmp_path / "skyauth.yaml", tmp_path / "output.json"
    with skyauth_server(AUTH_USER_HEADER_FORMAT="plaintext", RBAC_DEFAULT_ROLE="viewer") as server:
        others = Others(server)
        words = ("apply", str(file), "--prune")
        for role in ("user", "viewer", ""):
            accounts = "".join(f"  - {{name: m{n}, role: {role}, owner: null}}\n" for n in range(ROWS if role else 0))
            file.write_text(f"service_accounts:\n  - {{name: robot, role: user}}\n{accounts}")
            result = others.timed("command", lambda: run(server, *words, output=output, meanwhile=others.act))
            assert len(result["changes"]) == ROWS
    others.check()
