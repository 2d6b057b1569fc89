"""The least that Django can do: one view without content, no middleware, no database."""

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="a benchmark signs nothing that matters",  # noqa: S106
    ALLOWED_HOSTS=["api.example.com"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[],
    DATABASES={},
)


def view(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Answer 200."""
    return HttpResponse()


urlpatterns = [path("", view)]
django.setup()
application = get_wsgi_application()
