"""The verify endpoints as a small ASGI layer of their own, in front of Django's handler and without its machinery."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeVar

from django.conf import settings
from django.db import close_old_connections

from authn.proxy_header_middleware import OVERSIZED_KEY, SCOPE_KEY
from authn.proxy_headers import NO_PROXY_INFO, FilteredHeaders, ProxyInfo, RawHeaders
from core import request_id
from core.asgi import Application, Receive, Scope, Send
from gateway import jwt_issue, metrics, verify
from gateway.cache import CacheSnapshot, DecisionCache
from gateway.forwarded import DIALECTS, AuthRequest, Reader
from gateway.headers import Answer, HeaderLine, refused, unavailable
from rbac import policy
from revision.reader import RevisionReader

PATIENCE_SECONDS: Final = 8.0  # then 503: a database that is gone must not make a queue of everybody
THREADS: Final = 8  # each keeps a database connection of its own
_PREFIXES: Final = tuple(path for path in DIALECTS if path.endswith(b"/"))

A = TypeVar("A", Answer, Answer | None)
Asked = tuple[bytes, Reader]  # an endpoint: its path, and how its questions are read

logger = logging.getLogger("skyauth.gateway")


class CachedAnswer(NamedTuple):
    """A question, and the answer that memory has to it, if any, which stands under this mark."""

    question: AuthRequest
    reader: Reader
    oversized: bool = False
    answer: Answer | None = None
    mark: str = ""

    @property
    def quick(self) -> bool:
        """Whether to find the answer out takes one indexed query and no more: it is asked with a service account's token."""
        return not self.oversized and any(
            name == b"authorization" and value[:11].lower() == b"bearer sky_" for name, value in self.question.headers
        )


class ForwardAuthApp:
    """Answers the verify endpoints; hands everything else on. Without the header filter in front, all is refused."""

    def __init__(self, application: Application, freshness: RevisionReader | None = None) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="verify")
        self._memory = DecisionCache()
        self._gathered: list[tuple[CachedAnswer, Callable[[Answer], None]]] = []
        metrics.watch(self._memory)
        self.freshness = freshness or RevisionReader()
        jwt_issue.keys()  # a key that cannot be used ends the start, and not the first request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge, or pass on."""
        asked = self.asked(scope.get("raw_path", b""))
        if asked is not None:
            began = perf_counter()
            answer = await self._answer(asked, scope)
            metrics.DATABASE.decided(answer, began)
            await _send(send, answer)
        elif scope.get(OVERSIZED_KEY, True):
            unread = policy.too_large()
            await _send(send, refused(unread.reason, unread.message), status=431)
        elif scope["raw_path"] == jwt_issue.KEYS_PATH and settings.ASSERTION_KEYS:
            await _write(send, *jwt_issue.published(scope["method"]))
        else:
            await self._application(scope, receive, send)

    def asked(self, path: bytes) -> Asked | None:
        """Return the endpoint of this path, or None when it is none.

        It is the raw path, so that no encoding of another one is taken for it.
        """
        reader = DIALECTS.get(path)
        if reader is not None:
            return path, reader
        return next(((prefix, DIALECTS[prefix]) for prefix in _PREFIXES if path.startswith(prefix)), None)

    def recall(self, asked: Asked, scope: Scope, admitted: FilteredHeaders) -> CachedAnswer:
        """Return a question with the answer that stands if nothing changed since the mark was read last.

        Reads and writes nothing else than memory.
        """
        path, reader = asked
        question = _question(path, scope, admitted.headers, admitted.proxied)
        if admitted.oversized:
            return CachedAnswer(question, reader, True)
        known = self._memory.known
        try:
            return CachedAnswer(question, reader, False, verify.answer(question, reader, verify.CacheOnly(known)), known.mark)
        except verify.CacheMiss:
            return CachedAnswer(question, reader)
        except Exception as error:
            # The type alone: an exception's text may quote what was sent. The long way answers, if need be with 503.
            logger.error("A request could not be judged from memory: %s", type(error).__name__, exc_info=settings.DEBUG)
            return CachedAnswer(question, reader)

    async def judge(self, recalled: CachedAnswer, mark: str | None) -> Answer:
        """Judge in a thread, within PATIENCE_SECONDS. What is found is remembered under this mark, which was read before."""
        known = None if mark is None else self._memory.at(mark)
        work = verify.refuse_unread if recalled.oversized else partial(verify.judge, known=known)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                run = asyncio.get_running_loop().run_in_executor
                return await run(self._threads, _in_thread, work, recalled.question, recalled.reader)
        except Exception as error:  # noqa: BLE001 - a time-out, say: what had not begun is taken out of the queue
            _log(error)
            return unavailable()

    def gather(
        self, recalled: CachedAnswer, mark: str | None, then: Callable[[Answer], None]
    ) -> Coroutine[Any, Any, None] | None:
        """Add a question to those that share one turn of a thread, and have `then` called with the answer.

        Returns the work that answers all of them, to whoever comes first: it is to be run as a task.
        """
        self._gathered.append((recalled, then))
        return self._judge_gathered(mark) if len(self._gathered) == 1 else None

    async def _judge_gathered(self, mark: str | None) -> None:
        gathered, self._gathered = self._gathered, []
        known = None if mark is None else self._memory.at(mark)
        answers: list[Answer | None]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                run = asyncio.get_running_loop().run_in_executor
                answers = await run(self._threads, _all_in_thread, [recalled for recalled, _ in gathered], known)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must keep nobody waiting
            _log(error)
            answers = [unavailable()] * len(gathered)
        rest = []
        for (recalled, then), answer in zip(gathered, answers, strict=True):
            if answer is None:
                rest.append(self._judge_alone(recalled, mark, then))
            else:
                _tell(then, answer)
        await asyncio.gather(*rest)

    async def _judge_alone(self, recalled: CachedAnswer, mark: str | None, then: Callable[[Answer], None]) -> None:
        _tell(then, await self.judge(recalled, mark))

    async def _answer(self, asked: Asked, scope: Scope) -> Answer:
        """Return the answer to a gated question. Without the gate nobody is trusted."""
        found = scope.get(SCOPE_KEY)
        proxied = found if isinstance(found, ProxyInfo) else NO_PROXY_INFO
        path, reader = asked
        question = _question(path, scope, scope["headers"], proxied)
        return await self.judge(CachedAnswer(question, reader, scope.get(OVERSIZED_KEY, True)), await self.freshness.mark())


def _question(path: bytes, scope: Scope, headers: RawHeaders, proxied: ProxyInfo) -> AuthRequest:
    """Return what is asked at the endpoint of this path."""
    if not path.endswith(b"/"):
        return AuthRequest(headers, proxied, scope["method"], "", path)
    query = scope.get("query_string", b"")
    rest = scope["raw_path"][len(path) - 1 :] + (b"?" + query if query else b"")
    return AuthRequest(headers, proxied, scope["method"], rest.decode("latin-1"), path)


def _in_thread(work: Callable[[AuthRequest, Reader], Answer], question: AuthRequest, reader: Reader) -> Answer:
    """Judge on a database connection that is alive."""
    close_old_connections()
    try:
        return _begun(work, question, reader)
    finally:
        close_old_connections()


def _begun(work: Callable[[AuthRequest, Reader], A], question: AuthRequest, reader: Reader) -> A:
    """Judge under the request's id."""
    request_id.begin([value for name, value in question.headers if name == b"x-request-id"], trusted=question.proxied.trusted)
    return work(question, reader)


def _log(error: Exception) -> None:
    if not isinstance(error, TimeoutError):
        logger.error("A request could not be judged: %s", type(error).__name__, exc_info=settings.DEBUG)


def _tell(then: Callable[[Answer], None], answer: Answer) -> None:
    try:
        then(answer)
    except Exception:
        logger.exception("An answer could not be given.")


def _all_in_thread(questions: list[CachedAnswer], known: CacheSnapshot | None) -> list[Answer | None]:
    """Judge several questions, one after another, on a database connection that is alive; None for one that takes its time."""
    close_old_connections()
    try:
        work = partial(verify.judge_by_reading, known=known)
        return [_begun(work, recalled.question, recalled.reader) for recalled in questions]
    finally:
        close_old_connections()


async def _send(send: Send, answer: Answer, *, status: int | None = None) -> None:
    await _write(send, status or answer.status, answer.headers, answer.body)


async def _write(send: Send, status: int, headers: tuple[HeaderLine, ...], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
