"""Changes that another system must accept first. It is asked while no transaction is open, so no lock is held meanwhile.

A service calls `require` or `refusals` after its own checks and before it writes. Where the other system was not asked yet,
`NotAsked` ends the transaction; `asks_first`, outside of it, asks, and runs the service again with the answer. A function that
calls such services in a transaction of its own needs `asks_first`, too.
"""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from django.db import transaction

from core.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class CallerChange:
    """A caller, by the name that an upstream receives, and the permissions after the change; None: the caller is deleted."""

    identity: str
    permissions: frozenset[str] | None


class NotAsked(Exception):
    """Ends a transaction whose changes the other system was not asked about. Only `asks_first` catches it."""

    def __init__(self, changes: frozenset[CallerChange], check: Callable[[], None]) -> None:
        super().__init__("The other system was not asked: a function in the call stack lacks asks_first.")
        self.changes = changes
        self.check = check


Answers = Mapping[CallerChange, ServiceError | None]
Ask = Callable[[CallerChange], ServiceError | None]
"""Asks the other system for one change, which it makes on its side. Returns None, or the error that refuses the change."""


class _Other:
    """The other system: `ask`, and whether there is one at present."""

    def __init__(self) -> None:
        self.ask: Ask = lambda change: None  # noqa: ARG005 - there is none
        self.exists: Callable[[], bool] = lambda: False


other: Final = _Other()
_answers: ContextVar[Answers | None] = ContextVar("answers", default=None)
_assumed: ContextVar[bool] = ContextVar("assumed", default=False)


def register(ask: Ask, exists: Callable[[], bool]) -> None:
    """Set the other system: `ask` is only called while `exists` returns True."""
    other.ask, other.exists = ask, exists


def require(*changes: CallerChange, check: Callable[[], None]) -> None:
    """Return if the other system accepts all these changes. Raises its ServiceError, or NotAsked; `check` as in `refusals`."""
    refused = refusals(*changes, check=check)
    for change in changes:
        if change in refused:
            raise refused[change]


def refusals(*changes: CallerChange, check: Callable[[], None]) -> Mapping[CallerChange, ServiceError]:
    """Return those of the changes that the other system refuses, each with its error. Raises NotAsked.

    The answer can take seconds, so `asks_first` calls `check` after it. `check` raises a ServiceError if the actor is not allowed
    to make the change any more.
    """
    if not changes or _assumed.get() or not other.exists():
        return {}
    answers = _answers.get() or {}
    if unknown := frozenset(changes) - answers.keys():
        raise NotAsked(unknown, check)
    return {change: refusal for change in changes if (refusal := answers[change]) is not None}


def asks_first(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function, outside of its transaction, so that the other system is asked before anything is written.

    The function runs again after each question. It must change nothing but the database, and nothing outside its transaction.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if _answers.get() is not None:  # the caller asks
            return function(*args, **kwargs)
        answers: dict[CallerChange, ServiceError | None] = {}
        reset = _answers.set(answers)
        try:
            while True:
                try:
                    return function(*args, **kwargs)
                except NotAsked as question:
                    with transaction.atomic(durable=True):
                        pass  # raises RuntimeError inside a transaction, whose locks would be held while the other system answers
                    answers.update({change: other.ask(change) for change in sorted(question.changes, key=lambda c: c.identity)})
                    question.check()
        finally:
            _answers.reset(reset)

    return run


@contextmanager
def assumed() -> "Iterator[None]":
    """Ask nobody within the block: for a rehearsal that is rolled back, and for changes that nobody can refuse."""
    reset = _assumed.set(True)
    try:
        yield
    finally:
        _assumed.reset(reset)
