"""Who we are among the validators of an epoch, and whether what others signed holds."""

from itertools import pairwise

from consensus.pbft.messages import NewView, SignedChange, Status, Vote
from consensus.signer import Signer
from storage.schema.block import ZERO_DIGEST, Certificate, VoteType, vote_preimage
from storage.schema.validators import ValidatorSet, faults_tolerated


class Membership:
    """One replica's place in the validator set, with its signer. Certificates that hold are remembered, a few.

    ``handover_height`` is that of the block which handed over to this set, or 0: in its epoch nobody certified it.
    ``is_seated`` is False for a member of the set that votes with another key than ours.
    """

    def __init__(
        self,
        name: str,
        chain_id: bytes,
        validators: ValidatorSet,
        signer: Signer,
        rotation_blocks: int,
        handover_height: int = 0,
        *,
        is_seated: bool = True,
    ) -> None:
        self.name = name
        self.chain_id = chain_id
        self.validators = validators
        self.epoch = validators.epoch
        self.handover_height = handover_height
        self.validators_hash = validators.digest()
        self.names = tuple(validator.name for validator in validators.validators)
        self.positions = {member: position for position, member in enumerate(self.names)}
        self.position = self.positions.get(name) if is_seated else None
        self.quorum = validators.quorum
        self.faults_tolerated = faults_tolerated(len(self.names))
        self._rotation_blocks = rotation_blocks
        self._signer = signer
        self._verified: dict[Certificate, None] = {}

    def primary(self, view: int, height: int) -> int:
        """Return the position of the primary for a height in a view."""
        return self.validators.primary(view, height, self._rotation_blocks)

    def certified_height(self, certificate: Certificate | None) -> int:
        """Return the height that a replica states by its head's certificate; without one it has none of this epoch."""
        return self.handover_height if certificate is None else certificate.height

    def vote(self, kind: VoteType, view: int, height: int, digest: bytes, result: bytes = ZERO_DIGEST) -> Vote:
        """Sign a vote of ours. It must be persisted before anyone hears it."""
        assert self.position is not None, "an observer signs nothing"
        preimage = vote_preimage(self.chain_id, self.epoch, kind, view, height, digest, result)
        return Vote(kind, self.epoch, view, height, digest, result, self.position, self._signer.sign(preimage))

    def sign(self, preimage: bytes) -> bytes:
        """Sign a statement that is not a vote."""
        return self._signer.sign(preimage)

    def has_signed(self, signer: int, statement: Vote | SignedChange | NewView | Status) -> bool:
        """Tell whether the validator at a position signed a statement."""
        if signer >= len(self.names):
            return False
        return self._signer.verify(signer, statement.preimage(self.chain_id), statement.signature)

    def is_certificate(self, certificate: Certificate, kind: VoteType) -> bool:
        """Tell whether a quorum of distinct validators signed the statement: PREPARE or COMMIT.

        In a prepared certificate the primary's signature is that of its PROPOSAL.
        """
        if certificate in self._verified:
            return (certificate.result != ZERO_DIGEST) == (kind is VoteType.COMMIT)
        if not self._is_well_formed(certificate, kind):
            return False
        primary = self.primary(certificate.view, certificate.height)
        statement = (certificate.view, certificate.height, certificate.digest, certificate.result)
        for signer, signature in zip(certificate.signers, certificate.signatures, strict=True):
            is_proposal = kind is VoteType.PREPARE and signer == primary
            vote_type = VoteType.PROPOSAL if is_proposal else kind
            preimage = vote_preimage(self.chain_id, self.epoch, vote_type, *statement)
            if not self._signer.verify(signer, preimage, signature):
                return False
        self.remember(certificate)
        return True

    def remember(self, certificate: Certificate) -> None:
        """Note that a certificate holds, so that its signatures are not checked again."""
        while len(self._verified) > 2 * len(self.names):
            del self._verified[next(iter(self._verified))]
        self._verified[certificate] = None

    def _is_well_formed(self, certificate: Certificate, kind: VoteType) -> bool:
        signers = certificate.signers
        return (
            certificate.epoch == self.epoch
            and (certificate.result != ZERO_DIGEST) == (kind is VoteType.COMMIT)
            and len(signers) == len(certificate.signatures)
            and len(signers) >= self.quorum
            and all(a < b for a, b in pairwise(signers))
            and signers[-1] < len(self.names)
        )
