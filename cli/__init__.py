"""The command line: a thin client of a node."""
