"""Writes the list of modules into docs/architecture.md: each module with the first sentence of its docstring.

Usage: python scripts/list_modules.py [--write]    without --write it prints the list
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- modules: written by scripts/list_modules.py -->\n", "<!-- end of modules -->\n"
# From the one that imports nothing of SkyAuth's own to the ones that wire it together.
PACKAGES = (
    "core", "audit", "rbac", "accounts", "revision", "integrations", "authn", "doctor",
    "gateway", "api", "skypilot", "dashboard", "ops", "adminsite", "skyauth",
)  # fmt: skip


def modules(package: str) -> Iterator[Path]:
    """Yield the modules of a package, without empty files and migrations."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if "migrations" not in path.parts and path.read_text(encoding="utf-8").strip():
            yield path


def sentence(path: Path) -> str:
    """Return the first sentence about a module: of its docstring, or of the help of a command. Raises ValueError."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    text = ast.get_docstring(tree) or next(_helps(tree), "")
    if path.name == "apps.py" and not text:
        text = "Django's application configuration."
    first = re.split(r"(?<=[.!?])\s", " ".join(text.split()), maxsplit=1)[0]
    if not first:
        raise ValueError(f"{path.relative_to(ROOT)} has no docstring.")
    return first


def _helps(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and ast.unparse(node.targets[0]) == "help":
            yield str(node.value.value)


def listing() -> str:
    """Return the list as Markdown, one table for each package."""
    blocks = []
    for package in PACKAGES:
        rows = [
            f"| `{path.relative_to(ROOT / package)}` | {sentence(path).replace('|', chr(92) + '|')} |"
            for path in modules(package)
        ]
        blocks.append("\n".join([f"### `{package}/`", "", "| module | what it is for |", "|---|---|", *rows]))
    return "\n\n".join(blocks) + "\n"


def page(text: str) -> str:
    """Return the page with today's list."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.relative_to(ROOT)} has lost the comments between which the list stands.")
    return f"{before}{begin}\n{listing()}\n{end}{after}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(listing(), end="")
