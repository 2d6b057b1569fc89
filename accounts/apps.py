from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks and hear Django's own login events."""
        from accounts import checks, signals

        checks.register()
        signals.connect()


class SiteConfig(AdminConfig):
    """Django's admin, served by a site of ours."""

    default_site = "accounts.site.Site"
