"""Feeds the ordering engine, carries its effects out in order, and catches up with the others."""
