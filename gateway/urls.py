"""The paths of the gateway that Django serves. The verify endpoints are not here: `gateway.asgi` answers them before Django."""

from django.urls import path

from gateway import views

urlpatterns = [path("metrics", views.metrics, name="metrics")]
