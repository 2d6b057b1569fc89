"""Operations: the management commands, and `apply`, which makes the policy be as a file says."""
