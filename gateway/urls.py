"""The paths of this door that Django's handler serves. The verify endpoints are not here: `gateway.asgi` answers them first."""

from django.urls import path

from gateway import views

urlpatterns = [path("metrics", views.metrics, name="metrics")]
