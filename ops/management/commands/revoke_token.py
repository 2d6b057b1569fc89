from typing import Any

from django.core.management.base import CommandParser

from accounts.models import Token
from accounts.services import service_accounts, tokens
from ops import base, rows, secret_files


class Command(base.Command):
    help = "Revoke tokens, or all tokens of a service account. They are refused from the next request."
    examples = ("revoke_token 4Qd0Zp7XmKaB", "revoke_token --account pipeline --all")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "key_id", metavar="KEY_ID", nargs="*", type=secret_files.key_id, help="The key ids of the tokens; see list_tokens."
        )
        parser.add_argument("--account", metavar="NAME", help="With --all: the name or id of the service account.")
        parser.add_argument("--all", action="store_true", dest="everything", help="Revoke all tokens of the account.")

    def act(self, *, key_id: list[str], account: str | None, everything: bool, **_: Any) -> None:
        if bool(key_id) == bool(account) or bool(account) != everything:
            self.misused("Specify key ids, or --account NAME together with --all.")
        revoked = tokens.revoke_tokens(actor=self.actor, tokens=self._tokens(key_id, account))
        revoked_rows = [rows.token(token) for token in revoked]
        columns = {"key_id": "KEY ID", "account": "ACCOUNT", "name": "NAME", "revoked_at": "REVOKED"}
        self.print_rows(revoked_rows, columns, nothing="There are no tokens to revoke.")

    def _tokens(self, key_ids: list[str], account: str | None) -> list[Token]:
        if account is None:
            return [tokens.get_token(self.actor, key_id) for key_id in key_ids]
        row = service_accounts.get_account(self.actor, account)
        return list(tokens.visible_tokens(self.actor).filter(account=row, revoked_at=None))
