"""Services for users, service accounts, tokens and group roles, which are changed nowhere else.

Each function takes the acting principal and keyword arguments, checks the actor's permissions, writes the rows and records the
change in one transaction. Errors are `core.errors.ServiceError`.
"""
