"""Bulk work holds the lock for a short time only: revocations and first-time users go on meanwhile."""

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.examples import examples
from tests.servers import ROOT, SkyAuth, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.long]

ROWS = examples(1_000, long=10_000)
AT_MOST = 1.0  # seconds


def p99_during(work: Callable[[], None], server: SkyAuth, *calls: Callable[[], object]) -> float:
    """Return how many seconds 99 % of the calls take while `manage.py` does the work, all in a row."""
    raise NotImplementedError


def test_revocations_and_first_time_users_go_on_during_an_import(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("username,role,display_name\n" + "".join(f"p{n}@example.com,viewer,Ann {n}\n" for n in range(ROWS)))
    command = [sys.executable, "manage.py", "import_users", str(file), "--json"]
    with skyauth_server() as server:
        server.console("create_account", name="robot", role="user")
        keys = server.console("create_tokens", name="robot", number=2_000)
        taken = []
        with subprocess.Popen(command, cwd=ROOT, env=server.environment, stdout=subprocess.PIPE, text=True) as importing:
            for number in count():
                if importing.poll() is not None:
                    break
                start = time.monotonic()
                server.console("revoke_token", key_id=keys[number])
                server.console("create_user", name=f"first{number}@example.com")
                taken.append(time.monotonic() - start)
