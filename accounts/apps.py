from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks and hear Django's own login events."""
        from accounts import checks, signals

        checks.register()
        signals.connect()
