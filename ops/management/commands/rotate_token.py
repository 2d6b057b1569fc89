from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from accounts.services import tokens
from ops import base, secret_files, token_output


class Command(base.Command):
    help = "Replace a token with a new one. The old token is revoked immediately, or expires after --grace seconds."
    examples = ("rotate_token 4Qd0Zp7XmKaB", "rotate_token 4Qd0Zp7XmKaB --grace 3600 --output pipeline.token")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "key_id", metavar="KEY_ID", type=secret_files.key_id, help="The key id of the old token; see list_tokens."
        )
        parser.add_argument(
            "--grace",
            type=base.number_argument,
            default=0,
            metavar="SECONDS",
            help="The old token stays valid for this time. Default: 0.",
        )
        token_output.add_arguments(parser)

    def act(self, *, key_id: str, grace: int, days: int | None, output: Path | None, **_: Any) -> None:
        token = tokens.get_token(self.actor, key_id)
        token_output.deliver(
            self,
            output,
            lambda: tokens.rotate_token(actor=self.actor, token=token, days=days, grace=grace),
            f"Token {key_id} of {token.account.name} rotated",
        )
