"""A new token on its way to whoever asked for it: to a file or to standard output, once."""

from collections.abc import Callable
from pathlib import Path

from django.core.management.base import CommandParser
from django.db import transaction

from accounts.services.tokens import IssuedToken
from ops import rows
from ops.base import Command
from ops.secret_files import new_file


def add_arguments(parser: CommandParser) -> None:
    """Add what `create_token` and `rotate_token` share."""
    parser.add_argument(
        "--days", type=int, metavar="N", help="After how many days it expires; 0: never, where TOKEN_MAX_DAYS allows."
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="Write the token into a new file of mode 0600 instead.")


def deliver(command: Command, output: Path | None, mint: Callable[[], IssuedToken], said: str) -> None:
    """Mint a token and hand it out; where that fails there is no token. Raises what `mint` raises, Conflict and Invalid."""
    with new_file(output) as write, transaction.atomic():
        issued = mint()
        write(f"{issued.plaintext}\n")
    row = issued.token
    if command.as_json:
        where = {"file": str(output)} if output else {"token": issued.plaintext}
        command.print_json(rows.token(row) | where)
        return
    expires = f"expires {row.expires_at:%Y-%m-%d %H:%M} UTC" if row.expires_at else "never expires"
    command.say(f"{said}: key id {row.key_id}, {expires}.")
    if output:
        command.say(f"The token is in {output}, and nowhere else.")
    else:
        command.say("The token is shown this once. Whoever has it can do what the service account may do:")
        command.stdout.write(issued.plaintext)
