"""The checks of an installation: one list for `manage.py doctor`, the dashboard and the readiness probe."""
