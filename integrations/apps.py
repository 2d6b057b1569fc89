from django.apps import AppConfig


class IntegrationsConfig(AppConfig):
    name = "integrations"

    def ready(self) -> None:
        """Let services ask the SkyPilot API server before changes that it can refuse."""
        from integrations.skypilot import role_changes

        role_changes.register()
