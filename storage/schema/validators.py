"""The validator set of an epoch, and how many of its votes decide."""

from typing import Literal

from storage.schema.codec import Bytes32, MemberName, Uint, Value, encode, tagged_digest

VALIDATORS_MIN = 4
VALIDATORS_MAX = 128

EngineName = Literal["pbft", "raft"]
"""How blocks are ordered: among members that need not trust each other, or where one organisation runs every node."""


def quorum(count: int) -> int:
    """Return how many distinct validators of ``count`` decide: ceil(2n/3).

    2f + 1 would fork at n = 5, 6, 8, 9: two such quorums need not share an honest member.
    """
    assert count > 0, "of no validators none decide"
    return -(-2 * count // 3)


def majority(count: int) -> int:
    """Return how many of ``count`` validators decide where they may crash but never lie: more than half."""
    assert count > 0, "of no validators none decide"
    return count // 2 + 1


def faults_tolerated(count: int) -> int:
    """Return f, the largest number of faulty validators under which ``count`` of them stay safe and live."""
    return (count - 1) // 3


class Validator(Value, frozen=True):
    """One member that votes, and the key it votes with."""

    name: MemberName
    node_key: Bytes32


class ValidatorSet(Value, frozen=True):
    """Who votes in one epoch, ordered by name; a validator is named in votes by its position here.

    The engine stands beside them, so that who verifies a certificate knows what its quorum means.
    """

    epoch: Uint
    engine: EngineName
    validators: tuple[Validator, ...]

    @property
    def quorum(self) -> int:
        """How many distinct members of this set make a certificate."""
        count = len(self.validators)
        return majority(count) if self.engine == "raft" else quorum(count)

    def digest(self) -> bytes:
        """Return what a header and a result name this set by."""
        return tagged_digest(b"CARETRACE/validators/1", encode(self))

    def position(self, name: str) -> int | None:
        """Return a member's position, or None if it does not vote in this epoch."""
        for index, validator in enumerate(self.validators):
            if validator.name == name:
                return index
        return None

    def primary(self, view: int, height: int, rotation_blocks: int) -> int:
        """Return the position of the primary; with ``rotation_blocks`` 0 only a view change moves it."""
        turns = height // rotation_blocks if rotation_blocks else 0
        return (view + turns) % len(self.validators)
