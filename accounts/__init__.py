"""Identities: users, service accounts, tokens and group mappings."""
