"""Records outside the ledger: how they are encrypted, where they rest, and who is given their keys."""
