"""Import of users from a CSV file after a preview, and the export of all users."""

import asyncio
import csv
import io
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import RequestFactory

from accounts.models import Job, JobKind, JobState, User
from accounts.services import user_csv, user_import
from accounts.services.user_import_rules import Rules
from audit.models import Entry
from dashboard import user_files
from dashboard.streams import streamed
from rbac.models import Role
from tests.dashboard.test_pages import words
from tests.factories import UserFactory, principal

pytestmark = pytest.mark.django_db

PAGE = "/skyauth/users/import"
GOOD = "username,role,password\ncarol@example.com,user,\ndan@example.com,viewer,correct horse battery\n"


@pytest.fixture
def admin_browser(visit, alice):
    """A browser in which the admin alice is signed in."""
    return visit(alice)


def seen(response):
    """Return the fingerprint of the preview in the page's form; "" if the preview cannot be imported."""
    assert 'name="seen"' in response.text
    found = re.search(r'name="seen" value="(\w*)"', response.text)
    return found[1] if found else ""


def preview(browser, text):
    return browser.post(PAGE, {"text": text, "seen": ""})


def attempt(response):
    """Return the random value of the preview in the page's form."""
    found = re.search(r'name="attempt" value="(\w+)"', response.text)
    assert found is not None
    return found[1]


def confirm(browser, text, previewed, **options):
    """Send the form of a preview, as its button does, and return the page of the job to which the response redirects."""
    form = {"text": text, "seen": seen(previewed), "attempt": attempt(previewed), **options}
    response = browser.post(PAGE, form)
    assert response.status_code == 302, response.text
    assert re.fullmatch(rf"{PAGE}/[0-9a-f]{{16}}", response.url)
    return browser.get(response.url)


def apply(browser, text, **options):
    """Preview a file and import it, as the two buttons do; return the page of the job."""
    return confirm(browser, text, browser.post(PAGE, {"text": text, "seen": "", **options}), **options)


def running_job(user, **values):
    return Job.objects.create(
        kind=JobKind.USER_IMPORT, state=JobState.RUNNING, actor_kind="user", actor_pk=user.pk, actor_name=user.username, **values
    )


def test_a_preview_lists_every_line_and_writes_nothing(admin_browser):
    response = preview(admin_browser, GOOD)
    assert response.status_code == 200
    text = words(response)
    assert "2 users would be created, 1 with a password. Nothing has been imported yet." in text
    assert "2 carol@example.com create user carol@example.com sso true" in text
    assert "3 dan@example.com create viewer dan@example.com password true" in text
    assert "Import 2 lines" in text
    assert not User.objects.filter(username__in=["carol@example.com", "dan@example.com"]).exists()
    assert not Entry.objects.filter(event="user.created").exists()


def test_promise_49_a_preview_marks_those_who_get_the_role_admin_and_lists_them_first(admin_browser, bob):
    text = "username,role\ncarol@example.com,\nbob@example.com,admin\n"
    response = admin_browser.post(PAGE, {"text": text, "seen": "", "update": "on"})
    assert "1 user would get the role admin. They are listed first." in words(response)
    assert re.findall(r'class="number">(\d+)</td>', response.text) == ["3", "2"]
    assert re.search(r"3 bob@example.com change admin user admin", words(response))


def test_a_preview_warns_about_users_who_cannot_sign_in(admin_browser, settings):
    warning = "without a password these users cannot sign in: carol@example.com."
    assert warning in words(preview(admin_browser, GOOD))
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    assert warning not in words(preview(admin_browser, GOOD))


def test_a_previewed_file_is_imported_by_a_job(admin_browser):
    page = apply(admin_browser, GOOD)
    assert "Import complete: 2 users created." in words(page)
    assert 'http-equiv="refresh"' not in page.text
    assert User.objects.get(username="dan@example.com").check_password("correct horse battery")
    assert User.objects.get(username="carol@example.com").role.name == "user"


def test_the_page_of_a_running_job_shows_its_progress_and_loads_itself_again(admin_browser, alice):
    job = running_job(alice, steps=200, steps_done=50)
    page = admin_browser.get(f"{PAGE}/{job.pk}")
    assert '<progress max="100" value="25"' in page.text
    assert '<meta http-equiv="refresh" content="2">' in page.text


def test_the_import_page_lists_the_imports_of_the_user(visit, admin_browser, alice):
    other = UserFactory(username="other@example.com", role=alice.role)
    ours, others = running_job(alice), running_job(other)
    page = admin_browser.get(PAGE)
    assert f"{PAGE}/{ours.pk}" in page.text
    assert f"{PAGE}/{others.pk}" not in page.text


def test_a_form_that_is_sent_twice_starts_one_job(admin_browser):
    previewed = preview(admin_browser, GOOD)
    pages = [confirm(admin_browser, GOOD, previewed) for _ in range(2)]
    assert "Import complete: 2 users created." in words(pages[1])
    assert pages[0].request["PATH_INFO"] == pages[1].request["PATH_INFO"]
    assert Job.objects.count() == 1


def test_a_text_that_was_changed_after_its_import_is_previewed(admin_browser):
    previewed = preview(admin_browser, GOOD)
    confirm(admin_browser, GOOD, previewed)
    text = GOOD.replace("carol", "erin").replace("dan", "fay")
    response = admin_browser.post(PAGE, {"text": text, "seen": seen(previewed), "attempt": attempt(previewed)})
    assert "2 users would be created" in words(response)


def test_the_page_of_a_job_is_for_the_user_who_started_it_and_for_admins(visit, alice, vera):
    role = Role.objects.create(name="importer", permissions=["users:read", "users:write"])
    other = UserFactory(username="other@example.com", role=role)
    mine = UserFactory(username="mine@example.com", role=role)
    job = running_job(mine)
    statuses = [visit(user).get(f"{PAGE}/{job.pk}").status_code for user in (mine, alice, other, vera)]
    assert statuses == [200, 200, 404, 403]


def test_each_line_is_planned_once_for_a_preview_and_once_more_for_the_import(admin_browser, monkeypatch):
    calls = []
    decide = Rules._decide
    monkeypatch.setattr(Rules, "_decide", lambda self, row: calls.append(row.line) or decide(self, row))
    previewed = preview(admin_browser, GOOD)
    assert calls == [2, 3]
    calls.clear()
    assert "Import complete: 2 users created." in words(confirm(admin_browser, GOOD, previewed))
    assert calls == [2, 3]


def test_errors_are_next_to_their_lines_and_nothing_is_lost_or_written(admin_browser, bob):
    text = "username,role\ncarol@example.com,user\nbob@example.com,user\nerin@example.com,captain\nx\n"
    response = preview(admin_browser, text)
    text_of_page = words(response)
    assert "3 of 4 lines have errors. Nothing has been imported." in text_of_page
    assert "captain" in text_of_page
    assert "This line has 1 values, but the header has 2." in text_of_page
    assert "carol@example.com,user" in response.text
    assert "Import" not in re.findall(r'<button type="submit">([^<]*)</button>', response.text)[-1]
    again = admin_browser.post(PAGE, {"text": text, "seen": seen(response)})
    assert again.status_code == 200
    assert User.objects.count() == 2


def test_a_text_that_differs_from_the_preview_is_previewed_again(admin_browser):
    first = preview(admin_browser, GOOD)
    response = admin_browser.post(PAGE, {"text": GOOD + "erin@example.com,admin,\n", "seen": seen(first)})
    assert "the text or its effect differs from the preview that you saw" in words(response)
    assert not User.objects.filter(username="carol@example.com").exists()


def test_line_endings_of_browsers_do_not_change_the_text(admin_browser):
    previewed = preview(admin_browser, GOOD)
    assert "Import complete" in words(confirm(admin_browser, GOOD.replace("\n", "\r\n"), previewed))


def test_a_change_during_the_import_cancels_it(admin_browser, monkeypatch):
    previewed = preview(admin_browser, GOOD)
    real = user_import.apply_plan

    def late(**arguments):
        steps = real(**arguments)
        yield next(steps)
        UserFactory(username="dan@example.com")
        return (yield from steps)

    monkeypatch.setattr(user_import, "apply_plan", late)
    page = words(confirm(admin_browser, GOOD, previewed))
    assert "Nothing was imported, because of these lines:" in page
    assert "Line 3, dan@example.com" in page
    assert not User.objects.filter(username="carol@example.com").exists()


def test_closing_the_page_before_the_write_creates_no_user(alice):
    plan = user_import.plan_import(actor=principal(alice), text=GOOD)
    steps = user_import.apply_plan(actor=principal(alice), plan=plan)
    assert next(steps) == (3, 5)  # both rows are planned, and the password is hashed
    steps.close()
    assert not User.objects.filter(username="carol@example.com").exists()


def test_a_browser_that_stops_reading_holds_no_lock(alice):
    """Between two pieces of the page no transaction of the import is open, so nobody else waits for it."""
    outside = len(connection.savepoint_ids)
    plan = user_import.plan_import(actor=principal(alice), text=GOOD)
    steps = user_import.apply_plan(actor=principal(alice), plan=plan)
    assert [(len(connection.savepoint_ids), done) for done, _ in steps] == [(outside, 3), (outside, 5)]
    assert User.objects.filter(username="carol@example.com").exists()


def test_the_content_of_a_file_becomes_the_text(admin_browser):
    file = SimpleUploadedFile("people.csv", b"\xef\xbb\xbf" + GOOD.encode(), "text/csv")
    response = admin_browser.post(PAGE, {"file": file, "text": "", "seen": ""})
    assert "2 users would be created" in words(response)
    assert "carol@example.com,user" in response.text


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({}, "Choose a file or enter CSV text."),
        ({"text": "  \n"}, "Choose a file or enter CSV text."),
        ({"text": "name,role\nx,user\n"}, "Unknown column"),
        ({"file": SimpleUploadedFile("a.csv", b"\xff\xff")}, "The file is not UTF-8"),
        ({"file": SimpleUploadedFile("a.csv", b"x" * (user_csv.MAX_BYTES + 1))}, "The file is larger than 5 MB."),
    ],
)
def test_an_invalid_file_is_an_error_of_its_field(admin_browser, values, error):
    for value in values.values():
        if hasattr(value, "seek"):
            value.seek(0)
    response = admin_browser.post(PAGE, values)
    assert (response.status_code, error in words(response)) == (422, True)


def test_a_preview_of_many_lines_shows_the_first_and_says_so(admin_browser, monkeypatch):
    monkeypatch.setattr(user_files, "SHOWN_LINES", 1)
    response = preview(admin_browser, GOOD)
    assert re.findall(r'class="number">(\d+)</td>', response.text) == ["2"]
    assert "The preview shows 1 of 2 lines" in words(response)
    assert "Import 2 lines" in words(response)


def test_lines_with_errors_are_listed_first(admin_browser):
    lines = "".join(f"p{number}@example.com,{'nonsense' if number == 4 else 'user'}\n" for number in range(600))
    response = preview(admin_browser, f"username,role\n{lines}")
    numbers = re.findall(r'class="number">(\d+)</td>', response.text)
    assert numbers == ["6", *(str(number) for number in range(2, 602) if number != 6)]


KNOWN = "username,role,email,display_name\nbob@example.com,viewer,bob@example.com,Bobby\nnew@example.com,user,,\n"


def test_existing_users_are_updated_on_request_with_each_change_shown(admin_browser, bob):
    assert "already exists" in words(preview(admin_browser, KNOWN))
    response = admin_browser.post(PAGE, {"text": KNOWN, "seen": "", "update": "on"})
    text = words(response)
    assert "1 user would be created; 1 changed, 0 unchanged. Nothing has been imported yet." in text
    assert re.search(r"2 bob@example.com change user viewer bob@example.com \S+.* Bobby", text)
    bob.refresh_from_db()
    assert bob.role.name == "user"
    done = confirm(admin_browser, KNOWN, response, update="on")
    assert "Import complete: 1 user created, 1 changed." in words(done)
    bob.refresh_from_db()
    assert (bob.role.name, bob.display_name) == ("viewer", "Bobby")
    again = words(admin_browser.post(PAGE, {"text": KNOWN, "seen": "", "update": "on"}))
    assert "0 users would be created; 0 changed, 2 unchanged." in again


def test_a_preview_without_update_does_not_allow_an_update(admin_browser, bob):
    text = "username\nnew@example.com\n"
    fingerprint = seen(preview(admin_browser, text))
    UserFactory(username="new@example.com")
    response = admin_browser.post(PAGE, {"text": text, "seen": fingerprint, "update": "on"})
    assert response.status_code == 200
    assert "differs from the preview that you saw" in words(response)


def test_a_user_created_after_the_preview_is_not_changed(admin_browser, monkeypatch):
    text = "username,role\nnew@example.com,viewer\n"
    previewed = admin_browser.post(PAGE, {"text": text, "seen": "", "update": "on"})
    real = user_import.apply_plan

    def late(**arguments):
        UserFactory(username="new@example.com")
        return (yield from real(**arguments))

    monkeypatch.setattr(user_import, "apply_plan", late)
    text_of_page = words(confirm(admin_browser, text, previewed, update="on"))
    assert "Nothing was imported" in text_of_page
    assert "new@example.com: This user was changed by somebody else after the preview." in text_of_page
    assert User.objects.get(username="new@example.com").role.name == "user"


def test_a_changed_default_role_is_previewed_again(admin_browser, settings):
    text = "username\nnew@example.com\n"
    settings.RBAC_DEFAULT_ROLE = "viewer"
    response = preview(admin_browser, text)
    assert "2 new@example.com create viewer" in words(response)
    settings.RBAC_DEFAULT_ROLE = "user"
    response = admin_browser.post(PAGE, {"text": text, "seen": seen(response)})
    assert response.status_code == 200
    assert "2 new@example.com create user" in words(response)
    assert not User.objects.filter(username="new@example.com").exists()


def test_a_file_with_only_a_header_has_no_users(admin_browser):
    response = preview(admin_browser, "username,role\n")
    assert "The text has a header line, but no users." in words(response)
    again = admin_browser.post(PAGE, {"text": "username,role\n", "seen": seen(response)})
    assert again.status_code == 200


def test_a_corrected_text_is_previewed_without_a_warning(admin_browser):
    rejected = preview(admin_browser, GOOD.replace("viewer", "captain"))
    response = admin_browser.post(PAGE, {"text": GOOD, "seen": seen(rejected)})
    assert "differs from the preview that you saw" not in words(response)
    assert "2 users would be created" in words(response)


def test_import_and_export_require_users_write(visit, bob, vera, alice):
    for user in (bob, vera):
        browser = visit(user)
        assert browser.get(PAGE).status_code == 403
        assert browser.post(PAGE, {"text": GOOD}).status_code == 403
        assert browser.get("/skyauth/users/export").status_code == 403
        assert not {"Import", "Export"} & set(words(browser.get("/skyauth/users")).split())
    response = visit(alice).get("/skyauth/users/export")
    rows = list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode("utf-8-sig"), newline="")))
    assert sorted(row["username"] for row in rows) == sorted([alice.username, bob.username, vera.username])
    assert "password" not in rows[0]


def test_promise_36_a_form_without_the_csrf_token_is_refused(visit, alice):
    assert visit(alice, enforce_csrf_checks=True).post(PAGE, {"text": GOOD}).status_code == 403


def test_under_asgi_the_pieces_are_streamed():
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


def test_a_disconnected_client_closes_the_generator_immediately():
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
        response = streamed(request, pieces())
        await anext(response)
        await response.aclose()
        return list(undone)

    assert asyncio.run(leave()) == [True]


def test_after_an_error_in_the_header_the_text_of_the_file_is_on_the_page(admin_browser):
    file = SimpleUploadedFile("people.csv", b"username,rolle\ncarol@example.com,user\n", content_type="text/csv")
    page = admin_browser.post(PAGE, {"file": file})
    assert "Unknown column: &#x27;rolle&#x27;" in page.text
    assert "username,rolle\ncarol@example.com,user" in page.text


def test_the_error_for_an_unknown_sign_in_method_lists_the_methods(admin_browser):
    page = admin_browser.post(PAGE, {"text": "username,sign_in\ncarol@example.com,saml\n"})
    assert "&#x27;saml&#x27; is not a choice. Choose one of: password, sso, both." in page.text
