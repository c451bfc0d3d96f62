"""Yamux on the wire (hashicorp/yamux spec.md, version 0): frame header, kinds, flags and the window."""

import struct

PROTOCOL = "/yamux/1.0.0"

HEADER = struct.Struct(">BBHII")
"""Version, kind, flags, stream, length."""
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8

WINDOW_BYTES = 256 * 1024
"""What may lie unread in a stream. The specification fixes where it starts; we never let it grow."""
DATA_BYTES_MAX = 65_507
"""Header and data then fill one Noise message of 65,519 bytes exactly: one byte more costs a second message."""


class MuxerFaultError(Exception):
    """The peer broke the rules of the multiplexer."""
