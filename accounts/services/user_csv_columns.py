"""The columns of a CSV file with users: SkyAuth's own, and those of exports of Okta, Google Workspace and Microsoft Entra."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from core.errors import Invalid

VALUES: Final = ("role", "email", "display_name", "sign_in", "active")
IMPORTED: Final = ("username", "password", *VALUES)
EXPORTED: Final = ("username", *VALUES, "created_at", "last_seen_at")
FIRST_NAME: Final = "first name"  # with LAST_NAME, the display name where no column has it
LAST_NAME: Final = "last name"
OURS: Final = frozenset({*IMPORTED, *EXPORTED})


@dataclass(frozen=True, slots=True)
class Provider:
    """The export of one identity provider: which of its columns are ours, and which are ignored. All names in lower case."""

    name: str
    columns: Mapping[str, str]
    ignored: frozenset[str]
    active: Mapping[str, str]

    @property
    def key(self) -> str:
        """The column by which the file is recognized: that of the user name."""
        return next(name for name, ours in self.columns.items() if ours == "username")


PROVIDERS: Final = (
    Provider(
        "Okta",
        {
            "login": "username",
            "email": "email",
            "displayname": "display_name",
            "firstname": FIRST_NAME,
            "lastname": LAST_NAME,
            "status": "active",
        },
        frozenset(
            [
                "id",
                "middlename",
                "honorificprefix",
                "honorificsuffix",
                "title",
                "nickname",
                "profileurl",
                "secondemail",
                "mobilephone",
                "primaryphone",
                "streetaddress",
                "city",
                "state",
                "zipcode",
                "countrycode",
                "postaladdress",
                "preferredlanguage",
                "locale",
                "timezone",
                "usertype",
                "employeenumber",
                "costcenter",
                "organization",
                "division",
                "department",
                "managerid",
                "manager",
                "created",
                "activated",
                "statuschanged",
                "lastlogin",
                "lastupdated",
                "passwordchanged",
            ]
        ),
        {"active": "true", "suspended": "false", "deprovisioned": "false"},
    ),
    Provider(
        "Google Workspace",
        {
            "email address [required]": "username",
            "first name [required]": FIRST_NAME,
            "last name [required]": LAST_NAME,
            "status [read only]": "active",
        },
        frozenset(
            {
                "password [required]",  # an export has asterisks in it
                "password hash function [upload only]",
                "org unit path [required]",
                "new primary email [upload only]",
                "new status [upload only]",
                "new licenses [upload only]",
                "advanced protection program enrollment",
                "last sign in [read only]",
                "recovery email",
                "home secondary email",
                "work secondary email",
                "recovery phone [must be in the e.164 format]",
                "work phone",
                "home phone",
                "mobile phone",
                "work address",
                "home address",
                "employee id",
                "employee type",
                "employee title",
                "manager email",
                "department",
                "cost center",
                "2sv enrolled [read only]",
                "2sv enforced [read only]",
                "building id",
                "floor name",
                "floor section",
                "email usage [read only]",
                "drive usage [read only]",
                "photos usage [read only]",
                "storage limit [read only]",
                "storage used [read only]",
                "total storage [read only]",
                "licenses [read only]",
                "change password at next sign-in",
            }
        ),
        {"active": "true", "suspended": "false", "archived": "false"},
    ),
    Provider(
        "Microsoft Entra",
        {"userprincipalname": "username", "displayname": "display_name", "mail": "email", "accountenabled": "active"},
        frozenset(
            [
                "surname",
                "givenname",
                "objectid",
                "id",
                "usertype",
                "jobtitle",
                "department",
                "companyname",
                "usagelocation",
                "streetaddress",
                "state",
                "country",
                "physicaldeliveryofficename",
                "officelocation",
                "city",
                "postalcode",
                "telephonenumber",
                "mobile",
                "mobilephone",
                "businessphones",
                "authenticationphonenumber",
                "authenticationalternativephonenumber",
                "authenticationemail",
                "alternateemailaddress",
                "agegroup",
                "consentprovidedforminor",
                "legalagegroupclassification",
                "creationtype",
                "directorysynced",
                "invitationstate",
                "identityissuer",
                "createddatetime",
            ]
        ),
        {},
    ),
)


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of a file: for each cell of a row the name of our column, "" for an ignored one; and the ignored names."""

    columns: tuple[str, ...]
    ignored: tuple[str, ...]
    active: Mapping[str, str]  # what a provider writes for true and false


def known(cells: list[str]) -> int:
    """Return how many cells of a header line are names of columns."""
    names = {cell.strip().lower() for cell in cells}
    return len(names & OURS) + max(len(names & {*provider.columns, *provider.ignored}) for provider in PROVIDERS)


def read_header(cells: list[str]) -> Header:
    """Return the columns of a header line. Raises Invalid; the message has no cell of a line that is no header."""
    while cells and not cells[-1].strip():  # a spreadsheet saves empty columns too
        cells = cells[:-1]
    typed = [cell.strip() for cell in cells]
    names = [cell.lower() for cell in typed]
    if not known(cells):
        raise Invalid.field("csv", _no_header(typed))
    provider = next((provider for provider in PROVIDERS if provider.key in names and "username" not in names), None)
    of_provider = provider.columns if provider is not None else {}
    ignored = provider.ignored if provider is not None else frozenset()
    unknown = [text for text, name in zip(typed, names, strict=True) if name not in OURS | of_provider.keys() | ignored]
    if unknown:
        raise Invalid.field("csv", f"Unknown column: {', '.join(map(repr, unknown))}. The columns are: {', '.join(IMPORTED)}.")
    columns = ["" if name in ignored and name not in OURS else of_provider.get(name, name) for name in names]
    if twice := sorted({column for column in columns if column and columns.count(column) > 1}):
        raise Invalid.field("csv", f"The header has the same column twice: {', '.join(twice)}.")
    if "username" not in columns:
        raise Invalid.field("csv", "The column username is missing. The first line names the columns.")
    dropped = [text for text, column in zip(typed, columns, strict=True) if not column]
    return Header(tuple(columns), tuple(dropped), provider.active if provider is not None else {})


def _no_header(cells: list[str]) -> str:
    """Return what is wrong with a first line that names no column. It can have passwords and hashes, so none is shown."""
    if len(cells) == 1 and ":" in cells[0]:
        return (
            "This looks like an htpasswd file. Hashes are not imported: write a CSV file with the columns username and password, "
            "or use the lines as AUTH_STRING."
        )
    return f"The first line names no column. It must name the columns, separated by commas: {', '.join(IMPORTED)}."
