"""The paths of the SkyPilot API server that SkyAuth answers."""

from django.urls import URLPattern

app_name = "skypilot"

urlpatterns: list[URLPattern] = []
