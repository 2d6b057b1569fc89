from django.apps import AppConfig


class DoctorConfig(AppConfig):
    name = "doctor"

    def ready(self) -> None:
        """Register the system checks."""
        from doctor import settings_checks

        settings_checks.register()
