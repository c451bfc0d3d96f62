from typing import Any

import pytest

from consensus.pbft.membership import Membership
from consensus.pbft.messages import MESSAGE, Answer, NewView, Proposal, Status, ViewChange, Vote, proposal_vote
from consensus.pbft.records import RECORD, PreparedRecord, ViewRecord
from consensus.pbft.selection import change_objection, new_view_objection
from storage.schema.block import VoteType
from storage.schema.codec import encode
from storage.schema.signatures import SignatureError, verify_signature
from storage.schema.validators import ValidatorSet
from tests.support.vectors import vector_genesis, vectors

MESSAGES = {vector["name"]: bytes.fromhex(vector["encoded"]) for vector in vectors("agreement")["messages"]}
RECORDS = {vector["name"]: bytes.fromhex(vector["encoded"]) for vector in vectors("agreement")["records"]}


class Checker:
    """Checks signatures of the vectors' validators, and makes none."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators

    def sign(self, preimage: bytes) -> bytes:
        raise AssertionError(f"nothing is signed here, neither these {len(preimage)} bytes")

    def verify(self, position: int, preimage: bytes, signature: bytes) -> bool:
        try:
            verify_signature(self._validators.validators[position].node_key, preimage, signature)
        except SignatureError:
            return False
        return True


@pytest.fixture(scope="module")
def members() -> Membership:
    genesis = vector_genesis()
    return Membership("observer", genesis.chain_id, genesis.validators, Checker(genesis.validators), 64)


def decoded(name: str) -> Any:
    return MESSAGE.decode(MESSAGES[name])


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_message_of_the_vectors_is_read_and_written_byte_for_byte(name: str) -> None:
    assert encode(decoded(name)) == MESSAGES[name]


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_every_record_of_the_vectors_is_read_and_written_byte_for_byte(name: str) -> None:
    assert encode(RECORD.decode(RECORDS[name])) == RECORDS[name]


def test_the_votes_of_the_vectors_were_signed_by_their_signers(members: Membership) -> None:
    proposal, answer = decoded("proposal"), decoded("answer")
    assert isinstance(proposal, Proposal)
    assert isinstance(answer, Answer)
    header = proposal.header
    primary = members.primary(proposal.view, header.height)
    votes = [decoded("prepare"), decoded("commit"), answer.vote, proposal_vote(proposal, header.digest(), primary)]

    signed = [isinstance(vote, Vote) and members.has_signed(vote.signer, vote) for vote in votes]

    assert signed == [True] * 4
    assert header.proposer == members.names[primary]


def test_the_view_change_and_new_view_of_the_vectors_hold(members: Membership) -> None:
    change, new_view = decoded("view-change"), decoded("new-view")
    assert isinstance(change, ViewChange)
    assert isinstance(new_view, NewView)

    objections = [change_objection(members, change.signed), new_view_objection(members, new_view, lambda _: False)]

    assert objections == [None, None]


def test_the_status_of_the_vectors_was_signed_and_shows_a_commit(members: Membership) -> None:
    status = decoded("status")
    assert isinstance(status, Status)
    assert status.certificate is not None

    assert members.has_signed(status.signer, status)
    assert members.is_certificate(status.certificate, VoteType.COMMIT)


def test_the_records_of_the_vectors_hold_what_was_said(members: Membership) -> None:
    prepared, view = RECORD.decode(RECORDS["prepared"]), RECORD.decode(RECORDS["view"])
    assert isinstance(prepared, PreparedRecord)
    assert isinstance(view, ViewRecord)

    assert members.is_certificate(prepared.certificate, VoteType.PREPARE)
    assert view.selected == prepared.header.digest()
    assert view.new_view == decoded("new-view")
