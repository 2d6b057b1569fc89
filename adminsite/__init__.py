"""The Django admin. It calls the services and has no rules of its own."""
