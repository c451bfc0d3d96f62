"""Orders blocks among validators; pure: no clock, no randomness, no I/O."""
