"""Users from a CSV file: each line is shown before anything is written, and the file of all of them."""

import asyncio
import csv
import io
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import RequestFactory

from accounts.models import User
from accounts.services import user_csv, user_import
from audit.models import Entry
from dashboard import user_files
from dashboard.streams import streamed
from tests.dashboard.test_pages import words
from tests.factories import UserFactory, principal

pytestmark = pytest.mark.django_db

PAGE = "/skyauth/users/import"
GOOD = "username,role,password\ncarol@example.com,user,\ndan@example.com,viewer,correct horse battery\n"


@pytest.fixture
def office(visit, alice):
    """Alice's browser."""
    return visit(alice)


def seen(answer):
    """Return what the page's form says was shown; "" where nothing was that could be imported."""
    assert 'name="seen"' in answer.text
    found = re.search(r'name="seen" value="(\w*)"', answer.text)
    return found[1] if found else ""


def look(browser, text):
    return browser.post(PAGE, {"text": text, "seen": ""})


def words_of(answer):
    """Return what is to be read in a streamed answer."""
    return " ".join(re.sub("<[^>]*>", " ", b"".join(answer.streaming_content).decode()).split())


def apply(browser, text):
    """Look at a file and import it, as the page's two buttons do; returns all that was streamed."""
    answer = browser.post(PAGE, {"text": text, "seen": seen(look(browser, text))})
    assert answer.streaming, answer.text
    return b"".join(answer.streaming_content).decode()


def test_every_line_is_shown_and_nothing_written(office):
    answer = look(office, GOOD)
    assert answer.status_code == 200
    text = words(answer)
    assert "2 users would be created, 1 with a password. Nothing has been imported yet." in text
    assert "2 carol@example.com created user carol@example.com sso true" in text
    assert "3 dan@example.com created viewer dan@example.com password true" in text
    assert "Import 2 lines" in text
    assert not User.objects.filter(username__in=["carol@example.com", "dan@example.com"]).exists()
    assert not Entry.objects.filter(event="user.created").exists()


def test_what_was_shown_is_imported_and_its_progress_told(office):
    page = apply(office, GOOD)
    assert "Import complete: 2 users created." in page
    assert re.findall(r"<p>(\d+) %</p>", page)[-1] == "100"
    assert page.count("</html>") == 1
    assert User.objects.get(username="dan@example.com").check_password("correct horse battery")
    assert User.objects.get(username="carol@example.com").role.name == "user"


def test_each_line_is_planned_once_for_a_preview_and_once_more_for_the_import(office, monkeypatch):
    calls = []
    apply_row = user_import._apply_row
    monkeypatch.setattr(user_import, "_apply_row", lambda *args: calls.append(args[1].line) or apply_row(*args))
    shown = seen(look(office, GOOD))
    assert calls == [2, 3]
    calls.clear()
    assert "Import complete: 2 users created." in words_of(office.post(PAGE, {"text": GOOD, "seen": shown}))
    assert calls == [2, 3, 2, 3], "planned, and written"


def test_faults_stand_beside_their_lines_and_nothing_is_lost_or_written(office, bob):
    text = "username,role\ncarol@example.com,user\nbob@example.com,user\nerin@example.com,captain\nx\n"
    answer = look(office, text)
    said = words(answer)
    assert "3 of 4 lines have errors. Nothing was imported." in said
    assert "captain" in said
    assert "This line has 1 values, but the header has 2." in said
    assert "carol@example.com,user" in answer.text
    assert "Import" not in re.findall(r'<button type="submit">([^<]*)</button>', answer.text)[-1]
    again = office.post(PAGE, {"text": text, "seen": seen(answer)})
    assert not again.streaming
    assert User.objects.count() == 2


def test_a_text_that_is_another_one_than_was_shown_is_shown_first(office):
    first = look(office, GOOD)
    answer = office.post(PAGE, {"text": GOOD + "erin@example.com,admin,\n", "seen": seen(first)})
    assert "the text or its effect differs from the preview that you saw" in words(answer)
    assert not User.objects.filter(username="carol@example.com").exists()


def test_line_ends_as_browsers_send_them_are_no_other_text(office):
    shown = seen(look(office, GOOD))
    assert office.post(PAGE, {"text": GOOD.replace("\n", "\r\n"), "seen": shown}).streaming


def test_a_world_that_changed_in_between_is_told_and_nobody_is_created(office, monkeypatch):
    shown = seen(look(office, GOOD))
    real = user_import.apply_plan

    def late(**arguments):
        steps = real(**arguments)
        yield next(steps)
        UserFactory(username="dan@example.com")
        return (yield from steps)

    monkeypatch.setattr(user_import, "apply_plan", late)
    page = b"".join(office.post(PAGE, {"text": GOOD, "seen": shown}).streaming_content).decode()
    assert "Nothing was imported, because these lines can no longer be imported as previewed:" in page
    assert "Line 3, dan@example.com" in page
    assert not User.objects.filter(username="carol@example.com").exists()


def test_who_closes_the_page_before_it_is_written_has_created_nobody(alice):
    plan = user_import.plan_import(actor=principal(alice), text=GOOD)
    steps = user_import.apply_plan(actor=principal(alice), plan=plan)
    assert next(steps) == (3, 5)  # both rows are planned, and the password is hashed
    steps.close()
    assert not User.objects.filter(username="carol@example.com").exists()


def test_a_browser_that_does_not_read_on_holds_no_lock(alice):
    """Between two pieces of the page no transaction of the import is open, so nobody else waits for it."""
    outside = len(connection.savepoint_ids)
    plan = user_import.plan_import(actor=principal(alice), text=GOOD)
    steps = user_import.apply_plan(actor=principal(alice), plan=plan)
    assert [(len(connection.savepoint_ids), done) for done, _ in steps] == [(outside, 3), (outside, 5)]
    assert User.objects.filter(username="carol@example.com").exists()


def test_a_file_is_read_into_the_text(office):
    file = SimpleUploadedFile("people.csv", b"\xef\xbb\xbf" + GOOD.encode(), "text/csv")
    answer = office.post(PAGE, {"file": file, "text": "", "seen": ""})
    assert "2 users would be created" in words(answer)
    assert "carol@example.com,user" in answer.text


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({}, "Choose a file or enter CSV text."),
        ({"text": "  \n"}, "Choose a file or enter CSV text."),
        ({"text": "name,role\nx,user\n"}, "Unknown column"),
        ({"file": SimpleUploadedFile("a.csv", b"\xff\xfe")}, "The file is not UTF-8."),
        ({"file": SimpleUploadedFile("a.csv", b"x" * (user_csv.MAX_BYTES + 1))}, "The file is larger than 5 MB."),
    ],
)
def test_what_is_no_file_of_users_is_refused_beside_its_field(office, given, fault):
    for value in given.values():
        if hasattr(value, "seek"):
            value.seek(0)
    answer = office.post(PAGE, given)
    assert (answer.status_code, fault in words(answer)) == (422, True)


def test_a_file_for_minutes_is_for_the_command_line(office, monkeypatch):
    monkeypatch.setattr(user_files, "MAX_LINES", 1)
    answer = look(office, GOOD)
    assert (answer.status_code, "Use manage.py import_users for larger files." in words(answer)) == (422, True)


def test_every_line_is_shown_and_the_faulty_ones_before_the_others(office):
    lines = "".join(f"p{number}@example.com,{'nonsense' if number == 4 else 'user'}\n" for number in range(600))
    answer = look(office, f"username,role\n{lines}")
    shown = re.findall(r'class="number">(\d+)</td>', answer.text)
    assert shown == ["6", *(str(number) for number in range(2, 602) if number != 6)]


KNOWN = "username,role,email,display_name\nbob@example.com,viewer,bob@example.com,Bobby\nnew@example.com,user,,\n"


def test_who_exists_is_changed_where_that_was_asked_for_and_each_change_is_shown(office, bob):
    assert "already exists" in words(look(office, KNOWN))
    answer = office.post(PAGE, {"text": KNOWN, "seen": "", "update": "on"})
    text = words(answer)
    assert "1 user would be created; 1 changed, 0 unchanged. Nothing has been imported yet." in text
    assert re.search(r"2 bob@example.com changed user viewer bob@example.com \S+.* Bobby", text)
    bob.refresh_from_db()
    assert bob.role.name == "user"
    done = office.post(PAGE, {"text": KNOWN, "seen": seen(answer), "update": "on"})
    assert "Import complete: 1 user created, 1 changed." in words_of(done)
    bob.refresh_from_db()
    assert (bob.role.name, bob.display_name) == ("viewer", "Bobby")
    again = words(office.post(PAGE, {"text": KNOWN, "seen": "", "update": "on"}))
    assert "0 users would be created; 0 changed, 2 unchanged." in again


def test_what_was_seen_without_update_is_no_leave_to_update(office, bob):
    text = "username\nnew@example.com\n"
    shown = seen(look(office, text))
    UserFactory(username="new@example.com")
    answer = office.post(PAGE, {"text": text, "seen": shown, "update": "on"})
    assert not answer.streaming
    assert "differs from the preview that you saw" in words(answer)


def test_a_user_who_appears_in_the_last_moment_is_not_changed_unseen(office, monkeypatch):
    text = "username,role\nnew@example.com,viewer\n"
    shown = seen(office.post(PAGE, {"text": text, "seen": "", "update": "on"}))
    real = user_import.apply_plan

    def late(**arguments):
        UserFactory(username="new@example.com")
        return (yield from real(**arguments))

    monkeypatch.setattr(user_import, "apply_plan", late)
    said = words_of(office.post(PAGE, {"text": text, "seen": shown, "update": "on"}))
    assert "Nothing was imported" in said
    assert "new@example.com: This user was changed by somebody else after the preview." in said
    assert User.objects.get(username="new@example.com").role.name == "user"


def test_another_default_role_than_was_shown_is_shown_first(office, settings):
    text = "username\nnew@example.com\n"
    settings.RBAC_DEFAULT_ROLE = "viewer"
    answer = look(office, text)
    assert "2 new@example.com created viewer" in words(answer)
    settings.RBAC_DEFAULT_ROLE = "user"
    answer = office.post(PAGE, {"text": text, "seen": seen(answer)})
    assert not answer.streaming
    assert "2 new@example.com created user" in words(answer)
    assert not User.objects.filter(username="new@example.com").exists()


def test_a_file_with_a_header_alone_says_that_there_is_nothing_in_it(office):
    answer = look(office, "username,role\n")
    assert "The text has a header line, but no users." in words(answer)
    again = office.post(PAGE, {"text": "username,role\n", "seen": seen(answer)})
    assert not again.streaming


def test_what_is_corrected_is_looked_at_again_without_an_alarm(office):
    refused = look(office, GOOD.replace("viewer", "captain"))
    answer = office.post(PAGE, {"text": GOOD, "seen": seen(refused)})
    assert "differs from the preview that you saw" not in words(answer)
    assert "2 users would be created" in words(answer)


def test_only_who_may_create_users_imports_and_who_may_read_them_exports(visit, bob, vera, alice):
    for user in (bob, vera):
        browser = visit(user)
        assert browser.get(PAGE).status_code == 403
        assert browser.post(PAGE, {"text": GOOD}).status_code == 403
        assert "Import" not in browser.get("/skyauth/users").text
    answer = visit(vera).get("/skyauth/users/export")
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode(), newline="")))
    assert sorted(row["username"] for row in rows) == sorted([alice.username, bob.username, vera.username])
    assert "password" not in rows[0]


def test_promise_36_a_form_without_the_csrf_token_is_refused(visit, alice):
    assert visit(alice, enforce_csrf_checks=True).post(PAGE, {"text": GOOD}).status_code == 403


def test_a_server_gets_the_pieces_one_by_one():
    request = RequestFactory().get("/")
    request.scope = {}
    made = []

    def pieces():
        for number in range(5):
            made.append(number)
            yield str(number)

    async def read():
        return [piece async for piece in streamed(request, pieces(), at_once=2)]

    assert asyncio.run(read()) == ["01", "23", "4"]
    assert list(streamed(RequestFactory().get("/"), pieces())) == list("01234")


def test_what_is_half_done_is_undone_at_once_when_the_client_is_gone():
    request = RequestFactory().get("/")
    request.scope = {}
    undone = []

    def pieces():
        try:
            yield "1"
            yield "2"
        finally:
            undone.append(True)

    async def leave():
        answer = streamed(request, pieces())
        await anext(answer)
        await answer.aclose()
        return list(undone)

    assert asyncio.run(leave()) == [True]
