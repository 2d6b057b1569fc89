"""The Containerfile and its .dockerignore, without a build. tests/deploy/test_image.py builds and runs the image."""

import json
import re
import subprocess
from fnmatch import fnmatch

from tests.requirements import need_program
from tests.servers import ROOT
from tests.test_house_rules import PACKAGES, shipped

CONTAINERFILE = ROOT / "deploy" / "container" / "Containerfile"
TEXT = CONTAINERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
LAST = TEXT.rpartition("\nFROM ")[2]
IGNORE = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]


def instruction(name: str) -> str:
    """Return the arguments of an instruction that the last stage has once."""
    [found] = re.findall(rf"^{name} (.*)$", LAST, re.MULTILINE)
    return str(found)


def copied(path: str) -> bool:
    """Return whether .dockerignore leaves the file to the image: the last pattern that matches decides."""
    decision = True
    for line in IGNORE:
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = path.split("/")
        prefixes = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        if any(fnmatch(each, pattern) or ("**/" in line and fnmatch(each.rpartition("/")[2], pattern)) for each in prefixes):
            decision = line.startswith("!")
    return decision


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = need_program("hadolint", hint="pip install -r requirements-dev.txt")
    done = subprocess.run([hadolint, CONTAINERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_program_is_copied_and_nothing_else() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in shipped()} | {"static/skyauth/icon.svg"}
    kept = {path for path in files if copied(path)}
    program = {path for path in files if path.startswith(tuple(f"{name}/" for name in (*PACKAGES, "bin", "static", "templates")))}
    extra = {"manage.py", "LICENSE", "requirements.txt", "requirements-tracing.txt", "deploy/container/healthcheck.py"}
    assert kept == program | extra
    for path in (
        ".env",
        "skyauth/.env",
        "var/secret_key",
        "skyauth.sqlite3",
        "core/x.sqlite3",
        ".git/config",
        "core/__pycache__/a.pyc",
    ):
        assert not copied(path), path


def test_packages_are_wheels_with_locked_hashes() -> None:
    [install] = re.findall(r"pip install (.*)", TEXT)
    assert "--require-hashes" in install
    assert "--only-binary=:all:" in install
    assert "pip install" not in LAST


def test_the_base_is_an_argument_of_both_stages() -> None:
    assert re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE) == ["${BASE}", "${BASE}"]


def test_no_process_runs_as_root_or_under_a_shell() -> None:
    user, _, group = instruction("USER").partition(":")
    assert (int(user) > 0, group) == (True, "0")
    assert json.loads(instruction("CMD"))[0] == "serve"
    assert json.loads(instruction("ENTRYPOINT")) == ["/opt/skyauth/.venv/bin/python", "/opt/skyauth/manage.py"]
    health = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    assert (ROOT / health[-1].removeprefix("/opt/skyauth/")).is_file()
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_there_is_one_volume_and_temporary_files_are_in_it() -> None:
    assert instruction("VOLUME") == "/data"
    for name in ("DATA_DIR", "HOME", "TMPDIR"):
        assert f"{name}=/data" in instruction("ENV"), name
