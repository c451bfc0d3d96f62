"""Evidence by itself: whether two votes prove that one key broke its word. No state is needed, and no trust.

The ledger takes down what holds; whoever holds the transaction, or its receipt, can look again.
"""

from storage.schema.block import ZERO_DIGEST, VoteType, vote_preimage
from storage.schema.calls import Evidence, SignedVote
from storage.schema.codec import tagged_digest
from storage.schema.signatures import SignatureError, verify_signature

NO_CONFLICT = "two votes of one place, for two blocks or results"


class EvidenceError(Exception):
    """Two votes prove nothing.

    Attributes:
        field: the vote at fault.
    """

    code = "evidence.invalid"

    def __init__(self, field: str, detail: str) -> None:
        """Say which vote, and why."""
        super().__init__(detail)
        self.field = field


def evidence_id(node_key: bytes, height: int) -> bytes:
    """Return what evidence is named by, whoever reports it: one key is convicted once for a height."""
    return tagged_digest(b"CARETRACE/evidence/1", node_key, height.to_bytes(8, "big"))


def verify_evidence(evidence: Evidence, chain_id: bytes) -> None:
    """Check that an honest node would not have signed both votes, and that the key signed both.

    Raises:
        EvidenceError: it does not prove that.
    """
    if not contradict(evidence.first, evidence.second):
        raise EvidenceError("second", NO_CONFLICT)
    verify_signatures(evidence, chain_id)


def contradict(first: SignedVote, second: SignedVote) -> bool:
    """Tell whether two votes of one view and height exclude each other; a proposal is its primary's PREPARE."""
    commits = [VoteType(vote.kind) is VoteType.COMMIT for vote in (first, second)]
    results = [vote.result != ZERO_DIGEST for vote in (first, second)]
    statements = [(vote.digest, vote.result) for vote in (first, second)]
    # Two signatures over one statement are no contradiction, and what has another form is no vote.
    return commits[0] == commits[1] and results == commits and statements[0] != statements[1]


def verify_signatures(evidence: Evidence, chain_id: bytes) -> None:
    """Check that the key signed both votes, for the network of this id.

    Raises:
        EvidenceError: it did not sign one of them.
    """
    for field, vote in (("first", evidence.first), ("second", evidence.second)):
        place = (evidence.epoch, vote.kind, evidence.view, evidence.height)
        preimage = vote_preimage(chain_id, *place, vote.digest, vote.result)
        try:
            verify_signature(evidence.node_key, preimage, vote.signature)
        except SignatureError:
            raise EvidenceError(field, "the signature does not verify under the node key") from None
