"""A dictionary of limited size, for what clients can make the server remember."""

import threading
from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(OrderedDict[K, V]):
    """A mapping of at most `limit` entries. Writing an entry makes it the newest; beyond the limit the oldest one is removed.

    Reading is OrderedDict's own and costs nothing more. Call `move_to_end` after a read to evict the least recently used entry
    instead of the one written first. Any number of threads can read and write; deleting entries besides needs a lock around
    both, and `move_to_end` raises KeyError when another thread has just evicted the entry.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._lock = threading.Lock()

    def __setitem__(self, key: K, value: V) -> None:
        with self._lock:
            super().__setitem__(key, value)
            self.move_to_end(key)
            if len(self) > self._limit:
                self.popitem(last=False)
