from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class RevisionConfig(AppConfig):
    name = "revision"

    def ready(self) -> None:
        """Install the triggers after each migration. Django sends the signal for apps with models only, hence the sender."""
        from revision import triggers

        sender = apps.get_app_config("accounts")
        post_migrate.connect(triggers.after_migrate, sender=sender, dispatch_uid="revision.triggers")
