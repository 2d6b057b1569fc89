from typing import Any

from django.core.management.base import CommandParser

from ops import base, diff, text_files
from ops.apply import manifest, reconcile


class Command(base.Command):
    help = """Make roles, routes, group roles and service accounts be as a YAML file says: all of it, or nothing.

The file has any of these sections; what it does not mention stays as it is. Tokens and users are never in it.

  roles:
    - name: deployer
      description: Deploys from CI.
      permissions: [upstream:read, upstream:write]
  routes:                  # one ordered list, which takes the place of the whole table; or  routes: {pack: skypilot}
    - path: /api/**
      methods: [GET, HEAD]
      permission: upstream:read
  group_roles:
    - group: platform-team
      role: admin
      priority: 10
  service_accounts:
    - name: pipeline
      role: deployer
      description: Nightly build.
      owner: bob@example.com
      active: true

With --dry-run the exit code is 3 when there are differences."""
    examples = ("apply skyauth.yaml --dry-run", "apply skyauth.yaml", "apply skyauth.yaml --prune", "apply - < skyauth.yaml")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="The file, or - for standard input.")
        parser.add_argument("--dry-run", action="store_true", help="Change nothing; show what would change.")
        parser.add_argument(
            "--prune", action="store_true", help="Remove what the sections of the file do not name, but no built-in role."
        )

    def act(self, *, file: str, dry_run: bool, prune: bool, **_: Any) -> None:
        wanted = manifest.read(text_files.read(file, limit=manifest.MAX_TEXT))
        changes = reconcile.apply(actor=self.actor, declaration=wanted, prune=prune, dry_run=dry_run)
        diff.show(self, changes, applied=bool(changes) and not dry_run)
        count = "1 difference" if len(changes) == 1 else f"{len(changes)} differences"
        if not changes:
            self.say("Everything is as the file says.")
        elif dry_run:
            self.say(f"{count}; nothing was changed (--dry-run).")
            self.end(base.Exit.DIFFERENT)
        else:
            self.say(f"{count}, applied.")
