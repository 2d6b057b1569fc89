from typing import Any

from django.core.management.base import CommandParser

from accounts.services import users
from ops import base, rows, secret_files


class Command(base.Command):
    help = "Set the password of a user, and end the user's sessions. Unlike Django's command, it writes an audit entry."
    examples = (
        "changepassword alice",
        "changepassword alice --random-password",
        "changepassword alice --password-file password.txt",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The username or id.")
        secret_files.add_password_arguments(parser)

    def act(self, *, name: str, password_file: str | None, random_password: bool, **_: Any) -> None:
        row = users.find_user(name)
        password = secret_files.read_password(file=password_file, random=random_password)
        row = users.set_password(actor=self.actor, user=row, password=password)
        if self.as_json:
            self.print_json(rows.user(row) | ({"password": password} if random_password else {}))
            return
        self.say(f"The password of {row.username} is set.")
        if random_password:
            self.say("The password is shown only once:")
            self.stdout.write(password)
