"""The formats of the one language that there is."""
