"""The pages for people."""

from django.urls import path, re_path
from django.views.generic import RedirectView

from dashboard import people, person
from dashboard.home import Home
from dashboard.sign_in import SignIn, SignOut

app_name = "dashboard"

_USER = r"\Askyauth/users/(?P<uid>[0-9a-f]{1,16})"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="dashboard:home")),
    path("sign-in", SignIn.as_view(), name="sign-in"),
    path("sign-out", SignOut.as_view(), name="sign-out"),
    path("skyauth", RedirectView.as_view(pattern_name="dashboard:home")),
    path("skyauth/", Home.as_view(), name="home"),
    path("skyauth/users", people.Users.as_view(), name="users"),
    path("skyauth/users/new", people.New.as_view(), name="user-new"),
    path("skyauth/users/role", people.BulkRole.as_view(), name="users-role"),
    re_path(rf"{_USER}\Z", person.Person.as_view(), name="user"),
    re_path(rf"{_USER}/role\Z", people.SetRole.as_view(), name="user-role"),
    re_path(rf"{_USER}/profile\Z", person.SetProfile.as_view(), name="user-profile"),
    re_path(rf"{_USER}/password\Z", person.SetPassword.as_view(), name="user-password"),
    re_path(rf"{_USER}/enable\Z", person.Enable.as_view(), name="user-enable"),
    re_path(rf"{_USER}/disable\Z", person.Disable.as_view(), name="user-disable"),
    re_path(rf"{_USER}/delete\Z", person.Delete.as_view(), name="user-delete"),
]
