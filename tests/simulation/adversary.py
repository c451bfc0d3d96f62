"""A validator that lies: it holds its own key, sees what its host would send, and sends each peer what it likes."""

from collections import Counter, deque
from typing import TypeVar

import msgspec

from consensus.pbft.messages import (
    MESSAGE,
    NO_SIGNATURE,
    Answer,
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
from consensus.signer import Signer
from storage.schema.block import ZERO_DIGEST, Certificate, Header, VoteType, vote_preimage
from storage.schema.codec import encode
from tests.simulation.virtual_blocks import FORGED, block_result, leaf_of, make_header
from tests.simulation.virtual_host import Host
from tests.simulation.virtual_network import Letter, engine_message
from tests.simulation.virtual_world import MS

TRICKS = (
    "bad signatures",
    "double vote",
    "equivocate",
    "forge certificates",
    "forge changes",
    "forge views",
    "lie",
    "mute",
    "noise",
    "promise",
    "select",
)
HEARD_MAX = 40

Signed = TypeVar("Signed", NewView, Status)


class Adversary:
    """Tampers with all that one host sends, and speaks unasked. ``seen`` counts what it did."""

    def __init__(self, host: Host, names: tuple[str, ...], signer: Signer, tricks: frozenset[str]) -> None:
        self.seen: Counter[str] = Counter()
        self._host, self._names, self._signer, self._tricks = host, names, signer, tricks
        self._world = host.world
        self._position = names.index(host.name)
        self._chain_id = host.disk.head.header.chain_id
        self._heard: deque[bytes] = deque(maxlen=HEARD_MAX)
        self._headers: dict[int, dict[bytes, Header]] = {}
        self._twins: dict[bytes, Proposal] = {}
        self._changes: dict[tuple[int, int], SignedChange] = {}
        self._deaf: frozenset[str] = frozenset()
        self._receive = host.network.receivers[host.name]
        host.network.receivers[host.name] = self._overhear
        host.network.tamperers[host.name] = self.tamper
        self._world.after(self._world.between(10, 300) * MS, self.act)

    def tamper(self, receiver: str, letter: Letter) -> list[Letter]:
        """Return what is sent to one peer in place of what an honest replica would send."""
        if receiver in self._deaf or (self._has("select") and self._world.chance(0.3)):
            return []
        if letter[0] == "bodies" and self._has("lie"):
            return [("bodies", letter[1], (FORGED,))]
        if letter[0] != "engine":
            return [letter]
        message = MESSAGE.decode(letter[1])
        return [("engine", encode(forged)) for forged in self._forge(message)]

    def act(self) -> None:
        """Do something unasked, now and then."""
        world = self._world
        world.after(world.between(20, 250) * MS, self.act)
        if not self._host.running:
            return
        if self._has("mute"):
            self._deaf = frozenset(name for name in self._names if world.chance(0.35))
        if self._has("noise"):
            self._send(world.random.choice([self._noise, self._replay, self._mutation])())
        if self._has("promise"):
            forged = world.random.choice([self._far_change, self._early_proposal, self._stray_vote])()
            if forged is not None:
                self._send(encode(forged))

    def _has(self, trick: str) -> bool:
        return trick in self._tricks

    def _send(self, data: bytes) -> None:
        receiver = self._world.random.choice([name for name in self._names if name != self._host.name])
        self._host.network.carry(self._host.name, receiver, ("engine", data))

    def _overhear(self, sender: str, letter: Letter) -> None:
        if letter[0] == "engine":
            self._heard.append(letter[1])
            message = engine_message(letter)
            if isinstance(message, Proposal):
                self._note(message.header)
            if isinstance(message, ViewChange):
                change = message.signed.change
                self._changes[(change.view, change.signer)] = message.signed
        self._receive(sender, letter)

    def _note(self, header: Header) -> None:
        self._headers.setdefault(header.height, {})[header.digest()] = header

    def _forge(self, message: Message) -> list[Message]:
        chance = self._world.chance
        match message:
            case Proposal() if self._has("equivocate"):
                twin = self._twin(message)
                self.seen["equivocations"] += 1
                return [message, twin] if chance(0.1) else [twin if chance(0.5) else message]
            case Vote() if self._has("bad signatures") and chance(0.3):
                return [msgspec.structs.replace(message, signature=self._world.random.randbytes(64))]
            case Vote() if self._has("double vote"):
                return self._double(message)
            case ViewChange() if self._has("forge changes") and chance(0.7):
                return [self._forged_change(message)]
            case NewView() if self._has("forge views") and chance(0.7):
                return [self._forged_view(message)]
            case Status() if self._has("lie") and chance(0.5):
                return [self._sign(msgspec.structs.replace(message, view=message.view + 7))]
            case Status() if self._has("forge certificates") and chance(0.5):
                height = message.height + self._world.random.choice([0, 1, 2, 9])
                certificate = self._forged_certificate(height, message.view, digest=bytes(32), result=bytes([1]) * 32)
                return [self._sign(msgspec.structs.replace(message, height=height, certificate=certificate))]
            case Answer() if self._has("lie"):
                return [Answer(message.start, None, None)]
        return [message]

    def _twin(self, proposal: Proposal) -> Proposal:
        """Return another block for the same view and height, the same for everyone who gets it."""
        key = proposal.header.digest()
        self._note(proposal.header)
        twin = self._twins.get(key)
        if twin is None or twin.view != proposal.view:
            ledger, header = self._host.disk.ledger, proposal.header
            body = FORGED if self._world.chance(0.2) else b"twin" + key[:8]
            if header.height <= len(ledger):
                parent = ledger[header.height - 1]
                header = make_header(parent, self._host.name, proposal.view, (body,))
            self._note(header)
            signature = self._vote(VoteType.PROPOSAL, proposal.view, header, ZERO_DIGEST).signature
            twin = Proposal(proposal.view, header, (leaf_of(body),), encode((body,)), signature)
            self._twins[key] = twin
        return twin

    def _double(self, vote: Vote) -> list[Message]:
        """Vote for every block of the height, or for another one than the next peer is told."""
        votes: list[Message] = [vote]
        for header in self._headers.get(vote.height, {}).values():
            digest = header.digest()
            if digest != vote.digest:
                is_commit = vote.kind is VoteType.COMMIT
                result = block_result(header.parent_result, digest) if is_commit else ZERO_DIGEST
                votes.append(self._vote(vote.kind, vote.view, header, result))
                self.seen["equivocations"] += 1
        return votes if self._world.chance(0.5) else [self._world.random.choice(votes)]

    def _vote(self, kind: VoteType, view: int, header: Header, result: bytes) -> Vote:
        digest = header.digest()
        preimage = vote_preimage(self._chain_id, header.epoch, kind, view, header.height, digest, result)
        signature = self._signer.sign(preimage)
        return Vote(kind, header.epoch, view, header.height, digest, result, self._position, signature)

    def _forged_change(self, message: ViewChange) -> ViewChange:
        """Hide what was prepared, or pretend to have committed less than was the case."""
        change = message.signed.change
        if self._world.chance(0.6):
            change = msgspec.structs.replace(change, prepared=None)
        if self._world.chance(0.3) and change.height > 0:
            block = self._host.disk.ledger[change.height - 1]
            height = block.header.height
            change = msgspec.structs.replace(change, height=height, certificate=block.certificate, prepared=None)
        leaves = () if change.prepared is None else message.leaves
        header = next(iter(self._headers.get(change.height + 1, {}).values()), None)
        if self._has("forge certificates") and header is not None and header.tx_count == 1:
            # A certificate of the latest view wins, so a forged one would win too.
            body = FORGED
            header = make_header(self._host.disk.ledger[change.height], self._host.name, 0, (body,))
            certificate = self._forged_certificate(header.height, change.view - 1, header.digest(), ZERO_DIGEST)
            change = msgspec.structs.replace(change, prepared=Prepared(certificate, header))
            leaves = (leaf_of(body),)
        return ViewChange(self._sign_change(SignedChange(change, NO_SIGNATURE)), leaves)

    def _forged_certificate(self, height: int, view: int, digest: bytes, result: bytes) -> Certificate:
        """Make up a quorum: the signatures of the others are not theirs, or one is ours many times."""
        count = self._host.engine.state.members.quorum
        signers = tuple(range(count)) if self._world.chance(0.7) else (self._position,) * count
        signatures = tuple(self._world.random.randbytes(64) for _ in signers)
        return Certificate(0, view, height, digest, result, signers, signatures)

    def _sign_change(self, signed: SignedChange) -> SignedChange:
        return msgspec.structs.replace(signed, signature=self._signer.sign(signed.preimage(self._chain_id)))

    def _forged_view(self, message: NewView) -> NewView:
        """Show another quorum, or too few, or our own change without what was prepared."""
        world, view = self._world, message.view
        known = {signer: signed for (at, signer), signed in sorted(self._changes.items()) if at == view}
        for signed in message.changes:
            known[signed.change.signer] = signed
        own = known.get(self._position)
        if own is not None:
            known[self._position] = self._sign_change(
                SignedChange(msgspec.structs.replace(own.change, prepared=None), NO_SIGNATURE)
            )
        count = len(message.changes) - world.chance(0.2)
        signers = sorted(world.random.sample(sorted(known), min(count, len(known))))
        self.seen["views forged"] += 1
        changes = tuple(known[signer] for signer in signers)
        return self._sign(msgspec.structs.replace(message, changes=changes))

    def _sign(self, message: Signed) -> Signed:
        return msgspec.structs.replace(message, signature=self._signer.sign(message.preimage(self._chain_id)))

    def _noise(self) -> bytes:
        return self._world.random.randbytes(self._world.between(0, 200))

    def _replay(self) -> bytes:
        return self._world.random.choice(self._heard) if self._heard else b""

    def _mutation(self) -> bytes:
        data = bytearray(self._replay() or b"\x00")
        data[self._world.between(0, len(data) - 1)] ^= 1 << self._world.between(0, 7)
        return bytes(data)

    def _far_change(self) -> ViewChange:
        """Ask for a view far away, or for the next one without a reason."""
        state = self._host.engine.state
        view = state.view + self._world.random.choice([1, 1, 2, 50, 10**9])
        head = state.head
        change = Change(0, self._position, view, head.height, head.certificate, None)
        return ViewChange(self._sign_change(SignedChange(change, NO_SIGNATURE)), ())

    def _early_proposal(self) -> Proposal | None:
        """Propose in a view or at a height that is not there yet."""
        state, head = self._host.engine.state, self._host.disk.head
        for view in range(state.view, state.view + len(self._names)):
            if state.members.primary(view, head.header.height + 1) == self._position:
                body = b"early" + self._world.random.randbytes(4)
                header = make_header(head, self._host.name, view, (body,))
                self._note(header)
                signature = self._vote(VoteType.PROPOSAL, view, header, ZERO_DIGEST).signature
                return Proposal(view, header, (leaf_of(body),), encode((body,)), signature)
        return None

    def _stray_vote(self) -> Vote:
        """Vote for a block that nobody knows, here or far ahead."""
        state, world = self._host.engine.state, self._world
        height = state.height + world.random.choice([0, 0, 1, 2, 10**6])
        view = state.view + world.random.choice([0, 0, 1, 10**6])
        kind = world.random.choice([VoteType.PREPARE, VoteType.COMMIT])
        digest = world.random.randbytes(32)
        result = digest if kind is VoteType.COMMIT else ZERO_DIGEST
        preimage = vote_preimage(self._chain_id, 0, kind, view, height, digest, result)
        return Vote(kind, 0, view, height, digest, result, self._position, self._signer.sign(preimage))
