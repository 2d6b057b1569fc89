from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class AdminSiteConfig(AppConfig):
    """The pages of the Django admin."""

    name = "adminsite"


class DjangoAdminConfig(AdminConfig):
    """`django.contrib.admin`, served by SkyAuth's own site."""

    default_site = "adminsite.site.Site"
