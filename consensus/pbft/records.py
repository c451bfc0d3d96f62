"""What the vote log keeps: our own votes, what we have prepared, and the view that we are bound to."""

from consensus.pbft.messages import Leaves, NewView, Vote
from storage.schema.block import Certificate, Header
from storage.schema.codec import Bytes32, Form, Uint, Value

RECORD_BYTES_MAX = 4 << 20


class VoteRecord(Value, frozen=True, tag=1):
    """A vote of ours. With a PROPOSAL also its block, so that a primary that restarts can go on with it."""

    vote: Vote
    header: Header | None
    leaves: Leaves


class PreparedRecord(Value, frozen=True, tag=2):
    """A block that a quorum has prepared; it stands until its height is committed."""

    certificate: Certificate
    header: Header
    leaves: Leaves


class ViewRecord(Value, frozen=True, tag=3):
    """The view that we are bound to: we vote in no earlier one, and in this one only once ``entered``.

    ``base`` is the height on which the view was opened; at ``base + 1`` only ``selected`` may be voted for, unless
    that is zero. ``new_view`` is kept to help others until a certificate of this view can take its place.
    """

    epoch: Uint
    view: Uint
    entered: bool
    base: Uint
    selected: Bytes32
    new_view: NewView | None


class HaltRecord(Value, frozen=True, tag=4):
    """This key has signed what this log lacks. It must not vote again, however often its node starts."""


Record = VoteRecord | PreparedRecord | ViewRecord | HaltRecord
RECORD: Form[Record] = Form(Record, RECORD_BYTES_MAX)
