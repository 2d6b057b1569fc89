"""Writes a new token to a file or to standard output, once."""

from collections.abc import Callable
from pathlib import Path

from django.core.management.base import CommandParser
from django.db import transaction

from accounts.services.tokens import IssuedToken
from ops import rows
from ops.base import Command, number_argument
from ops.secret_files import new_file


def add_arguments(parser: CommandParser) -> None:
    """Add the options that `create_token` and `rotate_token` share."""
    parser.add_argument(
        "--days",
        type=number_argument,
        metavar="N",
        help="The token expires after N days; 0 means never, if TOKEN_MAX_DAYS allows it.",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="Write the token to a new file of mode 0600 instead of standard output."
    )


def deliver(command: Command, output: Path | None, issue: Callable[[], IssuedToken], message: str) -> None:
    """Issue a token and write it. If writing fails, no token is issued. Raises what `issue` raises, Conflict and Invalid."""
    with new_file(output) as write, transaction.atomic():
        issued = issue()
        write(f"{issued.plaintext}\n")
    row = issued.token
    if command.as_json:
        where = {"file": str(output)} if output else {"token": issued.plaintext}
        command.print_json(rows.token(row) | where)
        return
    expires = f"expires {row.expires_at:%Y-%m-%d %H:%M} UTC" if row.expires_at else "never expires"
    command.say(f"{message}: key id {row.key_id}, {expires}.")
    if output:
        command.say(f"The token is in {output}. It is not stored anywhere else.")
    else:
        command.say("The token is shown only once. It has all permissions of the service account:")
        command.stdout.write(issued.plaintext)
