"""The bounded cache keeps as many entries as it may, and the right ones."""

import threading

from core.bounded_cache import BoundedCache


def test_the_entry_written_first_is_removed_beyond_the_limit() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    for number, key in enumerate("abc"):
        cache[key] = number
    assert dict(cache) == {"b": 1, "c": 2}


def test_an_entry_that_is_written_again_becomes_the_newest() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    for key in ("a", "b", "a", "c"):
        cache[key] = 1
    assert list(cache) == ["a", "c"]


def test_an_entry_that_is_moved_to_the_end_after_a_read_outlives_one_that_is_not() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache["a"], cache["b"] = 1, 2
    assert cache.get("a") == 1
    cache.move_to_end("a")
    cache["c"] = 3
    assert list(cache) == ["a", "c"]


def test_reading_alone_changes_neither_entries_nor_order() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache["a"], cache["b"] = 1, 2
    assert (cache["a"], cache.get("x"), "a" in cache, len(cache)) == (1, None, True, 2)
    assert list(cache) == ["a", "b"]


def test_setdefault_and_update_keep_the_limit_too() -> None:
    cache: BoundedCache[int, int] = BoundedCache(3)
    cache.update({number: number for number in range(10)})
    cache.setdefault(10, 10)
    assert list(cache) == [8, 9, 10]


def test_a_cleared_cache_takes_entries_again() -> None:
    cache: BoundedCache[str, int] = BoundedCache(1)
    cache["a"] = 1
    cache.clear()
    cache["b"] = 2
    assert dict(cache) == {"b": 2}


def test_many_threads_that_write_never_exceed_the_limit() -> None:
    cache: BoundedCache[tuple[int, int], int] = BoundedCache(8)
    errors: list[BaseException] = []

    def write(thread: int) -> None:
        try:
            for number in range(2_000):
                cache[thread, number % 16] = number
                cache.get((0, number % 16))
                assert len(cache) <= 9  # the entry of the thread that is writing is not evicted yet
        except BaseException as error:  # noqa: BLE001 - a thread's failure has to reach the test
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(cache) == 8
