"""Merkle trees: the RFC 6962 log for transactions, outcomes and history, and the tree over the state."""
