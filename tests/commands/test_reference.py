"""The reference pages are generated from the code, complete, and committed."""

import ast
import re
from pathlib import Path

import pytest

from rbac.models import Role
from rbac.permissions import MEANINGS, Permission
from skyauth import reference
from skyauth.configuration import env
from tests.commands.run_command import ROOT, run

COMMANDS = [
    "apply", "audit", "backup", "bootstrap", "changepassword", "check_skypilot_users", "create_assertion_key",
    "create_service_account", "create_token", "create_user", "createsuperuser", "delete_service_account", "delete_user",
    "deleted_users", "disable_service_account", "disable_user", "doctor", "enable_service_account", "enable_user",
    "end_session", "explain", "export", "export_users", "import_users", "list_group_roles", "list_roles", "list_routes",
    "list_service_accounts", "list_sessions", "list_tokens", "list_users", "load_pack", "prune", "reference", "restore",
    "revoke_token", "rotate_token", "runserver", "serve", "set_role", "show_service_account", "show_user", "sync_roles",
    "tell_roles",
]  # fmt: skip


@pytest.mark.parametrize("page", reference.PAGES)
def test_the_committed_file_is_up_to_date(page: str) -> None:
    path, make = reference.PAGES[page]
    assert (ROOT / path).read_text(encoding="utf-8") == make(), "Run: manage.py reference --write"


@pytest.mark.parametrize("page", reference.PAGES)
def test_reference_prints_the_page_and_nothing_else(db: None, page: str) -> None:
    assert run("reference", page).out == reference.PAGES[page][1]()


def test_reference_needs_a_page(db: None) -> None:
    assert run("reference").code == 2


def test_every_setting_is_in_both_references() -> None:
    names = [setting.name for setting in env.settings]
    assert len(names) == len(set(names))
    assert re.findall(r"^### `(\w+)`$", reference.settings(), re.MULTILINE) == names
    assert re.findall(r"^#(\w+)=", reference.dotenv(), re.MULTILINE) == names


def test_every_setting_is_described_in_sentences() -> None:
    assert all(setting.meaning.endswith((".", ")")) and setting.section for setting in env.settings)


def test_a_copied_example_sets_nothing() -> None:
    assert all(line.startswith("#") or not line for line in reference.dotenv().splitlines())


def test_settings_read_the_environment_through_env_alone() -> None:
    """Every variable is read by a method of `env`, so the reference is complete."""
    text = (ROOT / "skyauth" / "configuration.py").read_text(encoding="utf-8")
    assert not re.search(r"environ\b(?!ment)|getenv", text.replace("skyauth.environment", ""))
    readers = {"text", "flag", "number", "words", "choice", "parsed", "secret"}
    read = {
        name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in readers
        and isinstance(node.func.value, ast.Name) and node.func.value.id == "env" and isinstance(node.args[0], ast.Constant)
        for name in ([node.args[0].value, f"{node.args[0].value}_FILE"] if node.func.attr == "secret" else [node.args[0].value])
    }  # fmt: skip
    assert read == {setting.name for setting in env.settings}


@pytest.mark.parametrize("package", ["accounts", "api", "audit", "gateway", "rbac", "skyauth"])
def test_nothing_else_reads_the_environment(package: str) -> None:
    # The server sets a variable of prometheus_client for its workers, and systemd those of its sockets; the command line names
    # the module of Django's settings. They are no settings.
    allowed = {"skyauth/environment.py", "skyauth/asgi.py", "skyauth/server.py", "skyauth/listeners.py", "gateway/metrics.py"}
    allowed.add("skyauth/command_line.py")
    readers = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"os\.environ|getenv", path.read_text(encoding="utf-8"))
    ]
    assert set(readers) <= allowed


def test_the_permissions_page_shows_the_roles_as_they_are_seeded(db: None) -> None:
    page = reference.permissions()
    roles = {role.name: role for role in Role.objects.all()}
    for permission in Permission:
        row = " | ".join("yes" if permission in roles[name].holds else "" for name in ("admin", "user", "viewer"))
        assert f"| `{permission}` | {row} |" in page
        assert f"| `{permission}` | {MEANINGS[permission]} |" in page
    assert all(f"| `{role.name}` | {role.description} |" in page for role in roles.values())


def test_the_commands_page_has_every_command_of_skyauth() -> None:
    assert re.findall(r"^## (\w+)$", reference.commands(), re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_parser_of_a_command_accepts_its_examples(name: str) -> None:
    import shlex

    from django.core.management import get_commands, load_command_class

    command = load_command_class(get_commands()[name], name)
    assert command.examples or name == "createsuperuser"
    for example in command.examples:
        words = shlex.split(example.split(" < ")[0])
        assert words[0] == name
        command.create_parser("manage.py", name).parse_args(words[1:])


def test_no_page_names_a_path_of_this_machine() -> None:
    assert not [path for path, make in reference.PAGES.values() if str(ROOT) in make() or str(Path.home()) in make()]
