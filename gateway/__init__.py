"""The forward-auth interface. A proxy asks about each request and receives 200, 401, 403 or 503, with identity headers."""
