"""An import of many users holds the lock for a short time only: revocations and first-time users go on meanwhile."""

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


def import_users(server: SkyAuth, file: Path, meanwhile: Callable[[], None]) -> dict[str, Any]:
    """Run the command, call `meanwhile` until it ends, and return its result."""
    command = [sys.executable, "manage.py", "import_users", str(file), "--update", "--json"]
    output = file.with_suffix(".json")
    with (
        output.open("wb") as out,
        subprocess.Popen(command, cwd=ROOT, env=server.environment, stdout=out, stderr=subprocess.DEVNULL) as importing,
    ):
        while importing.poll() is None:
            meanwhile()
    result: dict[str, Any] = json.loads(output.read_text())
    return result


def p99(seconds: list[float]) -> float:
    assert len(seconds) >= 20, "too few calls to say anything"
    return sorted(seconds)[int(len(seconds) * 0.99)]


def test_revocations_and_first_time_users_go_on_during_an_import(tmp_path: Path) -> None:
    file, number = tmp_path / "people.csv", count()
    taken: dict[str, list[float]] = {"import": [], "revocation": [], "first-time user": []}

    def timed(what: str, call: Callable[[], Any]) -> Any:
        start = time.monotonic()
        result = call()
        taken[what].append(time.monotonic() - start)
        return result

    with skyauth_server(AUTH_USER_HEADER_FORMAT="plaintext", RBAC_DEFAULT_ROLE="viewer") as server:
        server.console("create_account", name="robot", role="user")

        def meanwhile() -> None:
            token = server.console("issue", account="robot")
            timed("revocation", lambda: server.console("revoke", token=token))
            user = ("X-Auth-Request-Email", f"first{next(number)}@example.com")
            assert timed("first-time user", lambda: server.ask(user)).status == 200

        for name in ("New", "Renamed"):
            file.write_text("username,role,display_name\n" + "".join(f"p{n}@x.example,user,{name} {n}\n" for n in range(ROWS)))
            result = timed("import", lambda: import_users(server, file, meanwhile))
            assert (len(result["created"]), len(result["changed"])) == ((ROWS, 0) if name == "New" else (0, ROWS))
    sys.stdout.write(f"{ROWS} rows in {taken.pop('import')} s\n")  # shown with pytest -s, and when it fails
    for what, seconds in taken.items():
        sys.stdout.write(f"{what}: {len(seconds)} times, p99 {p99(seconds):.3f} s, longest {max(seconds):.3f} s\n")
    assert p99(taken["revocation"]) < AT_MOST
    assert p99(taken["first-time user"]) < AT_MOST
