"""An invite to the network of the vectors, by north, under the block of the vectors (docs/spec/invite.md)."""

from typing import Any

import vector_blocks as block
import vector_epochs
from vector_genesis import FOUNDERS, genesis_file
from vector_primitives import pack, sha256

NORTH = next(member for member in FOUNDERS if member.name == "north")
MADE_S = 1_767_225_700
INVITE = pack(
    [
        0,
        "harbour",
        "north",
        NORTH.service.public,
        MADE_S,
        genesis_file(),
        vector_epochs.FILE,
        [[member.name, member.node.public, member.addresses] for member in FOUNDERS],
        list(block.HEADER_FIELDS.values()),
        block.RESULT_FIELDS,
        block.COMMITTED,
    ]
)
PREIMAGE = b"CARETRACE/invite/1" + sha256(INVITE)


def invite() -> bytes:
    return pack([INVITE, NORTH.service.sign(PREIMAGE)])


def shown_invite() -> dict[str, Any]:
    return {"invite_bytes": len(INVITE), "preimage": PREIMAGE.hex(), "signature": NORTH.service.sign(PREIMAGE).hex()}
