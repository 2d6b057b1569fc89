"""Makes deploy/compose/Caddyfile: the file of deploy/proxies with its lines for an auth proxy and for SkyAuth's own pages.

Usage: python scripts/compose_gateway.py [--write]

Without --write, it prints the file.
"""

import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SHIPPED: Final = ROOT / "deploy" / "proxies" / "caddy" / "Caddyfile"
MADE: Final = ROOT / "deploy" / "compose" / "Caddyfile"
_HEAD: Final = """\
# Made by scripts/compose_gateway.py: deploy/proxies/caddy/Caddyfile without the marks `#a|` and `#s|`. Change that file, and run:
# python scripts/compose_gateway.py --write
#
"""


def make() -> str:
    """Return the text of the file."""
    text = SHIPPED.read_text(encoding="utf-8")
    return _HEAD + re.sub(r"^(\s*)#[as]\| ?", r"\1", text, flags=re.MULTILINE)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        MADE.write_text(make(), encoding="utf-8")
    else:
        print(make(), end="")
