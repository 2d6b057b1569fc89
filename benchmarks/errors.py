"""What ends a benchmark: a sentence for whoever started it."""


class BenchmarkError(Exception):
    """The benchmark cannot be run, or what it measures does not do what it should."""
