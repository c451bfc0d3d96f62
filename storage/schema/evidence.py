"""Evidence by itself: whether two votes prove that one key broke its word. No state is needed, and no trust.

The ledger takes down what holds; whoever holds the transaction, or its receipt, can look again.
"""

from storage.schema.block import ZERO_DIGEST, VoteType, vote_preimage
from storage.schema.calls import Evidence, SignedVote
from storage.schema.codec import tagged_digest
from storage.schema.signatures import SignatureError, verify_signature


class EvidenceError(Exception):
    """Two votes prove nothing.

    Attributes:
        code: ``evidence.no_conflict`` or ``evidence.forged``.
        field: the vote at fault.
    """

    def __init__(self, code: str, field: str, detail: str) -> None:
        """Say why."""
        super().__init__(detail)
        self.code = code
        self.field = field


def evidence_id(node_key: bytes, height: int) -> bytes:
    """Return what evidence is named by, whoever reports it: one key is convicted once for a height."""
    return tagged_digest(b"CARETRACE/evidence/1", node_key, height.to_bytes(8, "big"))


def verify_evidence(evidence: Evidence, chain_id: bytes) -> None:
    """Check that the key signed both votes, and that an honest node would not have signed both.

    Raises:
        EvidenceError: it does not prove that.
    """
    if not _contradict(evidence.first, evidence.second):
        raise EvidenceError("evidence.no_conflict", "second", "two votes of one place, for two blocks or results")
    for name, vote in (("first", evidence.first), ("second", evidence.second)):
        place = (evidence.epoch, vote.kind, evidence.view, evidence.height)
        try:
            verify_signature(
                evidence.node_key, vote_preimage(chain_id, *place, vote.digest, vote.result), vote.signature
            )
        except SignatureError:
            raise EvidenceError("evidence.forged", name, "the signature does not verify under the node key") from None


def _contradict(first: SignedVote, second: SignedVote) -> bool:
    """Tell whether two votes of one view and height exclude each other; a proposal is its primary's PREPARE."""
    commits = [VoteType(vote.kind) is VoteType.COMMIT for vote in (first, second)]
    results = [vote.result != ZERO_DIGEST for vote in (first, second)]
    # Two signatures over one statement are no contradiction, and what has another form is no vote.
    return commits[0] == commits[1] and results == commits and _statement(first) != _statement(second)


def _statement(vote: SignedVote) -> tuple[bytes, bytes]:
    return vote.digest, vote.result
