"""The paths of the SkyPilot API server that SkyAuth answers, each also below the prefix that SkyPilot's dashboard calls."""

from django.urls import URLPattern, URLResolver, include, path

from skypilot.health import health

app_name = "skypilot"

_paths: list[URLPattern | URLResolver] = [
    path("api/health", health, name="health"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    *_paths,
    path("internal/dashboard/", include((_paths, "dashboard"))),
]
