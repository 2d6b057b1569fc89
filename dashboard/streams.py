"""Responses that are streamed while they are generated."""

from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from itertools import islice

from asgiref.sync import sync_to_async
from django.http import HttpRequest


def streamed(request: HttpRequest, pieces: Iterable[str], *, at_once: int = 1) -> Iterator[str] | AsyncIterator[str]:
    """Return the pieces as the server needs them: under ASGI, Django would collect a plain iterator before it sends anything.

    They are generated in the thread of the request, so on its own database connection, `at_once` at a time.
    """
    return _in_batches(iter(pieces), at_once) if hasattr(request, "scope") else iter(pieces)


async def _in_batches(pieces: Iterator[str], size: int) -> AsyncIterator[str]:
    def next_batch() -> str:
        return "".join(islice(pieces, size))

    try:
        while batch := await sync_to_async(next_batch)():
            yield batch
    finally:  # also when the client disconnects: close the generator now, in its own thread, so that it rolls back
        if isinstance(pieces, Generator):
            await sync_to_async(pieces.close)()
