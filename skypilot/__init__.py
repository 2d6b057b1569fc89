"""The SkyPilot API: the sign-in, user and service-account endpoints of a SkyPilot API server, for the `sky` CLI."""
