"""How a model declares that decisions depend on its rows, so that `revision` watches its table."""

from dataclasses import dataclass
from typing import Final

Tag = tuple[str, str]
"""What a decision depends on, and what a change names: a kind of row and a key, for example ("user", "17")."""

EVERYTHING: Final = "all"  # the kind of a change on which any decision can depend
ROUTES: Final[Tag] = ("routes", "")
GROUPS: Final[Tag] = ("groups", "")


@dataclass(frozen=True, slots=True)
class Watched:
    """The declaration, as the model's attribute `watched`.

    Every field is watched except those in `ignored_fields`, so that a new field is watched by default. `on_insert` declares
    that a new row, too, can change a cached answer.

    A change is logged as `kind`, with the value of the field `key`, or "" without one: the rows of a table without a key are one
    thing. Cached data with this tag is dropped. Without a `kind`, a change drops all cached data.
    """

    ignored_fields: frozenset[str] = frozenset()
    on_insert: bool = False
    kind: str = EVERYTHING
    key: str = ""
