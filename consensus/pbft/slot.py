"""What is known of the one height in flight; all of it ends when the height is committed."""

from dataclasses import dataclass, field

from consensus.pbft.messages import Leaves, Prepared
from storage.schema.block import Certificate, Header


@dataclass(slots=True)
class Block:
    """A block for the height in flight; ``checked`` once the host has found it valid and holds its bodies."""

    header: Header
    digest: bytes
    leaves: Leaves
    bodies: bytes
    checked: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """A check that the host was asked for."""

    digest: bytes
    certified: bool


@dataclass(slots=True)
class Slot:
    """The height in flight.

    Attributes:
        block: what the primary of the current view proposes.
        blocks: every block of this height that may matter yet, by digest: proposed, prepared, or executed.
        prepared: the prepared certificate of the highest view; kept over view changes until the height commits.
        prepared_logged: whether the vote log has it.
        bodies_logged: digests of the blocks whose bodies the vote log has.
        decided: the commit certificate, as soon as it is known.
        drafting: view and height of the block that the host was asked to build.
        checking: the check that is outstanding.
        executing: digest of the block whose execution is outstanding.
        executed: digest of the block that was executed last, and of its result.
        commit_token: the persist that our last COMMIT waits for.
        adopted_ms: when the proposal of the current view was taken up, if it was.
        accused: who was shown to contradict themselves, so that it is said once.
    """

    block: Block | None = None
    blocks: dict[bytes, Block] = field(default_factory=dict)
    prepared: Prepared | None = None
    prepared_logged: bool = False
    bodies_logged: set[bytes] = field(default_factory=set)
    decided: Certificate | None = None
    drafting: tuple[int, int] | None = None
    checking: Judgement | None = None
    executing: bytes | None = None
    executed: tuple[bytes, bytes] | None = None
    commit_token: int | None = None
    adopted_ms: int | None = None
    accused: set[int] = field(default_factory=set)

    def forget_proposals(self, own: bytes | None = None) -> None:
        """End what was under way in a view that is left; what was prepared, executed or is ``own`` may come again."""
        kept = {self.executed[0] if self.executed else None, self.executing, own}
        if self.prepared is not None:
            kept.add(self.prepared.certificate.digest)
        self.blocks = {digest: block for digest, block in self.blocks.items() if digest in kept}
        self.block = None
        self.drafting = None
        self.adopted_ms = None
