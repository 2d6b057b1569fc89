"""Door 1: forward-auth. A proxy asks about each request; the answer is 200, 401, 403 or 503, with the identity in headers."""
