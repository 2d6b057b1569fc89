from django.apps import AppConfig
from django.db.models.signals import post_delete


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect what follows from the deletion of a role."""
        from accounts.services.deleted_users import forget_role
        from rbac.models import Role

        post_delete.connect(forget_role, sender=Role, dispatch_uid="accounts.forget_role")
