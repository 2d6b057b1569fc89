from django.apps import AppConfig


class AuthnConfig(AppConfig):
    name = "authn"

    def ready(self) -> None:
        """Connect the receivers of Django's login events."""
        from authn import signals

        signals.connect()
