"""deleted_users: users who can return through single sign-on."""

import json

from accounts.models import DeletedUser, User
from accounts.services import offboarding
from audit.models import Entry
from rbac.principals import system
from tests.commands.run_command import run


def test_deleted_users_are_listed_blocked_and_unblocked(bob: User, vera: User) -> None:
    assert "There are no deleted users" in run("deleted_users").err
    for user in (bob, vera):
        offboarding.delete_user(actor=system("tests"), user=user, block=user is vera)
    rows = json.loads(run("deleted_users", "--json").out)
    assert [(row["username"], row["role"], row["blocked"]) for row in rows] == [
        ("bob@example.com", "user", False),
        ("vera@example.com", "viewer", True),
    ]
    assert "vera@example.com" in run("deleted_users", "--unblock", "Vera@example.com").out
    assert not DeletedUser.objects.filter(blocked=True).exists()
    run("deleted_users", "--block", "bob@example.com")
    assert DeletedUser.objects.get(blocked=True).username == "bob@example.com"
    assert [entry.event for entry in Entry.objects.all()[:2]] == ["user.blocked", "user.unblocked"]


def test_a_name_that_was_not_deleted_cannot_be_blocked(bob: User) -> None:
    ended = run("deleted_users", "--block", "bob@example.com")
    assert (ended.code, "There is no deleted user named 'bob@example.com'." in ended.err) == (1, True)
    assert run("deleted_users", "--block", "a@example.com", "--unblock", "b@example.com").code != 0
