from django.apps import AppConfig


class RbacConfig(AppConfig):
    name = "rbac"
    verbose_name = "Roles and routes"
    default_auto_field = "django.db.models.BigAutoField"
