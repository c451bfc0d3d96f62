"""The state at one height, in parts, for one who has none of it: what a snapshot is (docs/spec/snapshot.md).

The *foundation* is certified: header, result, the history below, and the hash of every part under the state's root. A
part is proven by its hash, a list of seen ids by what the state names.
"""

from collections.abc import Iterator
from typing import Annotated

import msgspec

from storage.database import HISTORY, SEEN, STATE
from storage.ledger import Ledger
from storage.merkle.log import HASH_BYTES, PATH_HASHES_MAX, Frontier
from storage.merkle.state_tree import part_count, part_digits, root_of_parts
from storage.schema.block import (
    CERTIFICATE_BYTES_MAX,
    HEADER_BYTES_MAX,
    RESULT_BYTES_MAX,
    Certificate,
    CertificateError,
    Header,
    Result,
    VoteType,
    certified,
    verify_certificate,
)
from storage.schema.codec import Bytes32, Form, Uint, Value
from storage.schema.epochs import EpochError, Epochs, load_epochs
from storage.schema.genesis import Genesis

PARTS_MAX = 4096
VALUE_BYTES_MAX = 1 << 20
PART_BYTES_MAX = 6 << 20
SEEN_BYTES_MAX = 1 << 20
# A link takes about 200 bytes for each validator: more than a thousand of ten members.
_EPOCHS_BYTES_MAX = 4 << 20
_FOUNDATION_BYTES_MAX = (
    HEADER_BYTES_MAX + RESULT_BYTES_MAX + CERTIFICATE_BYTES_MAX + 36 * PATH_HASHES_MAX + (1 << 18) + _EPOCHS_BYTES_MAX
)


class SnapshotError(Exception):
    """What was given as part of a snapshot is not what the certificate covers."""

    code = "snapshot.invalid"


class Foundation(Value, frozen=True):
    """What a snapshot stands on.

    ``peaks`` are those of the history below, ``parts`` the hashes of all parts, in order; ``epochs`` is the chain that
    leads from genesis to the validators of the next height, as a file (docs/spec/epochs.md).
    """

    header: Header
    result: Result
    certificate: Certificate
    peaks: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=PATH_HASHES_MAX)]
    parts: Annotated[bytes, msgspec.Meta(max_length=PARTS_MAX * HASH_BYTES)]
    epochs: Annotated[bytes, msgspec.Meta(max_length=_EPOCHS_BYTES_MAX)]

    def part_hash(self, part: int) -> bytes:
        """Return the hash that a part must have."""
        return self.parts[part * HASH_BYTES : (part + 1) * HASH_BYTES]


class SeenList(Value, frozen=True):
    """The ids, sorted and joined, of one block that expire within one minute."""

    minute: Uint
    height: Uint
    ids: Annotated[bytes, msgspec.Meta(max_length=SEEN_BYTES_MAX)]


# Key hash and value of each entry, in ascending order.
Part = tuple[tuple[bytes, bytes], ...]

FOUNDATION: Form[Foundation] = Form(Foundation, _FOUNDATION_BYTES_MAX)


def check_foundation(foundation: Foundation, genesis: Genesis) -> Epochs:
    """Check that all of a foundation hangs on its certificate; returns the chain of epochs, proven from genesis.

    Raises:
        SnapshotError: names what does not.
    """
    header, result, certificate = foundation.header, foundation.result, foundation.certificate
    try:
        epochs = load_epochs(foundation.epochs, genesis)
        verify_certificate(certificate, VoteType.COMMIT, genesis.chain_id, epochs.of(certificate.epoch))
    except (CertificateError, EpochError) as error:
        raise SnapshotError(str(error)) from None
    if not certified(header, result, certificate):
        raise SnapshotError("the certificate is about something else")
    if epochs.newest.digest() != result.next_validators_hash:
        raise SnapshotError("the chain of epochs does not lead to those who decide next")
    if len(foundation.peaks) != header.height.bit_count():
        raise SnapshotError("the history does not reach the block")
    if Frontier(header.height, foundation.peaks).root() != header.history_root:
        raise SnapshotError("the history is not what the header covers")
    if len(foundation.parts) != part_count(genesis.body.tree_depth) * HASH_BYTES:
        raise SnapshotError("other parts than a state of this network has")
    if root_of_parts(foundation.parts) != result.state_root:
        raise SnapshotError("the parts are not those of the certified state")
    return epochs


class HeldSnapshot:
    """The state of a ledger at one height, held while the ledger goes on; other threads may read it."""

    def __init__(self, ledger: Ledger, depth: int) -> None:
        """Take it now, in the thread that commits; height 0 has no certificate, so the head is above."""
        head, self._reader = ledger.head, ledger.database.snapshot()
        assert head.certificate is not None, "a snapshot stands on a certified block"
        peaks = self._reader.get(HISTORY) or b""
        self.height = head.height
        self.foundation = Foundation(
            head.header,
            head.result,
            head.certificate,
            tuple(peaks[at : at + HASH_BYTES] for at in range(0, len(peaks), HASH_BYTES)),
            ledger.state.part_hashes(),
            ledger.epochs.render(),
        )
        self.part_count = part_count(depth)
        self._digits = part_digits(depth)

    def part(self, part: int) -> Part:
        """Read one part."""
        return tuple(
            (stored[1:], value) for stored, value in self._reader.scan(STATE, *part_bounds(part, self._digits))
        )

    def seen_after(self, minute: int, height: int) -> Iterator[SeenList]:
        """Yield the lists of seen ids behind one of this minute and height, in order."""
        start = minute.to_bytes(8, "big") + height.to_bytes(8, "big") + b"\x00"
        for key, ids in self._reader.scan(SEEN, start):
            yield SeenList(int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:], "big"), ids)


def part_bounds(part: int, digits: int) -> tuple[bytes, bytes | None]:
    """Return the key hash at which a part begins, as far as that is needed, and the one at which the next does."""
    shift = 24 - 4 * digits
    after = (part + 1) << shift
    return (part << shift).to_bytes(3, "big"), after.to_bytes(3, "big") if after < 1 << 24 else None
