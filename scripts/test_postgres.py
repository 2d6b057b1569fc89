"""Runs a Python command, such as `-m pytest`, with the DATABASE_URL of a temporary PostgreSQL server.

Usage: python scripts/test_postgres.py -m pytest [ARGUMENT ...]

Without the PostgreSQL programs it prints a message and succeeds; with CI=true it fails.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.servers import SECRET_KEY, postgres  # noqa: E402 - the path comes first


def main() -> int:
    """Return the exit code of the command."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped
    try:
        with postgres() as server:
            environment = {**os.environ, "DATABASE_URL": server.url, "SECRET_KEY": SECRET_KEY}
            return subprocess.run([sys.executable, *sys.argv[1:]], cwd=ROOT, env=environment, check=False).returncode
    except pytest.skip.Exception as reason:
        print(f"PostgreSQL tests skipped: {reason}")
        return 0
    except pytest.fail.Exception as reason:
        print(f"PostgreSQL tests failed: {reason}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
