import argparse
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from ops import base
from skyauth import health, server


def port(text: str) -> int:
    """Return a TCP port given as an argument. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError("a port is a whole number from 1 to 65535.")
    return int(text)


def workers(text: str) -> int:
    """Return a number of processes given as an argument. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError("workers are a whole number from 1 to 256.")
    return int(text)


class Command(base.Command):
    help = (
        "Serve SkyAuth, in the one profile that the trust gate is made for. Refuses an unsafe configuration and an old database."
    )
    examples = ("serve", "serve --host 0.0.0.0 --port 8000 --workers 4", "serve --reload")
    answers_json = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--host", metavar="ADDRESS", default="127.0.0.1", help="The address to listen on. Default: 127.0.0.1."
        )
        parser.add_argument("--port", metavar="PORT", type=port, default=8000, help="The port to listen on. Default: 8000.")
        parser.add_argument("--workers", metavar="N", type=workers, default=1, help="How many processes serve. Default: 1.")
        parser.add_argument(
            "--reload", action="store_true", help="Start anew whenever the code changes, with one worker: for development."
        )

    def get_check_kwargs(self, options: Any) -> Any:
        """Check what needs the database, too."""
        return {"databases": [DEFAULT_DB_ALIAS]}

    def act(self, *args: Any, host: str, port: int, workers: int, reload: bool, **_: Any) -> None:
        """Serve until told to stop."""
        if reload and workers > 1:
            self.misused("--reload goes with one worker.")
        if problem := health.lacking():
            raise CommandError(problem)
        connections.close_all()  # children must not share a connection
        try:
            server.serve(host=host, port=port, workers=workers, reload=reload, log_level=settings.LOG_LEVEL.lower())
        except SystemExit as end:  # uvicorn's codes mean something else than ours
            if end.code:
                raise CommandError("The server did not start, or stopped by itself; it has said why above.") from None
