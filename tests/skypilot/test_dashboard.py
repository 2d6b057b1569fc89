"""SkyPilot's dashboard: SkyAuth serves every path below /users that its JavaScript calls."""

import re
from pathlib import Path

from skypilot.urls import OPERATIONS
from tests.sky import BIN, need_skypilot

_CALLED = re.compile(r'\.(get|post)\("(?:/internal/dashboard)?(/users[a-z_/-]*)"')


def test_the_dashboard_of_the_released_package_only_calls_paths_that_exist() -> None:
    need_skypilot("python")
    (chunks,) = Path(BIN.parent, "lib").glob("python3.*/site-packages/sky/dashboard/out/_next/static/chunks")
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted(chunks.rglob("*.js")))
    called = {(method.upper(), path.removeprefix("/")) for method, path in _CALLED.findall(text)}
    assert len(called) > 10
    assert called <= {(operation.method, operation.path) for operation in OPERATIONS}
