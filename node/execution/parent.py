"""What a block stands on: the head of the ledger, as judging and executing the next block need it."""

from collections.abc import Mapping
from typing import Protocol

from storage.schema.block import Header


class Prepared(Protocol):
    """A state that has been worked out and not yet written."""

    @property
    def root(self) -> bytes:
        """The root of the state after the writes."""
        ...


class ParentState(Protocol):
    """The state after the head."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under an exact key, or None if there is none."""
        ...

    def prepare(self, writes: Mapping[bytes, bytes | None]) -> Prepared:
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


class Parent(Protocol):
    """The ledger, as the rules of a block see it."""

    @property
    def head(self) -> ParentHead:
        """The newest committed block."""
        ...

    @property
    def state(self) -> ParentState:
        """The state after it."""
        ...

    @property
    def history(self) -> History:
        """The history up to it."""
        ...

    def contains(self, tx_id: bytes) -> bool:
        """Tell whether a transaction of this id stands in any block."""
        ...

    def expired_seen(self, before_minute: int, limit: int) -> tuple[tuple[int, int], ...]:
        """Return the oldest lists of seen ids, as (expiry minute, height), that ended before a minute."""
        ...
