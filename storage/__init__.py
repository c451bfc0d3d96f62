"""Keeps the ledger: what the bytes are (schema), what they prove (merkle), and how they lie on disk."""
