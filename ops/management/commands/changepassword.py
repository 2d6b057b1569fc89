from typing import Any

from django.core.management.base import CommandParser

from accounts.models import SignIn
from accounts.services import users
from core.errors import Invalid
from ops import base, rows, secret_files


class Command(base.Command):
    help = """Set the password of a user, and end the user's sessions. Unlike Django's command, it writes an audit entry.

For a user who signs in through single sign-on, a password is a second way to sign in, so --sign-in is required."""
    examples = (
        "changepassword alice",
        "changepassword alice --random-password",
        "changepassword alice --password-file password.txt",
        "changepassword bob@example.com --random-password --sign-in both",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The username or id.")
        secret_files.add_password_arguments(parser)
        parser.add_argument(
            "--sign-in",
            choices=(SignIn.PASSWORD.value, SignIn.BOTH.value),
            help="How the user can sign in afterwards: by password only, or by password and through single sign-on.",
        )

    def act(self, *, name: str, password_file: str | None, random_password: bool, sign_in: str | None, **_: Any) -> None:
        row = users.find_user(name)
        if row.sign_in == SignIn.SSO and sign_in is None:
            raise Invalid.field(
                "sign_in",
                f"{row.username} signs in through single sign-on. A password would be a second way to sign in. To allow both, "
                "use --sign-in both. To replace single sign-on, use --sign-in password.",
            )
        password = secret_files.read_password(file=password_file, random=random_password)
        row = users.set_password(actor=self.actor, user=row, password=password, sign_in=sign_in)
        if self.as_json:
            self.print_json(rows.user(row) | ({"password": password} if random_password else {}))
            return
        self.say(f"The password of {row.username} is set. {row.username} can sign in by {row.get_sign_in_display()}.")
        if random_password:
            self.say("The password is shown only once:")
            self.stdout.write(password)
