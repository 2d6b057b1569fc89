"""export: what is stored as a file that `apply` reads, makes the same of, and then finds no difference in."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.models import GroupRole, ServiceAccount, User
from core.one_line import as_one_line
from ops.apply import export, manifest
from rbac import services
from rbac.models import Role, Route
from rbac.principals import Principal
from tests.commands.run_command import ROOT, Ended, run
from tests.commands.test_apply import WHOLE, state
from tests.factories import ServiceAccountFactory, UserFactory
from tests.servers import database, directory, environment

SOURCE = WHOLE.replace("owner: bob@example.com", "owner: null")


@pytest.fixture
def whole(bob: User, tmp_path: Path) -> None:
    """Something in each section: also an account that bob owns, a disabled one, and a changed built-in role."""
    file = tmp_path / "whole.yaml"
    file.write_text(WHOLE, encoding="utf-8")
    assert run("apply", str(file)).code == 0


def make_empty() -> None:
    """Delete what a file can make."""
    for model in (ServiceAccount, GroupRole, Route):
        model.objects.all().delete()
    Role.objects.filter(builtin=False).delete()
    Role.objects.filter(name="viewer").update(description="")


def without_audit() -> dict[str, list[object]]:
    return {key: value for key, value in state().items() if key != "audit"}


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_the_file_makes_the_same_of_an_empty_installation(whole: None, tmp_path: Path, option: list[str]) -> None:
    before = without_audit()
    file = tmp_path / "export.yaml"
    assert run("export", str(file), *option).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("apply", str(file), "--dry-run", "--prune").err.endswith("No differences.\n")
    make_empty()
    assert without_audit() != before
    assert run("apply", str(file)).code == 0
    assert without_audit() == before
    assert run("apply", str(file), "--dry-run", "--prune").err.endswith("No differences.\n")


def test_the_file_is_easy_to_read_and_says_what_it_needs(whole: None) -> None:
    ended = run("export")
    assert ended.out.startswith("# Roles, routes, group roles and service accounts, written by: manage.py export\n")
    assert "# These users own service accounts, and must exist before the file is applied: bob@example.com\n" in ended.out
    assert ended.err == "Before this file is applied elsewhere, these owners must exist: bob@example.com.\n"
    assert (
        "  - name: deployer\n    description: Deploys from CI.\n    permissions:\n      - upstream:read\n      - upstream:write\n"
    ) in ended.out
    assert "  - path: /api/**\n    methods: [GET, HEAD]\n    permission: upstream:read\n" in ended.out
    assert "admin\n" not in ended.out.partition("routes:")[0].partition("roles:")[2]


def test_sections_and_accounts_without_an_owner_can_be_chosen(whole: None) -> None:
    ended = run("export", "--section", "service_accounts", "--section", "roles", "--unowned")
    assert ended.err == ""
    values = yaml.safe_load(ended.out)
    assert list(values) == ["roles", "service_accounts"]
    assert [account["name"] for account in values["service_accounts"]] == ["backup"]
    assert json.loads(run("export", "--section", "group_roles", "--json").out) == {
        "group_roles": [
            {"group": "platform team", "role": "admin", "priority": 10},
            {"group": "ci", "role": "deployer", "priority": 100},
        ]
    }


def test_an_installation_without_anything_is_exported_with_empty_sections(db: None, tmp_path: Path) -> None:
    values = yaml.safe_load(run("export").out)
    assert (values["routes"], values["group_roles"], values["service_accounts"]) == ([], [], [])
    assert [role["name"] for role in values["roles"]] == ["user", "viewer"]


def test_an_existing_file_is_not_overwritten(whole: None, tmp_path: Path) -> None:
    file = tmp_path / "export.yaml"
    file.write_text("precious")
    ended = run("export", str(file))
    assert (ended.code, "It is not overwritten" in ended.err, file.read_text()) == (1, True, "precious")


def test_a_stored_route_that_apply_refuses_is_exported_with_a_warning(db: None) -> None:
    Route.objects.create(position=1, path="/jobs/{id}", methods=["GET"], permission="upstream:read")
    ended = run("export")
    assert "path: /jobs/{id}" in ended.out
    assert ended.code == 1
    assert "Warning: apply does not accept this file." in ended.err
    assert "{id} is not a pattern of SkyAuth." in ended.err


def test_a_retired_permission_of_a_role_is_left_out(db: None) -> None:
    Role.objects.filter(name="viewer").update(permissions=["upstream:read", "retired:permission"])
    ended = run("export")
    assert (ended.code, "retired" in ended.out) == (0, False)


TEXTS = st.text(max_size=40).map(as_one_line)


@given(note=TEXTS, group=TEXTS.filter(str.strip), name=st.from_regex(r"\A[a-z][a-z0-9]{0,7}\Z"))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_that_can_be_stored_can_be_read_again(db: None, note: str, group: str, name: str) -> None:
    """Also texts that YAML reads as something else, such as yes, null, 1e3 and 2026-11-30."""
    values = {
        "roles": [{"name": name, "description": note, "permissions": ["upstream:read"]}],
        "routes": [{"path": "/**", "methods": ["*"], "permission": "upstream:read", "note": note}],
        "service_accounts": [{"name": name, "role": group, "description": note, "owner": None, "active": True}],
    }
    exported = export.Export(values, ())
    read = manifest.read(exported.as_yaml())
    assert read.roles
    assert read.routes
    assert read.service_accounts
    assert (read.roles[0].name, read.roles[0].values["description"]) == (name, note)
    assert read.routes[0].note == note
    assert (read.service_accounts[0].name, read.service_accounts[0].values["role"]) == (name, group)


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d💻 build",
        "a\u00a0b",
        "yes",
        "null",
        "1_000",
        "0x10",
        "2026-11-30",
        "- x",
        "# y",
        "a: b",
        "'",
        '"',
        "!x",
        "&x",
        "*x",
    ],
)
def test_odd_texts_of_the_other_interfaces_can_be_applied(db: None, system: Principal, tmp_path: Path, text: str) -> None:
    services.create_role(actor=system, name="odd", permissions=[], description=text)
    ServiceAccountFactory(description=text)
    for option in ([], ["--json"]):
        file = tmp_path / f"export{len(option)}"
        assert run("export", str(file), *option).code == 0
        assert run("apply", str(file), "--dry-run", "--prune").err.endswith("No differences.\n")


def test_many_accounts_are_exported_within_what_apply_reads(db: None, tmp_path: Path) -> None:
    owner = UserFactory()
    viewer = Role.objects.get(name="viewer")
    ServiceAccount.objects.bulk_create(
        ServiceAccountFactory.build(name=f"build-{number}", owner=owner, role=viewer) for number in range(2_000)
    )
    ended = run("export")
    assert (ended.code, ended.out.count("  - name: build-")) == (0, 2_000)


def manage(*words: str, data: Path, **settings: str) -> Ended:
    done = subprocess.run(
        [sys.executable, "manage.py", *words], cwd=ROOT, env=environment(DATA_DIR=str(data), **settings),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.e2e
def test_an_export_makes_a_new_installation_the_same() -> None:
    with directory() as here, directory() as there, database() as old, database() as new:
        file, again = here / "whole.yaml", there / "again.yaml"
        (here / "source.yaml").write_text(SOURCE, encoding="utf-8")
        assert manage("bootstrap", data=here, **old).code == 0
        assert manage("apply", str(here / "source.yaml"), data=here, **old).code == 0
        assert manage("export", str(file), data=here, **old).code == 0
        assert manage("migrate", data=there, **new).code == 0
        assert manage("apply", str(file), "--dry-run", data=there, **new).code == 3
        assert manage("apply", str(file), data=there, **new).code == 0
        same = manage("apply", str(file), "--dry-run", "--prune", data=there, **new)
        assert (same.code, same.err.endswith("No differences.\n")) == (0, True)
        assert manage("export", str(again), data=there, **new).code == 0
        assert again.read_text(encoding="utf-8") == file.read_text(encoding="utf-8")


@pytest.mark.e2e
@pytest.mark.sqlite
def test_an_export_whose_reader_has_gone_ends_quietly() -> None:
    with directory() as data, database() as where:
        assert manage("bootstrap", "--pack", "skypilot", data=data, **where).code == 0
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "manage.py", "export"], cwd=ROOT, env=environment(DATA_DIR=str(data), **where),
            stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")
