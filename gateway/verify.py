"""The straight line: headers to credential to principal, target to permission, both to a decision, decision to answer.

It is walked with what is remembered, in the event loop, and where that does not suffice once more with the database, in a
thread. There is one line; the two differ in their `Lookups` alone.
"""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from django.conf import settings

from audit.events import Event
from audit.record import suppress
from authn import credentials, identify
from authn.credentials import Credential, InvalidCredential
from authn.identify import Identification
from authn.session_cookie import session_key
from gateway import browsers, forwarded, headers, jwt_issue, pages
from gateway.cache import CachedCaller, CacheSnapshot, key_of
from gateway.forwarded import AuthRequest, OriginalRequest, Reader
from gateway.headers import Answer
from integrations.skypilot import role_sync
from integrations.skypilot.client import UpstreamUnavailable
from rbac import policy, principals, samples, services, targets
from rbac.denials import Denial, record_denial
from rbac.routes import Table

logger = logging.getLogger("skyauth.gateway")


class CacheMiss(Exception):
    """DecisionCache does not suffice for this question: the database has to be asked, or something be written."""


class Lookups(Protocol):
    """Where the line has from what it cannot work out."""

    def caller(self, credential: Credential | None, client: str) -> CachedCaller:
        """Return who shows the credential. Raises InvalidCredential, after recording the refusal."""
        ...

    def table(self) -> Table:
        """Return the route table as it is now."""
        ...

    def signed(self, caller: CachedCaller, audience: str) -> Answer:
        """Return the 200 with an assertion of the caller, which that audience may verify."""
        ...

    def tell(self, caller: CachedCaller) -> None:
        """Have the upstream told what it must know of a caller before it gets a request. Raises UpstreamUnavailable."""
        ...

    def unreadable(self, refusal: InvalidCredential, client: str) -> None:
        """Record that a credential could not even be read."""
        ...

    def person(self, question: AuthRequest, reader: Reader) -> OriginalRequest | None:
        """Return what was told of the request of a person, who gets a page for a refusal; None for programs."""
        ...

    def denied(self, denial: Denial) -> str:
        """Record that a request was denied, and return the id under which that is found."""
        ...


class CacheOnly:
    """What is known under the current mark, and nothing else: raises CacheMiss where that does not suffice."""

    def __init__(self, known: CacheSnapshot) -> None:
        self._known = known

    def caller(self, credential: Credential | None, client: str) -> CachedCaller:
        if credential is None:
            return CachedCaller(Identification(principals.anonymous(client)))
        now = time.time()
        found = self._known.caller(key_of(credential, client), now)
        if found is None:
            raise CacheMiss
        found.note(now)
        return found

    def table(self) -> Table:
        if self._known.table is None:
            raise CacheMiss
        return self._known.table

    def signed(self, caller: CachedCaller, audience: str) -> Answer:
        found = self._known.signed(caller, audience, time.time())
        if found is None:
            raise CacheMiss  # signing takes too long to hold the event loop up for
        return found

    def tell(self, caller: CachedCaller) -> None:
        if not caller.told:
            raise CacheMiss

    def unreadable(self, *_: object) -> None:
        raise CacheMiss

    def person(self, question: AuthRequest, reader: Reader) -> None:
        if browsers.person(question, reader) is not None:
            raise CacheMiss

    def denied(self, denial: Denial) -> str:
        reference = suppress(Event.REQUEST_DENIED, denial.key())
        if reference is None:
            raise CacheMiss
        return reference


class DatabaseLookups:
    """Looks up what is not known, and adds it to what is known under the mark that was read before; without one, to nothing."""

    def __init__(self, known: CacheSnapshot | None = None) -> None:
        self._known = known

    def caller(self, credential: Credential | None, client: str) -> CachedCaller:
        if self._known is None or credential is None:
            return CachedCaller(self.resolve(credential, client))
        key = key_of(credential, client)
        found = self._known.caller(key, time.time())
        if found is None:
            found = CachedCaller(self.resolve(credential, client))
            self._known.add(key, found)
        return found

    def resolve(self, credential: Credential | None, client: str) -> Identification:
        """Return who shows the credential. Raises InvalidCredential."""
        return identify.resolve(credential, client=client)

    def table(self) -> Table:
        if self._known is None:
            return services.route_table()
        if self._known.table is None:
            self._known.table = services.route_table()
        return self._known.table

    def signed(self, caller: CachedCaller, audience: str) -> Answer:
        now = time.time()
        found = self._known.signed(caller, audience, now) if self._known is not None else None
        if found is None:
            found = headers.allowed(caller.principal, jwt_issue.assertion(caller.principal, audience, now))
            if self._known is not None:
                self._known.add_signed(caller, audience, found, int(now) + jwt_issue.LIFE_SECONDS - jwt_issue.LEFT_SECONDS)
        return found

    def tell(self, caller: CachedCaller) -> None:
        if not caller.told:
            role_sync.sync(caller.principal)
            caller.told = True

    def unreadable(self, refusal: InvalidCredential, client: str) -> None:
        identify.refused(refusal, client=client)

    def person(self, question: AuthRequest, reader: Reader) -> OriginalRequest | None:
        return browsers.person(question, reader)

    def denied(self, denial: Denial) -> str:
        return record_denial(denial.principal, denial.asked, denial.reason, key=denial.key(), facts=denial.facts())


class DatabaseReads(DatabaseLookups):
    """The same as far as reading takes one: raises CacheMiss where a refusal has to be written down, which may wait."""

    def resolve(self, credential: Credential | None, client: str) -> Identification:
        try:
            return identify.resolve(credential, client=client, quietly=True)
        except InvalidCredential as refusal:
            if identify.is_suppressed(refusal, client=client):
                raise
            raise CacheMiss from None

    def tell(self, caller: CachedCaller) -> None:
        if not caller.told:
            if not role_sync.is_synced(caller.principal):
                raise CacheMiss  # the upstream may take its time
            caller.told = True

    def unreadable(self, refusal: InvalidCredential, client: str) -> None:
        if not identify.is_suppressed(refusal, client=client):
            raise CacheMiss

    def denied(self, denial: Denial) -> str:
        reference = suppress(Event.REQUEST_DENIED, denial.key())
        if reference is None:
            raise CacheMiss
        return reference


def judge_by_reading(question: AuthRequest, reader: Reader, known: CacheSnapshot | None) -> Answer | None:
    """Return what `judge` does, or None where the answer takes more than reading. Never raises."""
    try:
        return _whatever_happens(lambda: answer(question, reader, DatabaseReads(known)))
    except CacheMiss:
        return None


def judge(question: AuthRequest, reader: Reader = forwarded.x_forwarded, known: CacheSnapshot | None = None) -> Answer:
    """Return the answer to a proxy that asks about a request. Never raises: whatever goes wrong with us is 503."""
    return _whatever_happens(lambda: answer(question, reader, DatabaseLookups(known)))


def refuse_unread(question: AuthRequest, reader: Reader) -> Answer:
    """Return the 403 of a request whose header section is too large to be looked at. Never raises."""
    denial = Denial(principals.anonymous(question.proxied.client), policy.too_large(), None)
    return _whatever_happens(lambda: _deny(question._replace(headers=()), reader, DatabaseLookups(), denial))


def _whatever_happens(walk: Callable[[], Answer]) -> Answer:
    try:
        return walk()
    except CacheMiss:
        raise
    except UpstreamUnavailable:
        return headers.unavailable()  # why, was logged
    except Exception as error:
        # The type alone: an exception's text may quote what was sent.
        logger.error("A request could not be judged: %s", type(error).__name__, exc_info=settings.DEBUG)
        return headers.unavailable()


def answer(question: AuthRequest, reader: Reader, sources: Lookups) -> Answer:
    """Walk the line. Raises CacheMiss, and whatever the sources raise."""
    client = question.proxied.client
    try:
        credential = _read(question)
    except InvalidCredential as refusal:
        sources.unreadable(refusal, client)
        return _not_recognised(question, reader, sources)
    try:
        caller = sources.caller(credential, client)
    except InvalidCredential:
        return _not_recognised(question, reader, sources)
    try:
        target = reader(question)
    except targets.UnreadableTarget as error:
        denial = Denial(caller.principal, policy.unreadable(str(error)), None, forwarded.told(question, reader).raw)
    else:
        decision = policy.decide_request(caller.principal.permissions, target, sources.table())
        samples.sample.note(caller.principal, target, allowed=decision.allowed)
        if decision:
            if question.endpoint in forwarded.REFUSED:  # granted since: nginx would hand the client our 200 for the API's
                return headers.unavailable()
            sources.tell(caller)
            if settings.ASSERTION_KEYS and caller.principal.identity:
                return sources.signed(caller, settings.ASSERTION_AUDIENCE or target.host)
            return caller.allowed()
        denial = Denial(caller.principal, decision, target)
    return _deny(question, reader, sources, denial)


def _not_recognised(question: AuthRequest, reader: Reader, sources: Lookups) -> Answer:
    """Return the answer to a credential that is bad. Nobody is sent away to sign in: it would be shown again afterwards."""
    person = sources.person(question, reader)
    refusal = headers.unauthenticated(basic=settings.AUTH_BASIC)
    return refusal if person is None else pages.unauthenticated(refusal, person)


def _deny(question: AuthRequest, reader: Reader, sources: Lookups, denial: Denial) -> Answer:
    """Return the answer to a denial, which is recorded: a page for people, who are sent to sign in where that helps."""
    person = sources.person(question, reader)
    reference = sources.denied(denial)
    refusal = headers.denied(denial.principal, denial.decision, reference, basic=settings.AUTH_BASIC)
    if person is None:
        return refusal
    if refusal.status == 401:
        return pages.sign_in(person) or pages.unauthenticated(refusal, person)
    return pages.denied(refusal, person, denial, reference)


def _read(question: AuthRequest) -> Credential | None:
    """Return the credential among raw headers. Raises InvalidCredential."""
    authorization: list[bytes] = []
    auth_mode: list[bytes] = []
    cookies: list[bytes] = []
    for name, value in question.headers:
        if name == b"authorization":
            authorization.append(value)
        elif name == b"x-skypilot-auth-mode":
            auth_mode.append(value)
        elif name == b"cookie":
            cookies.append(value)
    return credentials.read(
        authorization=authorization,
        auth_mode=auth_mode,
        proxied=question.proxied,
        session_key=session_key(cookies) if cookies else None,
    )
