import argparse
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from ops import base
from skyauth import health, server


def port(text: str) -> int:
    """Return a TCP port. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError("the port must be a whole number from 1 to 65535.")
    return int(text)


def workers(text: str) -> int:
    """Return a number of processes. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError("the number of workers must be a whole number from 1 to 256.")
    return int(text)


class Command(base.Command):
    help = "Start the SkyAuth server. It does not start with an unsafe configuration, or if migrations are not applied."
    examples = ("serve", "serve --host 0.0.0.0 --port 8000 --workers 4", "serve --reload")
    answers_json = False
    requires_system_checks = "__all__"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--host",
            metavar="ADDRESS",
            default="127.0.0.1",
            help="The address to listen on. `0.0.0.0` is all IPv4 addresses, `::` all addresses. Default: 127.0.0.1.",
        )
        parser.add_argument("--port", metavar="PORT", type=port, default=8000, help="The port to listen on. Default: 8000.")
        parser.add_argument("--workers", metavar="N", type=workers, default=1, help="The number of worker processes. Default: 1.")
        parser.add_argument(
            "--reload", action="store_true", help="Restart when the code changes, with one worker. For development."
        )

    def get_check_kwargs(self, options: Any) -> Any:
        """Also run the system checks of the database."""
        return {"databases": [DEFAULT_DB_ALIAS]}

    def act(self, *args: Any, host: str, port: int, workers: int, reload: bool, **_: Any) -> None:
        if reload and workers > 1:
            self.misused("--reload needs --workers 1.")
        if settings.RUNNING_SETTINGS:
            raise CommandError(
                f"make run is running with the data in {settings.DATA_DIR}. A second server would use its settings "
                f"({', '.join(settings.RUNNING_SETTINGS)}). Stop make run, or set another DATA_DIR."
            )
        if problem := health.lacking():
            raise CommandError(problem)
        connections.close_all()  # worker processes must not share a connection
        try:
            server.serve(host=host, port=port, workers=workers, reload=reload, log_level=settings.LOG_LEVEL.lower())
        except SystemExit as end:  # the exit codes of uvicorn have other meanings
            if end.code:
                raise CommandError("The server did not start, or stopped unexpectedly. See the messages above.") from None
