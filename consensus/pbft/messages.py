"""What replicas say to each other: closed structs, their limits, and the bytes that are signed (docs/spec/pbft.md).

A vote signs the one preimage of ``storage.schema.block``. VIEW-CHANGE, NEW-VIEW and STATUS sign their own tags over
their own encoding. HELLO, ANSWER and COMPLAINT are not signed: they are between two members of one authenticated
channel, and what an ANSWER hands back is signed by who asked.
"""

from enum import IntEnum
from typing import Annotated

import msgspec

from storage.schema.block import (
    BLOCK_BYTES_MAX,
    BLOCK_TX_MAX,
    ZERO_DIGEST,
    Certificate,
    Header,
    VoteType,
    vote_preimage,
)
from storage.schema.codec import Bytes16, Bytes32, Bytes64, Form, Uint, Value, encode
from storage.schema.validators import VALIDATORS_MAX

# The largest are a PROPOSAL with the bodies of a full block, and a NEW-VIEW of 128 validators: a good 1 MiB each.
MESSAGE_BYTES_MAX = 2 << 20
# Each envelope stands behind its length, of at most 5 bytes; all of them behind their number.
BODIES_BYTES_MAX = BLOCK_BYTES_MAX + 5 * BLOCK_TX_MAX + 5

Leaves = Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=BLOCK_TX_MAX)]


class Proposal(Value, frozen=True, tag=1):
    """The primary's block for ``header.height`` in ``view``; its signature is the primary's PREPARE."""

    view: Uint
    header: Header
    leaves: Leaves
    bodies: Annotated[bytes, msgspec.Meta(max_length=BODIES_BYTES_MAX)]
    signature: Bytes64


class Vote(Value, frozen=True, tag=2):
    """One signed vote. A PROPOSAL stands here only in an ANSWER, in evidence and in the vote log."""

    kind: VoteType
    epoch: Uint
    view: Uint
    height: Uint
    digest: Bytes32
    result: Bytes32
    signer: Uint
    signature: Bytes64

    def preimage(self, chain_id: bytes) -> bytes:
        """Return the bytes that the signer signed."""
        return vote_preimage(chain_id, self.epoch, self.kind, self.view, self.height, self.digest, self.result)


class Prepared(Value, frozen=True):
    """A quorum's PREPAREs for one block of one view, and the header that they name."""

    certificate: Certificate
    header: Header


class Change(Value, frozen=True):
    """What a replica brings into ``view``: its last committed height, and what it has prepared above it."""

    epoch: Uint
    signer: Uint
    view: Uint
    height: Uint
    certificate: Certificate | None
    prepared: Prepared | None


class SignedChange(Value, frozen=True):
    """A change and its signer's signature, as a NEW-VIEW carries it."""

    change: Change
    signature: Bytes64

    def preimage(self, chain_id: bytes) -> bytes:
        """Return the bytes that the signer signed."""
        return b"CARETRACE/view-change/1" + chain_id + encode(self.change)


class ViewChange(Value, frozen=True, tag=3):
    """A replica leaves its view for a later one and votes in no earlier view again.

    ``leaves`` are those of the prepared block, bound by its header and so not signed again.
    """

    signed: SignedChange
    leaves: Leaves


class NewView(Value, frozen=True, tag=4):
    """The primary of ``view`` opens it by showing a quorum of changes, ordered by signer."""

    epoch: Uint
    signer: Uint
    view: Uint
    changes: Annotated[tuple[SignedChange, ...], msgspec.Meta(max_length=VALIDATORS_MAX)]
    signature: Bytes64

    def preimage(self, chain_id: bytes) -> bytes:
        """Return the bytes that the signer signed."""
        return b"CARETRACE/new-view/1" + chain_id + encode((self.epoch, self.signer, self.view, self.changes))


class Ask(IntEnum):
    """Who should answer a STATUS. An answer asks nobody, so that answers end."""

    NOBODY = 0
    HELPERS = 1
    EVERYBODY = 2


class Status(Value, frozen=True, tag=5):
    """Where a replica stands. ``entered`` is False while it waits for the NEW-VIEW of ``view``.

    ``proposal`` is the digest of the block that it holds for the next height in this view, or zero.
    """

    epoch: Uint
    signer: Uint
    view: Uint
    entered: bool
    height: Uint
    certificate: Certificate | None
    proposal: Bytes32
    ask: Ask
    signature: Bytes64

    def preimage(self, chain_id: bytes) -> bytes:
        """Return the bytes that the signer signed."""
        place = (self.epoch, self.signer, self.view, self.entered, self.height, self.certificate)
        return b"CARETRACE/status/1" + chain_id + encode((*place, self.proposal, self.ask))


class Hello(Value, frozen=True, tag=6):
    """A replica has started and asks which newest statements of its key others hold."""

    epoch: Uint
    start: Bytes16


class Answer(Value, frozen=True, tag=7):
    """The newest vote and change that the answerer holds of the asker's key, for the start that asked."""

    start: Bytes16
    vote: Vote | None
    change: SignedChange | None


class Complaint(Value, frozen=True, tag=8):
    """The primary of ``view`` at ``height`` leaves out what it should order. It binds nobody, not even its sender."""

    epoch: Uint
    view: Uint
    height: Uint


Message = Proposal | Vote | ViewChange | NewView | Status | Hello | Answer | Complaint
MESSAGE: Form[Message] = Form(Message, MESSAGE_BYTES_MAX)
NO_SIGNATURE = bytes(64)


def epoch_of(message: Message) -> int | None:
    """Return the epoch that a message is of; an ANSWER is of the HELLO that asked."""
    match message:
        case Proposal():
            return message.header.epoch
        case ViewChange():
            return message.signed.change.epoch
        case Answer():
            return None
    return message.epoch


def proposal_vote(proposal: Proposal, digest: bytes, signer: int) -> Vote:
    """Return the vote that a proposal is."""
    header = proposal.header
    statement = (header.epoch, proposal.view, header.height, digest, ZERO_DIGEST)
    return Vote(VoteType.PROPOSAL, *statement, signer, proposal.signature)
