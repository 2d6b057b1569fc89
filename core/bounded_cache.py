"""A dictionary of limited size, for entries that any client can cause."""

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

    Two caches of the verify path have a form of their own, because every request reads them: `authn.proxy_headers.CachedFunction`
    computes a missing value without a call on a hit, and `rbac.routes.Table` is dropped with the policy revision.
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
