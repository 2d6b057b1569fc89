"""What is wrong with the installation: one list of checks for the command, the dashboard and the readiness probe."""
