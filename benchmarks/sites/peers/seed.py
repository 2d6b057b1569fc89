"""Seeds a peer's database: `python -m benchmarks.sites.peers.seed FILE --tokens N`, settings as in `settings`.

Leaves in FILE what clients show, a token to a line.
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.sites.peers.settings")


def drf(people: list[Any]) -> list[str]:
    """Give everybody a token of DRF's, and return the tokens."""
    from rest_framework.authtoken.models import Token

    return [row.key for row in Token.objects.bulk_create(Token(user=person, key=Token.generate_key()) for person in people)]


def knox(people: list[Any]) -> list[str]:
    """Give everybody a token of knox's, and return the tokens."""
    from knox.models import AuthToken, get_digest_token, get_expiry
    from knox.settings import CONSTANTS, knox_settings

    expiry = get_expiry(knox_settings.TOKEN_TTL)
    made = [get_digest_token() for _ in people]
    AuthToken.objects.bulk_create(
        AuthToken(digest=digest, token_key=token[: CONSTANTS.TOKEN_KEY_LENGTH], user=person, expiry=expiry)
        for person, (digest, token) in zip(people, made, strict=True)
    )
    return [token for _, token in made]


def api_key(people: list[Any]) -> list[str]:
    """Create as many API keys as there are people, and return them."""
    from rest_framework_api_key.models import APIKey

    rows = [APIKey(name=f"key{n}") for n in range(len(people))]
    keys = [APIKey.objects.assign_key(row) for row in rows]
    APIKey.objects.bulk_create(rows)
    return keys


def main() -> None:
    """Migrate and seed."""
    parser = argparse.ArgumentParser(description="Fill a peer's database for a benchmark.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokens", type=int, required=True)
    asked = parser.parse_args()

    import django
    from django.core.management import call_command
    from django.db import connection, transaction

    django.setup()
    from django.contrib.auth.models import User

    call_command("migrate", verbosity=0, interactive=False)
    with transaction.atomic():
        people = User.objects.bulk_create(User(username=f"person{n}") for n in range(asked.tokens))
        shown = {"drf": drf, "knox": knox, "api-key": api_key}[os.environ["PEER"]](people)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    asked.file.write_text("".join(token + "\n" for token in shown), encoding="ascii")


if __name__ == "__main__":
    main()
