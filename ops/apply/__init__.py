"""`manage.py apply`: makes roles, routes, group roles and service accounts match a YAML file."""
