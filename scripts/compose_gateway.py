"""Makes deploy/compose/Caddyfile: the file of deploy/proxies, with the lines of two guides for SkyAuth's pages and OAuth2 Proxy.

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
_STRIP: Final = "\t\timport strip\n"
_UPSTREAM: Final = "\t\t# All six headers are always set."
_HEAD: Final = """\
# Made by scripts/compose_gateway.py: deploy/proxies/caddy/Caddyfile, with the lines that docs/guides/browsers.md and
# docs/guides/auth-proxy.md add. Change those files, and run: python scripts/compose_gateway.py --write
#
"""
_FOR_SKYAUTH_ONLY: Final = """\t\t# The headers of the auth proxy are only for SkyAuth.
\t\trequest_header -{$AUTH_USER_HEADER:X-Auth-Request-Email}
\t\trequest_header -{$AUTH_GROUPS_HEADER:X-Auth-Request-Groups}

"""


def lines_of(guide: str) -> str:
    """Return the lines for the Caddyfile that a guide shows, indented as in the `route` block."""
    text = (ROOT / "docs" / "guides" / f"{guide}.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```caddyfile\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return re.sub(r"^(?=.)", "\t\t", block, flags=re.MULTILINE)


def replaced(text: str, old: str, new: str) -> str:
    """Replace a text that is there exactly once. Raises ValueError."""
    if text.count(old) != 1:
        raise ValueError(f"{SHIPPED} has {old.strip()!r} {text.count(old)} times.")
    return text.replace(old, new)


def make() -> str:
    """Return the text of the file."""
    text = SHIPPED.read_text(encoding="utf-8")
    text = replaced(text, _STRIP, lines_of("auth-proxy") + "\n" + lines_of("browsers"))
    return _HEAD + replaced(text, _UPSTREAM, _FOR_SKYAUTH_ONLY + _UPSTREAM)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        MADE.write_text(make(), encoding="utf-8")
    else:
        print(make(), end="")
