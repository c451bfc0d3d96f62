"""Who signs: names made from keys (did:key), and the files that keep secret keys, of nodes and of wallets."""
