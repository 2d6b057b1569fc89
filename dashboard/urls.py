"""The pages for people."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter
from django.views.generic import RedirectView

from dashboard import people, person
from dashboard.home import Home, SetOwnPassword
from dashboard.sign_in import SignIn, SignOut

app_name = "dashboard"


class UserId(StringConverter):
    """A user's id, as `accounts.identifiers.user_uid` makes them."""

    regex = "[0-9a-f]{1,16}"


register_converter(UserId, "user")

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="dashboard:home")),
    path("sign-in", SignIn.as_view(), name="sign-in"),
    path("sign-out", SignOut.as_view(), name="sign-out"),
    path("skyauth", RedirectView.as_view(pattern_name="dashboard:home")),
    path("skyauth/", Home.as_view(), name="home"),
    path("skyauth/password", SetOwnPassword.as_view(), name="own-password"),
    path("skyauth/users", people.Users.as_view(), name="users"),
    path("skyauth/users/new", people.New.as_view(), name="user-new"),
    path("skyauth/users/role", people.BulkRole.as_view(), name="users-role"),
    path("skyauth/users/<user:uid>", person.Person.as_view(), name="user"),
    path("skyauth/users/<user:uid>/role", people.SetRole.as_view(), name="user-role"),
    path("skyauth/users/<user:uid>/profile", person.SetProfile.as_view(), name="user-profile"),
    path("skyauth/users/<user:uid>/password", person.SetPassword.as_view(), name="user-password"),
    path("skyauth/users/<user:uid>/enable", person.Enable.as_view(), name="user-enable"),
    path("skyauth/users/<user:uid>/disable", person.Disable.as_view(), name="user-disable"),
    path("skyauth/users/<user:uid>/delete", person.Delete.as_view(), name="user-delete"),
]
