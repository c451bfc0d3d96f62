"""The state at one height, in parts, for one who has none of it: made, checked, put together (docs/spec/snapshot.md).

The *foundation* is certified: header, result, the history below, and the hash of every part under the state's root. A
part is checked against its hash before anything of it is written. What arrives is put together in a folder of its own,
which is no ledger until the last batch, written when every part and every list of seen ids is there. What was
interrupted goes on: parts whose hash still stands are kept, also under a later foundation.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Self

import msgspec

from storage.blocks import height_key
from storage.database import (
    CERTIFICATE,
    HEADER,
    HISTORY,
    META,
    RESULT,
    SEEN,
    STATE,
    TX_INDEX,
    Database,
    DatabaseCorruptError,
    DatabaseError,
)
from storage.indexes import ID_BYTES
from storage.ledger import Ledger
from storage.merkle.log import HASH_BYTES, PATH_HASHES_MAX, Frontier
from storage.merkle.state_tree import entry_leaf, part_count, part_digits, part_root, root_of_parts
from storage.opening import FROM, VOTES, check_network, genesis_root, stage_beginning
from storage.schema.block import (
    CERTIFICATE_BYTES_MAX,
    HEADER_BYTES_MAX,
    RESULT_BYTES_MAX,
    Certificate,
    CertificateError,
    Header,
    Result,
    VoteType,
    verify_certificate,
)
from storage.schema.codec import Bytes32, DecodeError, Form, Uint, Value, encode
from storage.schema.genesis import Genesis
from storage.schema.seen import seen_count_key, seen_digest, seen_key
from storage.schema.validators import ValidatorSet

PARTS_MAX = 4096
VALUE_BYTES_MAX = 1 << 20
PART_BYTES_MAX = 6 << 20
SEEN_BYTES_MAX = 1 << 20
_FOUNDATION_BYTES_MAX = HEADER_BYTES_MAX + RESULT_BYTES_MAX + CERTIFICATE_BYTES_MAX + 36 * PATH_HASHES_MAX + (1 << 18)
_FOUNDATION = META + b"arriving"
_PART = META + b"part"
_decode_count = msgspec.msgpack.Decoder(int).decode


class SnapshotError(Exception):
    """What was given as part of a snapshot is not what the certificate covers."""

    code = "snapshot.invalid"


class Foundation(Value, frozen=True):
    """What a snapshot stands on: ``peaks`` are those of the history below, ``parts`` all parts' hashes, in order."""

    header: Header
    result: Result
    certificate: Certificate
    peaks: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=PATH_HASHES_MAX)]
    parts: Annotated[bytes, msgspec.Meta(max_length=PARTS_MAX * HASH_BYTES)]

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


def check_foundation(foundation: Foundation, genesis: Genesis, validators: ValidatorSet) -> None:
    """Check that all of a foundation hangs on its certificate.

    Raises:
        SnapshotError: names what does not.
    """
    header, result, certificate = foundation.header, foundation.result, foundation.certificate
    try:
        verify_certificate(certificate, VoteType.COMMIT, genesis.chain_id, validators)
    except CertificateError as error:
        raise SnapshotError(str(error)) from None
    stated = (certificate.height, certificate.digest, certificate.result)
    if stated != (header.height, header.digest(), result.digest()):
        raise SnapshotError("the certificate is about something else")
    if len(foundation.peaks) != header.height.bit_count():
        raise SnapshotError("the history does not reach the block")
    if Frontier(header.height, foundation.peaks).root() != header.history_root:
        raise SnapshotError("the history is not what the header covers")
    if len(foundation.parts) != part_count(genesis.body.tree_depth) * HASH_BYTES:
        raise SnapshotError("other parts than a state of this network has")
    if root_of_parts(foundation.parts) != result.state_root:
        raise SnapshotError("the parts are not those of the certified state")


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
        )
        self._digits = part_digits(depth)

    def part(self, part: int) -> Part:
        """Read one part."""
        return tuple(
            (stored[1:], value) for stored, value in self._reader.scan(STATE, *_part_bounds(part, self._digits))
        )

    def seen_after(self, minute: int, height: int) -> Iterator[SeenList]:
        """Yield the lists of seen ids behind one of this minute and height, in order."""
        start = minute.to_bytes(8, "big") + height.to_bytes(8, "big") + b"\x00"
        for key, ids in self._reader.scan(SEEN, start):
            yield SeenList(int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:], "big"), ids)


def _part_bounds(part: int, digits: int) -> tuple[bytes, bytes | None]:
    shift = 24 - 4 * digits
    after = (part + 1) << shift
    return (part << shift).to_bytes(3, "big"), after.to_bytes(3, "big") if after < 1 << 24 else None


class Arriving:
    """A state on its way, in a folder of its own; what is written there was checked."""

    def __init__(self, database: Database, depth: int) -> None:
        """Take up what an open database holds."""
        self._database = database
        self._depth = depth
        stored = database.get(_FOUNDATION)
        self.foundation = None if stored is None else FOUNDATION.decode(stored)
        self._held = {
            int.from_bytes(key[len(_PART) :], "big"): value for key, value in database.scan(META, b"part", b"paru")
        }

    @classmethod
    def open(cls, path: Path, depth: int) -> Self:
        """Open the folder, and begin it anew if it is damaged: nothing in it is needed."""
        try:
            return cls(Database.open(path, create=True), depth)
        except (DatabaseCorruptError, DecodeError):
            shutil.rmtree(path)
            return cls(Database.open(path, create=True), depth)

    def close(self) -> None:
        """Close the folder; what arrived stays."""
        self._database.close()

    def begin(self, foundation: Foundation) -> None:
        """Stand on a foundation, which was checked: keep the parts that are still the same, let the others go."""
        batch = self._database.batch()
        if foundation != self.foundation:
            for part in [part for part, held in self._held.items() if held != foundation.part_hash(part)]:
                for key, _ in self._database.scan(STATE, *_part_bounds(part, part_digits(self._depth))):
                    batch.delete(key)
                batch.delete(_part_key(part))
                del self._held[part]
            for area in (SEEN, TX_INDEX):
                for key, _ in self._database.scan(area):
                    batch.delete(key)
        batch.put(_FOUNDATION, encode(foundation))
        self._database.write(batch)
        self.foundation = foundation

    @property
    def missing(self) -> list[int]:
        """The parts that are not here yet; a part without entries never travels."""
        foundation = self._foundation()
        empty = part_root({}, self._depth)
        count = part_count(self._depth)
        return [part for part in range(count) if part not in self._held and foundation.part_hash(part) != empty]

    def add_parts(self, parts: Mapping[int, Part]) -> None:
        """Write parts, each checked against its hash before.

        Raises:
            SnapshotError: one is not what the foundation covers; nothing of any is written.
        """
        foundation, batch = self._foundation(), self._database.batch()
        for part, entries in parts.items():
            _check_part(part, entries, foundation.part_hash(part), self._depth)
            for key_hash, value in entries:
                batch.put(STATE + key_hash, value)
            batch.put(_part_key(part), foundation.part_hash(part))
        self._database.write(batch)
        self._held.update({part: foundation.part_hash(part) for part in parts})

    @property
    def last_seen(self) -> tuple[int, int]:
        """Minute and height of the last list of seen ids that is here; of none at first."""
        key = next((key for key, _ in self._database.scan(SEEN, reverse=True)), bytes(17))
        return int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:], "big")

    @property
    def is_every_list_here(self) -> bool:
        """Whether as many lists of seen ids are here as the state, which is here, counts."""
        stored = self._database.get(STATE + sha256(seen_count_key()).digest())
        return sum(1 for _ in self._database.scan(SEEN)) == (0 if stored is None else _decode_count(stored))

    def add_seen(self, lists: Sequence[SeenList]) -> None:
        """Write lists of seen ids, each checked against the state, which is here.

        Raises:
            SnapshotError: one is not what the state names, or they do not ascend; nothing of any is written.
        """
        batch, last = self._database.batch(), self.last_seen
        for each in lists:
            ids = [each.ids[at : at + ID_BYTES] for at in range(0, len(each.ids), ID_BYTES)]
            stated = self._database.get(STATE + sha256(seen_key(each.minute, each.height)).digest())
            if (each.minute, each.height) <= last or stated != seen_digest(ids):
                raise SnapshotError("a list of seen ids is not what the state names")
            last = (each.minute, each.height)
            batch.put(SEEN + each.minute.to_bytes(8, "big") + height_key(each.height), each.ids)
            for tx_id in ids:
                batch.put(TX_INDEX + tx_id, height_key(each.height))
        self._database.write(batch)

    def finish(self, genesis: Genesis, genesis_state: Mapping[bytes, bytes], *, has_vote_log: bool) -> None:
        """Make it a ledger: until this batch is on the disk it is none.

        ``has_vote_log``: a vote log was begun beside it, whose loss must be noticed.
        """
        assert not self.missing, "every part is here"
        assert self.is_every_list_here, "and every list of seen ids"
        foundation, batch = self._foundation(), self._database.batch()
        height = foundation.header.height
        stage_beginning(batch, genesis, genesis_root(genesis, genesis_state))
        for area, value in ((HEADER, foundation.header), (RESULT, foundation.result)):
            batch.put(area + height_key(height), encode(value))
        batch.put(CERTIFICATE + height_key(height), encode(foundation.certificate))
        batch.put(HISTORY, b"".join(foundation.peaks))
        batch.put(META + b"head", height_key(height))
        batch.put(FROM, height_key(height + 1))
        if has_vote_log:
            batch.put(VOTES, b"")
        batch.delete(_FOUNDATION)
        for part in self._held:
            batch.delete(_part_key(part))
        self._database.write(batch)

    def _foundation(self) -> Foundation:
        assert self.foundation is not None, "parts are asked for once it is known of what"
        return self.foundation


def is_whole(path: Path, genesis: Genesis) -> bool:
    """Tell whether what arrived in a folder is a ledger of this network; what is damaged there is removed."""
    if not path.exists():
        return False
    try:
        with closing(Database.open(path)) as database:
            if database.get(META + b"format") is None:
                return False
            check_network(database, genesis)
            return True
    except DatabaseError:
        shutil.rmtree(path)
        return False


def _part_key(part: int) -> bytes:
    return _PART + part.to_bytes(2, "big")


def _check_part(part: int, entries: Iterable[tuple[bytes, bytes]], due: bytes, depth: int) -> None:
    shift, last = 24 - 4 * part_digits(depth), b""
    leaves: dict[bytes, bytes] = {}
    for key_hash, value in entries:
        if key_hash <= last or int.from_bytes(key_hash[:3], "big") >> shift != part:
            raise SnapshotError("the entries of a part do not ascend, or belong elsewhere")
        leaves[key_hash] = entry_leaf(key_hash, sha256(value).digest())
        last = key_hash
    if part_root(leaves, depth) != due:
        raise SnapshotError("a part is not what the certificate covers")
