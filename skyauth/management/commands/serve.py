import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connection, connections

from ops import base
from skyauth import health, lifespan, server
from skyauth.certificates import CertificateError, CertificateFiles
from skyauth.listeners import ListenError


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


def seconds(text: str) -> int:
    """Return a duration in seconds. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or int(text) > 3_600:
        raise argparse.ArgumentTypeError("the time must be a whole number of seconds from 0 to 3600.")
    return int(text)


def file_mode(text: str) -> int:
    """Return the mode of a Unix socket, which is written in octal. Raises ArgumentTypeError."""
    if not re.fullmatch("0?[0-7]{3}", text) or int(text, 8) & 0o600 != 0o600:
        raise argparse.ArgumentTypeError("the mode must be an octal number such as 660, with which the owner can read and write.")
    return int(text, 8)


class Command(base.Command):
    help = "Start the SkyAuth server. It does not start with an unsafe configuration, or if migrations are not applied."
    examples: ClassVar[Sequence[str]] = (
        "serve",
        "serve --host 0.0.0.0 --port 8000 --workers 4",
        "serve --unix /run/skyauth/skyauth.sock",
        "serve --host :: --certificate tls.crt --key tls.key",
        "serve --reload",
    )
    answers_json = False
    requires_system_checks = "__all__"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--host",
            metavar="ADDRESS",
            help="The address to listen on. `0.0.0.0` is all IPv4 addresses, `::` all addresses. Default: 127.0.0.1.",
        )
        parser.add_argument("--port", metavar="PORT", type=port, help="The port to listen on. Default: 8000.")
        parser.add_argument(
            "--unix",
            metavar="PATH",
            type=Path,
            help="Listen on a Unix socket instead. Its connections are trusted only if TRUSTED_PROXIES contains `unix`.",
        )
        parser.add_argument(
            "--unix-mode",
            metavar="MODE",
            type=file_mode,
            help="The mode of the Unix socket. Who can write to it can connect. Default: 660 (owner and group).",
        )
        parser.add_argument(
            "--certificate", metavar="FILE", type=Path, help="Serve TLS with this certificate and its chain (PEM). Needs --key."
        )
        parser.add_argument("--key", metavar="FILE", type=Path, help="The private key of the certificate (PEM, no password).")
        parser.add_argument("--workers", metavar="N", type=workers, default=1, help="The number of worker processes. Default: 1.")
        parser.add_argument(
            "--drain",
            metavar="SECONDS",
            type=seconds,
            default=server.DRAIN,
            help="""After SIGTERM, /readyz returns 503, but connections are accepted for this time, in which proxies change to
            another replica. Default: 5.""",
        )
        parser.add_argument(
            "--reload", action="store_true", help="Restart when the code changes, with one worker. For development."
        )

    def get_check_kwargs(self, options: Any) -> Any:
        """Also run the system checks of the database."""
        return {"databases": [DEFAULT_DB_ALIAS]}

    def act(self, *args: Any, workers: int, reload: bool, drain: int, **options: Any) -> None:
        if reload and workers > 1:
            self.misused("--reload needs --workers 1.")
        listen, certificate = self._listen(**options), self._certificate(**options)
        if settings.RUNNING_SETTINGS:
            raise CommandError(
                f"make run is running with the data in {settings.DATA_DIR}. A second server would use its settings "
                f"({', '.join(settings.RUNNING_SETTINGS)}). Stop make run, or set another DATA_DIR."
            )
        if lifespan.restore_is_running():  # before the other checks, which would wait for the locks of the restore
            raise CommandError(lifespan.RESTORE_IS_RUNNING)
        if problem := health.lacking():
            raise CommandError(problem)
        connections.close_all()  # worker processes must not share a connection
        if connection.vendor == "postgresql":
            connection.close_pool()  # type: ignore[attr-defined] # the process that serves has a pool of its own
        level = settings.LOG_LEVEL.lower()
        try:
            server.serve(listen=listen, workers=workers, reload=reload, drain=drain, certificate=certificate, log_level=level)
        except BlockingIOError:
            raise CommandError(lifespan.RESTORE_IS_RUNNING) from None
        except (ListenError, CertificateError) as error:
            raise CommandError(str(error)) from None
        except SystemExit as end:  # the exit codes of uvicorn have other meanings
            if end.code:
                raise CommandError("The server did not start, or stopped unexpectedly. See the messages above.") from None

    def _listen(self, *, host: str | None, port: int | None, unix: Path | None, unix_mode: int | None, **_: Any) -> server.Listen:
        if unix is not None and (host or port):
            self.misused("--unix cannot be combined with --host and --port.")
        if unix is None and unix_mode is not None:
            self.misused("--unix-mode needs --unix.")
        return server.Listen(host, port, unix, server.UNIX_MODE if unix_mode is None else unix_mode)

    def _certificate(self, *, certificate: Path | None, key: Path | None, **_: Any) -> CertificateFiles | None:
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            self.misused("--certificate and --key need each other.")
        return CertificateFiles(certificate, key)
