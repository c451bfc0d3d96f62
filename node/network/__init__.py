"""Bytes between nodes: libp2p over TCP, Noise and Yamux. Its defects are mended in this room and nowhere else."""
