"""The ids that must not come a second time, as the state names them: one digest for each list, and how many there are.

The lists themselves lie beside the state. With the number of them in the state nobody who hands the lists on, with a
snapshot, can leave one out unseen.
"""

from collections.abc import Iterable
from hashlib import sha256


def seen_key(minute: int, height: int) -> bytes:
    """Where the digest stands of the ids that a block took in and that expire within one minute."""
    return b"seen/" + minute.to_bytes(8, "big") + height.to_bytes(8, "big")


def seen_count_key() -> bytes:
    """Where it is counted how many such digests stand."""
    return b"seen-lists/"


def seen_digest(ids: Iterable[bytes]) -> bytes:
    """Return what stands for a list of ids, sorted."""
    return sha256(b"".join(ids)).digest()
