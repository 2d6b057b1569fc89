"""The only writers of users, service accounts, tokens and roles held.

Each function takes the acting principal and keyword arguments, checks that the actor may, writes, and records, in one
transaction. What it raises is a `core.errors.ServiceError`.
"""
