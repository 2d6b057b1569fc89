from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, and hear Django's own login events and the end of migrations."""
        from accounts import checks, generation, signals

        checks.register()
        signals.connect()
        post_migrate.connect(generation.after_migrate, sender=self, dispatch_uid="accounts.generation")


class SiteConfig(AdminConfig):
    """Django's admin, served by a site of ours."""

    default_site = "accounts.site.Site"
