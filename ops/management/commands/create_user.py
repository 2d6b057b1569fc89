from typing import Any

from django.core.management.base import CommandParser

from accounts.models import SignIn
from accounts.services import users
from ops import base, rows, secret_files


class Command(base.Command):
    help = "Create a user. Asks for the password, unless told where to read it, to make one, or that there is none (--sso)."
    examples = (
        "create_user alice --role admin",
        "create_user bob@example.com --sso --role user",
        "create_user vera@example.com --role viewer --random-password",
        "create_user carol --password-file - < password.txt",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="An e-mail address or a plain name.")
        parser.add_argument("--role", metavar="ROLE", help="The role; without it, the one that RBAC_DEFAULT_ROLE says.")
        parser.add_argument(
            "--sso", action="store_true", help="The user signs in through the identity provider; with a password, both ways."
        )
        secret_files.add_password_arguments(parser)
        parser.add_argument("--email", metavar="ADDRESS", help="The e-mail address, where the name is none.")
        parser.add_argument("--display-name", metavar="TEXT", default="", help="How people call the user.")

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
        made = password if random_password else None
        if self.as_json:
            self.print_json(rows.user(row) | ({"password": made} if made else {}))
            return
        self.say(f"Created the user {row.username} with the role {row.role.name}.")
        if made:
            self.say("The password is shown this once:")
            self.stdout.write(made)
