"""Django's backend for PostgreSQL, with a pool that is replaced when its database is lost. Django loads it by this name."""

from typing import Any, Final

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from psycopg_pool import ConnectionPool, PoolClosed

from core.postgresql.deadline import waits_limited
from core.postgresql.outage import PooledConnection, outage, take
from core.postgresql.process_name import application_name

_ATTEMPTS: Final = 3


class DatabaseWrapper(base.DatabaseWrapper):
    """As Django's, with connections whose waits end."""

    _connection_pools: dict[str, ConnectionPool[Any]]  # Django's, which its type stubs lack

    def get_connection_params(self) -> dict[str, Any]:
        """Return Django's parameters, with the name of this process."""
        params: dict[str, Any] = super().get_connection_params()
        return {**params, "application_name": application_name(params.get("application_name"))}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a connection of the pool. Raises OperationalError, at once while the database is known to be lost."""
        if self.pool is None:
            return super().get_new_connection(conn_params)
        self.isolation_level = IsolationLevel.READ_COMMITTED
        for _ in range(_ATTEMPTS):
            timeout = outage.admit()
            pool = self.pool
            outage.watch(conn_params, pool, self._drop)
            try:
                return self._take(pool, timeout)
            except PoolClosed:  # it was replaced meanwhile
                continue
        raise psycopg.OperationalError("the connections were closed repeatedly")

    def _take(self, pool: ConnectionPool[Any], timeout: float | None) -> PooledConnection:
        pool.open()
        with waits_limited(timeout):
            connection = take(pool, pool.timeout if timeout is None else timeout)
        connection.runs_statements = True
        return connection

    def _close(self) -> None:
        if isinstance(self.connection, PooledConnection):
            self.connection.runs_statements = False  # the pool checks it before it is used again
        super()._close()  # type: ignore[misc] # the same

    def _drop(self, pool: ConnectionPool[Any]) -> None:
        """Close a pool whose connections are lost. The next use makes another; connections in use are closed when returned."""
        if self._connection_pools.get(self.alias) is pool:
            del self._connection_pools[self.alias]
        pool.close(timeout=0)
