"""Answers that are sent while they are being made."""

from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from itertools import islice

from asgiref.sync import sync_to_async
from django.http import HttpRequest


def streamed(request: HttpRequest, pieces: Iterable[str], *, at_once: int = 1) -> Iterator[str] | AsyncIterator[str]:
    """Return the pieces in the way in which the server wants them; under ASGI, Django would collect all of a plain iterator.

    They are made in the request's own thread, so on its own database connection, `at_once` at a time.
    """
    return _by_turns(iter(pieces), at_once) if hasattr(request, "scope") else iter(pieces)


async def _by_turns(pieces: Iterator[str], at_once: int) -> AsyncIterator[str]:
    def turn() -> str:
        return "".join(islice(pieces, at_once))

    try:
        while piece := await sync_to_async(turn)():
            yield piece
    finally:  # also when the client is gone: what is half done is undone now, in its own thread
        if isinstance(pieces, Generator):
            await sync_to_async(pieces.close)()
