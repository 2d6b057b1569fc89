"""One user: their page, what can be changed on it, and the sheet that says what goes when they leave."""

from typing import Any, ClassVar

from django.db.models import Q
from django.forms import BaseForm, Form
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.models import User
from accounts.services import offboarding, service_accounts, users
from accounts.services.offboarding import Fate
from audit.models import Entry
from core.errors import Invalid
from core.forms import add_service_error
from dashboard.audit_text import told
from dashboard.base import FormPage, Page
from dashboard.forms import Leaving, Password, Profile, role_choices
from dashboard.users import may_change
from rbac.permissions import Permission

EVENTS = 8


class Person(Page):
    """A user's page. Each of its forms is sent to a view of its own, which shows this page again with what was refused."""

    needs = (Permission.USERS_READ,)
    section = "users"
    template = "dashboard/user.html"

    def get(self, request: HttpRequest, uid: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Show it."""
        return self.show_user(users.get_user(uid))

    def show_user(self, user: User, status: int = 200, **forms: Form) -> HttpResponse:
        """Return the page, with these forms in place of the ones that nobody has filled in."""
        me, itself = self.principal, self.principal.pk == user.pk
        changes = may_change(me, user)
        seen = itself or me.holds(Permission.SERVICE_ACCOUNTS_READ)
        profile = {"display_name": user.display_name, "email": user.email, "sign_in": user.sign_in}
        return self.render(
            status=status,
            person=user,
            itself=itself,
            changes=changes,
            roles=role_choices(me) if changes else (),
            profile=forms.get("profile") or Profile(initial=profile, auto_id="profile_%s"),
            password=forms.get("password") or Password(auto_id="password_%s"),
            accounts=service_accounts.visible(me).filter(owner=user)[: offboarding.SHOWN] if seen else None,
            events=told(Entry.objects.filter(Q(target=user.username) | Q(actor_uid=user.uid))[:EVENTS], me)
            if me.holds(Permission.AUDIT_READ)
            else None,
        )


class _Part(Person):
    """A form of that page."""

    needs = (Permission.USERS_WRITE,)
    name: ClassVar[str]
    form: ClassVar[type[Form]]
    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest, uid: str) -> HttpResponse:
        """Do what the form asks for, or show what was refused."""
        user = users.get_user(uid)
        form = self.form(request.POST, auto_id=f"{self.name}_%s")
        if form.is_valid():
            try:
                return self.redirect_to(reverse("dashboard:user", args=[uid]), self.perform(user, form.cleaned_data))
            except Invalid as error:
                add_service_error(form, error)
        return self.show_user(user, 422, **{self.name: form})

    def perform(self, user: User, given: dict[str, Any]) -> str:
        """Do it, and return what was done. Raises ServiceError."""
        raise NotImplementedError

    def page_path(self) -> str:
        """Return the user's page."""
        return reverse("dashboard:user", args=[self.kwargs["uid"]])


class SetProfile(_Part):
    """Changes names, address and how the person signs in."""

    name = "profile"
    form = Profile

    def perform(self, user: User, given: dict[str, Any]) -> str:
        """Change them."""
        users.update_profile(actor=self.principal, user=user, **given)
        return "Saved."


class SetPassword(_Part):
    """Sets the person's password."""

    name = "password"
    form = Password

    def perform(self, user: User, given: dict[str, Any]) -> str:
        """Set it."""
        users.set_password(actor=self.principal, user=user, password=given["password"])
        return f"{user.username} has a new password, and no session any more."


class Enable(_Part):
    """Lets a disabled person, and their service accounts, go on."""

    name = "enable"
    form = Form

    def perform(self, user: User, given: dict[str, Any]) -> str:  # noqa: ARG002 - there is nothing to be given
        """Enable them."""
        users.set_active(actor=self.principal, user=user, active=True)
        return f"{user.username} is enabled."


class Leave(FormPage):
    """The sheet for somebody who leaves: what is theirs, and what becomes of it. `deletes` says which of the two it is."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/user_leaves.html"
    deletes: ClassVar[bool]
    stays: ClassVar[str]

    @property
    def user(self) -> User:
        """Who leaves."""
        return users.get_user(self.kwargs["uid"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form."""
        first = None if self.deletes else {"fate": Fate.STAY}
        return Leaving(data, initial=first, stays=self.stays, has_accounts=self.user.service_accounts.exists())

    def render_form(self, form: BaseForm, status: int = 200) -> HttpResponse:
        """Show what is theirs."""
        user = self.user
        return self.render(
            status=status,
            form=form,
            person=user,
            belongings=offboarding.belongings(user),
            deletes=self.deletes,
            possible=may_change(self.principal, user),
        )

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Do it."""
        user = self.user
        fate, heir = Fate(given.get("fate") or Fate.STAY), given.get("transfer_to")
        if self.deletes:
            offboarding.delete(actor=self.principal, user=user, fate=fate, transfer_to=heir)
            return self.redirect_to(reverse("dashboard:users"), f"{user.username} was deleted.")
        offboarding.disable(actor=self.principal, user=user, fate=fate, transfer_to=heir)
        return self.redirect_to(
            reverse("dashboard:user", args=[user.uid]), f"{user.username} is disabled, and signed out everywhere."
        )


class Disable(Leave):
    """Disables a person."""

    deletes = False
    stays = "stop, and go on when the person is enabled again"


class Delete(Leave):
    """Deletes a person."""

    deletes = True
    stays = "go on without an owner"
