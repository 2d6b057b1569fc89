from typing import Any

from django.core.management.base import CommandParser

from accounts.models import SignIn
from accounts.services import users
from accounts.services.sign_in_warnings import warning_about
from ops import base, rows, secret_files


class Command(base.Command):
    help = "Create a user. The command asks for a password, except with --password-file, --random-password or --sso."
    examples = (
        "create_user alice --role admin",
        "create_user bob@example.com --sso --role user",
        "create_user vera@example.com --role viewer --random-password",
        "create_user carol --password-file - < password.txt",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The username: an e-mail address or a plain name.")
        parser.add_argument("--role", metavar="ROLE", help="The role. Default: user, or RBAC_DEFAULT_ROLE if that is less.")
        parser.add_argument(
            "--sso",
            action="store_true",
            help="The user signs in through the identity provider. With a password option: in both ways.",
        )
        secret_files.add_password_arguments(parser)
        parser.add_argument("--email", metavar="ADDRESS", help="The e-mail address, if the username is not one.")
        parser.add_argument("--display-name", metavar="TEXT", default="", help="The display name.")

    def act(
        self,
        *,
        name: str,
        role: str | None,
        sso: bool,
        password_file: str | None,
        random_password: bool,
        email: str | None,
        display_name: str,
        **_: Any,
    ) -> None:
        password = None
        if not sso or password_file or random_password:
            password = secret_files.read_password(file=password_file, random=random_password)
        row = users.create_user(
            actor=self.actor,
            username=name,
            password=password,
            role=role,
            email=email,
            display_name=display_name,
            sign_in=SignIn.BOTH if sso and password else None,
        )
        generated = password if random_password else None
        if self.as_json:
            self.print_json(rows.user(row) | ({"password": generated} if generated else {}))
            return
        self.say(f"User {row.username} created with the role {row.role.name}.")
        if warning := warning_about(row):
            self.say(f"Warning: {warning}")
        if generated:
            self.say("The password is shown only once:")
            self.stdout.write(generated)
