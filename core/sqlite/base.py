"""The connection to an SQLite file that can be replaced, or lose its journal, while SkyAuth runs."""

import sqlite3
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base

from core import sqlite_file


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, which never uses an open file that is no longer the database.

    Django calls `close_if_unusable_or_obsolete` before and after each request, and so do SkyAuth's own threads.
    """

    _files: sqlite_file.Identity | None = None

    def get_new_connection(self, conn_params: dict[str, Any]) -> sqlite3.Connection:
        if self.is_in_memory_db():
            return super().get_new_connection(conn_params)  # type: ignore[no-any-return]
        path = Path(str(self.settings_dict["NAME"]))
        files = sqlite_file.check(path)
        connection: sqlite_file.Connection = super().get_new_connection({**conn_params, "factory": sqlite_file.Connection})
        self._files = sqlite_file.opened(path, files, connection)
        return connection

    def close_if_unusable_or_obsolete(self) -> None:
        if self.connection is not None and not self.in_atomic_block and self._is_replaced():
            self.close()
        super().close_if_unusable_or_obsolete()

    def _is_replaced(self) -> bool:
        return not self.is_in_memory_db() and self._files != sqlite_file.identity(Path(str(self.settings_dict["NAME"])))
