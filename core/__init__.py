"""Shared by all other packages: errors, responses, ASGI, request ids, small data structures. Imports none of them."""
