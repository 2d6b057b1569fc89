"""How a model declares that its rows decide about requests, so that `revision` watches its table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Watched:
    """The declaration, as the model's attribute `watched`.

    Every field decides but those in `idle`, so that a new one is watched unless somebody says otherwise. `inserts` says that
    a new row, too, may change an answer that is cached.
    """

    idle: frozenset[str] = frozenset()
    inserts: bool = False
