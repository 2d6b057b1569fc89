"""The Django admin of people, machines and what they may. Its rules are those of `accounts.services`; it has none of its own."""

from django.contrib import admin
from django.contrib.auth import admin as auth_admin  # noqa: F401 - registers Group, which is taken off again below
from django.contrib.auth.models import Group

from accounts.admin import failures, groups, machines, tokens, users

__all__ = ["failures", "groups", "machines", "tokens", "users"]

admin.site.unregister(Group)  # a second permission system, which there is not
