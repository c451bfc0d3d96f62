"""What one replica knows, and the few ways in which it changes or speaks; the rules stand in the other modules."""

from collections.abc import Iterable
from dataclasses import dataclass

from consensus.engine import Broadcast, CatchUp, Effect, Fault, Halt, Persist, Send, Truncate
from consensus.pbft.ballots import Ballots
from consensus.pbft.membership import Membership
from consensus.pbft.messages import Message, NewView, Proposal, ViewChange, Vote
from consensus.pbft.records import HaltRecord, PreparedRecord, Record, ViewRecord
from consensus.pbft.slot import Slot
from consensus.pbft.timers import Patience, Timers
from storage.schema.block import ZERO_DIGEST, Certificate, VoteType
from storage.schema.codec import encode

ASK_INTERVAL_MS = 1_000
FORGETFUL = (
    "others hold a statement signed by this node's key that is missing from its vote log: the log was lost or restored "
    "from a copy, or a second process uses the key. This node only follows from now on; to vote again it needs a new "
    "node key, appointed by the organisation key"
)


@dataclass(frozen=True, slots=True)
class Head:
    """The last committed block: height, digest, digest of its result, and the proof of both.

    There is none of height 0, nor of a block that another epoch's validators have certified.
    """

    height: int
    digest: bytes
    result: bytes
    certificate: Certificate | None


class State:
    """All that a replica remembers.

    Attributes:
        view: the view that we are in, or that we wait to see opened while ``entered`` is False.
        base: the height on which the view was opened; at ``base + 1`` it allows only ``selected``, unless zero.
        new_view: what opened the view, for who lacks it, until a certificate of this view can take its place.
        changes: the newest VIEW-CHANGE of each validator, our own among them.
        complaints: who has said that the primary of this view and height leaves something out.
        stirred: whether those changed, or our view did, since they were last looked at.
        start_number, answers: the number of this start, and who has answered it.
        started, halted: whether the wait of the start is over, and whether we must not vote any more.
        proposals: the newest proposal of each primary, with its digest, for the heights that are held.
        votes: what we have promised above the head, by (is COMMIT, view, height).
        witnesses: the highest block that each validator is known to hold or to have executed.
        certified_height: the highest block for which a certificate was seen.
        asked, heard: whether everybody was asked if they live, and who has spoken since.
        progressed: whether a block was committed since the last STATUS was due.
    """

    def __init__(self, members: Membership, head: Head, now_ms: int) -> None:
        self.members = members
        self.now_ms = now_ms
        self.effects: list[Effect] = []
        self.timers = Timers(self.effects)
        self.patience = Patience()
        self.head = head
        self.slot = Slot()
        self.view = 0
        self.entered = True
        self.base = members.handover_height
        self.selected = ZERO_DIGEST
        self.new_view: NewView | None = None
        self.changes: dict[int, ViewChange] = {}
        self.complaints: set[int] = set()
        self.stirred = False
        self.start_number = bytes(16)
        self.answers: set[int] = set()
        self.started = False
        self.halted = False
        self.work_waiting = False
        self.ballots = Ballots(members, head.height + 1)
        self.proposals: dict[tuple[int, int], tuple[Proposal, bytes]] = {}
        self.votes: dict[tuple[bool, int, int], Vote] = {}
        self.witnesses: dict[int, int] = {}
        self.certified_height = head.height
        self.asked = False
        self.heard: set[int] = set()
        self.progressed = False
        self._asked_ms: dict[int, int] = {}
        self._fetching = 0
        self._token = 0

    @property
    def height(self) -> int:
        """The height in flight."""
        return self.head.height + 1

    @property
    def may_vote(self) -> bool:
        """Whether this replica may make promises: a validator, past the wait of its start, not halted."""
        return self.started and not self.halted

    @property
    def required(self) -> bytes:
        """The digest of the only block that this view allows at the height in flight, or zero."""
        return self.selected if self.head.height == self.base else ZERO_DIGEST

    @property
    def primary(self) -> int:
        """The position of who proposes at the height in flight in this view."""
        return self.members.primary(self.view, self.height)

    @property
    def is_primary(self) -> bool:
        """Whether this replica does."""
        return self.primary == self.members.position

    @property
    def is_busy(self) -> bool:
        """Whether a commit is due; without that no patience is lost."""
        slot = self.slot
        in_flight = slot.block is not None or slot.prepared is not None or self.required != ZERO_DIGEST
        return self.may_vote and (self.work_waiting or in_flight)

    @property
    def is_behind(self) -> bool:
        """Whether a certificate was seen for a block that we have not committed."""
        return self.certified_height > self.head.height

    def own_vote(self, kind: VoteType) -> Vote | None:
        """Return the vote that binds us at the height in flight in this view; a PROPOSAL is a PREPARE."""
        return self.votes.get((kind is VoteType.COMMIT, self.view, self.height))

    def persist(self, *records: Record, bodies_of: bytes | None = None) -> int | None:
        """Ask for records to be synced, and return the token that what they promise waits for.

        Who has halted promises nothing, and may have no log.
        """
        if self.halted:
            return self.last_token()
        self._token += 1
        wanted = bodies_of if bodies_of not in self.slot.bodies_logged else None
        if wanted is not None:
            self.slot.bodies_logged.add(wanted)
        self.effects.append(Persist(self._token, tuple(encode(record) for record in records), wanted))
        return self._token

    def last_token(self) -> int | None:
        """Return the token of the last persist, for what rests on everything promised so far."""
        return self._token or None

    def truncate(self) -> None:
        """Tell what the log still needs when a height has been committed: the view, and nothing else."""
        assert not self.votes, "nobody votes above the height in flight"
        if self.halted:
            return
        self.effects.append(Truncate((encode(self.view_record()),)))

    def view_record(self) -> ViewRecord:
        """Return what the log must say of the view that we are bound to."""
        return ViewRecord(self.members.epoch, self.view, self.entered, self.base, self.selected, self.new_view)

    def prepared_records(self) -> tuple[PreparedRecord, ...]:
        """Return the record of what is prepared, unless the log has it, and take it as logged."""
        prepared = self.slot.prepared
        if prepared is None or self.slot.prepared_logged:
            return ()
        self.slot.prepared_logged = True
        leaves = self.slot.blocks[prepared.certificate.digest].leaves
        return (PreparedRecord(prepared.certificate, prepared.header, leaves),)

    def send(self, position: int, message: Message, after: int | None = None) -> None:
        """Send a message to the validator at a position."""
        self.effects.append(Send(self.members.names[position], encode(message), after))

    def broadcast(self, message: Message, after: int | None = None) -> None:
        """Send a message to every other validator."""
        self.effects.append(Broadcast(encode(message), after))

    def fault(self, position: int, reason: str) -> None:
        """Name a validator that broke the protocol."""
        self.effects.append(Fault(self.members.names[position], reason))

    def halt(self, reason: str) -> None:
        """Stop voting for the life of this process."""
        if not self.halted:
            self.halted = True
            self.effects.append(Halt(reason))

    def halt_forgetful(self) -> None:
        """Halt for good, because others hold a statement of our key that our vote log lacks."""
        self.persist(HaltRecord())
        self.halt(FORGETFUL)

    def recognise(self, certificate: Certificate, kind: VoteType) -> None:
        """Halt if a certificate that holds shows a vote of ours that our log lacks."""
        if certificate.height <= self.head.height or self.members.position not in certificate.signers:
            return
        own = self.votes.get((kind is VoteType.COMMIT, certificate.view, certificate.height))
        if own is None or (own.digest, own.result) != (certificate.digest, certificate.result):
            self.halt_forgetful()

    def may_ask(self, position: int) -> bool:
        """Tell whether it is time to ask a validator (again), and note that it is asked."""
        last = self._asked_ms.get(position)
        if last is not None and self.now_ms - last < ASK_INTERVAL_MS:
            return False
        self._asked_ms[position] = self.now_ms
        return True

    def witness(self, certificate: Certificate, holders: Iterable[int]) -> None:
        """Note that a block is certified, and who holds it or has executed it."""
        self.certified_height = max(self.certified_height, certificate.height)
        for position in holders:
            self.witnesses[position] = max(self.witnesses.get(position, 0), certificate.height)

    def catch_up(self, *, again: bool = False) -> None:
        """Ask the host to fetch the certified blocks above ours, once, or again while that lasts."""
        height = self.certified_height
        if height > self._fetching or again:
            self._fetching = height
            holders = [position for position, seen in sorted(self.witnesses.items()) if seen >= height]
            self.effects.append(CatchUp(height, tuple(self.members.names[position] for position in holders)))

    def move_to(self, head: Head) -> None:
        """Take a committed block as the head: all that concerned its height is spent."""
        assert head.height > self.head.height, "heights only grow"
        primary = self.primary
        self.head = head
        if self.primary != primary:
            self.complaints.clear()
        self.slot = Slot()
        self.ballots.advance(head.height + 1)
        self.proposals = {key: value for key, value in self.proposals.items() if key[0] > head.height}
        self.votes = {key: vote for key, vote in self.votes.items() if key[2] > head.height}
        self.certified_height = max(self.certified_height, head.height)
        self.progressed = True
        self.asked = False
        if head.certificate is not None and head.certificate.view >= self.view:
            # From now on the head's certificate lets others into this view.
            self.new_view = None
