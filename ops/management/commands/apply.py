from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser

from accounts import group_names
from ops import base, diff, text_files
from ops.apply import consequences, manifest, reconcile
from rbac import shadows


class Command(base.Command):
    help = """Make roles, routes, group roles and service accounts match a YAML file. Either all changes are made, or none.

The file contains any of these sections. What it does not mention is not changed. Users and tokens are not part of it.

  roles:
    - name: deployer
      description: Deploys from CI.
      permissions: [upstream:read, upstream:write]
  routes:                  # one ordered list that replaces the whole table; or  routes: {pack: skypilot}
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

With --preview, nothing is changed either, and the command also shows which users, service accounts and groups would
lose or gain permissions, and which recent requests would be newly denied or allowed. A group stands for its members for
whom it decides.

With --dry-run or --preview, the exit code is 3 if there are differences."""
    examples = (
        "apply skyauth.yaml --dry-run",
        "apply skyauth.yaml --preview",
        "apply skyauth.yaml",
        "apply skyauth.yaml --prune",
        "apply - < skyauth.yaml",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="The YAML file; - is standard input.")
        parser.add_argument("--dry-run", action="store_true", help="Show the differences without changing anything.")
        parser.add_argument(
            "--preview", action="store_true", help="Also show who would lose or gain what, without changing anything."
        )
        parser.add_argument(
            "--prune", action="store_true", help="Delete what the sections of the file do not list, except built-in roles."
        )

    def act(self, *, file: str, dry_run: bool, prune: bool, preview: bool, **_: Any) -> None:
        content = manifest.read(text_files.read(file, limit=manifest.MAX_TEXT))
        effects = None
        if preview:
            changes, effects = consequences.preview(actor=self.actor, manifest=content, prune=prune)
        else:
            changes = reconcile.apply(actor=self.actor, manifest=content, prune=prune, dry_run=dry_run)
        rehearsed = dry_run or preview
        warnings = list(_warnings(content))
        also = {} if effects is None else {"preview": effects.json()}
        diff.show(self, changes, applied=bool(changes) and not rehearsed, warnings=warnings, **also)
        if effects is not None and not self.as_json:
            consequences.show(self, effects)
        for warning in warnings:
            self.say(f"Warning: {warning}")
        count = "1 difference" if len(changes) == 1 else f"{len(changes)} differences"
        if not changes:
            self.say("No differences.")
        elif rehearsed:
            self.say(f"{count}. Nothing was changed ({'--preview' if preview else '--dry-run'}).")
            self.end(base.Exit.DIFFERENT)
        else:
            self.say(f"{count} applied.")


def _warnings(content: manifest.Manifest) -> Iterator[str]:
    if content.group_roles and (unread := group_names.unread_reason()):
        yield unread
    if content.routes and (dead := shadows.dead(content.routes)):
        yield (
            f"Routes that never decide a request, because earlier ones match all of it: {'; '.join(dead)}. "
            "Move them up in the file, or delete them."
        )
