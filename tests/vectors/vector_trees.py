"""Lists and their trees (docs/spec/block.md, Trees), and the tree over the state (docs/spec/state.md)."""

from typing import Any

from vector_primitives import leaf_hash, named_bytes, pack, path, root, sha256, shown

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


# The state: 16-ary, by the hexadecimal digits of the keys' hashes.

Entries = dict[str, tuple[bytes, bytes]]  # the digits of the key's hash: the hash itself, and that of the value


def entries_of(state: dict[bytes, bytes]) -> Entries:
    return {sha256(key).hex(): (sha256(key), sha256(value)) for key, value in state.items()}


def bucket_of(prefix: str, entries: Entries) -> list[tuple[bytes, bytes]]:
    return [entry for digits, entry in sorted(entries.items()) if digits.startswith(prefix)]


def node(prefix: str, depth: int, entries: Entries) -> bytes:
    """The hash of the node, or at full depth of the bucket, where all keys stand whose hashes begin so."""
    if len(prefix) == depth:
        return root([leaf_hash(key_hash + value_hash) for key_hash, value_hash in bucket_of(prefix, entries)])
    return sha256(b"\x02", *children(prefix, depth, entries))


def children(prefix: str, depth: int, entries: Entries) -> list[bytes]:
    below = {digits for digits in entries if digits.startswith(prefix)}
    if not below:
        return [empty(depth - len(prefix) - 1)] * 16
    return [node(prefix + digit, depth, entries) for digit in "0123456789abcdef"]


def empty(height: int) -> bytes:
    """The hash of a subtree without entries; height 0 is a bucket."""
    return root([]) if height == 0 else sha256(b"\x02", *[empty(height - 1)] * 16)


def proof(key: bytes, depth: int, entries: Entries) -> bytes:
    digits = sha256(key).hex()
    families = [b"".join(children(digits[:length], depth, entries)) for length in reversed(range(depth))]
    return pack([[list(entry) for entry in bucket_of(digits[:depth], entries)], families])


def parts(depth: int, entries: Entries) -> list[bytes]:
    """The hashes of the parts in which a state travels (docs/spec/snapshot.md): the nodes of three digits."""
    digits = min(depth, 3)
    none = empty(depth - digits)
    begun = {key[:digits] for key in entries}
    names = [f"{number:0{digits}x}" for number in range(16**digits)]
    return [node(name, depth, entries) if name in begun else none for name in names]


def states() -> dict[str, Any]:
    state = {f"person/{number}".encode(): named_bytes(f"value {number}", number) for number in range(24)}
    few = dict(list(state.items())[:3])
    entries, absent = entries_of(state), b"person/nobody"
    return {
        "empty_roots": [node("", depth, {}).hex() for depth in range(1, 6)],
        "states": [
            {
                "depth": depth,
                "entries": shown([*map(list, content.items())]),
                "root": node("", depth, entries_of(content)).hex(),
                "parts_hashed": sha256(*parts(depth, entries_of(content))).hex(),
            }
            for depth, content in [(1, few), (1, state), (2, state), (3, few), (4, few), (4, state), (5, few)]
        ],
        "proofs": {
            "depth": 2,
            "root": node("", 2, entries).hex(),
            "present": [
                {"key": key.hex(), "value": state[key].hex(), "proof": proof(key, 2, entries).hex()}
                for key in list(state)[:2]
            ],
            "absent": [{"key": absent.hex(), "proof": proof(absent, 2, entries).hex()}],
        },
    }
