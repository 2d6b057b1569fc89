from django.apps import AppConfig
from django.core import checks


class DoctorConfig(AppConfig):
    name = "doctor"

    def ready(self) -> None:
        from doctor import deployment, settings_checks

        settings_checks.register()
        checks.register(deployment.deployed, checks.Tags.security, deploy=True)
