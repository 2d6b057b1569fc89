from django.apps import AppConfig, apps
from django.contrib.admin.apps import AdminConfig


class AdminSiteConfig(AppConfig):
    name = "adminsite"

    def ready(self) -> None:
        """Give the lockout library's models a heading in the admin that says what they are."""
        apps.get_app_config("axes").verbose_name = "Sign-in protection"


class DjangoAdminConfig(AdminConfig):
    """`django.contrib.admin` with SkyAuth's own site."""

    default_site = "adminsite.site.SkyAuthAdminSite"
