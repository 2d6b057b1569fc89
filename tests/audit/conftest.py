"""Fixtures that these tests share with others."""

from tests.races import separate_connections

__all__ = ["separate_connections"]
