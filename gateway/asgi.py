"""The verify endpoints as a small ASGI application in front of Django's handler, without its machinery."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeVar

from django.conf import settings
from django.db import close_old_connections

from authn.proxy_header_middleware import OVERSIZED_KEY, SCOPE_KEY
from authn.proxy_headers import NO_PROXY_INFO, FilteredHeaders, ProxyInfo, RawHeaders
from core import request_id
from core.asgi import Application, Receive, Scope, Send, send_problem, send_response
from core.watched import Tag
from gateway import jwt_issue, metrics, verify
from gateway.cache import CacheSnapshot, DecisionCache
from gateway.forwarded import ENDPOINTS, PREFIX, AuthRequest, TargetReader, no_endpoint
from gateway.headers import Answer, unavailable
from gateway.threads import VerifyThreads
from rbac import policy
from revision.epoch import Epoch
from revision.reader import RevisionReader

TIMEOUT_SECONDS: Final = 8.0  # then 503: requests must not queue up behind a database that is gone
_PREFIXES: Final = tuple(path for path in ENDPOINTS if path.endswith(b"/"))

A = TypeVar("A", Answer, Answer | None)
Endpoint = tuple[bytes, TargetReader]  # its path, and the reader of its requests
OnAnswer = Callable[[Answer], None]

logger = logging.getLogger("skyauth.gateway")


class CachedAnswer(NamedTuple):
    """A request to a verify endpoint and, on a cache hit, its answer, which was valid at this number of this epoch.

    It stays valid while nothing that it depends on changes; None for `depends_on` is everything.
    """

    request: AuthRequest
    reader: TargetReader
    oversized: bool = False
    answer: Answer | None = None
    epoch: Epoch | None = None
    number: int = 0
    depends_on: tuple[Tag, ...] | None = None

    @property
    def batchable(self) -> bool:
        """Whether one indexed query suffices for the answer: the credential is a service account's token."""
        return not self.oversized and any(
            name == b"authorization" and value[:11].lower() == b"bearer sky_" for name, value in self.request.headers
        )


class ForwardAuthApp:
    """Answers the verify endpoints, and passes other requests on. Without the header filter in front, it refuses everything."""

    traced = False  # whether requests with a sampled trace must come here, and not be answered by the protocol

    def __init__(
        self, application: Application, revisions: RevisionReader | None = None, threads: VerifyThreads | None = None
    ) -> None:
        self._application = application
        self._threads = threads or VerifyThreads()
        self._cache = DecisionCache()
        self._batch: list[tuple[CachedAnswer, OnAnswer]] = []
        self._batch_epoch: Epoch | None = None  # of the request that joined last
        metrics.watch(self._cache, self._threads)
        self.revisions = revisions or RevisionReader()
        jwt_issue.keys()  # an unusable key fails the start, and not the first request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self.endpoint(scope.get("raw_path", b""))
        if endpoint is not None:
            started = perf_counter()
            answer = await self._answer(endpoint, scope)
            metrics.SLOW_PATH.count(answer, started)
            await send_response(send, answer.status, answer.headers, answer.body)
        elif scope.get(OVERSIZED_KEY, True):
            oversized = policy.too_large()
            await send_problem(send, 431, oversized.reason, oversized.message)
        elif (scope["raw_path"] + b"/").startswith(PREFIX):
            await send_problem(send, 404, "not-found", no_endpoint(scope["raw_path"]), head=scope["method"] == "HEAD")
        elif scope["raw_path"] == jwt_issue.KEYS_PATH and settings.ASSERTION_KEYS:
            await send_response(send, *jwt_issue.key_set_response(scope["method"]))
        else:
            await self._application(scope, receive, send)

    def endpoint(self, path: bytes) -> Endpoint | None:
        """Return the endpoint of this raw path, or None. An encoded form of an endpoint's path is not that endpoint."""
        reader = ENDPOINTS.get(path)
        if reader is not None:
            return path, reader
        return next(((prefix, ENDPOINTS[prefix]) for prefix in _PREFIXES if path.startswith(prefix)), None)

    def look_up(self, endpoint: Endpoint, scope: Scope, filtered: FilteredHeaders) -> CachedAnswer:
        """Return a request with its answer under the policy revision that was read last. Reads and writes memory alone."""
        path, reader = endpoint
        request = _auth_request(path, scope, filtered.headers, filtered.proxied)
        if filtered.oversized:
            return CachedAnswer(request, reader, True)
        return self._look_up(request, reader, self._cache.snapshot)

    def look_up_again(self, cached: CachedAnswer, epoch: Epoch | None) -> CachedAnswer:
        """Return a request with its answer in this epoch, if it had one under an older policy revision."""
        if cached.answer is None or epoch is None:
            return cached
        if epoch is cached.epoch and epoch.is_current(cached.number, cached.depends_on):
            return cached
        return self._look_up(cached.request, cached.reader, self._cache.of(epoch))

    def _look_up(self, request: AuthRequest, reader: TargetReader, snapshot: CacheSnapshot) -> CachedAnswer:
        number, lookups = snapshot.epoch.number, verify.CacheOnly(snapshot)
        try:
            answer = verify.evaluate(request, reader, lookups)
        except verify.CacheMiss:
            return CachedAnswer(request, reader)
        except Exception as error:
            # The type alone: an exception's text can quote what was sent. The slow path answers, if need be with 503.
            logger.error("A cache look-up failed: %s", type(error).__name__, exc_info=settings.DEBUG)
            return CachedAnswer(request, reader)
        return CachedAnswer(request, reader, False, answer, snapshot.epoch, number, lookups.depends_on)

    async def decide(self, cached: CachedAnswer, epoch: Epoch | None) -> Answer:
        """Return the answer from the database, found in a thread within TIMEOUT_SECONDS, else 503.

        Callers are cached in the epoch that was read before; None caches nothing.
        """
        snapshot = None if epoch is None else self._cache.of(epoch)
        work = verify.refuse_oversized if cached.oversized else partial(verify.decide, snapshot=snapshot)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                run = asyncio.get_running_loop().run_in_executor
                return await run(self._threads, _in_thread, work, cached.request, cached.reader)
        except Exception as error:  # noqa: BLE001 - mostly a time-out; work that has not started leaves the queue
            _log_failure(error)
            return unavailable()

    def add_to_batch(self, cached: CachedAnswer, epoch: Epoch | None, on_answer: OnAnswer) -> Coroutine[Any, Any, None] | None:
        """Add a request to those that one thread decides together; `on_answer` receives the answer.

        For the first request of a batch, returns the coroutine that decides the batch; the caller runs it as a task.
        """
        self._batch.append((cached, on_answer))
        self._batch_epoch = epoch
        return self._decide_batch() if len(self._batch) == 1 else None

    async def _decide_batch(self) -> None:
        batch, self._batch = self._batch, []
        epoch = self._batch_epoch
        snapshot = None if epoch is None else self._cache.of(epoch)
        answers: list[Answer | None]
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                run = asyncio.get_running_loop().run_in_executor
                answers = await run(self._threads, _batch_in_thread, [cached for cached, _ in batch], snapshot)
        except Exception as error:  # noqa: BLE001 - whatever failed, every request gets an answer
            _log_failure(error)
            answers = [unavailable()] * len(batch)
        rest = []
        for (cached, on_answer), answer in zip(batch, answers, strict=True):
            if answer is None:
                rest.append(self._decide_alone(cached, epoch, on_answer))
            else:
                _deliver(on_answer, answer)
        await asyncio.gather(*rest)

    async def _decide_alone(self, cached: CachedAnswer, epoch: Epoch | None, on_answer: OnAnswer) -> None:
        _deliver(on_answer, await self.decide(cached, epoch))

    async def _answer(self, endpoint: Endpoint, scope: Scope) -> Answer:
        """Return the answer to a request whose headers were filtered. Without the header filter, no peer is trusted."""
        proxied = scope.get(SCOPE_KEY)
        if not isinstance(proxied, ProxyInfo):
            proxied = NO_PROXY_INFO
        path, reader = endpoint
        request = _auth_request(path, scope, scope["headers"], proxied)
        return await self.decide(CachedAnswer(request, reader, scope.get(OVERSIZED_KEY, True)), await self.revisions.epoch())


def _auth_request(path: bytes, scope: Scope, headers: RawHeaders, proxied: ProxyInfo) -> AuthRequest:
    """Return the request to the endpoint with this path."""
    if not path.endswith(b"/"):
        return AuthRequest(headers, proxied, scope["method"], "", path)
    query = scope.get("query_string", b"")
    suffix = scope["raw_path"][len(path) - 1 :] + (b"?" + query if query else b"")
    return AuthRequest(headers, proxied, scope["method"], suffix.decode("latin-1"), path)


def _in_thread(work: Callable[[AuthRequest, TargetReader], Answer], request: AuthRequest, reader: TargetReader) -> Answer:
    """Decide one request on a usable database connection."""
    close_old_connections()
    try:
        return _with_request_id(work, request, reader)
    finally:
        close_old_connections()


def _with_request_id(work: Callable[[AuthRequest, TargetReader], A], request: AuthRequest, reader: TargetReader) -> A:
    request_id.begin([value for name, value in request.headers if name == b"x-request-id"], trusted=request.proxied.trusted)
    return work(request, reader)


def _log_failure(error: Exception) -> None:
    if not isinstance(error, TimeoutError):
        extra = {"seldom": not settings.DEBUG}
        logger.error("A request could not be decided: %s", type(error).__name__, exc_info=settings.DEBUG, extra=extra)


def _deliver(on_answer: OnAnswer, answer: Answer) -> None:
    try:
        on_answer(answer)
    except Exception:
        logger.exception("An answer could not be delivered.")


def _batch_in_thread(batch: list[CachedAnswer], snapshot: CacheSnapshot | None) -> list[Answer | None]:
    """Decide several requests, one after another, on a usable database connection; None for one that needs more than reading."""
    close_old_connections()
    try:
        work = partial(verify.decide_read_only, snapshot=snapshot)
        return [_with_request_id(work, cached.request, cached.reader) for cached in batch]
    finally:
        close_old_connections()
