"""Changes of many service accounts at once: decided in memory, and written in a few statements, all or none.

A service for one account makes about ten queries. The lock would be held for their time as often as a user has accounts.
"""

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any, Self

from django.utils import timezone

from accounts.models import ServiceAccount, Token
from accounts.services import account_rules, upstream
from accounts.services.account_rules import AccountChange
from accounts.services.prepared import Dependencies
from audit.events import Event
from audit.models import Entry
from audit.record import entry
from core.agreement import CallerChange
from core.bulk import Delete, Insert, Update, batches
from core.errors import Conflict, ServiceError
from rbac.principals import Principal

_CHANGEABLE = ("role", "owner", "description", "is_active")


class AccountBatch:
    """What happens to accounts that were read with role, owner and the owner's role. Nothing is written before `write`."""

    def __init__(self, actor: Principal) -> None:
        self.dependencies = Dependencies()
        self._actor = actor
        self._now = timezone.now()
        self._new: list[ServiceAccount] = []
        self._changed: dict[int, ServiceAccount] = {}  # by key
        self._before: dict[int, ServiceAccount] = {}  # the same accounts as they were read
        self._deleted: list[ServiceAccount] = []
        self._revoked: list[int] = []  # keys of tokens
        self._entries: list[Entry] = []
        self._questions: dict[str, CallerChange] = {}  # by the name of the account

    def create(self, account: ServiceAccount, *, active: bool = True) -> None:
        """Create an account from `account_rules.new_account`."""
        account_rules.require_creation(self._actor, account.owner)
        self.dependencies.add(account.owner)
        self.dependencies.free_names.add(account.name)
        self._record(Event.SERVICE_ACCOUNT_CREATED, account, account_rules.creation(account))
        if not active:
            data = account_rules.change(self._actor, account, AccountChange(active=False))
            self._record(Event.SERVICE_ACCOUNT_UPDATED, account, data)
        self._new.append(account)

    def change(self, account: ServiceAccount, new: AccountChange) -> None:
        """Change an account. Raises Forbidden, Invalid; then the account stays as it was."""
        account_rules.require_change(self._actor, account)
        before, held = copy(account), upstream.effective_permissions(account)
        try:
            data = account_rules.change(self._actor, account, new)
        except ServiceError:
            for name in _CHANGEABLE:
                setattr(account, name, getattr(before, name))
            raise
        if data is None:
            return
        if question := upstream.account_change(account, held):
            self._questions[account.name] = question
        self.dependencies.add(account.owner)
        self._store(account, before, data)

    def replace(self, account: ServiceAccount, before: ServiceAccount) -> None:
        """Store an account that the caller has changed, and that was read as `before`."""
        values = account_rules.account_values
        self._store(account, before, {"old": values(before), "new": values(account)})

    def delete(self, account: ServiceAccount) -> None:
        """Delete an account with all its tokens. Raises Forbidden."""
        account_rules.require_change(self._actor, account)
        self._questions[account.name] = CallerChange(account.upstream_name, None)
        self.dependencies.add(account)
        self.dependencies.accounts.add(account.pk)
        self._deleted.append(account)

    def revoke_tokens(self, tokens: Iterable[Token]) -> None:
        """Revoke tokens that were read with their accounts. A revoked one keeps its date. Raises Forbidden."""
        for token in tokens:
            account_rules.require_change(self._actor, token.account)
            self.dependencies.add(token, token.account)
            if token.revoked_at is None:
                token.revoked_at = self._now
                self._revoked.append(token.pk)
                self._record(Event.TOKEN_REVOKED, token.account, {"key_id": token.key_id})

    def refusals(self) -> Mapping[str, ServiceError]:
        """Return what the upstream refuses, by the name of the account. Raises NotAsked."""
        answers = upstream.refusals(self._actor, self._questions.values())
        return {name: answers[question] for name, question in self._questions.items() if question in answers}

    def prepare(self) -> Self:
        """Prepare the statements, which takes longer than to execute them, and return the batch. Nothing is added after it."""
        self._prepare_deletions()
        before = [self._before[key] for key in self._changed]
        self._inserts = Insert(self._new)
        self._update = Update(list(self._changed.values()), before, _CHANGEABLE)
        self._events = Insert(self._entries)
        return self

    def write(self) -> None:
        """Write everything that was prepared. Call it under `lock_policy`. Raises NotAsked, and ServiceError for a refusal."""
        for refusal in self.refusals().values():
            raise refusal
        for part in batches(self._revoked):
            Token.objects.filter(pk__in=part).update(revoked_at=self._now)
        self._inserts.run()
        if not self._update.run():
            raise Conflict("A service account was changed by somebody else in the meantime. Nothing was changed. Try again.")
        self._delete_tokens.run()
        self._delete_accounts.run()
        self._events.run()

    def _prepare_deletions(self) -> None:
        tokens: dict[int, list[str]] = {account.pk: [] for account in self._deleted}
        keys = []
        for part in batches(list(tokens)):
            for key, owner, key_id in Token.objects.filter(account__in=part).values_list("pk", "account_id", "key_id"):
                keys.append(key)
                tokens[owner].append(key_id)
        for account in self._deleted:
            data = {"uid": account.uid, "tokens": tokens[account.pk]}
            self._record(Event.SERVICE_ACCOUNT_DELETED, account, data)
        self._delete_tokens, self._delete_accounts = Delete(Token, keys), Delete(ServiceAccount, list(tokens))

    def _store(self, account: ServiceAccount, before: ServiceAccount, data: dict[str, Any]) -> None:
        self.dependencies.add(before)
        self._before.setdefault(account.pk, before)
        self._changed[account.pk] = account
        self._record(Event.SERVICE_ACCOUNT_UPDATED, account, data)

    def _record(self, event: Event, account: ServiceAccount, data: dict[str, Any] | None) -> None:
        if data is not None:
            self._entries.append(entry(event, actor=self._actor, target=account.name, data=data))
