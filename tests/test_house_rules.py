"""The rules of the house that no other tool holds."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command

from tests.requirements import missing

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "accounts",
    "adminsite",
    "api",
    "audit",
    "authn",
    "core",
    "dashboard",
    "doctor",
    "gateway",
    "integrations",
    "ops",
    "rbac",
    "revision",
    "skyauth",
    "skypilot",
)
LOCKS = [
    "requirements",
    "requirements-dev",
    "requirements-gateway",
    "requirements-tracing",
    "requirements-bench",
    "requirements-skypilot",
    "requirements-deploy",
]
TEXT = {".py", ".in", ".txt", ".toml", ".yaml", ".yml", ".md", ".html", ".cfg", ".ini", ".json", ".css", ".js", ".sh", ""}

# Who may name these headers, and why.
MAY_NAME_IDENTITY_HEADERS = {
    "authn/proxy_headers.py",  # the gate
    "doctor/settings_checks.py",  # refuses one of them as the name of the identity header
    "gateway/forwarded.py",  # says in its errors which one the proxy did not send
    "integrations/skypilot/role_sync.py",  # tells the SkyPilot server behind us by one of them
    "gateway/headers.py",  # writes them into answers
    "skyauth/configuration.py",  # the default
}
_IDENTITY_HEADER = re.compile(
    r"(HTTP_)?X[-_.](AUTH[-_.]REQUEST|FORWARDED|ORIGINAL|ENVOY|REAL[-_.]IP|CLIENT[-_.]IP|REMOTE[-_.]USER)|REMOTE[-_.]USER"
    r"|HTTP_FORWARDED|FORWARDED\Z|TRUE[-_.]CLIENT[-_.]IP",
    re.IGNORECASE,
)


def code() -> Iterator[tuple[str, ast.Module]]:
    """Yield every module of the packages, by path from the root."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def said(tree: ast.Module) -> Iterator[str]:
    """Yield every text in the code that is neither a docstring nor a part of a sentence."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if isinstance(text, str) and " " not in text.strip():
                yield text


def test_promise_1_nothing_but_the_gate_names_an_identity_or_forward_header() -> None:
    found = {
        f"{path}: {text}"
        for path, tree in code()
        if path not in MAY_NAME_IDENTITY_HEADERS
        for text in said(tree)
        if _IDENTITY_HEADER.match(text)
    }
    assert found == set()


def test_the_search_for_header_names_finds_those_of_the_gate() -> None:
    names = {
        text for path, tree in code() if path == "authn/proxy_headers.py" for text in said(tree) if _IDENTITY_HEADER.match(text)
    }
    assert {"x-auth-request-", "x-forwarded-", "x-real-ip", "remote-user", "x-forwarded-for"} <= names


def test_promise_1_what_a_request_says_in_meta_is_its_peer_alone() -> None:
    """Django's META folds spellings into one key; the one key read there is what the server itself wrote."""
    read = set()
    for path, tree in code():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "META":
                read.add(path)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("HTTP_"):
                pytest.fail(f"{path} names {node.value}")
    assert read <= {"authn/requests.py", "authn/lockout.py"}


def test_imports_run_one_way() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("name", [f"{name}.txt" for name in LOCKS])
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert lines
    loose = [line for line in lines if not re.match(r"[A-Za-z0-9._-]+(\[[\w, -]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]
    assert loose == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_that_is_asked_for_is_locked(name: str) -> None:
    asked = {
        re.split(r"[\[<>=~!; ]", line, maxsplit=1)[0]
        for line in (ROOT / f"{name}.in").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", "-"))
    }
    locked = set(
        re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==", (ROOT / f"{name}.txt").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert {re.sub(r"[-_.]+", "-", wanted).lower() for wanted in asked} <= locked


def shipped() -> list[Path]:
    """Return the text files of the checkout, those not yet committed too."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        missing("git does not list the files of this checkout: " + listed.stderr.strip())
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file() and path.suffix in TEXT]


def test_no_file_names_a_registry_or_a_place_on_somebodys_machine() -> None:
    # Put together here, or this file would be the first to be found.
    hosts = [
        "pypi" + ".org",
        "pythonhosted" + ".org",
        "npmjs" + ".org",
        "debian" + ".org/debian",
        "--index" + "-url",
        "--find" + "-links",
    ]
    places = ["/ho" + "me/", "/ro" + "ot/", "/wo" + "rk/"]
    pattern = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, places)) + ")|" + "|".join(map(re.escape, hosts)))
    allowed = re.compile("--no-emit-(index" + "-url|find" + "-links)")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in shipped()
        if (match := pattern.search(allowed.sub("", path.read_text(encoding="utf-8", errors="replace"))))
    ]
    assert found == []


def test_the_list_of_packages_is_the_list_that_the_tools_check() -> None:
    apps = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert apps <= set(PACKAGES)
    own = {app.partition(".")[0] for app in settings.INSTALLED_APPS} & set(PACKAGES)
    checked = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for app in own:
        assert f'"{app}"' in checked
