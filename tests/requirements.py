"""Programs that some tests need. Skipping is for a developer's machine; under CI=true a missing program fails the run."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def need_program(*names: str, hint: str) -> str:
    """Return the path of the first of `names` found on PATH, beside the interpreter, or where Debian has its servers.

    Skips the test, or fails it under CI=true, when there is none; `hint` says how to get one.
    """
    postgresql = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent), "/usr/sbin", *map(str, postgresql)]
    found = next(filter(None, (shutil.which(name, path=os.pathsep.join(places)) for name in names)), None)
    return found or missing(f"needs {' or '.join(names)}: {hint}")


def missing(reason: str) -> NoReturn:
    """Skip the running test for `reason`, or fail it under CI=true, where nothing may be missing."""
    if os.environ.get("CI", "").strip().lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
