"""The SkyPilot API server behind SkyAuth: its client, its three roles, and how they are kept in sync."""
