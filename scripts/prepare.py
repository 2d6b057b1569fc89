"""Prepares the database for `make run`, and prints new secrets as one line of JSON.

The first run applies the migrations, loads the policy pack of its argument, and creates the first admin with a random password
and a service account `demo` (viewer) with a token. Later runs only apply migrations. Each run also prints the role of `demo`, and
the status of the requests that `make run` suggests.
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
    """Return `password` and `token` if they were created. Raises ServiceError."""
    from django.db import transaction

    from accounts.services import service_accounts, tokens
    from ops import bootstrap
    from rbac.principals import system

    actor = system("make run")
    with transaction.atomic():
        done = bootstrap.set_up(actor=actor, pack=pack, admin=ADMIN_NAME, new_password=lambda: secrets.token_urlsafe(18))
        if not done.admin:
            return {}  # not the first run
        account = service_accounts.create_service_account(
            actor=actor, name=DEMO, role="viewer", description="Created by make run, to try the gateway.", unowned=True
        )
        token = tokens.issue_token(actor=actor, account=account, name="make run").plaintext
    return {"password": done.password, "token": token}


def demo_requests() -> dict[str, str]:
    """Return the role of `demo`, and the status of each suggested request; without `demo`, that of the anonymous one alone."""
    from accounts.principal_lookup import find_principal
    from core.errors import NotFound, ServiceError
    from rbac.explain import explain

    found: dict[str, str] = {}
    for key, name, method in (("anonymous", "anonymous", "GET"), ("read", DEMO, "GET"), ("write", DEMO, "POST")):
        try:
            principal, standing = find_principal(name)
            found[key] = str(explain(principal, standing, method=method, host="127.0.0.1", path="/hello").status)
        except NotFound:
            continue
        except ServiceError:  # a stored route that cannot be compiled denies every request
            found[key] = "503"
        if name == DEMO:
            found["role"] = principal.role
    return found


def main() -> Any:
    """Print the new secrets and the settings of identity headers. Returns an error message for `sys.exit`, or None."""
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
            created = prepare(sys.argv[1])
            headers = {name: getattr(settings, name) for name in ("AUTH_USER_HEADER", "AUTH_GROUPS_HEADER")}
            print(json.dumps({**created, **demo_requests(), **{name: value for name, value in headers.items() if value}}))
        except ServiceError as error:
            return str(error)
    except (ImproperlyConfigured, CommandError) as error:
        return str(error)
    except OperationalError as error:
        return f"The database cannot be used: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main())
