"""The reference pages, made from the code itself. `manage.py reference` prints them; a test keeps the files equal to them."""

import argparse
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from django.core.management import get_commands, load_command_class

from ops.base import Command
from rbac import packs
from rbac.permissions import MEANINGS, Permission, effective_permissions
from skyauth.environment import Setting
from skyauth.settings import env
from skypilot.urls import OPERATIONS

_MADE: Final = "<!-- Made by `manage.py reference {page} --write`. Change the code, not this file. -->"

_ABOUT_SETTINGS: Final = """\
Every setting is an environment variable, or a line of a file `.env` beside `manage.py`; the environment wins. All have a
default. A name that looks like one of these and is none, and a value that cannot be used, keep SkyAuth from starting."""
_ABOUT_PERMISSIONS: Final = """\
A door works out which permission a request needs; a role holds permissions; the answer is yes when the one is among the
others. There is no second permission system beside this one. A service account never does more than its owner may."""
_ABOUT_ROLES: Final = """\
These come with SkyAuth and cannot be deleted. What `user` and `viewer` hold can be changed, and roles can be added; `admin`
always holds everything."""
_ABOUT_PACKS: Final = """\
A pack is a ready-made, ordered table that says which permission a method and path of a protected API need. The first route
that matches decides; what no route matches is denied. `manage.py load_pack NAME` loads one."""
_ABOUT_SKYPILOT: Final = """\
SkyPilot's CLI and dashboard call these, also below `/internal/dashboard`. Where several permissions are named, one of them is
enough; which users and tokens a caller may touch with it, the services say. Everybody may ask `GET /api/health`."""
_ABOUT_COMMANDS: Final = """\
Standard output carries the result alone: a table, JSON with `--json`, a new secret, a CSV. Whatever is said about it goes to
standard error. The audit log names the command and the operating system's user."""
_EXIT_CODES: Final = (
    ("0", "done"),
    ("1", "refused or failed, with a sentence that says why"),
    ("2", "wrong usage, or a setting that cannot be used"),
    ("3", "`apply --dry-run`: there are differences"),
)


def settings() -> str:
    """Return docs/settings.md."""
    lines = [
        "# Settings",
        _MADE.format(page="settings"),
        _ABOUT_SETTINGS,
    ]
    section = ""
    for setting in env.settings:
        if setting.section != section:
            section = setting.section
            lines.append(f"## {section}")
        lines.append(f"### `{setting.name}`\n\n{setting.meaning}\n\n- Value: {setting.kind}\n- Default: {_default(setting)}")
    return _page(lines)


def _default(setting: Setting) -> str:
    if not setting.default:
        return "empty"
    return setting.default if _in_words(setting) else f"`{setting.default}`"


def _in_words(setting: Setting) -> bool:
    """Return whether the default is told in words, because it is not the same everywhere."""
    return " " in setting.default


def dotenv() -> str:
    """Return .env.example."""
    lines = [
        "# Every setting, with its default. Copy this file to .env and uncomment what you change.",
        "# Made by `manage.py reference env --write`. Change the code, not this file.",
    ]
    section = ""
    for setting in env.settings:
        if setting.section != section:
            section = setting.section
            lines += ["", f"# {section}"]
        told = f"{setting.meaning} ({setting.kind[0].upper()}{setting.kind[1:]}.)"
        if _in_words(setting):
            told += f" Default: {setting.default}."
        lines += ["", *textwrap.wrap(told, 110, initial_indent="# ", subsequent_indent="# ", break_long_words=False)]
        lines.append(f"#{setting.name}={'' if _in_words(setting) else setting.default}")
    return "\n".join(lines) + "\n"


def permissions() -> str:
    """Return docs/permissions.md."""
    seeded = importlib.import_module("rbac.migrations.0002_seed_roles").ROLES
    roles = {name: effective_permissions(name, held) for name, (_, held) in seeded.items()}
    lines = [
        "# Permissions and roles",
        _MADE.format(page="permissions"),
        _ABOUT_PERMISSIONS,
        "## Permissions",
        _table(["Permission", "What it allows"], [(f"`{name}`", MEANINGS[name]) for name in Permission]),
        "## Roles",
        _ABOUT_ROLES,
        _table(["Role", "What it is for"], [(f"`{name}`", text) for name, (text, _) in seeded.items()]),
        _table(
            ["Permission", *(f"`{name}`" for name in roles)],
            [(f"`{name}`", *("yes" if name in held else "" for held in roles.values())) for name in Permission],
        ),
        "## Route packs",
        _ABOUT_PACKS,
        _table(
            ["Pack", "Routes", "What it does"],
            [(f"`{pack.name}`", str(len(pack.routes)), pack.description) for pack in map(packs.load, packs.names())],
        ),
        "## The SkyPilot door",
        _ABOUT_SKYPILOT,
        _skypilot(),
    ]
    return _page(lines)


def _skypilot() -> str:
    return _table(
        ["Endpoint of SkyPilot", "Needs"],
        [
            (f"`{operation.method} /{operation.path}`", " or ".join(f"`{name}`" for name in operation.needs) or "any sign-in")
            for operation in OPERATIONS
        ],
    )


def commands() -> str:
    """Return docs/commands.md."""
    lines = [
        "# Commands",
        _MADE.format(page="commands"),
        _ABOUT_COMMANDS,
        _table(["Exit code", "Meaning"], _EXIT_CODES),
        *(_command(name, command) for name, command in _our_commands()),
    ]
    return _page(lines)


def _our_commands() -> Iterator[tuple[str, Command]]:
    for name, app in sorted(get_commands().items()):
        if app in {"ops", "skyauth"} and isinstance(command := load_command_class(app, name), Command):
            yield name, command


def _command(name: str, command: Command) -> str:
    actions = [action for action in _actions(name, command) if action.help != argparse.SUPPRESS]
    usage = " ".join(["manage.py", name, *(_usage(action) for action in actions)])
    parts = [f"## {name}", _prose(inspect.cleandoc(command.help)), f"```\n{usage}\n```"]
    if actions:
        parts.append(_table(["Argument", "Meaning"], [(f"`{_names(action)}`", action.help or "") for action in actions]))
    if command.examples:
        parts.append("\n".join(["```console", *(f"$ python manage.py {example}" for example in command.examples), "```"]))
    return "\n\n".join(parts)


def _actions(name: str, command: Command) -> Iterable[argparse.Action]:
    """Return the command's own arguments, without those that Django gives to all."""
    django = {"help", "version", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color", "skip_checks"}
    parser = command.create_parser("manage.py", name)
    return [action for action in parser._actions if action.dest not in django]


def _names(action: argparse.Action) -> str:
    shown = _value(action)
    if not action.option_strings:
        return shown
    return f"{action.option_strings[-1]} {shown}" if action.nargs != 0 else action.option_strings[-1]


def _value(action: argparse.Action) -> str:
    if action.choices:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest)


def _usage(action: argparse.Action) -> str:
    text = _names(action)
    text = f"{text} ..." if action.nargs == "*" else text
    return text if action.required and action.nargs != "*" else f"[{text}]"


def _prose(text: str) -> str:
    """Return the help as Markdown: an indented passage is code."""
    blocks = []
    for block in text.split("\n\n"):
        indented = all(line.startswith("  ") for line in block.splitlines())
        blocks.append(f"```yaml\n{textwrap.dedent(block)}\n```" if indented else block)
    return "\n\n".join(blocks)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _table(columns: list[str], rows: Iterable[tuple[str, ...]]) -> str:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _page(blocks: Iterable[str]) -> str:
    return "\n\n".join(blocks) + "\n"


PAGES: Final[dict[str, tuple[str, Callable[[], str]]]] = {
    "settings": ("docs/settings.md", settings),
    "permissions": ("docs/permissions.md", permissions),
    "env": (".env.example", dotenv),
    "commands": ("docs/commands.md", commands),
}
