"""What a block stands on: the head of the ledger, as judging and executing the next block need it."""

from collections.abc import Mapping
from typing import Protocol

from storage.schema.block import Header
from storage.schema.validators import ValidatorSet
from storage.state import PreparedState


class ParentState(Protocol):
    """The state after the head."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under an exact key, or None if there is none."""
        ...

    def prepare(self, writes: Mapping[bytes, bytes | None]) -> PreparedState:
        """Work out what the state becomes; changes nothing."""
        ...


class ParentHead(Protocol):
    """The newest committed block."""

    @property
    def header(self) -> Header:
        """Its header."""
        ...

    @property
    def digest(self) -> bytes:
        """The digest of its header."""
        ...

    @property
    def result_digest(self) -> bytes:
        """The digest of its result."""
        ...


class History(Protocol):
    """The tree over digest and result of every block up to the head."""

    def root(self) -> bytes:
        """The root that the next header states."""
        ...


class Ground(Protocol):
    """What executing a block reads: the state, and which seen ids may go."""

    @property
    def state(self) -> ParentState:
        """The state after the head."""
        ...

    def expired_seen(self, before_minute: int, limit: int) -> tuple[tuple[int, int], ...]:
        """Return the oldest lists of seen ids, as (expiry minute, height), that ended before a minute."""
        ...


class Parent(Ground, Protocol):
    """What judging a block reads beside: the head, the history, and every id that a block has held."""

    @property
    def head(self) -> ParentHead:
        """The newest committed block."""
        ...

    @property
    def history(self) -> History:
        """The history up to it."""
        ...

    @property
    def validators(self) -> ValidatorSet:
        """The set that decides the next height."""
        ...

    def contains(self, tx_id: bytes) -> bool:
        """Tell whether a transaction of this id stands in any block."""
        ...
