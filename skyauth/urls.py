"""The URLs that Django serves. The verify endpoints and the health probes are not here: they are answered before Django."""

from django.contrib import admin
from django.urls import include, path, re_path

from api.errors import unknown

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("skypilot.urls")),
    path("api/v1/", include("api.urls")),
    path("", include("dashboard.urls")),
    path("", include("gateway.urls")),
    re_path(r"\Aapi(?:/|\Z)", unknown),
]

handler400 = "skyauth.errors.bad_request"
handler403 = "skyauth.errors.forbidden"
handler404 = "skyauth.errors.not_found"
handler500 = "skyauth.errors.server_error"
