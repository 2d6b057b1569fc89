from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate, pre_migrate


class RevisionConfig(AppConfig):
    name = "revision"

    def ready(self) -> None:
        """Drop SQLite's triggers before migrations, and install what is missing after them.

        Django sends the signals for apps with models only, hence the sender.
        """
        from revision import triggers

        sender = apps.get_app_config("accounts")
        pre_migrate.connect(triggers.before_migrate, sender=sender, dispatch_uid="revision.triggers")
        post_migrate.connect(triggers.after_migrate, sender=sender, dispatch_uid="revision.triggers")
