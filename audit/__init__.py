"""The append-only audit log: what happened, who did it, and why a request was denied."""
