"""The normal case: from a proposal to a committed block.

Each rule looks at the state and does what is due, or nothing. They are tried in order after every event, so it does
not matter in which order messages, checks and executions come in.
"""

from consensus.engine import Check, Deliver, Draft, Drafted, Execute
from consensus.pbft.messages import BODIES_BYTES_MAX, Prepared, Proposal
from consensus.pbft.records import VoteRecord
from consensus.pbft.slot import Block, Judgement
from consensus.pbft.state import Head, State
from consensus.pbft.timers import BLOCK
from consensus.pbft.views import enter_proven, leave, reconsider
from storage.schema.block import BLOCK_VERSION, ZERO_DIGEST, Certificate, Header, VoteType


def advance(state: State) -> None:
    """Do everything that is due, until nothing is."""
    while True:
        reconsider(state)
        adopt(state)
        check(state)
        prepare(state)
        execute(state)
        note_prepared(state)
        commit(state)
        if not decide(state) and not (state.stirred and state.may_vote):
            return


def adopt(state: State) -> None:
    """Take up the block that this view's primary proposes: as the primary, one of our own."""
    slot = state.slot
    if slot.block is not None or not state.entered or state.head.height < state.base:
        return
    if slot.prepared is not None and slot.prepared.certificate.view == state.view:
        take_up(state, slot.blocks[slot.prepared.certificate.digest])
    elif state.is_primary:
        adopt_own(state)
    else:
        held = state.proposals.get((state.height, state.primary))
        if held is not None and held[0].view == state.view:
            adopt_proposal(state, *held)


def adopt_own(state: State) -> None:
    """As the primary: go on with what we proposed, propose again what the view requires, or ask for a draft."""
    slot = state.slot
    own = state.own_vote(VoteType.PREPARE)
    digest = state.required if own is None else own.digest
    if digest != ZERO_DIGEST:
        block = slot.blocks.get(digest) or _brought(state, digest)
        if block is not None:
            take_up(state, block)
    elif state.may_vote and slot.drafting != (state.view, state.height):
        slot.drafting = (state.view, state.height)
        state.effects.append(Draft(state.view, state.height))


def _brought(state: State, digest: bytes) -> Block | None:
    """Return a block that a VIEW-CHANGE brought along."""
    for _, message in sorted(state.changes.items()):
        prepared = message.signed.change.prepared
        if prepared is not None and prepared.certificate.digest == digest:
            return Block(prepared.header, digest, message.leaves, b"")
    return None


def adopt_proposal(state: State, proposal: Proposal, digest: bytes) -> None:
    """As a backup: take up a proposal that this view allows; a false one is reason to leave the view."""
    primary, required, header = state.primary, state.required, proposal.header
    if required == ZERO_DIGEST and header.first_view != proposal.view:
        # A block of an earlier view needs the NEW-VIEW that requires it; ours may yet come.
        return
    ballot = state.ballots.ballot(primary, VoteType.PREPARE)
    if ballot is None or ballot.statement != (state.view, digest, ZERO_DIGEST) or not state.ballots.holds(ballot):
        del state.proposals[(state.height, primary)]
        return
    objection = "a proposal of another block than its view requires" if required not in (ZERO_DIGEST, digest) else None
    objection = objection or header_objection(state, header, len(proposal.leaves))
    if objection is not None:
        state.fault(primary, objection)
        del state.proposals[(state.height, primary)]
        if state.may_vote:
            leave(state, state.view + 1)
        return
    block = state.slot.blocks.get(digest)
    if block is None:
        block = Block(header, digest, proposal.leaves, proposal.bodies)
    take_up(state, block)


def header_objection(state: State, header: Header, leaf_count: int) -> str | None:
    """Return what is wrong with a proposed header, as far as this is known without its block's body, or None."""
    members, head = state.members, state.head
    if (header.version, header.chain_id, header.epoch) != (BLOCK_VERSION, members.chain_id, members.epoch):
        return "a proposal of another version, chain or epoch"
    if (header.parent, header.parent_result) != (head.digest, head.result):
        return "a proposal on another parent"
    if header.validators_hash != members.validators_hash or header.tx_count != leaf_count:
        return "a proposal with another validator set or another number of leaves"
    if header.proposer != members.names[members.primary(header.first_view, header.height)]:
        return "a proposal whose proposer was not the primary of its first view"
    return None


def take_up(state: State, block: Block) -> None:
    """Let a block be the one that this view votes about."""
    state.slot.blocks[block.digest] = block
    state.slot.block = block
    state.slot.adopted_ms = state.now_ms
    block.refused = False


def on_drafted(state: State, drafted: Drafted) -> None:
    """As the primary: take up the block that the host has built and so found valid."""
    header = drafted.header
    if state.slot.drafting != (drafted.view, header.height) or state.slot.block is not None:
        return
    state.slot.drafting = None
    assert drafted.view == state.view, "a draft is outstanding for the current view only"
    assert header.first_view == state.view, "a draft is first proposed in the view that asked for it"
    objection = header_objection(state, header, len(drafted.leaves))
    assert objection is None, objection
    assert len(drafted.bodies) <= BODIES_BYTES_MAX, "what no backup would read is not proposed"
    take_up(state, Block(header, header.digest(), drafted.leaves, drafted.bodies, checked=True))


def check(state: State) -> None:
    """Ask the host to judge the block before we vote for it."""
    slot, block = state.slot, state.slot.block
    if block is None or block.checked or block.refused:
        return
    if slot.checking is None or slot.checking.digest != block.digest:
        certified = _is_certified(state, block)
        slot.checking = Judgement(block.digest, certified)
        voters = [voter for voter in state.ballots.voters(block.digest) if voter != state.members.position]
        if slot.prepared is not None and slot.prepared.certificate.digest == block.digest:
            voters += slot.prepared.certificate.signers
        holders = dict.fromkeys(state.members.names[voter] for voter in [state.primary, *voters])
        holders.pop(state.members.name, None)
        state.effects.append(Check(block.header, block.leaves, block.bodies, certified, tuple(holders)))


def _is_certified(state: State, block: Block) -> bool:
    prepared = state.slot.prepared
    return block.digest == state.required or (prepared is not None and prepared.certificate.digest == block.digest)


def on_checked(state: State, digest: bytes, refusal: str | None) -> None:
    """Note the host's judgement; a block that it refuses is reason to leave the view."""
    slot = state.slot
    asked = slot.checking
    if asked is None or asked.digest != digest:
        return
    slot.checking = None
    block = slot.blocks.get(digest)
    if block is None:
        return
    if refusal is None:
        block.checked = True
    elif block is slot.block and (asked.certified or not _is_certified(state, block)):
        block.refused = True
        # Once every primary has had its turn, as where clocks differ, the timer leaves the view: views at the speed of
        # the network would fill the vote log.
        if state.may_vote and state.patience.failed < len(state.members.names):
            leave(state, state.view + 1)


def prepare(state: State) -> None:
    """Promise, once for a view and height, to prepare no other block here: the primary by its proposal."""
    block = state.slot.block
    if block is None or not block.checked or not state.may_vote or state.own_vote(VoteType.PREPARE) is not None:
        return
    kind = VoteType.PROPOSAL if state.is_primary else VoteType.PREPARE
    vote = state.members.vote(kind, state.view, state.height, block.digest)
    state.votes[(False, state.view, state.height)] = vote
    state.ballots.add(vote, verified=True)
    if kind is VoteType.PREPARE:
        state.broadcast(vote, after=state.persist(VoteRecord(vote, None, ())))
        return
    token = state.persist(VoteRecord(vote, block.header, block.leaves), bodies_of=block.digest)
    state.broadcast(Proposal(state.view, block.header, block.leaves, block.bodies, vote.signature), after=token)


def execute(state: State) -> None:
    """Have the block executed as soon as it is known to be valid, while the votes are on their way."""
    slot = state.slot
    block = slot.block if slot.decided is None else slot.blocks.get(slot.decided.digest)
    if block is None or not block.checked or slot.executing == block.digest:
        return
    if slot.executed is None or slot.executed[0] != block.digest:
        slot.executing = block.digest
        state.effects.append(Execute(block.header, block.leaves))


def on_executed(state: State, digest: bytes, result: bytes) -> None:
    """Note the result of the block whose execution is outstanding."""
    if state.slot.executing == digest:
        state.slot.executing = None
        state.slot.executed = (digest, result)


def note_prepared(state: State) -> None:
    """Keep the certificate once a quorum has voted for the block in this view."""
    slot, block = state.slot, state.slot.block
    if block is None or not block.checked:
        return
    if slot.prepared is None or slot.prepared.certificate.view < state.view:
        certificate = state.ballots.prepared(state.view, block.digest)
        if certificate is not None:
            slot.prepared = Prepared(certificate, block.header)
            slot.prepared_logged = False


def commit(state: State) -> None:
    """Vote to commit a block that is prepared in this view and executed; certificate and bodies are kept first."""
    slot = state.slot
    if slot.prepared is None or slot.executed is None or not state.may_vote or not state.entered:
        return
    certificate = slot.prepared.certificate
    if certificate.view != state.view or certificate.digest != slot.executed[0]:
        return
    if state.own_vote(VoteType.COMMIT) is not None:
        return
    vote = state.members.vote(VoteType.COMMIT, state.view, state.height, *slot.executed)
    state.votes[(True, state.view, state.height)] = vote
    state.ballots.add(vote, verified=True)
    promise = VoteRecord(vote, None, ())
    slot.commit_token = state.persist(*state.prepared_records(), promise, bodies_of=certificate.digest)
    state.broadcast(vote, after=slot.commit_token)


def decide(state: State) -> bool:
    """Commit the block that a quorum of COMMITs names, if we executed it alike; True if a height was committed."""
    slot = state.slot
    if slot.decided is None:
        slot.decided = state.ballots.committed()
        if slot.decided is None:
            return False
        state.witness(slot.decided, slot.decided.signers)
        execute(state)
    certificate = slot.decided
    block = slot.blocks.get(certificate.digest)
    if block is None or not block.checked:
        if slot.checking is None or slot.checking.digest != certificate.digest:
            state.catch_up()
        return False
    if slot.executed is None or slot.executed[0] != certificate.digest:
        return False
    if slot.executed[1] != certificate.result:
        state.halt(f"executing block {certificate.height} gave another result here than a quorum of members got")
        return False
    deliver(state, block, certificate)
    return True


def deliver(state: State, block: Block, certificate: Certificate) -> None:
    """Commit a block and go on to the next height."""
    latency_ms = None if state.slot.adopted_ms is None else state.now_ms - state.slot.adopted_ms
    state.effects.append(Deliver(block.header, block.leaves, certificate, state.slot.commit_token))
    arrive(state, certificate, latency_ms)


def arrive(state: State, certificate: Certificate, latency_ms: int | None = None) -> None:
    """Stand on a block that is committed: by us, or by the host in catching up."""
    state.move_to(Head(certificate.height, certificate.digest, certificate.result, certificate))
    state.patience.committed(latency_ms)
    enter_proven(state, certificate)
    state.truncate()
    if state.timers.is_set(BLOCK):
        state.timers.set(BLOCK, state.now_ms + state.patience.timeout_ms() // 2)
