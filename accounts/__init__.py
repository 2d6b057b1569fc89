"""Who is calling, and which role they hold."""
