"""Authorization: permissions, roles, routes, the decision, its explanation and its preview."""
