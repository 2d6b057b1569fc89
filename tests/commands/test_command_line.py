"""`skyauth`: the commands of manage.py from any directory, with a help of its own and a version."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands

from skyauth import __version__, command_help
from tests.commands.run_command import ROOT, Ended, run_alone
from tests.test_house_rules import PACKAGES

SKYAUTH = ROOT / "bin" / "skyauth"
KEY = "k" * 40
BARE = {"PATH": os.defpath}  # as in a terminal in which no virtual environment is active


def run_skyauth(*words: str, program: Path | str = SKYAUTH, cwd: Path = ROOT, **variables: str) -> Ended:
    """Run `skyauth` as a child process, with nothing but these variables."""
    done = subprocess.run(
        [program, *words],
        cwd=cwd,
        env={**BARE, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def link(path: Path, target: Path | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in a directory whose name has a blank, with the code of this one and a .venv that has its packages."""
    place = tmp_path_factory.mktemp("a place") / "sky auth"
    place.mkdir()
    for path in ROOT.iterdir():
        if path.name not in {".env", ".venv", "var", "bin"}:
            link(place / path.name, path)
    shutil.copytree(ROOT / "bin", place / "bin")
    (place / ".venv" / "bin").mkdir(parents=True)
    (place / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\necho .venv >&2\nexec "{sys.executable}" "$@"\n')
    (place / ".venv" / "bin" / "python").chmod(0o755)
    return place


def test_every_command_of_skyauth_is_in_one_group_of_the_help() -> None:
    listed = [name for group in command_help.GROUPS.values() for name in group]
    own = {name for name, app in get_commands().items() if app in PACKAGES}
    assert len(listed) == len(set(listed))
    assert {*listed, *command_help.NOT_LISTED} == own


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_the_help_needs_no_valid_settings_and_no_database(tmp_path: Path, words: list[str]) -> None:
    ended = run_skyauth(*words, SECRET_KEY="short", DATABASE_URL="postgres://127.0.0.1:1/x", cwd=tmp_path)
    assert ended == Ended(0, command_help.text(), "")
    assert re.search(r"^  create_token +Create a token for a service account$", ended.out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_the_help_has_80_columns() -> None:
    assert max(map(len, command_help.text().splitlines())) <= 80


@pytest.mark.parametrize("word", ["--version", "version"])
def test_the_version_needs_no_valid_settings(tmp_path: Path, word: str) -> None:
    assert run_skyauth(word, SECRET_KEY="short", cwd=tmp_path) == Ended(0, f"skyauth {__version__}\n", "")


def test_the_version_of_manage_py_stays_that_of_django(tmp_path: Path) -> None:
    assert re.fullmatch(r"\d\.\d.*\n", run_alone("--version", data_dir=tmp_path, SECRET_KEY=KEY).out)


def test_commands_of_django_are_listed_and_work(tmp_path: Path) -> None:
    names = run_skyauth("help", "--commands", DATA_DIR=str(tmp_path), SECRET_KEY=KEY).out.split()
    assert {"check", "showmigrations", "create_user"} <= set(names)
    assert run_skyauth("check", "--tag", "models", DATA_DIR=str(tmp_path), SECRET_KEY=KEY).code == 0


def test_a_command_does_the_same_as_manage_py(tmp_path: Path) -> None:
    assert run_skyauth("migrate", "--verbosity", "0", DATA_DIR=str(tmp_path)) == Ended(0, "", "")
    words = "create_service_account", "pipeline", "--json"
    assert run_skyauth(*words, DATA_DIR=str(tmp_path)).code == 0
    for program in (lambda *words: run_alone(*words, data_dir=tmp_path), lambda *w: run_skyauth(*w, DATA_DIR=str(tmp_path))):
        again = program(*words)
        assert (again.code, again.out, again.err) == (1, "", "CommandError: Service account 'pipeline' already exists.\n")


def test_the_help_of_a_command_names_skyauth(tmp_path: Path) -> None:
    for words in (["list_tokens", "--help"], ["help", "list_tokens"]):
        shown = run_skyauth(*words, DATA_DIR=str(tmp_path), SECRET_KEY=KEY).out
        assert shown.startswith("usage: skyauth list_tokens")
        assert "\n  skyauth list_tokens --expiring 7\n" in shown
        assert "manage.py" not in shown
    assert "\n  manage.py list_tokens --expiring 7\n" in run_alone("list_tokens", "--help", data_dir=tmp_path, SECRET_KEY=KEY).out


def test_an_unknown_command_is_one_message(tmp_path: Path) -> None:
    ended = run_skyauth("creat_user", DATA_DIR=str(tmp_path), SECRET_KEY=KEY)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "Unknown command: 'creat_user'. Did you mean create_user?\nType 'skyauth help' for usage.\n"


def test_an_invalid_setting_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    ended = run_skyauth("list_tokens", DATA_DIR=str(tmp_path), SECRET_KEY="short")
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)


@pytest.mark.parametrize("words", [[], ["--version"], ["list_tokens", "--help"]])
def test_help_and_version_end_quietly_if_the_reader_has_gone(tmp_path: Path, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [SKYAUTH, *words], env={**BARE, "DATA_DIR": str(tmp_path)}, stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_it_uses_the_environment_beside_it_from_any_directory_and_by_any_link(checkout: Path, tmp_path: Path) -> None:
    absolute = link(tmp_path / "absolute" / "skyauth", checkout / "bin" / "skyauth")
    chain = link(tmp_path / "chain" / "skyauth", "../absolute/other")
    link(tmp_path / "absolute" / "other", absolute)
    expected = Ended(0, f"skyauth {__version__}\n", ".venv\n")
    for program in (checkout / "bin" / "skyauth", absolute, chain):
        assert run_skyauth("--version", program=program, cwd=tmp_path) == expected
    for cwd, program in ((checkout, "bin/skyauth"), (checkout / "bin", "./skyauth")):
        assert run_skyauth("--version", program=program, cwd=cwd) == expected
    on_path = subprocess.run(
        ["sh", "-c", "skyauth --version"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}/chain:{os.defpath}", "CDPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (on_path.stdout, on_path.stderr) == (expected.out, expected.err)


def test_without_an_environment_beside_it_the_python_on_path_is_used(checkout: Path, tmp_path: Path) -> None:
    """As in an image, or in an activated virtual environment that is elsewhere."""
    hidden = checkout / ".venv"
    hidden.rename(checkout / "hidden")
    try:
        python = tmp_path / "python3"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        path = f"{tmp_path}:{os.defpath}"
        program = checkout / "bin" / "skyauth"
        assert run_skyauth("--version", program=program, PATH=path).out == f"skyauth {__version__}\n"
        data = tmp_path / "data"
        assert run_skyauth("migrate", "--verbosity", "0", program=program, PATH=path, DATA_DIR=str(data)) == Ended(0, "", "")
        lost = subprocess.run(
            ["/bin/sh", program, "--version"], env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False
        )
        assert (lost.returncode, len(lost.stderr.splitlines())) == (1, 1)
        assert "no python3 on PATH. Run: make run" in lost.stderr
    finally:
        (checkout / "hidden").rename(hidden)


def test_a_module_in_the_current_directory_is_not_imported(tmp_path: Path) -> None:
    """Neither one beside the user, nor one of the package `skyauth` whose name another library has."""
    for name in ("django", "accounts", "skyauth", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    assert run_skyauth("--version", cwd=tmp_path).code == 0
    assert run_skyauth("migrate", "--verbosity", "0", cwd=tmp_path, DATA_DIR=str(tmp_path / "data")) == Ended(0, "", "")


def test_the_dashboard_shows_the_version(client, bob) -> None:
    client.force_login(bob)
    assert f"SkyAuth {__version__}" in client.get("/skyauth/").text
