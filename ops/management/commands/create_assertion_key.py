from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from authn import jwt_keys
from ops import base
from ops.secret_files import new_file


class Command(base.Command):
    help = "Make a private key that signs assertions, in a new file that only its owner can read. ASSERTION_KEYS names it."
    examples = ("create_assertion_key var/assertion-2026.pem", "create_assertion_key var/assertion-2026.pem --rsa")
    requires_system_checks: list[str] = []  # one of them misses the file that is to be made

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="The file to make.")
        parser.add_argument(
            "--rsa",
            action="store_true",
            help="Make an RSA key (RS256), where an upstream's library does not know Ed25519 (EdDSA).",
        )

    def act(self, *, file: Path, rsa: bool, **_: Any) -> None:
        with new_file(file) as write:
            write(jwt_keys.new_pem(rsa=rsa))
        made = jwt_keys.read(file)
        shown = {"file": str(file), "kid": made.kid, "algorithm": made.algorithm}
        if self.as_json:
            self.print_json(shown)
        else:
            self.print_table(["KEY ID", "ALGORITHM", "FILE"], [[made.kid, made.algorithm, file]])
        self.say("Name the file in ASSERTION_KEYS and restart. docs/guides/signed-assertions.md says how to rotate keys.")
