"""What custodian and requester say to each other, and what custody needs of the node around it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Protocol

import msgspec

from storage.schema.codec import Bytes32, Form, Uint

CONTENT_SERVICE = "custody.content"
KEY_SERVICE = "custody.key"
CHUNK_BYTES_MAX = 1 << 20

_SealedKey = Annotated[bytes, msgspec.Meta(min_length=80, max_length=80)]
_Data = Annotated[bytes, msgspec.Meta(max_length=CHUNK_BYTES_MAX)]
_Words = Annotated[str, msgspec.Meta(max_length=256)]
_Code = Annotated[str, msgspec.Meta(pattern=r"\A[a-z_.]{1,64}\Z")]


class _Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One thing said."""


class KeyRequest(_Message, frozen=True):
    """Asks for a record's key under a permit that stands on the ledger since ``height``."""

    access: Bytes32
    height: Uint


class ContentRequest(_Message, frozen=True):
    """Asks for ciphertext from an offset on, under a permit that stands on the ledger since ``height``."""

    access: Bytes32
    height: Uint
    offset: Uint


class ReleasedKey(_Message, frozen=True, tag="key"):
    """The data key, sealed to the reader; which transaction says that it was served; the ciphertext's length."""

    sealed_key: _SealedKey
    served: Bytes32
    height: Uint
    size_bytes: Uint


class Chunk(_Message, frozen=True, tag="chunk"):
    """A piece of ciphertext, and how long the whole is; empty at its end."""

    size_bytes: Uint
    data: _Data


class Withheld(_Message, frozen=True, tag="withheld"):
    """Nothing is given, and why, as a code."""

    code: _Code
    detail: _Words


KEY_REQUEST: Form[KeyRequest] = Form(KeyRequest, 64)
KEY_ANSWER: Form[ReleasedKey | Withheld] = Form(ReleasedKey | Withheld, 1024)
CONTENT_REQUEST: Form[ContentRequest] = Form(ContentRequest, 64)
CONTENT_ANSWER: Form[Chunk | Withheld] = Form(Chunk | Withheld, CHUNK_BYTES_MAX + 1024)


class Refusal(Protocol):
    """Why a transaction was not taken by this node's own mempool."""

    @property
    def code(self) -> str:
        """A stable code."""
        ...

    @property
    def field(self) -> str:
        """The argument at fault; empty where there is none."""
        ...

    @property
    def detail(self) -> str:
        """The reason in words."""
        ...


Submit = Callable[[Sequence[bytes]], Awaitable[Sequence[bytes | Refusal]]]
"""Takes envelopes in, and answers the id or the refusal of each."""


class CommitFeed(Protocol):
    """Wakes who waits for commits."""

    async def wait_for(self, tx_id: bytes, timeout_s: float) -> bool:
        """Wait until a transaction has committed; False if it has not in time."""
        ...

    async def wait_above(self, height: int) -> int:
        """Wait for a block above a height; returns the newest height, which is not above it if the node stops."""
        ...


class PeerUnreachableError(Exception):
    """A member's node does not answer: not connected, too slow, or it broke the exchange off."""

    code = "peer.unreachable"


class Peers(Protocol):
    """Requests to other members' nodes, over authenticated connections."""

    async def request(self, member: str, service: str, payload: bytes, timeout_s: float) -> bytes:
        """Ask a member's node.

        Raises:
            PeerUnreachableError: no answer came.
        """
        ...
