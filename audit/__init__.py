"""What happened: the append-only record every other room writes to and none depends on."""
