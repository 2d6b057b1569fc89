"""The decision pipeline.

1. Headers -> credential -> caller.
2. Method, host and path -> target -> route -> required permission.
3. Caller and permission -> decision -> answer.

It runs with the decision cache alone, in the event loop (the fast path). Where that is a cache miss, it runs once more with the
database, in a thread (the slow path). There is one pipeline; the two paths differ in their `Lookups` only.
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
from authn.identify import AuthenticationResult
from authn.provider_keys import KeysUnavailable
from authn.session_cookie import session_key
from core.problems import NOT_SIGNED_IN
from core.watched import ROUTES, Tag
from gateway import browsers, forwarded, headers, jwt_issue, pages
from gateway.cache import CachedCaller, CacheSnapshot, cache_key
from gateway.cross_origin import is_foreign
from gateway.forwarded import AuthRequest, OriginalRequest, TargetReader
from gateway.headers import Answer
from integrations.skypilot import role_sync
from integrations.skypilot.client import UpstreamUnavailable
from integrations.skypilot.role_sync import RoleRefused
from rbac import policy, principals, samples, services, targets
from rbac.auth_methods import is_sent_unasked
from rbac.denials import Denial, record_denial
from rbac.routes import Table

logger = logging.getLogger("skyauth.gateway")


class CacheMiss(Exception):
    """The lookups at hand do not suffice: the database must be read, or written."""


class Lookups(Protocol):
    """What the pipeline reads and writes. Each method can raise CacheMiss."""

    def caller(self, credential: Credential | None, client: str) -> CachedCaller:
        """Return the caller that the credential authenticates. Raises InvalidCredential, after recording the refusal."""
        ...

    def route_table(self) -> Table:
        """Return the current route table."""
        ...

    def signed_answer(self, caller: CachedCaller, audience: str) -> Answer:
        """Return the 200 with an assertion of the caller for this audience."""
        ...

    def sync_role(self, caller: CachedCaller) -> None:
        """Return once the SkyPilot API server has the caller's role. Raises UpstreamUnavailable and RoleRefused."""
        ...

    def record_malformed(self, refusal: InvalidCredential, client: str) -> None:
        """Record that a credential could not be parsed."""
        ...

    def page_request(self, request: AuthRequest, reader: TargetReader) -> OriginalRequest | None:
        """Return the original request if a browser opens a page with it, for a refusal as a page; else None."""
        ...

    def record_denial(self, denial: Denial) -> str:
        """Record a denied request, and return its decision id."""
        ...


class CacheOnly:
    """Lookups in the decision cache alone, for the event loop: CacheMiss for everything else.

    `depends_on` is what they depend on; None is everything.
    """

    def __init__(self, snapshot: CacheSnapshot) -> None:
        self._snapshot = snapshot
        self.depends_on: tuple[Tag, ...] | None = (ROUTES,)

    def caller(self, credential: Credential | None, client: str) -> CachedCaller:
        if credential is None:
            return CachedCaller(AuthenticationResult(principals.anonymous(client)))
        now = time.time()
        caller = self._snapshot.caller(cache_key(credential, client), now)
        if caller is None:
            raise CacheMiss
        self.depends_on = caller.answer_depends_on
        caller.touch(now)
        return caller

    def route_table(self) -> Table:
        table = self._snapshot.route_table
        if table is None:
            raise CacheMiss
        return table

    def signed_answer(self, caller: CachedCaller, audience: str) -> Answer:
        answer = self._snapshot.signed_answer(caller, audience, time.time())
        if answer is None:
            raise CacheMiss  # signing would block the event loop for too long
        return answer

    def sync_role(self, caller: CachedCaller) -> None:
        if not caller.role_synced:
            raise CacheMiss

    def record_malformed(self, *_: object) -> None:
        raise CacheMiss

    def page_request(self, request: AuthRequest, reader: TargetReader) -> None:
        if browsers.page_request(request, reader) is not None:
            raise CacheMiss

    def record_denial(self, denial: Denial) -> str:
        reference = suppress(Event.REQUEST_DENIED, denial.key())
        if reference is None:
            raise CacheMiss
        return reference


class DatabaseLookups:
    """Lookups in the database, whose results are added to the snapshot; without a snapshot, nothing is cached.

    `read_only` raises CacheMiss where the answer takes more than reading: a refusal to record, or a role to send.
    """

    def __init__(self, snapshot: CacheSnapshot | None = None, *, read_only: bool = False) -> None:
        self._snapshot = snapshot
        self._read_only = read_only

    def caller(self, credential: Credential | None, client: str) -> CachedCaller:
        if self._snapshot is None or credential is None:
            return CachedCaller(self._identify(credential, client))
        key = cache_key(credential, client)
        caller = self._snapshot.caller(key, time.time())
        if caller is None:
            number = self._snapshot.epoch.number  # before the database is read: a change in between counts
            caller = CachedCaller(self._identify(credential, client), number)
            self._snapshot.add_caller(key, caller)
        return caller

    def _identify(self, credential: Credential | None, client: str) -> AuthenticationResult:
        try:
            return identify.authenticate(credential, client=client, record=not self._read_only)
        except InvalidCredential as refusal:
            if self._read_only and not identify.is_suppressed(refusal, client=client):
                raise CacheMiss from None
            raise

    def route_table(self) -> Table:
        if self._snapshot is None:
            return services.route_table()
        table = self._snapshot.route_table
        if table is None:
            number = self._snapshot.epoch.number
            table = services.route_table()
            self._snapshot.add_route_table(table, number)
        return table

    def signed_answer(self, caller: CachedCaller, audience: str) -> Answer:
        now = time.time()
        answer = self._snapshot.signed_answer(caller, audience, now) if self._snapshot is not None else None
        if answer is None:
            answer = headers.allowed(caller.principal, jwt_issue.assertion(caller.principal, audience, now))
            if self._snapshot is not None:
                valid_until = int(now) + jwt_issue.VALID_SECONDS - jwt_issue.RENEWAL_SECONDS
                self._snapshot.add_signed_answer(caller, audience, answer, valid_until)
        return answer

    def sync_role(self, caller: CachedCaller) -> None:
        if caller.role_synced:
            return
        if not self._read_only:
            role_sync.sync(caller.principal)
        elif not role_sync.is_synced(caller.principal):
            raise CacheMiss  # the SkyPilot API server can take seconds
        caller.role_synced = True

    def record_malformed(self, refusal: InvalidCredential, client: str) -> None:
        if not self._read_only:
            identify.record_bad_credential(refusal, client=client)
        elif not identify.is_suppressed(refusal, client=client):
            raise CacheMiss

    def page_request(self, request: AuthRequest, reader: TargetReader) -> OriginalRequest | None:
        return browsers.page_request(request, reader)

    def record_denial(self, denial: Denial) -> str:
        if self._read_only:
            reference = suppress(Event.REQUEST_DENIED, denial.key())
            if reference is None:
                raise CacheMiss
            return reference
        return record_denial(denial.principal, denial.asked, denial.reason, key=denial.key(), facts=denial.facts())


def decide(request: AuthRequest, reader: TargetReader = forwarded.x_forwarded, snapshot: CacheSnapshot | None = None) -> Answer:
    """Return the answer to a request, from the database. Never raises: an error of SkyAuth's own is 503."""
    return _or_unavailable(lambda: evaluate(request, reader, DatabaseLookups(snapshot)))


def decide_read_only(request: AuthRequest, reader: TargetReader, snapshot: CacheSnapshot | None) -> Answer | None:
    """Return what `decide` returns, or None where the answer takes more than reading from the database. Never raises."""
    try:
        return _or_unavailable(lambda: evaluate(request, reader, DatabaseLookups(snapshot, read_only=True)))
    except CacheMiss:
        return None


def refuse_oversized(request: AuthRequest, reader: TargetReader) -> Answer:
    """Return the 403 for a request whose header section is too large to be read. Never raises."""
    denial = Denial(principals.anonymous(request.proxied.client), policy.too_large(), None)
    return _or_unavailable(lambda: _deny(request._replace(headers=()), reader, DatabaseLookups(), denial))


def _or_unavailable(evaluation: Callable[[], Answer]) -> Answer:
    try:
        return evaluation()
    except CacheMiss:
        raise
    except UpstreamUnavailable:
        return headers.unavailable()  # the reason has been logged
    except KeysUnavailable as error:
        logger.error("A request could not be decided: %s", error)
        return headers.unavailable()
    except Exception as error:
        # The type alone: an exception's text can quote what was sent.
        extra = {"seldom": not settings.DEBUG}
        logger.error("A request could not be decided: %s", type(error).__name__, exc_info=settings.DEBUG, extra=extra)
        return headers.unavailable()


def evaluate(request: AuthRequest, reader: TargetReader, lookups: Lookups) -> Answer:
    """Run the decision pipeline. Raises CacheMiss, and whatever else the lookups raise."""
    client = request.proxied.client
    try:
        credential = _credential(request)
    except InvalidCredential as refusal:
        lookups.record_malformed(refusal, client)
        return _refuse_credential(request, reader, lookups, refusal)
    try:
        caller = lookups.caller(credential, client)
    except InvalidCredential as refusal:
        return _refuse_credential(request, reader, lookups, refusal)
    try:
        target = reader(request)
    except targets.UnreadableTarget as error:
        raw = forwarded.original_request(request, reader).raw
        denial = Denial(caller.principal, policy.unreadable(str(error)), None, raw)
    else:
        if caller.principal.is_authenticated and is_sent_unasked(caller.principal.method) and is_foreign(request, reader, target):
            return _deny(request, reader, lookups, Denial(caller.principal, policy.cross_origin(), target))
        decision = policy.decide_request(caller.principal.permissions, target, lookups.route_table())
        samples.sample.note(caller.principal, target, allowed=decision.allowed)
        if decision:
            try:
                lookups.sync_role(caller)
            except RoleRefused as refusal:
                denial = Denial(caller.principal, policy.role_refused(str(refusal)), target)
                return _deny(request, reader, lookups, denial)
            if request.endpoint in forwarded.REFUSALS_ONLY:  # allowed since: nginx would send the client our 200 as the API's
                return headers.unavailable()
            if settings.ASSERTION_KEYS and caller.principal.identity:
                return lookups.signed_answer(caller, settings.ASSERTION_AUDIENCE or target.host)
            return caller.allowed()
        denial = Denial(caller.principal, decision, target)
    return _deny(request, reader, lookups, denial)


def _refuse_credential(request: AuthRequest, reader: TargetReader, lookups: Lookups, bad: InvalidCredential) -> Answer:
    """Return the 401 for a bad credential. No redirect to the sign-in page: the browser would send the credential again after."""
    original = lookups.page_request(request, reader)
    refusal = headers.unauthenticated(basic=settings.AUTH_BASIC, detail=bad.message or NOT_SIGNED_IN)
    return refusal if original is None else pages.unauthenticated(refusal, original, bad.message)


def _deny(request: AuthRequest, reader: TargetReader, lookups: Lookups, denial: Denial) -> Answer:
    """Record a denial and return its answer: for browsers a page, or a redirect to the sign-in page where signing in helps."""
    original = lookups.page_request(request, reader)
    reference = lookups.record_denial(denial)
    refusal = headers.denied(denial.principal, denial.decision, reference, basic=settings.AUTH_BASIC)
    if original is None:
        return refusal
    if refusal.status == 401:
        return pages.sign_in_redirect(original) or pages.unauthenticated(refusal, original)
    return pages.denied(refusal, original, denial, reference)


def _credential(request: AuthRequest) -> Credential | None:
    """Return the credential among the raw headers. Raises InvalidCredential."""
    authorization: list[bytes] = []
    auth_mode: list[bytes] = []
    cookies: list[bytes] = []
    for name, value in request.headers:
        if name == b"authorization":
            authorization.append(value)
        elif name == b"x-skypilot-auth-mode":
            auth_mode.append(value)
        elif name == b"cookie":
            cookies.append(value)
    return credentials.read(
        authorization=authorization,
        auth_mode=auth_mode,
        proxied=request.proxied,
        session_key=session_key(cookies) if cookies else None,
        basic=settings.AUTH_BASIC,
    )
