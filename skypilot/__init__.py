"""Door 3: the SkyPilot API server's own auth, users and service-account endpoints, so that the real `sky` CLI logs in."""
