"""Text from outside on its way into a line of ours."""


def clean(text: str, limit: int) -> str:
    """Return `text` on one line of printable characters, at most `limit` long, so that no entry forges another."""
    text = text[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
