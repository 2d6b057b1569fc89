"""The command line: it runs a management command, and turns what prevents that into one message and an exit code.

`manage.py` and `bin/skyauth` start it, with any interpreter. So this module imports nothing of Django before it checks that.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from skyauth import __version__, command_help

if TYPE_CHECKING:
    from collections.abc import Sequence

CLOSED_PIPE = 128 + signal.SIGPIPE  # the exit code of a program that SIGPIPE ends, as in other command-line tools


def main() -> None:
    """Run the management command in `sys.argv`. Ends with exit code 2 for an invalid setting."""
    _require_django()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")
    os.umask(0o077)  # the database, its journal and every other new file are for their owner only
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import DatabaseError

    _open_closed_streams()
    try:
        try:
            execute_from_command_line(sys.argv)
        finally:
            sys.stdout.flush()  # the interpreter would do it after the last handler of errors
    except ImproperlyConfigured as error:
        fail(f"SkyAuth does not start: {error}", 2)
    except DatabaseError as error:  # of Django's own commands, such as migrate
        problem = str(error).strip().partition("\n")[0].rstrip(".")
        fail(f"The database cannot be used: {problem}. Check DATABASE_URL and DATA_DIR.", 1)
    except BrokenPipeError:
        discard_output()
        sys.exit(CLOSED_PIPE)  # `... | head` has read enough
    except OSError as error:
        discard_output()
        where = f": {error.filename}" if error.filename else ""
        fail(f"{' '.join(sys.argv[:2])} failed: {error.strerror or error}{where}.", 1)
    except KeyboardInterrupt:
        fail("Stopped.", 128 + signal.SIGINT)


def print_own_answer(words: Sequence[str]) -> bool:
    """Print the help or the version of `skyauth` if these arguments ask for it, and return whether they do.

    Neither needs Django, valid settings or a database.
    """
    if list(words) in ([], ["help"], ["--help"], ["-h"]):
        text = command_help.text()
    elif list(words) in (["--version"], ["version"]):
        text = f"skyauth {__version__}\n"
    else:
        return False
    _open_closed_streams()
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        sys.exit(CLOSED_PIPE)
    return True


def fail(message: str, code: int) -> None:
    """End with a message on standard error."""
    sys.stderr.write(f"{message}\n")
    sys.exit(code)


def discard_output() -> None:
    """Let what is still in the buffer of standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_closed_streams() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - until the process ends


def _require_django() -> None:
    """End with a message if the interpreter is too old, or has no Django."""
    if sys.version_info < (3, 11):  # noqa: UP036 - any interpreter can run this file
        fail("SkyAuth needs Python 3.11 or newer. Run: .venv/bin/python manage.py ...", 1)
    try:
        import django  # noqa: F401 - is it installed?
    except ModuleNotFoundError:
        fail(
            f"Django is not installed for {sys.executable}. Run: .venv/bin/python manage.py ... (make run creates .venv), "
            "or install requirements.txt.",
            1,
        )
