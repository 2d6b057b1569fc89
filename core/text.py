"""Makes text of clients safe for log lines and audit entries."""


def clean(text: str, limit: int) -> str:
    """Return at most `limit` characters of `text`, all printable, so that a text cannot forge another line."""
    text = text[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
