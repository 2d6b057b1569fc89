"""The pages of the Django admin, registered with its site."""

from django.contrib import admin
from django.contrib.auth import admin as auth_admin  # noqa: F401 - registers Group, which is removed below
from django.contrib.auth.models import Group

from adminsite import audit, groups, lockouts, roles_and_routes, service_accounts, tokens, users

__all__ = ["audit", "groups", "lockouts", "roles_and_routes", "service_accounts", "tokens", "users"]

admin.site.unregister(Group)  # permissions come from roles; a second system would confuse
