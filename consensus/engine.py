"""The contract between an ordering engine and its host: events go in, effects come out, nothing else.

The engine is a deterministic machine. The host steps it with one event at a time and carries the returned effects
out **in order**. Its duties:

1. ``Persist`` appends records to the vote log and syncs them. An effect with ``after`` set must not happen before
   the persist of that token has returned: a promise that others have heard must survive a crash.
2. ``Truncate`` names the records that the log still needs. It may be put off and joined to the next ``Persist``; what
   was spent may stand before them without harm. It must be atomic: after a crash the old log stands, or the new one.
3. ``Send`` and ``Broadcast`` may lose messages, never change them. The sender given to ``Received`` is the
   authenticated identity of the transport. ``Fault`` names a peer that broke the protocol, for the host to drop.
4. ``Draft`` asks the host, once it has work, to build a block on the last delivered one and to answer with
   ``Drafted``. ``Check`` asks it to obtain all bodies, to judge the block against the parent's state, and to answer
   with ``Checked``. ``Execute`` asks for the result of a block that was checked, often before it is prepared, answered
   with ``Executed``. A later one replaces what is outstanding of its kind; answers about another block are dropped.
5. ``Deliver`` commits the block: state, block, certificate, in one synced batch, before the next effect. The host
   skips a height that it has committed by catching up.
6. ``CatchUp`` says that peers have certified blocks above ours; it comes again while that lasts. The host fetches,
   verifies, executes and commits them by itself, then tells the engine with ``Advanced``.
7. After ``Halt`` this replica votes and persists no more, but goes on to deliver: the host follows as an observer.

An engine serves one epoch. When a block is committed that ends it, the host carries out nothing more of this engine and
makes another. ``LaterEpoch`` says that others may be in one that is not known yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from storage.schema.block import Certificate, Header


@dataclass(frozen=True, slots=True)
class Received:
    """A message arrived from an authenticated peer; its bytes are hostile."""

    peer: str
    data: bytes


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time that ``SetTimer`` asked for has come."""

    name: str


@dataclass(frozen=True, slots=True)
class WorkWaiting:
    """Whether the host holds work that the primary should order; without work no timer runs."""

    waiting: bool


@dataclass(frozen=True, slots=True)
class Neglected:
    """This primary's blocks have long passed over what waits here; said again with each that does."""

    primary: str


@dataclass(frozen=True, slots=True)
class Drafted:
    """The block that ``Draft`` asked for. ``bodies`` is opaque to the engine and travels with the proposal."""

    view: int
    header: Header
    leaves: tuple[bytes, ...]
    bodies: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """The host's judgement of a proposed block: None if it is valid and all bodies are held, else why not."""

    digest: bytes
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Executed:
    """The digest of the result of executing a block on its parent's state."""

    digest: bytes
    result: bytes


@dataclass(frozen=True, slots=True)
class Advanced:
    """The host has verified and committed blocks up to this one by catching up."""

    header: Header
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A connection to a member stands (again), so that it can be told where we are."""

    peer: str


Event = Received | TimerFired | WorkWaiting | Neglected | Drafted | Checked | Executed | Advanced | PeerConnected


@dataclass(frozen=True, slots=True)
class Persist:
    """Append records to the vote log and sync. With ``bodies_of``, also the bodies of the block of that digest.

    Tokens ascend. A crash may cut off records at the end, and bodies only with all of them. Bodies kept so must serve
    a later ``Check`` of the block, after a restart too, until a block of its height is committed.
    """

    token: int
    records: tuple[bytes, ...]
    bodies_of: bytes | None = None


@dataclass(frozen=True, slots=True)
class Truncate:
    """Everything in the vote log is spent but for these records, with which a shorter log may begin."""

    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to one member, once the persist ``after`` has returned."""

    peer: str
    data: bytes
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send a message to every other validator, once the persist ``after`` has returned."""

    data: bytes
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """This replica is primary and may propose: build a block at ``height`` as soon as there is work."""

    view: int
    height: int


@dataclass(frozen=True, slots=True)
class Check:
    """Judge a proposed block. ``bodies`` is what its proposer gave to ``Drafted``, or empty.

    ``certified``: it carries a prepared certificate, which exempts it from the clock and from nothing else; a block
    that was refused may be asked about again so. ``holders`` are likely to have the bodies, the likeliest first.
    """

    header: Header
    leaves: tuple[bytes, ...]
    bodies: bytes
    certified: bool
    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Execute:
    """Execute a block that was checked, on an overlay of its parent's state; the newest overlay serves ``Deliver``."""

    header: Header
    leaves: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Deliver:
    """Commit a block that was executed: the certificate proves its order and its result."""

    header: Header
    leaves: tuple[bytes, ...]
    certificate: Certificate
    after: int | None = None


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire ``name`` at ``at_ms`` of the host's monotonic clock; a timer of the same name is replaced."""

    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget a timer."""

    name: str


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Peers hold certified blocks up to ``height``, which is above ours by more than the one in flight."""

    height: int
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LaterEpoch:
    """A member speaks as one of a later epoch: if that is so, it has the blocks that lead there. Nothing proves it."""

    peer: str


@dataclass(frozen=True, slots=True)
class ViewEntered:
    """For status and logs: the view and its primary."""

    view: int
    primary: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A peer sent what no correct replica sends; ``reason`` is for the log and quotes nothing of it."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Accuse:
    """A member signed two different votes where one is allowed; both are given, encoded as messages."""

    member: str
    first: bytes
    second: bytes


@dataclass(frozen=True, slots=True)
class Halt:
    """This replica votes no more in this process; ``reason`` is for the operator."""

    reason: str


# fmt: off
Effect = (
    Persist | Truncate | Send | Broadcast | Draft | Check | Execute | Deliver
    | SetTimer | CancelTimer | CatchUp | LaterEpoch | ViewEntered | Fault | Accuse | Halt
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a replica finds on its disk: the last committed block, its result's digest, its vote log's records.

    ``log_whole`` is False if the log was lost or damaged: what it promised is unknown, so the replica must not vote.
    Nor may it with a head below ``log_height``, the highest block that the log knows to be committed.
    """

    header: Header
    certificate: Certificate | None
    result: bytes
    records: tuple[bytes, ...]
    log_whole: bool = True
    log_height: int = 0


class Engine(Protocol):
    """An ordering engine of one validator, or of an observer that only follows."""

    def start(self, now_ms: int, recovered: Recovered, start_number: bytes) -> tuple[Effect, ...]:
        """Take up where the disk says we were; called once, before any step.

        ``start_number`` is 16 fresh random bytes: answers meant for an earlier start do not count.
        """

    def step(self, now_ms: int, event: Event) -> tuple[Effect, ...]:
        """Take one event and return what the host must do, in order."""

    @property
    def view(self) -> int:
        """The view that this replica is in."""

    @property
    def primary(self) -> str:
        """The member that proposes in this view at the next height."""

    @property
    def heights(self) -> Mapping[str, int]:
        """What each other validator says that it has committed, as far as it was heard; for people to look at."""

    @property
    def may_vote(self) -> bool:
        """Whether this replica is past the wait of its start and has not halted."""
