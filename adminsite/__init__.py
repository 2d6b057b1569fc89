"""The Django admin. Its rules are those of the services; it has none of its own."""
