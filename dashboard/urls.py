"""The pages for people."""

from django.urls import path
from django.views.generic import RedirectView

from dashboard.home import Home
from dashboard.sign_in import SignIn, SignOut

app_name = "dashboard"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="dashboard:home")),
    path("sign-in", SignIn.as_view(), name="sign-in"),
    path("sign-out", SignOut.as_view(), name="sign-out"),
    path("skyauth", RedirectView.as_view(pattern_name="dashboard:home")),
    path("skyauth/", Home.as_view(), name="home"),
]
