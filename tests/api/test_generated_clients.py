"""Clients generated from the OpenAPI document use a running SkyAuth: openapi-generator's in Python, hey-api's in TypeScript."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from api.docs import openapi_document
from tests.requirements import missing, need_program
from tests.servers import ROOT, SkyAuth, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("generated-clients")]

SOURCES: Final = Path(__file__).parent / "clients"
TOOLS: Final = ROOT / ".clients"
HINT: Final = "run `make clients`, which needs Java, Maven and npm"
STEPS: Final = {
    "created": "carol@example.com",
    "listed": ["carol@example.com"],
    "read": "viewer",
    "updated": [False, "Carol", "viewer"],
    "stale": 412,
    "listed disabled": ["carol@example.com"],
    "sent back": 200,
    "import tried": [False, ["dora@example.com"]],
    "imported": ["dora@example.com"],
    "imported by a job": [True, "done", ["erin@example.com"]],
    "exported": ["username", "carol@example.com", "dora@example.com", "erin@example.com"],
    "rotated": True,
    "revoked": "revoked",
    "unowned": ["robot", "sweeper"],
    "route updated": "Why.",
    "route deleted": 204,
    "explained": "dora@example.com",
    "account deleted": 204,
    "user deleted": 204,
    "missing": [404, "not-found"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[SkyAuth]:
    with skyauth_server() as server:
        server.console("create_account", name="robot", role="admin")
        yield server


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """The OpenAPI document in a file."""
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(openapi_document()), encoding="utf-8")
    return path


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command and return its standard output; fail with its whole output."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3_000:] + result.stderr[-3_000:]
    return result.stdout


def used(server: SkyAuth, *command: str | Path, cwd: Path, **environment: str) -> Any:
    """Run the program that uses a client, and return what it printed."""
    token = server.console("issue", account="robot")
    return json.loads(run(*command, cwd=cwd, SKYAUTH_URL=server.address, SKYAUTH_TOKEN=token, **environment))


def test_the_python_client_of_openapi_generator_works(server: SkyAuth, document: Path, tmp_path: Path) -> None:
    java = need_program("java", hint="apt-get install default-jre-headless")
    jar = next(TOOLS.glob("openapi-generator-cli-*.jar"), None) or missing(f"needs openapi-generator: {HINT}")
    no_extras = "apiTests=false,modelTests=false,apiDocs=false,modelDocs=false"
    run(java, "-jar", jar, "generate", "-i", document, "-g", "python", "-o", "generated", "--package-name", "skyauth_client",
        "--global-property", no_extras, cwd=tmp_path)  # fmt: skip
    path = [str(tmp_path / "generated"), *filter(None, [os.environ.get("PYTHONPATH")])]
    assert used(server, sys.executable, SOURCES / "use.py", cwd=tmp_path, PYTHONPATH=os.pathsep.join(path)) == STEPS


def test_the_typescript_client_of_hey_api_works(server: SkyAuth, document: Path, tmp_path: Path) -> None:
    node = need_program("node", hint="apt-get install nodejs npm")
    modules = TOOLS / "node_modules"
    if not modules.is_dir():
        missing(f"needs @hey-api/openapi-ts: {HINT}")
    run(node, modules / "@hey-api/openapi-ts/bin/run.js", "-i", document, "-o", "generated", "-c", "@hey-api/client-fetch",
        "--no-log-file", cwd=tmp_path)  # fmt: skip
    (tmp_path / "use.ts").write_bytes((SOURCES / "use.ts").read_bytes())
    run(node, modules / "typescript/bin/tsc", "--strict", "--target", "es2022", "--lib", "es2022,dom,dom.iterable",
        "--module", "commonjs", "--moduleResolution", "node10", "--outDir", "built", "use.ts", cwd=tmp_path)  # fmt: skip
    assert used(server, node, "built/use.js", cwd=tmp_path) == STEPS
