"""Seeds SkyAuth's database for a benchmark, past the services wherever they would take an hour for a million rows.

`python -m benchmarks.seed DIRECTORY --tokens N --routes N`, with SkyAuth's settings in the environment, migrates, writes the
rows, and leaves in DIRECTORY what clients show, a credential to a line: tokens.txt, passwords.txt (as Basic encodes them),
people.txt (e-mail addresses) and sessions.txt (keys).
"""

import argparse
import base64
import os
import secrets
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")

if TYPE_CHECKING:
    from accounts.models import ServiceAccount, User

PEOPLE: Final = 1_000
PASSWORDS: Final = 50  # of the first people: a server hashes each for 20 ms before it remembers it
TOKENS_PER_ACCOUNT: Final = 10
BATCH: Final = 10_000
PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - opens nothing but a benchmark's own database


def path_of(route: int) -> str:
    """Return a path that the route of this number, from 1, is the first to match."""
    return f"/api/v1/resource{route}/items/42"


def seed_routes(count: int) -> None:
    """Make the route table `count` routes long, each for paths of its own."""
    from rbac import services
    from rbac.packs import RouteSpec
    from rbac.principals import system

    specs = [
        RouteSpec(path=f"/api/v1/resource{n}/**", methods=("GET", "HEAD"), permission="upstream:read")
        for n in range(1, count + 1)
    ]
    services.replace_routes(actor=system("benchmark"), specs=specs, source="the benchmark")


def seed_people() -> "list[User]":
    """Create the people, all with the same password, and return them."""
    from django.contrib.auth.hashers import make_password

    from accounts.identifiers import user_uid
    from accounts.models import SignIn, User
    from rbac.models import Role

    role, stored = Role.objects.get(name="user"), make_password(PASSWORD)
    names = [f"person{n}@example.com" for n in range(PEOPLE)]
    rows = [
        User(username=name, uid=user_uid(name), email=name, sign_in=SignIn.BOTH, password=stored, role=role) for name in names
    ]
    return User.objects.bulk_create(rows)


def seed_sessions(people: "Iterable[User]") -> list[str]:
    """Sign everybody in, as Django's login would, and return the keys of their sessions."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.utils import timezone

    from accounts.models import Session
    from authn.session_store import SIGNED_IN_AT, SessionStore, digest

    store, now, keys, rows = SessionStore(), timezone.now(), [], []
    for person in people:
        data = {
            SESSION_KEY: str(person.pk),
            BACKEND_SESSION_KEY: "authn.backends.BasicBackend",
            HASH_SESSION_KEY: person.get_session_auth_hash(),
            SIGNED_IN_AT: now.timestamp(),
        }
        keys.append(secrets.token_hex(16))
        ends = now + timedelta(hours=12)
        rows.append(Session(session_key=digest(keys[-1]), session_data=store.encode(data), expire_date=ends, user_id=person.pk))
    Session.objects.bulk_create(rows)
    return keys


def seed_accounts(people: "list[User]", count: int) -> "list[ServiceAccount]":
    """Create service accounts, each owned by one of the people, and return them."""
    from accounts.identifiers import account_uid
    from accounts.models import ServiceAccount
    from rbac.models import Role

    role = Role.objects.get(name="user")
    rows = [
        ServiceAccount(name=f"machine{n}", uid=account_uid(), created_by="benchmark", role=role, owner=people[n % len(people)])
        for n in range(count)
    ]
    return ServiceAccount.objects.bulk_create(rows, batch_size=BATCH)


def seed_tokens(accounts: "list[ServiceAccount]", count: int, path: Path) -> None:
    """Create tokens, spread over the accounts, and write their plaintexts to the file."""
    from django.db import connection
    from django.utils import timezone

    from accounts import token_format
    from accounts.models import Token

    # bulk_create would prepare each of thirteen values a million times, of which three differ.
    model = Token(account=accounts[0], created_by="benchmark", expires_at=timezone.now() + timedelta(days=30))
    fields = [field for field in Token._meta.local_concrete_fields if not field.primary_key]
    columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    table = f"{connection.ops.quote_name(Token._meta.db_table)} ({columns})"
    values = [field.get_db_prep_save(getattr(model, field.attname), connection) for field in fields]
    account, key_id, digest = (
        next(n for n, field in enumerate(fields) if field.name == name) for name in ("account", "key_id", "digest")
    )

    with path.open("w", encoding="ascii") as shown, connection.cursor() as cursor:
        for start in range(0, count, BATCH):
            rows = []
            for n in range(start, min(start + BATCH, count)):
                minted = token_format.mint()
                values[account], values[key_id], values[digest] = accounts[n % len(accounts)].pk, minted.key_id, minted.digest
                rows.append(tuple(values))
                shown.write(minted.plaintext + "\n")
            if connection.vendor == "postgresql":
                with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
            else:
                cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(fields))})", rows)  # noqa: S608


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a credential to a line."""
    path.write_text("".join(line + "\n" for line in lines), encoding="ascii")


def main() -> None:
    """Migrate and seed."""
    parser = argparse.ArgumentParser(description="Seed SkyAuth's database for a benchmark.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--routes", type=int, required=True)
    asked = parser.parse_args()

    import django
    from django.core.management import call_command
    from django.db import connection, transaction

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    with transaction.atomic():
        seed_routes(asked.routes)
        people = seed_people()
        sessions = seed_sessions(people)
        accounts = seed_accounts(people, max(1, asked.tokens // TOKENS_PER_ACCOUNT))
        seed_tokens(accounts, asked.tokens, asked.directory / "tokens.txt")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    names = [person.username for person in people]
    write_lines(asked.directory / "people.txt", names)
    write_lines(asked.directory / "sessions.txt", sessions)
    pairs = (f"{name}:{PASSWORD}" for name in names[:PASSWORDS])
    write_lines(asked.directory / "passwords.txt", (base64.b64encode(pair.encode()).decode() for pair in pairs))


if __name__ == "__main__":
    main()
