"""How a model declares that decisions depend on its rows, so that `revision` watches its table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Watched:
    """The declaration, as the model's attribute `watched`.

    Every field is watched except those in `ignored_fields`, so that a new field is watched by default. `on_insert` declares
    that a new row, too, can change a cached answer.
    """

    ignored_fields: frozenset[str] = frozenset()
    on_insert: bool = False
