"""Secrets on their way in and out of a command: never in an argument, never over another file, never readable by others."""

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
    """Return a key id given as an argument. Raises ArgumentTypeError, without repeating what may be a whole token."""
    if not _KEY_ID.match(text):
        raise argparse.ArgumentTypeError(
            "a key id is the 12 characters after sky_ (list_tokens shows them); never give the token itself."
        )
    return text


def add_password_arguments(parser: CommandParser) -> None:
    """Add the ways to give a password; none of them is an argument, which every process on the machine could read."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--password-file", metavar="FILE", help="Read the password from the first line of FILE, or of standard input (-)."
    )
    group.add_argument("--random-password", action="store_true", help="Make a password, and print it once on standard output.")


def read_password(*, file: str | None, random: bool) -> str:
    """Return the password from a file, a new one, or what somebody types twice. Raises Invalid and CommandError."""
    if random:
        return secrets.token_urlsafe(18)
    if file is not None:
        return _first_line(file)
    if not sys.stdin.isatty():
        raise CommandError("Nobody is there to type a password. Give --password-file or --random-password.", returncode=2)
    password = getpass.getpass("Password: ")
    if password != getpass.getpass("Once more: "):
        raise Invalid.field("password", "The two passwords differ.")
    return password


def _first_line(file: str) -> str:
    """Return the first line of a file, or of standard input for "-". Raises Invalid."""
    password = (text_files.read(file, limit=MAX_FILE).splitlines() or [""])[0]
    if not password:
        raise Invalid.field("password", f"The first line of {'standard input' if file == '-' else file} is empty.")
    return password


@contextmanager
def new_file(path: Path | None) -> Iterator[Callable[[str], None]]:
    """Give a function that writes a text into a new file of mode 0600, which appears whole or not at all.

    Refuses a path that is taken before anything is done inside. If what is inside fails, also after writing, no file stays.
    Without a path nothing is written. Raises Conflict and Invalid.
    """
    if path is None:
        yield lambda _: None
        return
    if os.path.lexists(path):
        raise Conflict(f"{path} exists. It is not overwritten; give another file, or move it away.")
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    linked = False

    def write(text: str) -> None:
        nonlocal linked
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
        path.hardlink_to(part)  # unlike rename, this never takes another file's place
        linked = True

    try:
        with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123 - takes the descriptor
            yield write
    except BaseException as error:
        if linked:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise Conflict(f"{path} exists. It is not overwritten; give another file, or move it away.") from None
        if isinstance(error, OSError):
            raise Invalid(f"{path} cannot be written: {error.strerror}.") from None
        raise
    finally:
        part.unlink(missing_ok=True)
