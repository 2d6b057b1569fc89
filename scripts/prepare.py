"""Makes the database ready for `make run`, and tells the launcher in one line of JSON what is new.

A first run migrates, loads the route pack that its one argument names, creates the first admin with a random password, and a
service account `demo` (viewer) with a token to try. Every later run migrates, and touches nothing else.
"""

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")

ADMIN_NAME = "admin"
DEMO = "demo"


def prepare(pack: str) -> dict[str, str]:
    """Return `password` and `token` where they were just made. Raises a ServiceError."""
    from django.db import transaction

    from accounts.services import service_accounts, tokens, users
    from rbac import services
    from rbac.models import Route
    from rbac.principals import system

    actor = system("make run")
    made: dict[str, str] = {}
    with transaction.atomic():
        services.lock_policy()  # two first runs at the same time make one admin
        if users.active_admins():
            return made  # not the first run: no routes may be what the operator wants
        if not Route.objects.exists():
            services.load_pack(actor=actor, name=pack)
        made["password"] = secrets.token_urlsafe(18)
        users.create_user(actor=actor, username=ADMIN_NAME, password=made["password"], role="admin")
        account = service_accounts.create_service_account(
            actor=actor, name=DEMO, role="viewer", description="Made by make run, to try the gateway.", unowned=True
        )
        made["token"] = tokens.issue_token(actor=actor, account=account, name="make run").plaintext
    return made


def main() -> Any:
    """Print what was made, and the headers that SkyAuth believes; or exit with a sentence that says what is wrong."""
    import django
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import CommandError, call_command
    from django.db import OperationalError

    try:
        django.setup()
        from core.errors import ServiceError

        call_command("migrate", verbosity=0, interactive=False)
        try:
            made = prepare(sys.argv[1])
            believed = {name: getattr(settings, name) for name in ("AUTH_USER_HEADER", "AUTH_GROUPS_HEADER")}
            print(json.dumps({**made, **{name: value for name, value in believed.items() if value}}))
        except ServiceError as error:
            return str(error)
    except (ImproperlyConfigured, CommandError) as error:
        return str(error)
    except OperationalError as error:
        return f"The database does not answer: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main())
