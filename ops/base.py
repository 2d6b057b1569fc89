"""The base class of the commands: the actor, the output as a table or JSON, errors and exit codes.

Standard output carries only the result: a table, JSON with `--json`, a new secret, a CSV. Messages go to standard error.
"""

import json
import os
import pwd
import sys
import textwrap
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, TextIO, cast

from django.conf import settings
from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.db import DatabaseError
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.errors import ServiceError
from core.lock_timeout import is_lock_timeout
from core.numbers import whole_number
from core.text import clean
from rbac import principals
from rbac.principals import Principal

LONG_WORDS = (24, 16, 12)  # characters; a narrow terminal breaks longer words, first only the longest ones


class Exit(IntEnum):
    """The exit code of a command; docs/commands.md describes them."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    DIFFERENT = 3


class _Help(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's order of options, with the line breaks of the examples."""


class Command(BaseCommand):
    """A command that runs as the operator. `act` does the work; its ServiceError becomes a message and exit code 1."""

    examples: ClassVar[Sequence[str]] = ()
    answers_json: ClassVar[bool] = True
    # SkyAuth's own. Django's checks load every page, which takes as long as most commands; `serve` and `check` run them.
    requires_system_checks: list[str] | Literal["__all__"] = [Tags.security]
    suppressed_base_arguments = {"--version", "--settings", "--pythonpath", "--traceback", "--force-color"}

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        if self.examples:
            program = Path(prog_name).name or "manage.py"
            kwargs["epilog"] = "\n".join(["examples:", *(f"  {program} {example}" for example in self.examples)])
        # argparse would take --p for --prune, and --password SECRET for --password-file.
        parser = super().create_parser(prog_name, subcommand, formatter_class=_Help, allow_abbrev=False, **kwargs)
        if self.answers_json:
            parser.add_argument("--json", action="store_true", dest="as_json", help="Print the result as JSON.")
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        """Call `act`, and turn its errors into a message and an exit code."""
        self.as_json = bool(options.pop("as_json", False))
        self.plain = bool(options["no_color"])
        try:
            self.act(*args, **options)
        except ServiceError as error:
            raise CommandError(error.message) from None
        except DatabaseError as error:
            if is_lock_timeout(error):
                raise CommandError(
                    f"Another program holds a lock on the database: {_first_line(error)} Try again when it has ended."
                ) from None
            raise CommandError(
                f"The database cannot be used: {_first_line(error)} "
                f"Is {_database()} the right one, is it up, and did you run: manage.py migrate?"
            ) from None
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None

    def act(self, *args: Any, **options: Any) -> None:
        """Do the work of the command. Raises ServiceError and CommandError."""
        raise NotImplementedError

    @property
    def actor(self) -> Principal:
        """The operator, named in the audit log by the command and the account of the operating system."""
        return principals.system(f"manage.py {self.__module__.rpartition('.')[2]} ({_os_user()})")

    def say(self, message: str) -> None:
        """Write a message to standard error."""
        self.stderr.write(message, lambda text: text)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask the question in a terminal, unless `yes`. Raises CommandError without a terminal, and if the answer is not yes."""
        if yes:
            return
        if not sys.stdin.isatty():
            self.misused(f"{question} Add --yes to do it: standard input is not a terminal, so the command cannot ask.")
        self.stderr.write(f"{question} [y/N] ", lambda text: text, ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise CommandError("Nothing was changed.")

    def misused(self, message: str) -> NoReturn:
        """Raise CommandError with the exit code for wrong usage."""
        raise CommandError(message, returncode=Exit.USAGE)

    def end(self, code: Exit) -> None:
        """End the command with an exit code other than 0."""
        if code is not Exit.DONE:
            raise SystemExit(int(code))

    def print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2, default=_as_text))

    def print_table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table; without lines and colours where standard output is no terminal.

        In a terminal that is too narrow for the columns, each row is a list of headings and values, so that nothing is cut off.
        """
        cells = [[clean(_cell(value), 1_000) for value in row] for row in rows]
        if self.stdout.isatty():
            console = Console(file=cast(TextIO, self.stdout), color_system=None if self.plain else "auto")
            widths = _widths(columns, cells, console.width)
            console.print(_table(columns, cells, widths) if widths else _records(columns, cells))
            return
        for line in _plain_lines([columns, *cells] if any(columns) else cells):
            self.stdout.write(line)

    def print_rows(self, rows: Iterable[dict[str, Any]], columns: dict[str, str], *, nothing: str) -> None:
        """Print rows as JSON, or as a table of `columns` (key to heading); `nothing` is the message if there are none.

        JSON is printed row by row, so that many rows need no more memory than one.
        """
        if self.as_json:
            self._print_array(rows)
        elif cells := [[row[key] for key in columns] for row in rows]:
            self.print_table(list(columns.values()), cells)
        else:
            self.say(nothing)

    def _print_array(self, rows: Iterable[Any]) -> None:
        """Print the rows as `print_json` does a list of them. A generator is closed before the database is: its reader may go."""
        before = "["
        try:
            for row in rows:
                self.stdout.write(before + textwrap.indent(f"\n{json.dumps(row, indent=2, default=_as_text)}", "  "), ending="")
                before = ","
        finally:
            if isinstance(rows, Generator):
                rows.close()
        self.stdout.write("[]" if before == "[" else "\n]")


def number_argument(text: str) -> int:
    """Return the value of an option that takes a whole number. Raises ArgumentTypeError."""
    try:
        return whole_number(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the widths of the columns in a terminal of this width; none if a shorter word than LONG_WORDS had to be broken.

    Key ids and dates stay whole. rich alone would cut off the last columns.
    """
    by_column = list(zip(columns, *cells, strict=True))
    longest = [max(len(word) for cell in column for word in [*cell.split(), ""]) for column in by_column]
    room = width - 3 * (len(longest) - 1) - 2  # between columns, and at the edges
    fitting = ([min(limit, length) for length in longest] for limit in LONG_WORDS)
    widths: list[int] = next((widths for widths in fitting if sum(widths) <= room), [])
    if not widths:
        return []
    left = room - sum(widths)
    for n, column in enumerate(by_column):
        more = min(left, max(map(len, column)) - widths[n])
        widths[n] += more
        left -= more
    return widths


def _plain_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield each row as one line, with the columns below each other. rich takes a millisecond for a row, and much memory."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Table:
    """Return a table with columns of these widths."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for n, column in enumerate(columns):
        table.add_column(column, overflow="fold", width=widths[n])
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def _records(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    """Return the rows one below the other, with a heading before each value."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for n, row in enumerate(cells):
        if n:
            table.add_row()
        for heading, value in zip(columns, row, strict=True):
            table.add_row(heading, Text(value))
    return table


def _os_user() -> str:
    """Return the name of the user that runs the process; variables such as USER are not trusted."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _database() -> str:
    """Return which database the settings name, without a password."""
    values = settings.DATABASES["default"]
    return f"{values['NAME']} on {values['HOST']}" if values.get("HOST") else str(values["NAME"])


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if line.endswith(".") else f"{line}."


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case list() | tuple() | set() | frozenset():
            return ", ".join(map(str, value))
        case _:
            return str(value)
