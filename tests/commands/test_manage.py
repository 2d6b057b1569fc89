"""manage.py as a process: whatever prevents a command from running is one message, never a traceback."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.commands.run_command import ROOT, Ended, read_settings, run_alone

KEY = "k" * 40


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that others can read, with a database that `migrate` made in it."""
    path = tmp_path_factory.mktemp("data")
    path.chmod(0o755)
    assert run_alone("migrate", "--verbosity", "0", data_dir=path) == Ended(0, "", "")
    return path


def run_with_output(words: list[str], data_dir: Path, output: int) -> tuple[int, str]:
    """Run a command whose standard output is this file descriptor, and return its exit code and what it says."""
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(data_dir)},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", [["export_users"], ["doctor", "--json"], ["reference", "settings"], ["showmigrations"]])
def test_a_command_whose_reader_has_gone_ends_quietly(data_dir: Path, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run_with_output(words, data_dir, writer) == (141, "")
    finally:
        os.close(writer)


@pytest.fixture(scope="module")
def many_users(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same directory, with 1,500 users, and an audit entry of each."""
    file = tmp_path_factory.mktemp("files") / "users.csv"
    file.write_text("username\n" + "".join(f"user-{number}@a-long-domain.example.com\n" for number in range(1_500)))
    with Path("/dev/null").open("wb") as null:
        assert run_with_output(["import_users", str(file)], data_dir, null.fileno())[0] == 0
    return data_dir


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["export_users"], "username,"),
        (["list_users", "--json"], "["),
        (["list_users"], "USERNAME"),
        (["audit", "--limit", "0", "--json"], "["),
    ],
)
def test_output_whose_reader_goes_in_the_middle_ends_quietly(many_users: Path, words: list[str], first: str) -> None:
    """The query is still open then, and what remains does not fit into the pipe."""
    with subprocess.Popen(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(many_users)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        assert export.stdout.readline().startswith(first)
        export.stdout.close()
        assert (export.stderr.read(), export.wait(timeout=60)) == ("", 141)


def test_output_that_cannot_be_written_is_one_message(data_dir: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        assert run_with_output(["export_users"], data_dir, full.fileno()) == (
            1,
            "manage.py export_users failed: No space left on device.\n",
        )


def test_an_interpreter_without_django_is_one_message() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "manage.py", "check"], cwd=ROOT, env={}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Run: .venv/bin/python manage.py" in done.stderr


def test_files_that_a_command_creates_are_for_their_owner_only(data_dir: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()}
    assert modes == {"secret_key": 0o600, "skyauth.sqlite3": 0o600}


def test_migrate_creates_the_directory_of_the_data(tmp_path: Path) -> None:
    missing = tmp_path / "a" / "b"
    assert run_alone("migrate", "--verbosity", "0", data_dir=missing, SECRET_KEY=KEY) == Ended(0, "", "")
    assert stat.S_IMODE(missing.stat().st_mode) == 0o700


def no_database(path: Path) -> str:
    (path / "file").write_text("This is a letter, and no database. " * 100)
    return f"sqlite:///{path}/file"


UNUSABLE: list[tuple[Callable[[Path], str], str]] = [
    (no_database, "The database cannot be used: file is not a database."),
    (lambda path: f"sqlite:///{path}/missing/file", "The database cannot be used: unable to open database file."),
    (lambda _: "postgres://skyauth:hunter2@127.0.0.1:1/skyauth", "The database cannot be used: "),
]


@pytest.mark.parametrize(("make", "message"), UNUSABLE)
def test_migrate_without_a_usable_database_is_one_message(tmp_path: Path, make: Callable[[Path], str], message: str) -> None:
    ended = run_alone("migrate", data_dir=tmp_path, DATABASE_URL=make(tmp_path), DATABASE_TIMEOUT="1", SECRET_KEY="k" * 50)
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith(message)
    assert ended.err.endswith(". Check DATABASE_URL and DATA_DIR.\n")
    assert "Traceback" not in ended.err
    assert "hunter2" not in ended.err


def write_key(content: bytes) -> Callable[[Path], object]:
    return lambda path: (path / "secret_key").write_bytes(content)


ODD: list[tuple[Callable[[Path], object], dict[str, str], str]] = [
    (
        lambda path: (path / "file").touch(),
        {"DATA_DIR": "{path}/file"},
        "DATA_DIR cannot be used: {path}/file is not a directory.",
    ),
    (lambda path: (path / "file").touch(), {"DATA_DIR": "{path}/file", "SECRET_KEY": KEY}, "{path}/file is not a directory."),
    (
        lambda path: (path / "file").touch(),
        {"DATA_DIR": "{path}/file/a"},
        "DATA_DIR cannot be used: {path}/file/a: Not a directory.",
    ),
    (lambda path: (path / "secret_key").mkdir(), {}, "{path}/secret_key: Is a directory."),
    (lambda path: (path / "secret_key").symlink_to(path / "no"), {}, "{path}/secret_key: No such file or directory."),
    (write_key(b""), {}, "{path}/secret_key does not contain a key."),
    (write_key(b"short"), {}, "{path}/secret_key does not contain a key."),
    (write_key(b"\xff" * 64), {}, "{path}/secret_key does not contain a key."),
]


@pytest.mark.parametrize(("prepare", "settings", "message"), ODD)
def test_an_odd_directory_of_the_data_is_refused_with_its_path(
    tmp_path: Path, prepare: Callable[[Path], object], settings: dict[str, str], message: str
) -> None:
    prepare(tmp_path)
    with pytest.raises(ImproperlyConfigured) as raised:
        read_settings(tmp_path, **{name: value.replace("{path}", str(tmp_path)) for name, value in settings.items()})
    assert message.replace("{path}", str(tmp_path)) in str(raised.value)


def test_a_key_in_a_directory_that_cannot_be_written_is_used(tmp_path: Path) -> None:
    write_key(KEY.encode() + b"\n")(tmp_path)
    assert read_settings(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path.parent / 'elsewhere.sqlite3'}")["SECRET_KEY"] == KEY
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]
