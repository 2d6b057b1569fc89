from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from authn import jwt_keys
from ops import base
from ops.secret_files import new_file


class Command(base.Command):
    help = "Create a private key for signed assertions, in a new file that only its owner can read. List it in ASSERTION_KEYS."
    examples = ("create_assertion_key var/assertion-2026.pem", "create_assertion_key var/assertion-2026.pem --rsa")
    requires_system_checks: list[str] = []  # E020 fails as long as the file does not exist

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="The new file.")
        parser.add_argument(
            "--rsa",
            action="store_true",
            help="Create an RSA key (RS256), for upstreams whose library does not support Ed25519 (EdDSA).",
        )

    def act(self, *, file: Path, rsa: bool, **_: Any) -> None:
        with new_file(file) as write:
            write(jwt_keys.new_pem(rsa=rsa))
        key = jwt_keys.read(file)
        if self.as_json:
            self.print_json({"file": str(file), "kid": key.kid, "algorithm": key.algorithm})
        else:
            self.print_table(["KEY ID", "ALGORITHM", "FILE"], [[key.kid, key.algorithm, file]])
        self.say("List the file in ASSERTION_KEYS and restart. To rotate keys, see docs/guides/signed-assertions.md.")
