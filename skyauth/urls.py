"""What Django's handler serves. `/authz/verify` is not here: `gateway.asgi` answers it first."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include("api.urls")),
]

handler500 = "skyauth.errors.server_error"
