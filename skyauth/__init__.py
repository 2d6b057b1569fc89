"""Wiring: settings, URLs, the ASGI application and the server that runs it. Nobody imports it."""

__version__ = "1.0.0rc1"
