"""Users as CSV: all or nothing, every invalid line listed, and no cell that a spreadsheet runs."""

import csv
import io
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from accounts.services import user_csv, user_import
from audit.models import Entry
from core.errors import Forbidden, Invalid
from core.one_line import as_one_line
from core.request_limits import MAX_BODY
from rbac.models import Role
from rbac.principals import Principal
from tests.api import api_client
from tests.api.api_client import Api
from tests.examples import examples
from tests.factories import UserFactory, principal

GOOD = "another good passphrase"


def done(response: Any) -> dict[str, Any]:
    """Return what an import did, without the roles and warnings."""
    return {name: value for name, value in response.json().items() if name in {"applied", "created", "changed"}}


def test_promise_49_a_dry_run_names_the_role_of_each_user_and_those_who_get_admin(as_alice: Api) -> None:
    text = "username,role\nann@example.com,\nben@example.com,admin\n"
    result = as_alice.csv("/users/import?dry_run=true", text).json()
    assert [(user["username"], user["role"]) for user in result["users"]] == [
        ("ann@example.com", "user"),
        ("ben@example.com", "admin"),
    ]
    assert result["new_admins"] == ["ben@example.com"]


@pytest.mark.parametrize("content_type", ["text/csv", "application/json"])
def test_csv_and_json_have_the_same_limit(as_alice: Api, content_type: str) -> None:
    text = "username,display_name\n" + "".join(f"p{n}@example.com,{'x' * 100_000}\n" for n in range(49))
    sent = as_alice.csv("/users/import", text) if content_type == "text/csv" else as_alice.post("/users/import", {"csv": text})
    assert len(api_client.problem(sent, 400)["failures"]) == 49, "the file was read"


def test_the_bound_of_a_body_is_the_same_in_django(settings: Any) -> None:
    assert settings.DATA_UPLOAD_MAX_MEMORY_SIZE == MAX_BODY


def test_a_file_creates_its_users(as_alice: Api) -> None:
    text = (
        "\ufeffRole , USERNAME,password,display_name\r\n"
        f'viewer,Ann@example.com,"{GOOD}","Ann ""the"" First, of that name"\r\n'
        "\r\n"
        f"user,ben@example.com,,\r\n"
    )
    response = as_alice.csv("/users/import", text.encode())
    assert response.status_code == 200, response.content
    assert done(response) == {"applied": True, "created": ["ann@example.com", "ben@example.com"], "changed": []}
    ann = User.objects.get(username="ann@example.com")
    assert check_password(GOOD, ann.password)
    assert (ann.role.name, ann.display_name, ann.sign_in) == ("viewer", 'Ann "the" First, of that name', "password")
    assert User.objects.get(username="ben@example.com").sign_in == "sso"
    assert Entry.objects.filter(event="user.created", actor="alice@example.com").count() == 2


def test_a_file_in_json_creates_its_users(as_alice: Api) -> None:
    assert as_alice.post("/users/import", {"csv": "username,role\nann@example.com,user"}).json()["applied"] is True
    assert User.objects.filter(username="ann@example.com").exists()


def test_a_dry_run_reports_the_same_and_changes_nothing(as_alice: Api) -> None:
    before = Entry.objects.count()
    response = as_alice.csv("/users/import?dry_run=true", "username,role,password\nann@example.com,user,0123456789abc\n")
    assert done(response) == {"applied": False, "created": ["ann@example.com"], "changed": []}
    assert not User.objects.filter(username="ann@example.com").exists()
    assert Entry.objects.count() == before


def test_a_misspelt_dry_run_is_an_error(as_alice: Api) -> None:
    result = api_client.problem(as_alice.csv("/users/import?dry_run=yes", "username,role\nann@example.com,user\n"), 400)
    assert "dry_run" in result["errors"]
    assert not User.objects.filter(username="ann@example.com").exists()


@pytest.mark.parametrize("dry", ["", "?dry_run=true"])
def test_every_invalid_line_is_listed_and_nothing_is_applied(as_alice: Api, bob: User, dry: str) -> None:
    text = (
        "username,role,password,sign_in\n"
        "good@example.com,user,,\n"
        "two words,user,,\n"
        '"ann@\nexample.com",user,,\n'
        "carl@example.com,none,,\n"
        "bob@example.com,user,,\n"
        "GOOD@example.com,user,,\n"
        "dan@example.com,user,short,\n"
        "eve@example.com,user\n"
        "fay@example.com,user,,pigeon\n"
        "gus@example.com,user,,password\n"
    )
    result = api_client.problem(as_alice.csv(f"/users/import{dry}", text), 400, "invalid")
    errors = {failure["line"]: failure["error"] for failure in result["failures"]}
    assert list(errors) == [3, 4, 6, 7, 8, 9, 10, 11, 12]
    assert result["errors"]["line 8"] == ["good@example.com is already on line 2."]
    assert "no role named 'none'" in errors[6]
    assert "already exists" in errors[7]
    assert "too short" in errors[9]
    assert "2 values" in errors[10]
    assert "needs a password" in errors[12]
    assert not User.objects.filter(username="good@example.com").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "required"),
        ("\n\n", "empty"),
        ("name,role\nx,y\n", "'name'"),
        ("username,is_staff\nx,y\n", "'is_staff'"),
        ("username;rolle\nx;y\n", "'rolle'"),
        ("role\nuser\n", "column username is missing"),
        ("username,Username\nx,y\n", "twice"),
        ("username\nx\x00y\n", "Null"),
    ],
)
def test_an_unreadable_file_is_an_error_as_a_whole(as_alice: Api, text: str, says: str) -> None:
    result = api_client.problem(as_alice.csv("/users/import", text), 400)
    assert says in result["detail"] or says in str(result.get("errors"))


def test_a_broken_quote_is_reported_with_its_line(as_alice: Api) -> None:
    result = api_client.problem(as_alice.csv("/users/import", 'username,role\nann@example.com,user\n"x"y,user\nz,user\n'), 400)
    assert [failure["line"] for failure in result["failures"]] == [3]
    assert not User.objects.filter(username="ann@example.com").exists()


def test_a_file_that_is_not_utf_8_is_an_error(as_alice: Api) -> None:
    api_client.problem(as_alice.csv("/users/import", b"username\nann\xff@example.com\n"), 400, "malformed")


def test_the_size_of_a_file_and_its_rows_are_limited(system: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="larger than 5 MB"):
        user_import.import_users(actor=system, text="username\n" + "x" * 5_000_000)
    for text, says in (("username\nx\x00y\n", "NUL"), ("username\n\ud800\n", "not Unicode")):
        with pytest.raises(Invalid, match=says):
            user_import.import_users(actor=system, text=text)
    monkeypatch.setattr(user_csv, "MAX_ROWS", 2)
    with pytest.raises(Invalid, match="more than 2 users"):
        user_import.import_users(actor=system, text="username\na\nb\nc\n")


def test_a_name_that_is_taken_meanwhile_makes_the_import_fail_as_a_whole(system: Principal, db: None) -> None:
    def meanwhile(done: int, total: int) -> None:
        if done == 2:  # the dry pass is over
            UserFactory(username="ben@example.com")

    text = "username,role\nann@example.com,user\nben@example.com,user\n"
    report = user_import.import_users(actor=system, text=text, progress=meanwhile)
    assert [(failure.line, failure.username) for failure in report.errors] == [(3, "ben@example.com")]
    assert (report.applied, report.created) == (False, ())
    assert not User.objects.filter(username="ann@example.com").exists()


def test_existing_users_are_changed_on_request(as_alice: Api, bob: User) -> None:
    text = "username,role,display_name,sign_in\nBOB@example.com,viewer,Bobby,\nann@example.com,user,,\n"
    api_client.problem(as_alice.csv("/users/import", text), 400, "invalid")
    result = as_alice.csv("/users/import?update=true&dry_run=true", text)
    assert result.json()["users"] == [
        {"username": "bob@example.com", "role": "viewer", "old_role": "user"},
        {"username": "ann@example.com", "role": "user", "old_role": None},
    ]
    assert done(result) == {"applied": False, "created": ["ann@example.com"], "changed": ["bob@example.com"]}
    bob.refresh_from_db()
    assert bob.role.name == "user"
    before = bob.password, bob.sign_in, bob.email
    assert as_alice.csv("/users/import?update=true", text).json()["applied"] is True
    bob.refresh_from_db()
    assert (bob.role.name, bob.display_name, (bob.password, bob.sign_in, bob.email)) == ("viewer", "Bobby", before)
    assert done(as_alice.csv("/users/import?update=true", text)) == {"applied": True, "created": [], "changed": []}


def test_importing_an_export_changes_no_user(as_alice: Api, bob: User, vera: User) -> None:
    text = as_alice.get("/users/export").content.decode()
    assert done(as_alice.csv("/users/import?update=true", text)) == {"applied": True, "created": [], "changed": []}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("bob@example.com,user,another good passphrase,", "sets passwords of new users only"),
        ("bob@example.com,nobody,,", "no role named"),
        ("alice@example.com,viewer,,", "the last active admin"),
        ("bob@example.com,,,pigeon", "pigeon"),
    ],
)
def test_an_invalid_change_is_listed_and_nothing_is_applied(as_alice: Api, bob: User, line: str, says: str) -> None:
    text = f"username,role,password,sign_in\nann@example.com,user,,\n{line}\n"
    result = api_client.problem(as_alice.csv("/users/import?update=true", text), 400, "invalid")
    assert [(failure["line"], says in failure["error"]) for failure in result["failures"]] == [(3, True)], result
    assert not User.objects.filter(username="ann@example.com").exists()


def test_an_import_grants_no_more_than_the_callers_permissions(bob: User, alice: User, db: None) -> None:
    Role.objects.filter(name="user").update(permissions=["users:read", "users:write", "upstream:read"])
    bob = User.objects.select_related("role").get(pk=bob.pk)
    report = user_import.import_users(actor=principal(bob), text="username,role\nalice@example.com,user\n", update=True)
    assert (report.applied, len(report.errors)) == (False, 1)
    alice.refresh_from_db()
    assert alice.role.name == "admin"


@pytest.mark.parametrize("lost", ["role", "active", "all"])
def test_a_caller_who_loses_permissions_during_hashing_imports_nothing(alice: User, db: None, lost: str) -> None:
    UserFactory(username="other@example.com", role=alice.role)

    def meanwhile(done: int, total: int) -> None:
        if done == 3:  # both lines were tried, and the password hashed
            match lost:
                case "role":
                    User.objects.filter(pk=alice.pk).update(role=Role.objects.get(name="user"))
                case "active":
                    User.objects.filter(pk=alice.pk).update(is_active=False)
                case _:
                    alice.delete()

    text = f"username,role,password\nevil@example.com,admin,{GOOD}\nother@example.com,viewer,\n"
    with pytest.raises(Forbidden, match="Your permissions were reduced"):
        user_import.import_users(actor=principal(alice), text=text, update=True, progress=meanwhile)
    assert not User.objects.filter(username="evil@example.com").exists()
    assert User.objects.get(username="other@example.com").role.name == "admin"


def test_the_column_active_applies_to_new_and_existing_users(as_alice: Api, bob: User, vera: User) -> None:
    User.objects.filter(pk=vera.pk).update(is_active=False)
    lines = (
        "username,role,active",
        "bob@example.com,,FALSE",
        "vera@example.com,,true",
        "ann@example.com,user,false",
        "ben@example.com,,",
    )
    text = "\n".join(lines)
    result = as_alice.csv("/users/import?update=true", text).json()
    assert (result["created"], result["changed"]) == (
        ["ann@example.com", "ben@example.com"],
        ["bob@example.com", "vera@example.com"],
    )
    assert dict(User.objects.values_list("username", "is_active")) == {
        "alice@example.com": True,
        "bob@example.com": False,
        "vera@example.com": True,
        "ann@example.com": False,
        "ben@example.com": True,
    }
    result = api_client.problem(as_alice.csv("/users/import?update=true", "username,active\nbob@example.com,perhaps\n"), 400)
    assert result["failures"][0]["error"] == "The column active has true or false."


def test_a_user_manager_can_import_a_whole_export(as_helpdesk: Api, bob: User, alice: User) -> None:
    text = as_helpdesk.get("/users/export").content.decode()
    assert "alice@example.com,admin" in text
    assert done(as_helpdesk.csv("/users/import?update=true", text)) == {"applied": True, "created": [], "changed": []}
    changed = text.replace("bob@example.com,user", "bob@example.com,viewer")
    assert as_helpdesk.csv("/users/import?update=true", changed).json()["changed"] == ["bob@example.com"]
    api_client.problem(as_helpdesk.csv("/users/import?update=true", text.replace(",admin,", ",viewer,")), 400)


def test_an_import_does_not_reveal_users_to_a_caller_who_cannot_read_them(bob: User, alice: User, db: None) -> None:
    bob.role.permissions = ["users:write", "upstream:read"]
    with pytest.raises(Forbidden, match="users:read"):
        user_import.import_users(actor=principal(bob), text="username,role\nalice@example.com,user\n", update=True, dry_run=True)


def test_one_file_cannot_remove_the_last_two_admins(system: Principal, alice: User, db: None) -> None:
    UserFactory(username="anna@example.com", role=alice.role)
    text = "username,role\nalice@example.com,user\nanna@example.com,user\n"
    report = user_import.import_users(actor=system, text=text, update=True)
    assert [(failure.line, "last active admin" in failure.error) for failure in report.errors] == [(3, True)]
    assert User.objects.filter(role__name="admin").count() == 2


def test_a_user_who_is_changed_meanwhile_makes_the_import_fail_as_a_whole(
    system: Principal, bob: User, vera: User, db: None
) -> None:
    def meanwhile(done: int, total: int) -> None:
        if done == 2:  # both lines are being planned
            User.objects.filter(pk=vera.pk).update(display_name="Vera")

    text = "username,display_name\nbob@example.com,Bobby\nvera@example.com,V.\n"
    report = user_import.import_users(actor=system, text=text, update=True, progress=meanwhile)
    assert [(failure.line, failure.error.split(".")[0]) for failure in report.errors] == [
        (3, "This user was changed by somebody else after the preview")
    ]
    bob.refresh_from_db()
    assert (report.applied, report.changed, bob.display_name) == (False, (), "")


def test_the_progress_is_reported_to_the_end(system: Principal, db: None) -> None:
    messages: list[tuple[int, int]] = []
    text = f"username,role,password\nann@example.com,user,{GOOD}\nben@example.com,user,\n"
    user_import.import_users(actor=system, text=text, progress=lambda done, total: messages.append((done, total)))
    assert messages == [(1, 5), (2, 5), (3, 5), (5, 5)], "the lines are written together"


def test_no_report_contains_a_password(system: Principal, db: None) -> None:
    report = user_import.import_users(actor=system, text="username,password,role\nann@example.com,secret7,user\n")
    assert report.errors
    assert "secret7" not in repr(report)


def test_import_and_export_need_users_write(bob: User, db: None) -> None:
    with pytest.raises(Forbidden):
        user_import.import_users(actor=principal(bob), text="username\n")
    with pytest.raises(Forbidden, match="users:write"):
        user_csv.export_users(principal(bob))
    bob.role.permissions = ["users:write"]
    with pytest.raises(Forbidden, match="users:read"):
        user_csv.export_users(principal(bob))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "'=", "''@"])
def test_no_exported_cell_is_a_formula_and_the_import_removes_the_apostrophe(
    as_alice: Api, system: Principal, start: str
) -> None:
    name = f"{start}cmd|' /C calc'!A0"
    UserFactory(username="mallory@example.com", display_name=name, sign_in="sso")
    response = as_alice.get("/users/export")
    assert response.headers["Content-Disposition"].startswith("attachment;")
    row = next(row for row in _rows(response.content.decode()) if row["username"] == "mallory@example.com")
    assert row["display_name"] == f"'{name}"
    assert _again(system, response.content.decode(), "mallory@example.com").display_name == name


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _again(system: Principal, text: str, username: str) -> User:
    """Delete the user, import their line of the export, and return the new row."""
    header, *lines = list(csv.reader(io.StringIO(text, newline="")))
    User.objects.filter(username=username).delete()
    buffer = io.StringIO()
    csv.writer(buffer).writerows([header, *(line for line in lines if line[0].lstrip("'") == username)])
    report = user_import.import_users(actor=system, text=buffer.getvalue())
    assert report.applied, report.errors
    return User.objects.get(username=username)


_TEXT = st.text(st.characters(codec="utf-8").filter(lambda text: as_one_line(text) == text), max_size=40)


@pytest.mark.django_db
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    display_name=st.one_of(_TEXT, st.builds(lambda start, text: start + text, st.sampled_from("=+-@'"), _TEXT)),
    username=st.sampled_from(["=a@example.com", "+a@example.com", "-a@example.com", "a@example.com"]),
    email=st.sampled_from(["", "x@example.com", "=x@example.com"]),
    role=st.sampled_from(["user", "viewer", "admin"]),
    sign_in=st.sampled_from(["sso", "both"]),
    is_active=st.booleans(),
)
def test_an_imported_export_is_equal_to_the_original(system: Principal, **values: Any) -> None:
    role = Role.objects.get(name=values.pop("role"))
    User.objects.all().delete()
    before = UserFactory(**values, role=role)
    after = _again(system, "".join(user_csv.export_users(system)), before.username)
    fields = ("username", "uid", "email", "display_name", "sign_in", "role_id", "is_active")
    assert [getattr(after, field) for field in fields] == [getattr(before, field) for field in fields]


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(max_size=60), st.text("username,role\n\r\"'=;\ufeff ", max_size=60).map("username,role\n".__add__)))
@pytest.mark.django_db
def test_any_file_is_imported_as_a_whole_or_rejected(system: Principal, text: str) -> None:
    before = User.objects.count()
    try:
        report = user_import.import_users(actor=system, text=text)
    except Invalid:
        assert User.objects.count() == before
    else:
        assert User.objects.count() == before + (len(report.created) if report.applied else 0)
        assert bool(report.errors) != report.applied
