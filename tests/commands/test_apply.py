"""apply: what a declaration may say, and that it becomes so, all of it or nothing."""

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accounts import group_names
from accounts.models import GroupRole, ServiceAccount, Token, User
from audit.models import Entry
from core.errors import Invalid
from ops.apply import manifest
from rbac.models import Role, Route
from tests.commands.run_command import Ended, run
from tests.factories import GroupRoleFactory, ServiceAccountFactory, make_token

WHOLE = """\
roles:
  - name: deployer
    description: Deploys from CI.
    permissions: [upstream:write, upstream:read]
  - name: viewer
    description: Reads, and no more.
routes:
  - path: /api/**
    methods: [GET, HEAD]
    permission: upstream:read
  - {path: /**, methods: ["*"], permission: upstream:write, host: api.example.com, note: the rest}
group_roles:
  - {group: platform team, role: admin, priority: 10}
  - {group: ci, role: deployer}
service_accounts:
  - name: pipeline
    role: deployer
    description: Nightly build.
    owner: bob@example.com
  - {name: backup, role: viewer, active: false}
"""


@pytest.fixture
def apply(tmp_path: Path):
    """Apply a text."""

    def apply(text: str, *words: str) -> Ended:
        file = tmp_path / "skyauth.yaml"
        file.write_text(text, encoding="utf-8")
        return run("apply", str(file), *words)

    return apply


def state() -> dict[str, list[object]]:
    """Return everything that a declaration can change."""
    return {
        "roles": list(Role.objects.values_list("name", "description", "permissions")),
        "routes": list(Route.objects.values_list("position", "host", "path", "methods", "permission", "note")),
        "group_roles": list(GroupRole.objects.values_list("group", "role__name", "priority")),
        "accounts": list(ServiceAccount.objects.values_list("name", "role__name", "description", "owner__username", "is_active")),
        "audit": list(Entry.objects.values_list("event", "target")),
    }


def test_apply_makes_everything_match_the_file(bob: User, apply) -> None:
    ended = apply(WHOLE)
    assert (ended.code, "8 differences applied." in ended.err) == (0, True), ended
    now = state()
    assert ("deployer", "Deploys from CI.", ["upstream:read", "upstream:write"]) in now["roles"]
    assert Role.objects.get(name="viewer").description == "Reads, and no more."
    assert now["routes"] == [
        (1, "", "/api/**", ["GET", "HEAD"], "upstream:read", ""),
        (2, "api.example.com", "/**", ["*"], "upstream:write", "the rest"),
    ]
    assert now["group_roles"] == [("platform team", "admin", 10), ("ci", "deployer", 100)]
    assert now["accounts"] == [
        ("backup", "viewer", "", None, False),
        ("pipeline", "deployer", "Nightly build.", "bob@example.com", True),
    ]
    assert not Token.objects.exists()


def test_values_that_the_file_does_not_mention_are_kept(bob: User, apply) -> None:
    apply(WHOLE)
    apply("service_accounts:\n  - {name: pipeline, description: Weekly build.}\nroles:\n  - name: deployer\n")
    account = ServiceAccount.objects.get(name="pipeline")
    assert (account.description, account.owner, account.role.name) == ("Weekly build.", bob, "deployer")
    assert Role.objects.get(name="deployer").permissions == ["upstream:read", "upstream:write"]
    assert Route.objects.count() == 2


def test_a_second_run_changes_nothing_and_records_nothing(bob: User, apply) -> None:
    apply(WHOLE)
    before = state()
    ended = apply(WHOLE, "--json")
    assert json.loads(ended.out) == {"applied": False, "changes": [], "warnings": [group_names.unread_reason()]}
    assert ended.code == 0
    assert state() == before


@pytest.mark.parametrize("pack", ["open", "read-write", "skypilot"])
def test_routes_can_be_a_policy_pack_and_a_second_run_changes_nothing(db: None, apply, pack: str) -> None:
    assert apply(f"routes: {{pack: {pack}}}").code == 0
    entries = Entry.objects.count()
    assert "No differences." in apply(f"routes: {{pack: {pack}}}").err
    assert (Entry.objects.count(), Entry.objects.first().reason) == (entries, f"from pack {pack}")


def test_a_dry_run_shows_the_differences_and_changes_nothing(bob: User, apply) -> None:
    before = state()
    ended = apply(WHOLE, "--dry-run", "--json")
    answer = json.loads(ended.out)
    assert (ended.code, answer["applied"], len(answer["changes"])) == (3, False, 8)
    assert state() == before
    assert json.loads(apply(WHOLE, "--json").out)["changes"] == answer["changes"]
    assert apply(WHOLE, "--dry-run").code == 0


def test_a_dry_run_has_the_same_errors_as_the_run(bob: User, apply) -> None:
    text = "service_accounts: [{name: x, role: admin, owner: bob@example.com}]"
    dry_run, real_run = apply(text, "--dry-run"), apply(text)
    assert (dry_run.code, real_run.code) == (1, 1)
    assert dry_run.err == real_run.err


def test_differences_are_shown_with_old_and_new_values(bob: User, apply) -> None:
    apply(WHOLE)
    text = WHOLE.replace("role: viewer, active: false", "role: user, active: true").replace(
        "owner: bob@example.com", "owner: null"
    )
    text = text.replace("[GET, HEAD]", "[GET]")
    table = apply(text, "--dry-run").out
    assert "role: viewer -> user; active: no -> yes" in table
    assert "owner: bob@example.com -> none" in table
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert "- route #1 GET,HEAD /api/** -> upstream:read" in lines
    assert "+ route #1 GET /api/** -> upstream:read" in lines
    assert apply(text).code == 0
    assert ServiceAccount.objects.get(name="pipeline").owner is None


def test_prune_deletes_what_the_sections_of_the_file_do_not_list(bob: User, apply) -> None:
    apply(WHOLE)
    make_token(ServiceAccount.objects.get(name="backup"))
    text = "roles: []\ngroup_roles: [{group: platform team, role: admin, priority: 10}]\n"
    text += "service_accounts: [{name: pipeline, role: viewer}]\n"
    assert apply(text).code == 0
    assert ServiceAccount.objects.count() == 2
    dry = json.loads(apply(text, "--prune", "--dry-run", "--json").out)["changes"]
    ended = apply(text, "--prune", "--json")
    changes = json.loads(ended.out)["changes"]
    assert changes == dry
    assert [(change["action"], change["kind"], change["name"]) for change in changes] == [
        ("remove", "service account", "backup"),
        ("remove", "group role", "ci"),
        ("remove", "role", "deployer"),
    ]
    assert sorted(Role.objects.values_list("name", flat=True)) == ["admin", "user", "viewer"]
    assert apply(text, "--prune", "--dry-run").code == 0


def test_prune_keeps_the_rows_of_sections_that_the_file_does_not_have(db: None, apply) -> None:
    ServiceAccountFactory(name="kept")
    GroupRoleFactory(group="kept")
    assert apply("roles: []", "--prune").code == 0
    assert (ServiceAccount.objects.count(), GroupRole.objects.count(), Role.objects.count()) == (1, 1, 3)


def test_if_a_role_in_use_cannot_be_pruned_nothing_is_changed(bob: User, apply) -> None:
    apply("roles: [{name: deployer}, {name: spare}]\nservice_accounts: [{name: x, role: deployer}]")
    before = state()
    ended = apply("roles: []", "--prune")
    assert ended.code == 1
    assert "--prune: role deployer: The role deployer is still in use." in ended.err
    assert state() == before


def test_every_error_of_a_service_has_its_line_and_nothing_is_applied(bob: User, apply) -> None:
    before = state()
    ended = apply(
        """\
roles:
  - {name: fine, permissions: []}
  - {name: admin, permissions: [upstream:read]}
group_roles:
  - {group: a, role: nonsense}
service_accounts:
  - {name: good, role: user}
  - {name: x, owner: mallory}
  - {name: y, role: admin, owner: bob@example.com}
"""
    )
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "line 3: role admin: The role admin always has every permission. It cannot be changed.",
        "line 5: group role a: There is no role named 'nonsense'. The roles are: admin, fine, user, viewer.",
        "line 8: service account x: The owner 'mallory' does not exist.",
        (
            "line 9: service account y: The owner bob@example.com has fewer permissions than the role admin. "
            "Choose a role with fewer permissions, another owner, or no owner."
        ),
    ]
    assert state() == before


INVALID = {
    "not YAML": ("roles: [", "line 1: This is not YAML"),
    "a tab": ("roles:\n\t- name: x", "line 2: This is not YAML"),
    "nothing": ("", "line 1: the file must be a mapping"),
    "a list": ("- roles", "line 1: the file must be a mapping"),
    "two documents": ("roles: []\n---\nroles: []", "This is not YAML"),
    "an unknown section": (
        "roles: []\nrolls: []",
        "line 2: unknown key 'rolls'; the keys are roles, routes, group_roles, service_accounts.",
    ),
    "a section twice": ("roles: []\nroutes: []\nroles: []", "line 3: the key 'roles' is repeated."),
    "a section of nothing": ("roles:\nroutes: []", "line 1: this must be a list of roles; write [] for none."),
    "a key twice": ("roles:\n  - name: a\n    name: b", "line 3: the key 'name' is repeated."),
    "an unknown key": ("roles:\n  - name: a\n    permission: []", "line 3: unknown key 'permission' of a role"),
    "a role without a name": ("roles:\n  - description: a", "line 2: a role needs the key name"),
    "a role with a bad name": ("roles: [{name: Big Boss}]", "line 1: role 'Big Boss': name: A role name has"),
    "a role twice": ("roles:\n  - name: a\n  - name: a", "line 3: role 'a' is already on line 2."),
    "a permission that does not exist": ("roles: [{name: a, permissions: [fly]}]", "Unknown permission: fly."),
    "a permission that is not text": ("roles: [{name: a, permissions: [1]}]", "Permissions are a list of names"),
    "permissions that are not a list": ("roles: [{name: a, permissions: fly}]", "line 1: permissions must be a list."),
    "a name that YAML reads as false": (
        "service_accounts: [{name: no}]",
        "line 1: a service account needs the key name with a text.",
    ),
    "a number for a flag": ("service_accounts: [{name: a, active: 1}]", "active must be true or false."),
    "an account with the name of a user": ("service_accounts: [{name: a@example.com}]", "A service account name starts"),
    "two spellings of an account": ("service_accounts: [{name: a}, {name: A}]", "service account 'a' is already on line 1."),
    "a token": ("service_accounts: [{name: a, token: sky_x}]", "unknown key 'token' of a service account"),
    "a group with a blank": ("group_roles: [{group: ' a', role: user}]", "line 1: group role ' a': The name starts or ends"),
    "a group without a role": ("group_roles: [{group: a}]", "group role 'a': role is missing."),
    "a priority below zero": ("group_roles: [{group: a, role: user, priority: -1}]", "priority:"),
    "a boolean for a priority": ("group_roles: [{group: a, role: user, priority: true}]", "priority must be a whole number."),
    "a route without a path": ("routes: [{methods: [GET], permission: upstream:read}]", "line 1: route: path is missing."),
    "a route with a bad pattern": (
        "routes: [{path: /a/**/b, methods: [GET], permission: upstream:read}]",
        "** can only be the last segment",
    ),
    "a route with a bad method": ("routes: [{path: /, methods: [get], permission: upstream:read}]", "Not a method: get."),
    "a route with a misspelt method": (
        "routes: [{path: /, methods: [GTE], permission: upstream:read}]",
        "Not a known method: GTE, did you mean GET? For a method of your own, use only *, which matches any.",
    ),
    "a route with a word for any method": ("routes: [{path: /, methods: [ANY], permission: upstream:read}]", "use only *"),
    "a URL template": ("routes: [{path: '/a/{id}', methods: [GET], permission: upstream:read}]", "{id} is not a pattern"),
    "a parameter of a router": ("routes: [{path: '/a/:id', methods: [GET], permission: upstream:read}]", ":id is not a pattern"),
    "a regular expression": (
        "routes: [{path: '/a/[0-9]+', methods: [GET], permission: upstream:read}]",
        "[0-9]+ is not a pattern",
    ),
    "an empty owner": ("service_accounts: [{name: a, owner: ''}]", "owner is empty. Write a username, or null"),
    "a role with the name of a setting's value": ("roles: [{name: first-admin}]", "first-admin is a value of RBAC_DEFAULT_ROLE"),
    "a route with a bad permission": ("routes: [{path: /, methods: [GET], permission: read}]", "Unknown permission: read."),
    "a route with an unknown key": ("routes: [{path: /, methods: [GET], permission: upstream:read, x: y}]", "unknown key x"),
    "a pack that does not exist": ("routes: {pack: nonsense}", "There is no policy pack named 'nonsense'."),
    "a pack and more": ("routes: {pack: open, also: x}", "routes must be a list of routes, or pack: NAME."),
    "an alias": ("roles: [&a {name: a}, *a]", "line 1: aliases (*a) are not supported"),
    "a merge key": ("roles: [{<<: {name: a}}]", "a key must be text."),
    "a Python object": ("roles: [{name: !!python/name:os.system x}]", "a value must be one line of text"),
    "a date": ("roles: [{name: 2026-01-01}]", "a value must be one line of text"),
    "a NUL": ('roles: [{name: "a\\0b"}]', "a value must be one line of text"),
    "half a surrogate pair": ('roles: [{name: "\\ud800"}]', "a value must be one line of text"),
    "a character that does not exist": ('roles: [{name: "\\UFFFFFFFF"}]', "This is not YAML"),
    "a deep nest": ("roles: " + "[" * 5_000, "the nesting is too deep"),
    "a large file": ("# " + "x" * manifest.MAX_TEXT, "longer than"),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_file_has_an_error_and_nothing_is_applied(db: None, apply, case: str) -> None:
    text, message = INVALID[case]
    before = state()
    ended = apply(text)
    assert (ended.code, ended.out) == (1, "")
    assert message in ended.err
    assert state() == before


def test_all_errors_are_reported_together_in_the_order_of_the_lines(db: None, apply) -> None:
    ended = apply("roles:\n  - {name: A}\n  - {name: fine}\n  - {name: b, x: 1}\nservice_accounts:\n  - {name: 1}\nextra: 1\n")
    assert [line.split(":")[0] for line in ended.err.splitlines()] == ["line 2", "line 4", "line 6", "line 7"]
    assert not Role.objects.filter(name="fine").exists()


def test_a_file_that_is_missing_or_not_text_is_an_error(db: None, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"roles: []\n# caf\xe9")
    assert "cannot be read: No such file" in run("apply", str(tmp_path / "none")).err
    assert "is not UTF-8 text (line 2)." in run("apply", str(tmp_path / "latin")).err


def test_the_file_can_be_standard_input(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"roles: [{name: deployer}]")))
    assert run("apply", "-").code == 0
    assert Role.objects.filter(name="deployer").exists()


def manifest_or_error(text: str) -> manifest.Manifest | str:
    """Return the manifest, or the message of Invalid; any other exception is a defect."""
    try:
        return manifest.read(text)
    except Invalid as error:
        return error.message


# Keys, values, and characters with a meaning in YAML.
_WORDS = st.sampled_from(
    [
        *[
            "roles",
            "routes",
            "group_roles",
            "service_accounts",
            "name",
            "pack",
            "path",
            "methods",
            "permission",
            "role",
            "owner",
            "active",
            "open",
            "user",
            "true",
            "null",
        ],
        *[
            "1",
            "1e9",
            "0x1",
            "2026-01-01",
            "<<",
            "=",
            "*a",
            "&a",
            "!!binary",
            "!",
            "|",
            ">",
            "?",
            "[",
            "]",
            "{",
            "}",
            "'",
            "#",
            "---",
            "...",
            "é",
        ],
        *("- ", ": ", ", ", "\n", "\n  ", "\t", "\x85", '"', "\\u", "\\UFFFFFFFF", "%YAML 1.1"),
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(text=st.text(max_size=200) | st.lists(_WORDS, max_size=30).map("".join))
@example(text="%YAML " + "9" * 5_000 + ".1\n---\nroles: []")
@example(text="!<tag:yaml.org,2002:bool> maybe: 1")
@example(text="roles: [{name: !!int x}, {name: !!bool x}, {name: !!null x}]")
def test_any_text_is_a_manifest_or_an_error(text: str) -> None:
    assert manifest_or_error(text)


@given(value=_VALUES | st.dictionaries(st.sampled_from(manifest.SECTIONS), st.lists(_VALUES, max_size=3), max_size=4))
def test_any_yaml_value_is_a_manifest_or_an_error(value: object) -> None:
    import yaml

    text = yaml.safe_dump(value, allow_unicode=True)
    assert manifest_or_error(text)


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_group_roles_without_single_sign_on_are_applied_with_a_warning(db: None, apply, settings, words) -> None:
    text = "group_roles: [{group: dev, role: user}]"
    warning = "Single sign-on is off (AUTH_USER_HEADER_FORMAT=off), so no user gets a role from a group."
    assert json.loads(apply(text, *words, "--json").out)["warnings"] == [warning]
    assert f"Warning: {warning}" in apply(text, *words).err
    settings.AUTH_USER_HEADER_FORMAT = "jwt"
    assert "Warning" not in apply(text, *words).err
    assert json.loads(apply("roles: []", "--json").out)["warnings"] == []


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_the_role_of_an_account_that_names_none_is_shown(bob: User, apply, words: tuple[str, ...]) -> None:
    """Promise 49: the differences show the role that each new user or account gets."""
    ended = apply("service_accounts: [{name: pipeline, owner: bob@example.com}]", "--json", *words)
    assert json.loads(ended.out)["changes"][0]["new"] == {"owner": "bob@example.com", "role": "user"}


@pytest.mark.django_db
@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_route_that_never_decides_is_told(apply, words: tuple[str, ...]) -> None:
    text = """\
routes:
  - {path: /**, methods: ["*"], permission: upstream:read}
  - {path: /admin, methods: [GET], permission: upstream:admin}
"""
    warning = "Routes that never decide a request, because earlier ones match all of it: #2 GET /admin -> upstream:admin."
    assert f"Warning: {warning} Move" in apply(text, *words).err
    assert warning in json.loads(apply(text, "--json", *words).out)["warnings"][0]
    assert "never decide" not in apply("routes: [{path: /**, methods: ['*'], permission: upstream:read}]").err
