"""Authentication: who is calling. From the headers of a trusted proxy, a token, a password, a session or a signed assertion."""
