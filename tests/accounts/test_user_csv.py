"""CSV files as spreadsheets and identity providers write them: each is read, or refused in words."""

import codecs

import pytest

from accounts.models import User
from accounts.services import user_csv, user_import, users
from core.errors import Invalid
from rbac import principals

ACTOR = principals.system("tests")
ANN = "ann@example.com"
ROWS = "username,role\nann@example.com,viewer\n"
READ = {
    "commas": ROWS,
    "semicolons": "username;role\nann@example.com;viewer\n",
    "tabs": "username\trole\nann@example.com\tviewer\n",
    "Excel's first line": "sep=;\nusername;role\nann@example.com;viewer\n",
    "Excel's first line of Windows": "sep=;\r\nusername;role\r\nann@example.com;viewer\r\n",
    "a byte order mark": "\ufeff" + ROWS,
    "Windows lines": ROWS.replace("\n", "\r\n"),
    "no line end": ROWS.rstrip("\n"),
    "quoted names": '"username","role"\n"ann@example.com","viewer"\n',
    "quoted names and semicolons": '"username";"role"\n"ann@example.com";"viewer"\n',
    "empty columns at the end": "username,role,,\nann@example.com,viewer,,\n",
    "empty cells after the last column": "username,role\nann@example.com,viewer,,,\n",
    "blank lines": "\n\nusername,role\n\nann@example.com,viewer\n\n\n",
    "lines of empty cells": ",,\nusername,role,\n,,\nann@example.com,viewer,\n,,\n",
    "blanks around cells": " username , role \n ann@example.com , viewer \n",
    "no-break spaces around cells": "username,role\n\xa0ann@example.com\xa0,viewer\xa0\n",
    "a comma in a cell of semicolons": "username;role;display_name\nann@example.com;viewer;Lee, Ann\n",
}


@pytest.mark.django_db
@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_an_odd_file_is_read(text):
    report = user_import.import_users(actor=ACTOR, text=text)
    assert report.applied, report.errors
    assert User.objects.get().role.name == "viewer"


@pytest.mark.parametrize(
    "raw",
    [
        ROWS.encode(),
        codecs.BOM_UTF8 + ROWS.encode(),
        codecs.BOM_UTF16_LE + ROWS.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + ROWS.encode("utf-16-be"),
    ],
    ids=["UTF-8", "UTF-8 with a mark", "UTF-16", "UTF-16, big end first"],
)
def test_the_encodings_of_spreadsheets_are_read(raw):
    assert [row.username for row in user_csv.read_rows(user_csv.decode(raw)).rows] == [ANN]


@pytest.mark.parametrize(("raw", "message"), [(b"username\nann\xe4\n", "line 2"), (b"\xff\xfea", "not UTF-8")])
def test_another_encoding_is_refused(raw, message):
    with pytest.raises(Invalid, match=message):
        user_csv.decode(raw)


REFUSED = {
    "an empty file": ("", "The file is empty"),
    "a misspelt column": (
        "username,rolle\nann@example.com,admin\n",
        "Unknown column: 'rolle'. The columns are: username",
    ),
    "a column without a name": ("username,,role\nann@example.com,x,viewer\n", "Unknown column: ''"),
    "no header": ("ann@example.com,hunter2\n", "The first line names no column"),
    "an htpasswd file": ("ann:$2y$05$hunter2hunter2\n", "looks like an htpasswd file"),
    "a column twice": ("username,Username\nann@example.com,ben@example.com\n", "the same column twice: username"),
    "two names of one column": ("login,email,status,active\n", "the same column twice: active"),
    "a column of another provider": ("login,email,mail\nann@example.com,,\n", "Unknown column: 'mail'"),
    "a provider's column without its user name": ("username,firstName\nann@example.com,Ann\n", "Unknown column: 'firstName'"),
    "spaces as separators": ("username role\nann@example.com viewer\n", "The first line names no column"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_another_header_is_refused_in_words_and_without_a_secret(text, message):
    with pytest.raises(Invalid) as raised:
        user_csv.read_rows(text)
    assert message in raised.value.message
    assert "hunter2" not in raised.value.message


OKTA = "login,firstName,lastName,middleName,email,displayName,mobilePhone,status\n"
GOOGLE = (
    "First Name [Required],Last Name [Required],Email Address [Required],Password [Required],"
    "Password Hash Function [UPLOAD ONLY],"
    "Org Unit Path [Required],New Primary Email [UPLOAD ONLY],Status [READ ONLY],Last Sign In [READ ONLY],Recovery Email,"
    "Employee ID,Change Password at Next Sign-In,New Status [UPLOAD ONLY]\n"
)
ENTRA = "userPrincipalName,displayName,surname,mail,givenName,objectId,userType,jobTitle,department,accountEnabled\n"
EXPORTS = {
    "Okta": (OKTA + f"{ANN},Ann,Lee,,a.lee@example.com,,555,ACTIVE\n", ("Ann Lee", "a.lee@example.com", "true")),
    "Okta, suspended": (OKTA + f"{ANN},Ann,Lee,,{ANN},Dr. Lee,,SUSPENDED\n", ("Dr. Lee", ANN, "false")),
    "Google Workspace": (GOOGLE + f"Ann,Lee,{ANN},****,,/Sales,,Active,2026/01/01,,,,\n", ("Ann Lee", ANN, "true")),
    "Google Workspace, suspended": (GOOGLE + f"Ann,Lee,{ANN},****,,/,,Suspended,,,,,\n", ("Ann Lee", ANN, "false")),
    "Microsoft Entra": (ENTRA + f"{ANN},Ann Lee,Lee,a@example.com,Ann,1,Member,,,True\n", ("Ann Lee", "a@example.com", "true")),
    "Microsoft Entra, disabled": (ENTRA + f"{ANN},Ann Lee,Lee,,Ann,1,Member,,,False\n", ("Ann Lee", "", "false")),
}


@pytest.mark.django_db
@pytest.mark.parametrize(("text", "expected"), EXPORTS.values(), ids=EXPORTS)
def test_the_export_of_a_provider_is_imported_and_its_other_columns_are_named(text, expected, settings):
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    report = user_import.import_users(actor=ACTOR, text=text)
    assert report.applied, report.errors
    [change] = report.changes
    assert (change.username, change.values["role"], change.values["sign_in"]) == (ANN, "user", "sso")
    assert tuple(change.values[name] for name in ("display_name", "email", "active")) == expected
    [warning] = report.warnings
    assert warning.startswith("Ignored columns: ")


@pytest.mark.django_db
def test_a_role_can_be_added_to_the_export_of_a_provider_and_an_unknown_status_is_an_error():
    text = OKTA.replace("status", "status,role") + f"{ANN},Ann,Lee,,{ANN},,,STAGED,viewer\n"
    report = user_import.import_users(actor=ACTOR, text=text)
    assert [error.error for error in report.errors] == ["The column active has true or false."]
    assert user_import.import_users(actor=ACTOR, text=text.replace("STAGED", "ACTIVE")).applied
    assert User.objects.get().role.name == "viewer"


@pytest.mark.django_db
@pytest.mark.parametrize("hashed", ["$2y$05$" + "a" * 53, "$$2y$$05$$" + "a" * 53, "$apr1$x$y", "{SHA}W6ph5Mm5Pz8GgiULbPgz="])
def test_a_hash_is_no_password(hashed):
    report = user_import.import_users(actor=ACTOR, text=f"username,password\nann,{hashed}\n")
    assert [error.error for error in report.errors] == ["The password is a hash. Hashes are not imported; set a new password."]
    assert not User.objects.exists()


@pytest.mark.django_db
def test_an_export_for_a_spreadsheet_begins_with_a_byte_order_mark_and_can_be_imported(bob):
    text = "".join(user_csv.export_users(ACTOR, for_spreadsheet=True))
    assert text == "\ufeff" + "".join(user_csv.export_users(ACTOR))
    assert user_import.import_users(actor=ACTOR, text=text, update=True).applied


# what a report says


@pytest.mark.django_db
def test_promise_49_a_report_names_those_who_get_the_role_admin(alice, bob, vera):
    text = "username,role\nann@example.com,admin\nbob@example.com,admin\nalice@example.com,admin\nvera@example.com,user\n"
    assert user_import.import_users(actor=ACTOR, text=text, update=True, dry_run=True).new_admins == (ANN, "bob@example.com")


@pytest.mark.django_db
@pytest.mark.parametrize(("sso", "warns"), [("off", True), ("plaintext", False)])
def test_users_who_cannot_sign_in_are_named(settings, bob, sso, warns):
    settings.AUTH_USER_HEADER_FORMAT = sso
    text = f"username,password,sign_in\n{ANN},,\ncarl,correct horse battery,\nbob@example.com,,sso\n"
    report = user_import.import_users(actor=ACTOR, text=text, update=True, dry_run=True)
    expected = (
        "Single sign-on is off (AUTH_USER_HEADER_FORMAT=off), so without a password these users cannot sign in: "
        "ann@example.com, bob@example.com. Set their passwords, or turn single sign-on on."
    )
    assert report.warnings == ((expected,) if warns else ())


@pytest.mark.django_db
def test_a_user_who_is_unchanged_is_not_named(settings, bob):
    settings.AUTH_USER_HEADER_FORMAT = "off"
    users.update_profile(actor=ACTOR, user=bob, sign_in="sso")
    text = "username,sign_in\nbob@example.com,sso\n"
    assert user_import.import_users(actor=ACTOR, text=text, update=True, dry_run=True).warnings == ()
