"""The REST API, version 1. Only this package imports rest_framework."""
