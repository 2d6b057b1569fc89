"""`apply`: reads a manifest of roles, routes, group mappings and service accounts, and reconciles the database with it."""
