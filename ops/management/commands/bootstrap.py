import io
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import OperationalError, transaction

from ops import base, secret_files
from ops import bootstrap as steps
from rbac import packs

_SECONDS = 60


class Command(base.Command):
    help = """Set up an installation: wait for the database, apply migrations, load routes and create the first admin.

You can run this command before each start, and on several replicas at the same time. What exists is not changed:

- The policy pack is only loaded if there are no routes, and never were. If an admin deleted all routes, the table stays
  empty.
- The admin is only created if there is no active admin. The password is the first line of --password-file. Without this
  option it is generated, and printed once on standard output."""
    examples = (
        "bootstrap --pack read-write",
        "bootstrap --pack skypilot --admin alice@example.com --password-file /run/secrets/admin-password",
        "bootstrap --no-admin --wait 300",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--pack", choices=packs.names(), help="The policy pack to load.")
        admin = parser.add_mutually_exclusive_group()
        admin.add_argument("--admin", metavar="NAME", default="admin", help="The username of the first admin. Default: admin.")
        admin.add_argument("--no-admin", action="store_true", help="Create no admin.")
        parser.add_argument(
            "--password-file",
            metavar="FILE",
            help="Read the password of the first admin from the first line of FILE; - is standard input. It is not read if no "
            "admin is created.",
        )
        parser.add_argument(
            "--wait",
            type=base.number_argument,
            metavar="SECONDS",
            default=_SECONDS,
            help=f"How long to wait for PostgreSQL. Default: {_SECONDS}.",
        )

    def act(self, *, pack: str | None, admin: str, no_admin: bool, password_file: str | None, wait: int, **_: Any) -> None:
        if no_admin and password_file is not None:
            self.misused("Use --password-file without --no-admin.")
        try:
            steps.wait_for_database(wait, self.say)
        except OperationalError as error:
            reason = steps.reason_of(error)
            raise CommandError(f"The database cannot be used: {reason}. Check DATABASE_URL and DATA_DIR.") from None
        migrations = self._migrate()
        with transaction.atomic():
            done = steps.set_up(
                actor=self.actor,
                pack=pack,
                admin=None if no_admin else admin,
                new_password=lambda: secret_files.read_password(file=password_file, random=password_file is None),
            )
            generated = done.password if password_file is None else ""
            # Within the transaction: if this cannot be written, there is no admin whose password nobody has.
            if self.as_json:
                values = {"migrations": migrations, "pack_loaded": done.pack, "routes": done.routes, "admin_created": done.admin}
                self.print_json(values | ({"password": generated} if generated else {}))
            elif generated:
                self.say(f"The password of {admin} is shown only once:")
                self.stdout.write(generated)
            self.stdout.flush()
        if not self.as_json:
            self._explain(done, pack, admin)

    def _migrate(self) -> int:
        """Apply the migrations, and return how many there were. Of several replicas, one applies them."""
        number = steps.pending_migrations()
        if number:
            self.say(f"Applying {number} migrations.")
        # Also without any: it restores missing triggers.
        call_command("migrate", interactive=False, stdout=io.StringIO(), stderr=self.stderr)
        return number

    def _explain(self, done: steps.SetUp, pack: str | None, admin: str) -> None:
        if done.pack:
            self.say(f"Policy pack {pack} loaded: {done.routes} routes.")
        elif pack is not None and done.routes:
            self.say(f"There are {done.routes} routes, so the policy pack {pack} is not loaded.")
        elif pack is not None:
            self.say(
                f"All routes were deleted, so the policy pack {pack} is not loaded, and every request is denied. "
                f"To load it, run: manage.py load_pack {pack}"
            )
        if done.admin:
            self.say(f"Admin {admin} created.")
        elif done.admin is not None:
            self.say("There is an admin, so none is created.")
        self.say("SkyAuth is set up.")
