"""One replica on a bench: it is real, the others are played by the test, who holds their keys."""

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

from consensus.engine import (
    Broadcast,
    Checked,
    Drafted,
    Effect,
    Event,
    Executed,
    Persist,
    Received,
    Recovered,
    Send,
    TimerFired,
    WorkWaiting,
)
from consensus.pbft.messages import (
    MESSAGE,
    NO_SIGNATURE,
    Answer,
    Ask,
    Change,
    Message,
    NewView,
    Prepared,
    Proposal,
    SignedChange,
    Status,
    ViewChange,
    Vote,
)
from consensus.pbft.replica import Pbft
from consensus.pbft.state import State
from consensus.signer import Signer
from storage.schema.block import ZERO_DIGEST, Certificate, Header, VoteType, transactions_root, vote_preimage
from storage.schema.codec import encode
from storage.schema.validators import quorum
from tests.simulation.signing import FakeSigner, RealSigner, validator_set

CHAIN_ID = b"bench".ljust(32, b".")
START = b"start number 16."
RESULT = sha256(b"a result").digest()
EffectT = TypeVar("EffectT", bound=Effect)
MessageT = TypeVar("MessageT", bound=Message)


class CountingSigner:
    """Remembers which signatures it was asked to check."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.checked: list[tuple[int, bytes, bytes]] = []

    def sign(self, preimage: bytes) -> bytes:
        return self._signer.sign(preimage)

    def verify(self, position: int, preimage: bytes, signature: bytes) -> bool:
        self.checked.append((position, preimage, signature))
        return self._signer.verify(position, preimage, signature)


class Bench:
    """The replica at ``position``; time stands still unless a step is given another."""

    def __init__(
        self,
        position: int = 1,
        count: int = 4,
        rotation_blocks: int = 0,
        *,
        started: bool = True,
        signers: type[FakeSigner] | type[RealSigner] = FakeSigner,
    ) -> None:
        self.signers = signers
        self.names = tuple(f"m{index}" for index in range(count))
        self.position, self.count, self.quorum = position, count, quorum(count)
        self.rotation_blocks = rotation_blocks
        self.validators = validator_set(self.names)
        self.now_ms = 1_000
        zero = ZERO_DIGEST
        self.genesis = Header(
            0, CHAIN_ID, 0, 0, zero, zero, 0, "genesis", 0, zero, 0, 0, self.validators.digest(), zero
        )
        self.effects: list[Effect] = []
        self.boot(Recovered(self.genesis, None, RESULT, ()))
        if started:
            self.answer()

    def boot(self, recovered: Recovered) -> list[Effect]:
        """Begin a life of the replica."""
        name = self.names[self.position] if self.position < self.count else "observer"
        self.signer = CountingSigner(self.signers(name, self.names))
        self.replica = Pbft(name, CHAIN_ID, self.validators, self.signer, rotation_blocks=self.rotation_blocks)
        return self._keep(self.replica.start(self.now_ms, recovered, START))

    def answer(self) -> list[Effect]:
        """Let all others say that they hold nothing of the replica's key."""
        effects: list[Effect] = []
        for other in self.others():
            effects += self.receive(other, Answer(START, None, None))
        return effects

    @property
    def state(self) -> State:
        return self.replica.state

    def others(self) -> list[int]:
        return [position for position in range(self.count) if position != self.position]

    def step(self, event: Event) -> list[Effect]:
        """Give the replica an event, and keep what it wants done."""
        return self._keep(self.replica.step(self.now_ms, event))

    def receive(self, sender: int, message: Message) -> list[Effect]:
        return self.step(Received(self.names[sender], encode(message)))

    def wait(self, delay_ms: int) -> list[Effect]:
        """Let time pass, firing the timers that the replica has set."""
        end_ms, effects = self.now_ms + delay_ms, []
        while True:
            armed = self.state.timers._armed
            due = sorted((at_ms, name) for name, at_ms in armed.items() if at_ms <= end_ms)
            if not due:
                break
            at_ms, name = due[0]
            self.now_ms = max(self.now_ms, at_ms)
            effects += self.step(TimerFired(name))
        self.now_ms = end_ms
        return effects

    def work(self) -> list[Effect]:
        return self.step(WorkWaiting(True))

    # What the others say.

    def sign(self, signer: int, preimage: bytes) -> bytes:
        return self.signers(self.names[signer], self.names).sign(preimage)

    def header(self, height: int = 1, view: int = 0, body: bytes = b"a", parent: Header | None = None) -> Header:
        below = parent or self.genesis
        proposer = self.names[self.validators.primary(view, height, self.rotation_blocks)]
        digest = below.digest()
        return Header(
            version=0,
            chain_id=CHAIN_ID,
            epoch=0,
            height=height,
            parent=digest,
            parent_result=RESULT,
            time_ms=height,
            proposer=proposer,
            first_view=view,
            tx_root=transactions_root(leaves(body)),
            tx_count=1,
            tx_bytes=len(body),
            validators_hash=self.validators.digest(),
            history_root=ZERO_DIGEST,
        )

    def vote(self, signer: int, kind: VoteType, header: Header, view: int = 0, result: bytes = RESULT) -> Vote:
        if kind is not VoteType.COMMIT:
            result = ZERO_DIGEST
        digest = header.digest()
        preimage = vote_preimage(CHAIN_ID, 0, kind, view, header.height, digest, result)
        return Vote(kind, 0, view, header.height, digest, result, signer, self.sign(signer, preimage))

    def proposal(self, header: Header, view: int = 0, body: bytes = b"a", bodies: bytes = b"") -> Proposal:
        primary = self.validators.primary(view, header.height, self.rotation_blocks)
        signature = self.vote(primary, VoteType.PROPOSAL, header, view).signature
        return Proposal(view, header, leaves(body), bodies, signature)

    def certificate(
        self, kind: VoteType, header: Header, view: int = 0, signers: Sequence[int] | None = None
    ) -> Certificate:
        """A quorum's signatures: for PREPARE with the primary's PROPOSAL among them."""
        chosen = tuple(range(self.quorum)) if signers is None else tuple(signers)
        primary = self.validators.primary(view, header.height, self.rotation_blocks)
        votes = []
        for signer in chosen:
            is_proposal = kind is VoteType.PREPARE and signer == primary
            votes.append(self.vote(signer, VoteType.PROPOSAL if is_proposal else kind, header, view))
        result = RESULT if kind is VoteType.COMMIT else ZERO_DIGEST
        signatures = tuple(vote.signature for vote in votes)
        return Certificate(0, view, header.height, header.digest(), result, chosen, signatures)

    def change(
        self, signer: int, view: int, head: Certificate | None = None, prepared: Prepared | None = None
    ) -> ViewChange:
        height = 0 if head is None else head.height
        change = Change(0, signer, view, height, head, prepared)
        signature = self.sign(signer, SignedChange(change, NO_SIGNATURE).preimage(CHAIN_ID))
        return ViewChange(SignedChange(change, signature), () if prepared is None else leaves(b"a"))

    def changes(self, view: int, signers: Sequence[int], what: Prepared | None = None) -> list[ViewChange]:
        """Changes of some members, the first of whom has prepared something."""
        return [self.change(signer, view, None, None if index else what) for index, signer in enumerate(signers)]

    def prepared(self, header: Header, view: int = 0) -> Prepared:
        return Prepared(self.certificate(VoteType.PREPARE, header, view), header)

    def new_view(self, signer: int, view: int, changes: Sequence[ViewChange]) -> NewView:
        signed = tuple(change.signed for change in changes)
        unsigned = NewView(0, signer, view, signed, NO_SIGNATURE)
        return NewView(0, signer, view, signed, self.sign(signer, unsigned.preimage(CHAIN_ID)))

    def status(
        self,
        signer: int,
        view: int = 0,
        entered: bool = True,
        head: Certificate | None = None,
        ask: Ask = Ask.HELPERS,
    ) -> Status:
        height = 0 if head is None else head.height
        unsigned = Status(0, signer, view, entered, height, head, ZERO_DIGEST, ask, NO_SIGNATURE)
        signature = self.sign(signer, unsigned.preimage(CHAIN_ID))
        return Status(0, signer, view, entered, height, head, ZERO_DIGEST, ask, signature)

    # Longer ways.

    def propose_to_it(self, header: Header, view: int = 0, body: bytes = b"a") -> list[Effect]:
        """As the primary: propose a block, which its host finds valid."""
        effects = self.receive(self.state.primary, self.proposal(header, view, body))
        return effects + self.step(Checked(header.digest(), None))

    def prepare_it(self, header: Header, view: int = 0) -> list[Effect]:
        """Bring a block as far as the replica's COMMIT."""
        effects = self.propose_to_it(header, view)
        primary = self.validators.primary(view, header.height, self.rotation_blocks)
        for other in [other for other in self.others() if other != primary]:
            effects += self.receive(other, self.vote(other, VoteType.PREPARE, header, view))
        return effects + self.step(Executed(header.digest(), RESULT))

    def commit_it(self, header: Header, view: int = 0) -> list[Effect]:
        """Bring a block as far as its delivery."""
        effects = self.prepare_it(header, view)
        for other in self.others():
            effects += self.receive(other, self.vote(other, VoteType.COMMIT, header, view))
        return effects

    def restart(self) -> None:
        """Crash and come back with everything that was persisted, and be answered."""
        log = self.log()
        self.effects.clear()
        self.boot(Recovered(self.genesis, None, RESULT, log))
        self.answer()

    def hear_all(self) -> None:
        """Let every other replica show that it lives."""
        for other in self.others():
            self.receive(other, self.status(other, ask=Ask.NOBODY))

    def impatient(self) -> list[Effect]:
        """Let the replica lose patience while the others are heard and do nothing."""
        self.work()
        self.wait(500)
        self.hear_all()
        return self.wait(500)

    def draft(self, header: Header, body: bytes = b"a") -> list[Effect]:
        """As the host: hand in the draft that was asked for."""
        return self.step(Drafted(header.first_view, header, leaves(body), b""))

    def log(self) -> tuple[bytes, ...]:
        """Return all records that were persisted so far."""
        return tuple(record for effect in self.effects if isinstance(effect, Persist) for record in effect.records)

    def _keep(self, effects: tuple[Effect, ...]) -> list[Effect]:
        self.effects += effects
        return list(effects)


def leaves(body: bytes) -> tuple[bytes, ...]:
    return (sha256(b"\x00" + body).digest(),)


def of_kind(effects: Sequence[Effect], kind: type[EffectT]) -> list[EffectT]:
    return [effect for effect in effects if isinstance(effect, kind)]


def said(effects: Sequence[Effect], kind: type[MessageT]) -> list[MessageT]:
    """Return the messages of a kind that are sent or broadcast."""
    messages = [MESSAGE.decode(effect.data) for effect in effects if isinstance(effect, Broadcast | Send)]
    return [message for message in messages if isinstance(message, kind)]


def votes_of(effects: Sequence[Effect], kind: VoteType) -> list[Vote]:
    return [vote for vote in said(effects, Vote) if vote.kind is kind]


def views_asked_for(effects: Sequence[Effect]) -> list[int]:
    return [message.signed.change.view for message in said(effects, ViewChange)]
