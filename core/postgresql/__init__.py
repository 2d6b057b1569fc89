"""Django's PostgreSQL backend, in which every wait ends at the client, and a lost database is known to be lost."""
