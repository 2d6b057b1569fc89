"""The pages for people."""

from django.urls import path

from dashboard.views import SignIn, SignOut

app_name = "dashboard"

urlpatterns = [
    path("sign-in", SignIn.as_view(), name="sign-in"),
    path("sign-out", SignOut.as_view(), name="sign-out"),
]
