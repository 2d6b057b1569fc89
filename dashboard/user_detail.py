"""The page of one user, its forms, and the pages that disable or delete the user together with what they own."""

from typing import Any, ClassVar, Final

from django.contrib import messages
from django.db.models import Q
from django.forms import BaseForm, Form
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.models import User
from accounts.services import deleted_users, offboarding, service_accounts, users
from accounts.services.offboarding import AccountAction
from accounts.services.sign_in_warnings import warning_about
from audit.models import Entry
from core.errors import Forbidden, NotFound, ServiceError
from core.forms import add_service_error
from dashboard.audit_text import describe
from dashboard.base import FormPage, Page
from dashboard.forms import DeletionForm, OffboardingForm, UserPasswordForm, UserProfileForm, role_choices
from dashboard.users import can_change
from rbac.permissions import Permission

MAX_EVENTS: Final = 8


class UserPage(Page):
    """The page of a user. Each of its forms posts to a view of its own, which renders this page again if there are errors."""

    needs = (Permission.USERS_READ,)
    section = "users"
    template = "dashboard/user.html"

    def get(self, request: HttpRequest, uid: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the page with unbound forms."""
        return self.render_user(users.get_user(uid))

    def render_user(self, user: User, status: int = 200, **forms: Form) -> HttpResponse:
        """Return the page; `forms` are bound forms, by name ("profile", "password")."""
        me, is_self = self.principal, self.principal.pk == user.pk
        can_write = can_change(me, user)
        sees_accounts = is_self or me.holds(Permission.SERVICE_ACCOUNTS_READ)
        profile = {"display_name": user.display_name, "email": user.email, "sign_in": user.sign_in}
        return self.render(
            status=status,
            account_user=user,
            is_self=is_self,
            can_write=can_write,
            roles=role_choices(me) if can_write else (),
            profile=forms.get("profile") or UserProfileForm(initial=profile, auto_id="profile_%s"),
            password=forms.get("password") or UserPasswordForm(user=user, auto_id="password_%s"),
            accounts=service_accounts.visible(me).filter(owner=user)[: offboarding.MAX_LISTED] if sees_accounts else None,
            events=describe(Entry.objects.filter(Q(target=user.username) | Q(actor_uid=user.uid))[:MAX_EVENTS], me)
            if me.holds(Permission.AUDIT_READ)
            else None,
        )


class UserFormAction(UserPage):
    """One form of the user's page."""

    needs = (Permission.USERS_WRITE,)
    name: ClassVar[str]
    form: ClassVar[type[Form]]
    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest, uid: str) -> HttpResponse:
        """Perform the action of the form, or return the page with the form's errors."""
        user = users.get_user(uid)
        form = self.make_form(user, request.POST)
        if form.is_valid():
            try:
                return self.redirect_to(reverse("dashboard:user", args=[uid]), self.perform(user, form.cleaned_data))
            except (Forbidden, NotFound):
                raise
            except ServiceError as error:
                add_service_error(form, error)
        return self.render_user(user, 422, **{self.name: form})

    def make_form(self, user: User, data: QueryDict) -> Form:  # noqa: ARG002 - for subclasses
        """Return the bound form."""
        return self.form(data, auto_id=f"{self.name}_%s")

    def perform(self, user: User, values: dict[str, Any]) -> str:
        """Call the service, and return the message for the next page. Raises ServiceError."""
        raise NotImplementedError

    def page_path(self) -> str:
        """Return the user's page."""
        return reverse("dashboard:user", args=[self.kwargs["uid"]])


class UserProfileAction(UserFormAction):
    """Changes names, address and sign-in method."""

    name = "profile"
    form = UserProfileForm

    def perform(self, user: User, values: dict[str, Any]) -> str:
        """Save the profile."""
        changed = users.update_profile(actor=self.principal, user=user, **values)
        if warning := warning_about(changed):
            messages.warning(self.request, warning)
        return f"The profile of {user.username} was saved."


class UserPasswordAction(UserFormAction):
    """Sets the user's password."""

    name = "password"
    form = UserPasswordForm

    def make_form(self, user: User, data: QueryDict) -> Form:
        """Return the bound form, which asks for the sign-in method of a user of single sign-on."""
        return UserPasswordForm(data, user=user, auto_id=f"{self.name}_%s")

    def perform(self, user: User, values: dict[str, Any]) -> str:
        """Set the password, which also ends the user's sessions."""
        changed = users.set_password(actor=self.principal, user=user, **values)
        message = f"The password of {user.username} was changed, and all of their sessions were ended."
        if changed.sign_in != user.sign_in:
            message += f" {user.username} can now sign in by {changed.get_sign_in_display()}."
        return message


class UserEnableAction(UserFormAction):
    """Enables a disabled user, which also reactivates their service accounts."""

    name = "enable"
    form = Form

    def perform(self, user: User, values: dict[str, Any]) -> str:  # noqa: ARG002 - the form has no fields
        """Enable the user."""
        users.set_active(actor=self.principal, user=user, active=True)
        return f"The user {user.username} is enabled."


class OffboardingPage(FormPage):
    """Lists what a user owns, and asks what happens to it. `deletes` tells whether the user is deleted or disabled."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/user_offboarding.html"
    deletes: ClassVar[bool]
    stay_label: ClassVar[str]

    @property
    def user(self) -> User:
        """The user who is disabled or deleted."""
        return users.get_user(self.kwargs["uid"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form. A deletion has no default for the service accounts, nor for the name of an active user."""
        has_accounts = self.user.service_accounts.exists()
        if self.deletes:
            user = self.user
            initial = {} if user.is_active else {"block": "true"}
            can_return = deleted_users.can_return(user)
            return DeletionForm(
                data, initial=initial, stay_label=self.stay_label, has_accounts=has_accounts, can_return=can_return
            )
        return OffboardingForm(data, initial={"fate": AccountAction.STAY}, stay_label=self.stay_label, has_accounts=has_accounts)

    def render_form(self, form: BaseForm, status: int = 200) -> HttpResponse:
        """Return the page with what the user owns."""
        user = self.user
        return self.render(
            status=status,
            form=form,
            account_user=user,
            affected=offboarding.affected(user),
            deletes=self.deletes,
            consequence=deleted_users.consequence(user) if self.deletes else "",
            can_write=can_change(self.principal, user),
        )

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        """Disable or delete the user."""
        user = self.user
        action, new_owner = AccountAction(values.get("fate") or AccountAction.STAY), values.get("transfer_to")
        if self.deletes:
            block = {"true": True, "false": False}.get(values.get("block", ""))
            offboarding.delete_user(actor=self.principal, user=user, account_action=action, transfer_to=new_owner, block=block)
            blocked = " Single sign-on refuses the name." if block else ""
            return self.redirect_to(reverse("dashboard:users"), f"The user {user.username} was deleted.{blocked}")
        offboarding.disable_user(actor=self.principal, user=user, account_action=action, transfer_to=new_owner)
        message = f"The user {user.username} is disabled and signed out everywhere."
        return self.redirect_to(reverse("dashboard:user", args=[user.uid]), message)


class DisableUserPage(OffboardingPage):
    """Disables a user."""

    deletes = False
    stay_label = "Stop them until the user is enabled again"


class DeleteUserPage(OffboardingPage):
    """Deletes a user."""

    deletes = True
    stay_label = "Keep them active without an owner"
