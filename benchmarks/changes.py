"""Changes tokens in the database, so many a second, each of them a random one of those that are asked about.

`python -m benchmarks.changes RATE TOKENS` begins after it has said "ready", and ends with its standard input.
"""

import os
import random
import sys
import threading
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")


def main() -> None:
    """Make changes until standard input ends."""
    import django

    django.setup()
    from accounts.models import Token

    rate, count = float(sys.argv[1]), int(sys.argv[2])
    keys = list(Token.objects.order_by("pk").values_list("pk", flat=True)[:count])
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    print("ready", flush=True)
    due, made = time.monotonic(), 0
    while not over.wait(max(0.0, due - time.monotonic())):
        made += 1
        Token.objects.filter(pk=random.choice(keys)).update(name=f"change {made}")  # noqa: S311 - not for a secret
        due += 1 / rate


if __name__ == "__main__":
    main()
