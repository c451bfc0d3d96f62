"""What replicas send each other beside the engine's own messages; every form is closed and bounded.

Transactions travel in batches: to the primary on the ``bulk`` channel, to everyone by gossip. Bodies are named by
their leaf. Committed blocks are fetched by height, with the certificate that proves them; the state of a height comes
in parts, and what lies below it downwards, block by block.
"""

from typing import Annotated

import msgspec

from storage.history import PAST_BLOCK_BYTES_MAX
from storage.schema.block import Certificate, Header
from storage.schema.codec import Bytes32, Form, Uint, Value, encode
from storage.schema.transaction import ENVELOPE_BYTES_MAX
from storage.snapshot import PART_BYTES_MAX, PARTS_MAX, SEEN_BYTES_MAX, VALUE_BYTES_MAX, Part, SeenList

BATCH_ENVELOPES_MAX = 500
BATCH_BYTES_MAX = 192 * 1024
BLOCKS_BYTES_MAX = 2 << 20
LEAVES_MAX = 2000
# What one answer holds; more only if a single part, list or block is larger.
PARTS_BYTES_MAX = 1 << 20
HISTORY_BYTES_MAX = 512 * 1024

TRANSACTIONS_TOPIC = "caretrace/transactions/1"
HEADS_TOPIC = "caretrace/heads/1"
BODIES_SERVICE = "bodies"
BLOCKS_SERVICE = "blocks"
SNAPSHOT_SERVICE = "snapshot"
PARTS_SERVICE = "snapshot.parts"
SEEN_SERVICE = "snapshot.seen"
HISTORY_SERVICE = "history"

_Body = Annotated[bytes, msgspec.Meta(max_length=ENVELOPE_BYTES_MAX)]
_Bodies = Annotated[tuple[_Body, ...], msgspec.Meta(max_length=LEAVES_MAX)]
_Batch = Annotated[tuple[_Body, ...], msgspec.Meta(max_length=BATCH_ENVELOPES_MAX)]
_Leaves = Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=LEAVES_MAX)]


class Head(Value, frozen=True):
    """A committed block as its primary announces it: whoever lags learns that it does, and by what proof."""

    header: Header
    certificate: Certificate
    leaves: _Leaves


class BlocksRequest(Value, frozen=True):
    """Asks for consecutive committed blocks, from a height upwards."""

    from_height: Uint


class BlocksAnswer(Value, frozen=True):
    """Encoded committed blocks in order, as many as fit; and how high the answerer stands."""

    head_height: Uint
    blocks: tuple[bytes, ...]


class PartsRequest(Value, frozen=True):
    """Asks for parts of the state that a node holds at a height, in this order."""

    height: Uint
    parts: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, lt=PARTS_MAX)], ...], msgspec.Meta(max_length=PARTS_MAX)]


class SeenRequest(Value, frozen=True):
    """Asks for lists of seen ids at a height of the state, behind the one of this minute and block."""

    height: Uint
    minute: Uint
    block: Uint


class HistoryRequest(Value, frozen=True):
    """Asks for the block of a height, and for those below it, each with its outcomes."""

    height: Uint


_Entry = tuple[Bytes32, Annotated[bytes, msgspec.Meta(max_length=VALUE_BYTES_MAX)]]

BATCH: Form[tuple[bytes, ...]] = Form(_Batch, BATCH_BYTES_MAX)
BODIES: Form[tuple[bytes, ...]] = Form(_Bodies, BLOCKS_BYTES_MAX + 4096)
LEAVES: Form[tuple[bytes, ...]] = Form(_Leaves, 34 * LEAVES_MAX + 16)
HEAD: Form[Head] = Form(Head, 192 * 1024)
BLOCKS_REQUEST: Form[BlocksRequest] = Form(BlocksRequest, 16)
BLOCKS_ANSWER: Form[BlocksAnswer] = Form(BlocksAnswer, 2 * BLOCKS_BYTES_MAX)
PARTS_REQUEST: Form[PartsRequest] = Form(PartsRequest, 3 * PARTS_MAX + 16)
PARTS: Form[tuple[Part, ...]] = Form(tuple[tuple[_Entry, ...], ...], PARTS_BYTES_MAX + PART_BYTES_MAX)
SEEN_REQUEST: Form[SeenRequest] = Form(SeenRequest, 32)
SEEN: Form[tuple[SeenList, ...]] = Form(tuple[SeenList, ...], PARTS_BYTES_MAX + SEEN_BYTES_MAX)
HISTORY_REQUEST: Form[HistoryRequest] = Form(HistoryRequest, 16)
HISTORY: Form[tuple[bytes, ...]] = Form(tuple[bytes, ...], HISTORY_BYTES_MAX + PAST_BLOCK_BYTES_MAX)


def encode_batches(envelopes: list[bytes]) -> list[bytes]:
    """Encode envelopes in as many batches as the limits of a batch ask for."""
    batches: list[bytes] = []
    current: list[bytes] = []
    size = 0
    for envelope in envelopes:
        if current and (len(current) == BATCH_ENVELOPES_MAX or size + len(envelope) > BATCH_BYTES_MAX - 4096):
            batches.append(encode(current))
            current, size = [], 0
        current.append(envelope)
        size += len(envelope)
    if current:
        batches.append(encode(current))
    return batches
