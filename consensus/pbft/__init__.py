"""Practical Byzantine fault tolerance with one height in flight (Castro and Liskov, 1999; docs/spec/pbft.md)."""
