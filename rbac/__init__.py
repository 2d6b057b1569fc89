"""May a role do this: permissions, roles, routes, and the one decision."""
