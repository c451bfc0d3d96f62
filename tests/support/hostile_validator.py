"""A validator that knows the chain and keeps no rule: it proposes any block to anyone, and signs whatever it likes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from consensus.pbft.messages import (
    NO_SIGNATURE,
    Ask,
    Change,
    NewView,
    Prepared,
    Proposal,
    SignedChange,
    Status,
    ViewChange,
    Vote,
)
from node.contracts.governance import genesis_state
from node.keys.keyfile import load_key_file
from node.metrics import Metrics
from node.replication.chain import Chain
from node.replication.wire import BLOCKS_ANSWER, BLOCKS_SERVICE, BlocksRequest
from node.runtime.parts import LEDGER_FOLDER
from storage.ledger import Ledger
from storage.schema.block import (
    BLOCK_VERSION,
    ZERO_DIGEST,
    Certificate,
    Header,
    VoteType,
    decode_certified_block,
    transactions_root,
    vote_preimage,
)
from storage.schema.codec import encode
from storage.schema.signatures import sign
from storage.schema.transaction import decode_transaction, envelope_leaf
from tests.support.hostile_member import HostileMember, running
from tests.support.hostile_network import HONEST, HOSTILE
from tests.support.raw_calls import order
from tests.support.running_network import RunningNetwork, until


@dataclass(frozen=True)
class Made:
    """A block as the hostile primary made it."""

    view: int
    header: Header
    envelopes: tuple[bytes, ...]

    @property
    def digest(self) -> bytes:
        return self.header.digest()

    @property
    def leaves(self) -> tuple[bytes, ...]:
        return tuple(map(envelope_leaf, self.envelopes))

    def changed(self, **fields: Any) -> "Made":
        """The same block under a header in which some fields say something else."""
        return Made(self.view, msgspec.structs.replace(self.header, **fields), self.envelopes)


class HostileValidator:
    """The hostile member, its copy of the chain, and the network that it is let loose on."""

    def __init__(self, network: RunningNetwork, member: HostileMember, ledger: Ledger) -> None:
        self.network = network
        self.member = member
        self.genesis = network.genesis
        self.chain = Chain(ledger, self.genesis, Metrics())
        position = self.genesis.validators.position(member.name)
        assert position is not None
        self.position = position

    def block(self, *envelopes: bytes, view: int) -> Made:
        """A block of these envelopes on the head, as an honest primary would head it."""
        head = self.chain.head
        header = Header(
            version=BLOCK_VERSION,
            chain_id=self.genesis.chain_id,
            epoch=0,
            height=head.header.height + 1,
            parent=head.digest,
            parent_result=head.result_digest,
            time_ms=max(head.header.time_ms + 1, time.time_ns() // 1_000_000),
            proposer=self.member.name,
            first_view=view,
            tx_root=transactions_root(list(map(envelope_leaf, envelopes))),
            tx_count=len(envelopes),
            tx_bytes=sum(map(len, envelopes)),
            validators_hash=self.genesis.validators.digest(),
            history_root=self.chain.ledger.history.root(),
        )
        return Made(view, header, envelopes)

    def proposal(self, made: Made, bodies: bytes | None = None) -> Proposal:
        """A signed proposal; with ``bodies`` empty the backups must ask for them."""
        vote = self.vote(VoteType.PROPOSAL, made)
        inline = encode(made.envelopes) if bodies is None else bodies
        return Proposal(made.view, made.header, made.leaves, inline, vote.signature)

    def vote(self, kind: VoteType, made: Made, result: bytes = ZERO_DIGEST) -> Vote:
        """A signed vote for a block."""
        height = made.header.height
        preimage = vote_preimage(self.genesis.chain_id, 0, kind, made.view, height, made.digest, result)
        signature = sign(self.member.node_seed, preimage)
        return Vote(kind, 0, made.view, height, made.digest, result, self.position, signature)

    def change(self, view: int, certificate: Certificate | None = None, prepared: Prepared | None = None) -> ViewChange:
        """A well signed wish for a view, on the head or on what a certificate names."""
        shown = certificate or self.chain.head.certificate
        height = 0 if shown is None else shown.height
        wish = Change(0, self.position, view, height, shown, prepared)
        preimage = SignedChange(wish, NO_SIGNATURE).preimage(self.genesis.chain_id)
        return ViewChange(SignedChange(wish, sign(self.member.node_seed, preimage)), ())

    def new_view(self, view: int, *changes: SignedChange) -> NewView:
        """A well signed NEW-VIEW that shows these changes."""
        preimage = NewView(0, self.position, view, changes, NO_SIGNATURE).preimage(self.genesis.chain_id)
        return NewView(0, self.position, view, changes, sign(self.member.node_seed, preimage))

    def status(self, view: int, certificate: Certificate | None = None) -> Status:
        """A well signed claim to be in a view, on the head or on what a certificate names; all are to answer."""
        shown = certificate or self.chain.head.certificate
        height = 0 if shown is None else shown.height
        place = (0, self.position, view, True, height, shown, ZERO_DIGEST, Ask.EVERYBODY)
        preimage = Status(*place, NO_SIGNATURE).preimage(self.genesis.chain_id)
        return Status(*place, sign(self.member.node_seed, preimage))

    def result_of(self, made: Made) -> bytes:
        """The digest of what executing a block on the head gives."""
        return self.chain.execute(made.header, list(map(decode_transaction, made.envelopes))).result.digest()

    def follow(self) -> None:
        """Take over the blocks that an honest node has, as one does who catches up."""
        source = next(name for name in HONEST if self.member.is_connected(name))
        while True:
            request = encode(BlocksRequest(self.chain.head.header.height + 1))
            answer = BLOCKS_ANSWER.decode(self.member.ask(source, BLOCKS_SERVICE, request))
            if not answer.blocks:
                return
            for block in map(decode_certified_block, answer.blocks):
                transactions = list(map(decode_transaction, block.envelopes))
                execution = self.chain.execute(block.header, transactions)
                self.chain.commit(block.header, transactions, execution, block.certificate)

    def is_primary(self, view: int, height: int) -> bool:
        """Whether this member proposes there; a PREPARE of the primary is none."""
        return self.genesis.validators.primary(view, height, self.genesis.parameters.rotation_blocks) == self.position

    def take_turn(self) -> int:
        """Let blocks be ordered until this member is to propose the next one; returns the view that it reigns in."""
        view, _ = reign_of(self.network, self.member.name)
        self.follow()
        return view


def reign_of(network: RunningNetwork, *names: str) -> tuple[int, str]:
    """Let blocks be ordered until one of these members is to propose the next one; returns view and primary."""
    while True:
        until(lambda: network.is_level(*HONEST))
        reigns = {(status["view"], status["primary"]) for status in map(network.status, HONEST)}
        view, primary = reigns.pop()
        if not reigns and primary in names:
            return int(view), str(primary)
        order(network)


@contextmanager
def hostile_validator(network: RunningNetwork, *peers: str) -> Iterator[HostileValidator]:
    """Take the place of a node that has stopped, with its key and its ledger, once connected to these peers."""
    genesis, place = network.genesis, network.place(HOSTILE)
    assert place.pid is None, "there is one of it"
    seed = load_key_file(place.home / "keys" / "node.key").open_secrets(None)["node"]
    ledger = Ledger.open(place.home / "data" / LEDGER_FOLDER, genesis, genesis_state(genesis))
    try:
        with running(HostileMember(genesis, HOSTILE, seed, HONEST, place.p2p)) as member:
            until(lambda: member.is_connected(*peers))
            yield HostileValidator(network, member, ledger)
    finally:
        ledger.close()
