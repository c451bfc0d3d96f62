"""How blocks become state: what may stand in a block, what executing it gives, and what interfaces read from it."""
