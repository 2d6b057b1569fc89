"""An import of many users: few queries, one audit entry for each change, and all rows or none."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import DeletedUser, FirstAdmin, User
from accounts.services import user_import, users
from audit.models import Entry
from core.errors import Conflict
from rbac import principals
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

ACTOR = principals.system("tests")


def rows(number: int, name: str = "Ann", role: str = "user") -> str:
    return "username,role,display_name\n" + "".join(f"p{n}@example.com,{role},{name} {n}\n" for n in range(number))


def run(text: str, **options: Any) -> Any:
    return user_import.import_users(actor=ACTOR, text=text, update=True, **options)


@pytest.mark.parametrize("update", [False, True])
def test_ten_times_as_many_rows_need_no_more_queries(update: bool) -> None:
    numbers = []
    for number in (20, 200):
        if update:
            run(rows(number))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert run(rows(number, "Ben", "viewer") if update else rows(number).replace("\np", f"\nq{number}-")).applied
        numbers.append(len(queries))
    assert numbers[0] == numbers[1] <= 60


def test_each_user_has_the_audit_entries_of_single_changes() -> None:
    run(rows(2))
    run(rows(2, "Ben", "viewer"))
    users.create_user(actor=ACTOR, username="single@example.com", role="user", display_name="Ann")
    single = users.find_user("single@example.com")
    users.update_profile(actor=ACTOR, user=users.set_role(actor=ACTOR, user=single, role="viewer"), display_name="Ben")

    def entries(name: str) -> list[tuple[str, list[str]]]:
        found = Entry.objects.filter(target=name, actor=ACTOR.name).order_by("pk")
        return [(entry.event, sorted({**entry.data, **entry.data.get("new", {})})) for entry in found]

    assert len(entries("single@example.com")) == 3
    assert entries("p0@example.com") == entries("p1@example.com") == entries("single@example.com")


def test_a_user_who_is_changed_while_the_rows_are_prepared_is_not_overwritten() -> None:
    run(rows(2))
    plan = user_import.plan_import(actor=ACTOR, text=rows(2, "Ben"), update=True)
    users.update_profile(actor=ACTOR, user=users.find_user("p1@example.com"), display_name="Somebody else's")
    with pytest.raises(StopIteration) as ended:
        next(user_import.apply_plan(actor=ACTOR, plan=plan))
    assert [error.username for error in ended.value.value.errors] == ["p1@example.com"]
    assert list(User.objects.order_by("pk").values_list("display_name", flat=True)) == ["Ann 0", "Somebody else's"]
    assert Entry.objects.filter(actor=ACTOR.name, event="user.updated").count() == 1, "the entries were rolled back, too"


def test_a_change_of_another_user_does_not_prevent_an_import() -> None:
    run(rows(2))
    plan = user_import.plan_import(actor=ACTOR, text=rows(2, "Ben"), update=True)
    UserFactory(username="admin@example.com")
    users.set_role(actor=ACTOR, user=users.find_user("admin@example.com"), role="admin")
    assert list(user_import.apply_plan(actor=ACTOR, plan=plan)) == [(4, 4)]
    assert User.objects.filter(display_name__startswith="Ben").count() == 2


def test_an_import_that_finds_other_rows_each_time_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.services.user_import_state.ImportState.is_current", lambda state: False)
    with pytest.raises(Conflict, match="Try again later"):
        run(rows(2))
    assert not User.objects.exists()
    assert not Entry.objects.filter(event="user.created").exists()


def test_a_second_try_changes_nobody() -> None:
    assert len(run(rows(3)).created) == 3
    before = Entry.objects.count()
    report = run(rows(3))
    assert (report.applied, report.created, report.changed) == (True, (), ())
    assert Entry.objects.count() == before
    without_update = user_import.import_users(actor=ACTOR, text=rows(3))
    assert [error.error for error in without_update.errors][:1] == ["User 'p0@example.com' already exists."]


def test_ids_that_collide_get_the_next_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.services.user_rules.user_uid", lambda name, attempt=0: f"{attempt:08x}")
    monkeypatch.setattr("accounts.services.user_import_state.user_uid", lambda name: f"{0:08x}")
    UserFactory(username="old@example.com", uid="00000001")
    assert run(rows(2)).applied
    uids = User.objects.filter(username__startswith="p").order_by("username").values_list("uid", flat=True)
    assert list(uids) == ["00000000", "00000002"]


def test_a_name_that_is_the_id_of_an_earlier_row_is_refused() -> None:
    text = "username,password\np0@example.com,\n{uid},correct horse battery\n".format(uid="19748c83")
    assert [error.error for error in run(text).errors] == ["The name '19748c83' is the id of a user."]


def test_a_first_admin_and_a_returning_user_are_noted_as_by_single_changes() -> None:
    DeletedUser.objects.create(username="p0@example.com", role="viewer", blocked=True, deleted_by="tests")
    FirstAdmin.objects.all().delete()
    assert run(rows(1, role="admin")).new_admins == ("p0@example.com",)
    assert FirstAdmin.objects.exists()
    assert not DeletedUser.objects.exists()
    assert Entry.objects.get(event="user.created").data["unblocked"] is True
