"""The date and time formats of English, the only language."""
