"""How a ledger begins, and what is checked each time it is opened.

Meta entries: ``format`` (the version of this layout), ``network`` (name and chain id), ``head`` (height of the last
committed block), ``from`` (the lowest block that is here, if the ledger began with a snapshot), ``votes`` (a vote log
was begun beside it). A ledger that was begun here (``storage.places``) and is gone is not silently begun anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from storage.blocks import Blocks, height_key, load_history_from, stage_block
from storage.database import (
    AREAS,
    CERTIFICATE,
    EPOCH,
    HEADER,
    HISTORY,
    META,
    RESULT,
    STATE,
    Database,
    DatabaseCorruptError,
    Reader,
)
from storage.epoch_links import load_epochs
from storage.folders import make_folder
from storage.merkle.log import EMPTY_ROOT, HASH_BYTES, Frontier
from storage.merkle.state_tree import StateTree, entry_leaf
from storage.places import created_marker, mark_created
from storage.schema.block import (
    Certificate,
    CertificateError,
    Header,
    Result,
    VoteType,
    history_leaf,
    verify_certificate,
)
from storage.schema.codec import Bytes32, DecodeError, Form, MemberName, Value, encode
from storage.schema.epochs import EpochError, Epochs
from storage.schema.genesis import Genesis
from storage.state import State

FORMAT = b"0"
VOTES = META + b"votes"
CHAIN_CHECKED_BLOCKS = 64


class LedgerError(Exception):
    """The ledger in this folder cannot serve this node; nothing of it is changed."""

    code = "ledger.unusable"


class OtherNetworkError(LedgerError):
    """The folder holds the ledger of another network."""

    code = "ledger.other_network"


class LedgerFormatError(LedgerError):
    """The folder was written in a layout that this version does not read."""

    code = "ledger.format"


class _Network(Value, frozen=True):
    name: MemberName
    chain_id: Bytes32


_NETWORK: Form[_Network] = Form(_Network, 128)


@dataclass(frozen=True, slots=True)
class Head:
    """The last committed block; only height 0 has no certificate."""

    header: Header
    result: Result
    certificate: Certificate | None
    digest: bytes
    result_digest: bytes

    @property
    def height(self) -> int:
        """The height of the last committed block."""
        return self.header.height


def make_head(header: Header, result: Result, certificate: Certificate | None) -> Head:
    """Put a head together, with its digests."""
    return Head(header, result, certificate, header.digest(), result.digest())


def genesis_result(genesis: Genesis, state_root: bytes) -> Result:
    """Return the result of height 0, which nobody voted for: it follows from genesis."""
    return Result(state_root, EMPTY_ROOT, 0, genesis.validators.digest())


def open_database(path: Path, genesis: Genesis, genesis_state: Mapping[bytes, bytes]) -> Database:
    """Open the database of a network's ledger, and begin it at height 0 if it was never begun.

    Raises:
        OtherNetworkError: it holds another network's ledger.
        LedgerFormatError: another version of this program wrote it.
        DatabaseError: it is damaged, in use or lost.
    """
    created = created_marker(path)
    make_folder(path.parent)
    database = Database.open(path, create=not created.exists())
    try:
        if not created.exists():
            if database.get(META + b"format") is None:
                _begin(database, genesis, genesis_state)
            mark_created(path, genesis.chain_id.hex())
        check_network(database, genesis)
    except BaseException:
        database.close()
        raise
    return database


def _begin(database: Database, genesis: Genesis, genesis_state: Mapping[bytes, bytes]) -> None:
    if next(database.scan(HEADER), None) is not None:
        raise DatabaseCorruptError(AREAS[META], "the format is missing")
    state = State(database, genesis.body.tree_depth)
    prepared = state.prepare(genesis_state)
    batch = database.batch()
    state.stage(prepared, batch)
    stage_beginning(batch, genesis, prepared.root)
    batch.put(HISTORY, b"")
    batch.put(META + b"head", height_key(0))
    database.write(batch)


def stage_beginning(batch: Any, genesis: Genesis, state_root: bytes) -> None:
    """Add what every ledger of a network holds, whatever its height: whose it is, and height 0."""
    stage_block(batch, genesis.header, genesis_result(genesis, state_root), (), (), None)
    batch.put(META + b"format", FORMAT)
    batch.put(META + b"network", encode(_Network(genesis.body.name, genesis.chain_id)))


def check_network(reader: Reader, genesis: Genesis) -> None:
    """Check that a ledger is of this layout and of this network.

    Raises:
        OtherNetworkError: it is of another network, which the message names.
        LedgerFormatError: it is of another layout.
        DatabaseCorruptError: it does not say.
    """
    written = reader.get(META + b"format")
    if written is None:
        raise DatabaseCorruptError(AREAS[META], "the format is missing")
    if written != FORMAT:
        raise LedgerFormatError(f"the ledger has format {written.hex()}, this version reads {FORMAT.hex()}")
    try:
        network = _NETWORK.decode(reader.get(META + b"network") or b"")
    except DecodeError as error:
        raise DatabaseCorruptError(AREAS[META], f"network: {error}") from None
    if network.chain_id != genesis.chain_id:
        raise OtherNetworkError(
            f"the ledger belongs to {network.name} ({network.chain_id.hex()}), "
            f"not to {genesis.body.name} ({genesis.chain_id.hex()})"
        )


def head_height(reader: Reader) -> int:
    """Return the height of the last committed block.

    Raises:
        DatabaseCorruptError: it is not said, or there are blocks above it.
    """
    stored = reader.get(META + b"head")
    if stored is None or len(stored) != 8:
        raise DatabaseCorruptError(AREAS[META], "the head is missing")
    height = int.from_bytes(stored, "big")
    if reader.get(HEADER + stored) is None:
        raise DatabaseCorruptError(AREAS[META], f"it says that block {height} is the last, but there is none")
    if reader.get(HEADER + height_key(height + 1)) is not None:
        raise DatabaseCorruptError(AREAS[META], f"it says that block {height} is the last, but there are more")
    return height


def check_beginning(reader: Reader, genesis: Genesis, genesis_state: Mapping[bytes, bytes]) -> None:
    """Check that height 0 is what follows from genesis by the rules of this version.

    Raises:
        DatabaseCorruptError: it is not; with other rules this node could agree with nobody.
    """
    blocks = Blocks(reader)
    if blocks.header(0) != genesis.header:
        raise DatabaseCorruptError(AREAS[HEADER], "not the one that follows from genesis", 0)
    if blocks.result(0) != genesis_result(genesis, genesis_root(genesis, genesis_state)):
        raise DatabaseCorruptError(AREAS[RESULT], "not the one that follows from genesis", 0)


def genesis_root(genesis: Genesis, genesis_state: Mapping[bytes, bytes]) -> bytes:
    """Return the root of the state at height 0."""
    tree = StateTree(genesis.body.tree_depth, lambda _: b"")
    hashes = {sha256(key).digest(): sha256(value).digest() for key, value in genesis_state.items()}
    return tree.prepare({key: entry_leaf(key, value) for key, value in hashes.items()}).root


def load_head(reader: Reader, genesis: Genesis) -> tuple[Head, Epochs]:
    """Read the head and the chain of epochs, and check certificates and the chain of the last headers.

    Raises:
        DatabaseCorruptError: names the area and height of what does not hold.
    """
    blocks, height, epochs = Blocks(reader), head_height(reader), load_epochs(reader, genesis)
    head = load_certified(blocks, epochs, height)
    if epochs.newest.digest() != head.result.next_validators_hash:
        raise DatabaseCorruptError(AREAS[EPOCH], "the newest set is not the one that the head hands over to")
    above = head.header
    lowest = load_history_from(reader)
    if lowest > height + 1:
        raise DatabaseCorruptError(AREAS[META], "it says that the blocks begin where none can")
    for below in range(height - 1, max(lowest if lowest > 1 else 0, height - CHAIN_CHECKED_BLOCKS) - 1, -1):
        header, result = blocks.header(below), blocks.result(below)
        check_link(header, result, above)
        above = header
    return head, epochs


def load_certified(blocks: Blocks, epochs: Epochs, height: int) -> Head:
    """Read a header and its result, and check that its certificate, by a quorum, is about both; height 0 has none.

    Raises:
        DatabaseCorruptError: names the area of what does not hold.
    """
    header, result = blocks.header(height), blocks.result(height)
    if height == 0:
        return make_head(header, result, None)
    certificate = blocks.certificate(height)
    head = make_head(header, result, certificate)
    try:
        validators = epochs.of(certificate.epoch)
        verify_certificate(certificate, VoteType.COMMIT, epochs.chain_id, validators)
    except (CertificateError, EpochError) as error:
        raise DatabaseCorruptError(AREAS[CERTIFICATE], str(error), height) from None
    if certificate.height != height:
        raise DatabaseCorruptError(AREAS[CERTIFICATE], f"it is about block {certificate.height}", height)
    if certificate.digest != head.digest or header.height != height:
        raise DatabaseCorruptError(AREAS[HEADER], "not the one that was certified", height)
    if certificate.result != head.result_digest:
        raise DatabaseCorruptError(AREAS[RESULT], "not the one that was certified", height)
    return head


def check_link(header: Header, result: Result, above: Header) -> None:
    """Check that a header and a result are those which the block above was built on.

    Raises:
        DatabaseCorruptError: names the one that is not.
    """
    if header.digest() != above.parent:
        raise DatabaseCorruptError(AREAS[HEADER], "not the parent of the block above", above.height - 1)
    if result.digest() != above.parent_result:
        raise DatabaseCorruptError(AREAS[RESULT], "not what the block above was built on", above.height - 1)


def load_history(reader: Reader, head: Head) -> Frontier:
    """Read the history up to and with the head.

    Raises:
        DatabaseCorruptError: what is stored is not what the head's header covers.
    """
    peaks = reader.get(HISTORY) or b""
    if len(peaks) != head.height.bit_count() * HASH_BYTES:
        raise DatabaseCorruptError(AREAS[HISTORY], "it does not reach the head")
    history = Frontier(head.height, [peaks[at : at + HASH_BYTES] for at in range(0, len(peaks), HASH_BYTES)])
    if history.root() != head.header.history_root:
        raise DatabaseCorruptError(AREAS[HISTORY], "not what the head's header covers")
    history.append(history_leaf(head.digest, head.result_digest))
    return history


def load_state(reader: Reader, genesis: Genesis, head: Head) -> State:
    """Build the state's tree from all that is stored, and compare it with the certified root.

    Raises:
        DatabaseCorruptError: an entry is damaged, or the roots differ.
    """
    state = State.load(reader, genesis.body.tree_depth)
    if state.root != head.result.state_root:
        raise DatabaseCorruptError(AREAS[STATE], "not what the head's certificate covers")
    return state
