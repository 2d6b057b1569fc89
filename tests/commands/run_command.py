"""Runs a command in this process or as a child process, and returns its exit code and output."""

import io
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from django.core.management import ManagementUtility, call_command
from django.core.management.base import CommandError
from django.db import connections

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "skyauth" / "settings.py"


@dataclass(frozen=True)
class Ended:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


def run(*words: str) -> Ended:
    """Run a command in this process, on the database of the test."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command(*words, stdout=out, stderr=err)
    except CommandError as error:
        code = error.returncode
        err.write(f"{error}\n")
    except SystemExit as end:
        code = int(end.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def run_line(*words: str) -> Ended:
    """Run a command line in this process, on the database of the test, with its system checks."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with mock.patch("django.setup"), mock.patch.object(connections, "close_all"), redirect_stdout(out), redirect_stderr(err):
        try:
            ManagementUtility(["manage.py", *words]).execute()
        except SystemExit as end:
            code = int(end.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def read_settings(data_dir: Path, **variables: str) -> dict[str, Any]:
    """Return the settings for these environment variables. Raises ImproperlyConfigured."""
    with only(**{"DATA_DIR": str(data_dir), **variables}), mock.patch.dict(sys.modules):
        sys.modules.pop("skyauth.configuration", None)  # it reads the environment on import
        return {name: value for name, value in runpy.run_path(str(SETTINGS)).items() if name.isupper()}


@contextmanager
def only(**variables: str) -> Iterator[None]:
    """Run the block with only these variables in the environment."""
    with mock.patch.dict(os.environ, variables, clear=True):
        yield


def run_alone(*words: str, data_dir: Path, **settings: str) -> Ended:
    """Run a command as a child process, with these settings and a database in `data_dir`."""
    env = {"PATH": os.environ["PATH"], "DATA_DIR": str(data_dir), **settings}
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
