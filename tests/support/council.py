"""Members who vote on a small ledger: a world whose hospitals propose, approve and reject, and one that applies."""

from collections.abc import Sequence

import pytest

from node.contracts.contract import ContractError
from node.contracts.entries import load_validators
from node.contracts.proposals import ProposalEntry, load_proposal
from storage.schema.block import Outcome
from storage.schema.calls import Admit, Change, Propose, ReplaceKeys, VoteOn
from storage.schema.codec import Value
from storage.schema.transaction import Transaction, derived_id
from storage.schema.validators import ValidatorSet
from tests.support.small_ledger import Actor, of_member
from tests.support.story import Story


def organisation(member: str) -> Actor:
    return of_member(member, "organisation")


def card(name: str, **changed: object) -> Admit:
    """What a hospital that applies says of itself; its keys are named as those of the founders."""
    fields: dict[str, object] = {
        "name": name,
        "organisation_key": organisation(name).key,
        "node_key": of_member(name, "node").key,
        "service_key": of_member(name, "service").key,
        "encryption_key": of_member(name, "encryption").sealing_key,
        "addresses": (f"/dns4/{name}.example/tcp/4001",),
    }
    return Admit(**(fields | changed))


class Council(Story):
    """Four hospitals that validate, with pia and ben among their people."""

    @property
    def validators(self) -> ValidatorSet:
        return load_validators(self.ledger.state)

    def names(self) -> list[str]:
        return [validator.name for validator in self.validators.validators]

    def proposing(self, change: Change, member: str, evidence: bytes | None = None) -> Transaction:
        return self.sign("network.propose", Propose(change, evidence), [organisation(member)], member)

    def voting(self, proposal: bytes, member: str, *, approve: bool = True) -> Transaction:
        return self.sign("network.vote", VoteOn(proposal, approve), [organisation(member)], member)

    def propose(self, change: Change, member: str = "north", evidence: bytes | None = None) -> Outcome:
        return self.order(self.proposing(change, member, evidence))[0]

    def vote(self, proposal: bytes, member: str, *, approve: bool = True) -> Outcome:
        return self.order(self.voting(proposal, member, approve=approve))[0]

    def proposed(self, change: Change, member: str = "north") -> bytes:
        outcome = self.propose(change, member)
        assert outcome.code == "ok", outcome
        return derived_id(outcome.id)

    def decide(self, change: Change, *members: str) -> bytes:
        """Propose by the first of these members, approve by the others, one block each."""
        proposal = self.proposed(change, members[0])
        for member in members[1:]:
            outcome = self.vote(proposal, member)
            assert outcome.code == "ok", outcome
        return proposal

    def decide_by_quorum(self, change: Change) -> bytes:
        """Let as many as are needed agree, those first who are named first; never the member that it is about."""
        others = [name for name in self.names() if name != change.name]
        return self.decide(change, *others[: self.validators.quorum])

    def admit(self, name: str) -> None:
        self.decide_by_quorum(card(name))

    def entry(self, proposal: bytes) -> ProposalEntry:
        entry = load_proposal(self.ledger.state, proposal)
        assert entry is not None
        return entry

    def replace_keys(self, member: str, **keys: bytes) -> Outcome:
        arguments = ReplaceKeys(keys.get("node_key"), keys.get("service_key"), keys.get("encryption_key"))
        return self.do("network.replace_keys", arguments, [organisation(member)], member)

    def refusal(self, transaction: Transaction) -> str:
        """The code by which a transaction's rule refuses it, as when the block before it changed its ground."""
        with pytest.raises(ContractError) as refused:
            self.apply(transaction)
        return refused.value.code

    def apply_code(self, method: str, arguments: Value, signers: Sequence[Actor], payer: str) -> str:
        return self.refusal(self.sign(method, arguments, signers, payer))
