"""The policy revision: one value that changes with everything that decides, so that no cached answer is stale."""
