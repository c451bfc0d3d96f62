"""What stands in state of governance: proposals, open and ended, and the votes on each."""

from node.contracts.contract import StateReader
from node.contracts.entries import Entry, load, reader
from storage.schema.calls import Change
from storage.schema.events import Ending

# Together more than any minority of faulty validators can fill: f of 128 is 42, and each may have two open.
OPEN_PER_MEMBER_MAX = 2
OPEN_MAX = 100


class Ballot(Entry, frozen=True):
    """One member's vote; it may not be changed."""

    member: str
    approve: bool


class ProposalEntry(Entry, frozen=True):
    """A proposal: by whom, what is to change, until when it may be decided, the votes, how it ended, and when.

    ``evidence`` names what it rests on, if anything; ``previous`` is the proposal before it.
    """

    member: str
    change: Change
    evidence: bytes | None
    height: int
    time_ms: int
    until_ms: int
    ballots: tuple[Ballot, ...]
    ending: Ending | None
    ended_ms: int | None
    previous: bytes | None

    def supporters(self, voters: frozenset[str]) -> int:
        """Count who of these voters approves."""
        return sum(ballot.approve and ballot.member in voters for ballot in self.ballots)

    def opponents(self, voters: frozenset[str]) -> int:
        """Count who of these voters rejects."""
        return sum(not ballot.approve and ballot.member in voters for ballot in self.ballots)


class Proposals(Entry, frozen=True):
    """The newest proposal, whence the chain goes back, and those that are open, in the order of their making."""

    newest: bytes | None
    open: tuple[bytes, ...]


def proposals_key() -> bytes:
    """Where the newest proposal is named, and those that are open."""
    return b"proposals/"


def proposal_key(proposal: bytes) -> bytes:
    """Where a proposal stands."""
    return b"proposal/" + proposal


_PROPOSALS = reader(Proposals)
_PROPOSAL = reader(ProposalEntry)


def load_proposals(state: StateReader) -> Proposals:
    """Read which proposals there are."""
    return load(_PROPOSALS, state, proposals_key()) or Proposals(None, ())


def load_proposal(state: StateReader, proposal: bytes) -> ProposalEntry | None:
    """Read a proposal."""
    return load(_PROPOSAL, state, proposal_key(proposal))
