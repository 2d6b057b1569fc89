#!/usr/bin/env python
"""Django's command line, for SkyAuth."""

import os
import signal
import sys

CLOSED_PIPE = 128 + signal.SIGPIPE  # the exit code of a program that SIGPIPE ends, as in other command-line tools


def main() -> None:
    """Run a management command. What prevents it from running is one message, and exit code 2 for an invalid setting."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")
    os.umask(0o077)  # the database, its journal and every other new file are for their owner only
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import DatabaseError

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - until the process ends
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


def fail(message: str, code: int) -> None:
    """End with a message on standard error."""
    sys.stderr.write(f"{message}\n")
    sys.exit(code)


def discard_output() -> None:
    """Let what is still in the buffer of standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
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
    main()
