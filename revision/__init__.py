"""The policy revision, which changes with everything that a decision depends on, and the last-used timestamps, which do not."""
