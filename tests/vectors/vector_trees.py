"""Lists and their trees (docs/spec/block.md, Trees)."""

from typing import Any

from vector_primitives import leaf_hash, path, root

PATHS_SHOWN_TO = 8


def trees() -> list[dict[str, Any]]:
    """Roots, paths and peaks of lists of the one-byte entries 00, 01, 02 …"""
    listed = []
    for size in range(20):
        leaves = [leaf_hash(bytes([number])) for number in range(size)]
        shown_paths = range(size) if size <= PATHS_SHOWN_TO else ()
        listed.append(
            {
                "size": size,
                "root": root(leaves).hex(),
                "paths": [[node.hex() for node in path(index, leaves)] for index in shown_paths],
                "peaks": [peak.hex() for peak in peaks(leaves)],
            }
        )
    return listed


def peaks(leaves: list[bytes]) -> list[bytes]:
    """The roots of the complete subtrees of a list, largest first: one for each binary digit of its size."""
    if not leaves:
        return []
    size = 1 << (len(leaves).bit_length() - 1)
    return [root(leaves[:size]), *peaks(leaves[size:])]
