"""Passwords and tokens that a command reads or writes: never in arguments, never over a file, never readable by others."""

import argparse
import getpass
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from django.core.management.base import CommandError, CommandParser

from core.errors import Conflict, Invalid
from ops import text_files

MAX_FILE: Final = 64 * 1024
_KEY_ID = re.compile(r"[0-9A-Za-z]{12}\Z")


def key_id(text: str) -> str:
    """Return a key id. Raises ArgumentTypeError, whose message does not contain the value: it can be a whole token."""
    if not _KEY_ID.match(text):
        raise argparse.ArgumentTypeError(
            "a key id is the 12 characters after sky_ (see list_tokens). Never pass the token itself."
        )
    return text


def add_password_arguments(parser: CommandParser) -> None:
    """Add the options for a password. None takes the password itself, because other processes can read arguments."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--password-file", metavar="FILE", help="Read the password from the first line of FILE; - is standard input."
    )
    group.add_argument("--random-password", action="store_true", help="Generate a password and print it once on standard output.")
    group.add_argument("--password", nargs="?", type=_no_password, help=argparse.SUPPRESS)


def _no_password(_: str) -> str:
    """Raise ArgumentTypeError, whose message does not contain the password."""
    raise argparse.ArgumentTypeError(
        "other processes can read a password in the arguments. Use --password-file, --random-password, or type it when asked."
    )


def read_password(*, file: str | None, random: bool) -> str:
    """Return the password from a file, a generated one, or one typed twice. Raises Invalid and CommandError."""
    if random:
        return secrets.token_urlsafe(18)
    if file is not None:
        return _first_line(file)
    if not sys.stdin.isatty():
        raise CommandError("Standard input is not a terminal. Use --password-file or --random-password.", returncode=2)
    password = getpass.getpass("Password: ")
    if password != getpass.getpass("Password (again): "):
        raise Invalid.field("password", "The two passwords are different.")
    return password


def _first_line(file: str) -> str:
    """Return the first line of a file; "-" is standard input. Raises Invalid."""
    password = (text_files.read(file, limit=MAX_FILE).splitlines() or [""])[0]
    if not password:
        raise Invalid.field("password", f"The first line of {'standard input' if file == '-' else file} is empty.")
    return password


@contextmanager
def new_file(path: Path | None) -> Iterator[Callable[[str], None]]:
    """Yield a function that writes a text to a new file of mode 0600, which appears complete or not at all.

    Raises Conflict if the path exists, before the block runs. If the block fails, also after writing, the file is removed.
    Without a path nothing is written. Raises Invalid if the file cannot be written.
    """
    if path is None:
        yield lambda _: None
        return
    if str(path) == "-":
        raise Invalid("- is not the name of a file that a secret is written to. Name a new file.")
    if os.path.lexists(path):
        raise Conflict(f"{path} already exists. It is not overwritten; use another file, or move this one.")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    linked = False

    def write(text: str) -> None:
        nonlocal linked
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
        path.hardlink_to(temporary)  # unlike rename, this never replaces another file
        linked = True

    try:
        with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123 - takes the descriptor
            yield write
    except BaseException as error:
        if linked:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise Conflict(f"{path} already exists. It is not overwritten; use another file, or move this one.") from None
        if isinstance(error, OSError):
            raise Invalid(f"{path} cannot be written: {error.strerror}.") from None
        raise
    finally:
        temporary.unlink(missing_ok=True)
