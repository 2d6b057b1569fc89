"""The dashboard: HTML pages."""
