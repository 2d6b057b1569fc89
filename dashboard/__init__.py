"""Door 4: HTML pages for people."""
