"""The verify endpoints as a small ASGI layer of their own, in front of Django's handler and without its machinery."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Final, NamedTuple

from django.conf import settings
from django.db import close_old_connections

from accounts import request_id
from accounts.freshness import Freshness
from accounts.gate import OVERSIZED_KEY, SCOPE_KEY, Application, Receive, Scope, Send
from accounts.trust import UNGATED, Admitted, Proxied, RawHeaders
from gateway import metrics, signed, verify
from gateway.forwarded import DIALECTS, Question, Reader
from gateway.headers import Answer, HeaderLine, refused, unavailable
from gateway.memory import Memory
from rbac import policy

PATIENCE_SECONDS: Final = 8.0  # then 503: a database that is gone must not make a queue of everybody
THREADS: Final = 8  # each keeps a database connection of its own
_PREFIXES: Final = tuple(path for path in DIALECTS if path.endswith(b"/"))

Asked = tuple[bytes, Reader]  # an endpoint: its path, and how its questions are read

logger = logging.getLogger("skyauth.gateway")


class Recalled(NamedTuple):
    """An answer that memory has to a question, and the mark under which it stands."""

    answer: Answer
    mark: str
    asked: Asked
    question: Question


class VerifyLine:
    """Answers the verify endpoints; hands everything else on. Works behind `accounts.gate.Gate` only: else all is refused."""

    def __init__(self, application: Application, freshness: Freshness | None = None) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="verify")
        self._memory = Memory()
        metrics.watch(self._memory)
        self.freshness = freshness or Freshness()
        signed.keys()  # a key that cannot be used ends the start, and not the first request

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
        elif scope["raw_path"] == signed.KEYS_PATH and settings.ASSERTION_KEYS:
            await _write(send, *signed.published(scope["method"]))
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

    def recall(self, asked: Asked, scope: Scope, admitted: Admitted) -> Recalled | None:
        """Return the answer to a question that stands if nothing changed since the mark was read last, or None.

        Reads and writes nothing else than memory.
        """
        if admitted.oversized:
            return None
        path, reader = asked
        known = self._memory.known
        question = _question(path, scope, admitted.headers, admitted.proxied)
        try:
            answer = verify.answer(question, reader, verify.Remembered(known))
        except verify.NotRemembered:
            return None
        except Exception as error:
            # The type alone: an exception's text may quote what was sent. The long way answers, if need be with 503.
            logger.error("A request could not be judged from memory: %s", type(error).__name__, exc_info=settings.DEBUG)
            return None
        return Recalled(answer, known.mark, asked, question)

    async def judge(self, asked: Asked, question: Question, *, oversized: bool = False) -> Answer:
        """Judge in a thread, within PATIENCE_SECONDS. What is found is remembered under a mark that was read before."""
        loop, reader = asyncio.get_running_loop(), asked[1]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if oversized:
                    return await loop.run_in_executor(self._threads, _in_thread, verify.refuse_unread, question, reader)
                mark = await self.freshness.mark()
                known = None if mark is None else self._memory.at(mark)
                return await loop.run_in_executor(self._threads, _in_thread, verify.judge, question, reader, known)
        except TimeoutError:  # what had not begun is taken out of the queue
            return unavailable()

    async def _answer(self, asked: Asked, scope: Scope) -> Answer:
        """Return the answer to a gated question. Without the gate nobody is trusted."""
        found = scope.get(SCOPE_KEY)
        proxied = found if isinstance(found, Proxied) else UNGATED
        question = _question(asked[0], scope, scope["headers"], proxied)
        return await self.judge(asked, question, oversized=scope.get(OVERSIZED_KEY, True))


def _question(path: bytes, scope: Scope, headers: RawHeaders, proxied: Proxied) -> Question:
    """Return what is asked at the endpoint of this path."""
    if not path.endswith(b"/"):
        return Question(headers, proxied, "GET", "", path)
    query = scope.get("query_string", b"")
    rest = scope["raw_path"][len(path) - 1 :] + (b"?" + query if query else b"")
    return Question(headers, proxied, scope["method"], rest.decode("latin-1"), path)


def _in_thread(judge: Callable[..., Answer], question: Question, *how: object) -> Answer:
    """Judge on a database connection that is alive."""
    request_id.begin([value for name, value in question.headers if name == b"x-request-id"], trusted=question.proxied.trusted)
    close_old_connections()
    try:
        return judge(question, *how)
    finally:
        close_old_connections()


async def _send(send: Send, answer: Answer, *, status: int | None = None) -> None:
    await _write(send, status or answer.status, answer.headers, answer.body)


async def _write(send: Send, status: int, headers: tuple[HeaderLine, ...], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
