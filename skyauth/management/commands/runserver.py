import re
from typing import Any

from django.core.management.base import CommandParser

from skyauth.management.commands import serve

_ADDRPORT = re.compile(r"(?:(?P<host>[0-9.]+|\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.\-]+):)?(?P<port>[0-9]{1,5})\Z")


class Command(serve.Command):
    help = "The same as serve --reload. SkyAuth replaces Django's runserver, because it must read the raw headers of requests."
    examples = ("runserver", "runserver 8080", "runserver 0.0.0.0:8080")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("addrport", metavar="ADDRPORT", nargs="?", default="8000", help="A port, or address:port.")
        parser.add_argument("--noreload", action="store_false", dest="reload", help="Do not restart on code changes.")
        parser.set_defaults(workers=1, drain=0, unix=None, unix_mode=None, certificate=None, key=None)

    def act(self, *args: Any, addrport: str, reload: bool, **options: Any) -> None:  # type: ignore[override]
        match = _ADDRPORT.match(addrport)
        if match is None or not 1 <= int(match["port"]) <= 65_535:
            self.misused(f"{addrport!r} is not a port and not address:port.")
        host, port = (match["host"] or "127.0.0.1").strip("[]"), int(match["port"])
        command = f"manage.py serve --host {host} --port {port}{' --reload' if reload else ''}"
        self.say(f"SkyAuth replaces Django's runserver. Running: {command}")
        super().act(**options | {"host": host, "port": port, "reload": reload})
