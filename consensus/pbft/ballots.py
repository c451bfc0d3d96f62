"""The votes heard for the height in flight and the one above it, until they make a certificate.

A signature is checked at most once, and only when a quorum needs it. For each signer, kind and height one vote is
held, that of the highest view: what a peer can make us store is bounded.
"""

from consensus.pbft.membership import Membership
from consensus.pbft.messages import Vote
from storage.schema.block import ZERO_DIGEST, Certificate, VoteType

HEIGHTS_HELD = 2

Statement = tuple[int, bytes, bytes]


class Ballot:
    """A vote, and whether its signature is known to hold."""

    __slots__ = ("verified", "vote")

    def __init__(self, vote: Vote, *, verified: bool) -> None:
        self.vote = vote
        self.verified = verified

    @property
    def statement(self) -> Statement:
        """What the vote is for: view, digest and result."""
        return self.vote.view, self.vote.digest, self.vote.result


class Ballots:
    """Votes by height, kind and signer; a PROPOSAL counts as its primary's PREPARE.

    Attributes:
        forgers: positions whose vote turned out to be forged, for the caller to take and clear.
    """

    def __init__(self, members: Membership, height: int) -> None:
        self.forgers: list[int] = []
        self._members = members
        self._height = height
        self._held: list[tuple[dict[int, Ballot], dict[int, Ballot]]] = [({}, {}) for _ in range(HEIGHTS_HELD)]
        self._newest: dict[int, Vote] = {}

    def add(self, vote: Vote, *, verified: bool = False) -> Vote | None:
        """Hold a vote; if it contradicts one that is held, keep that one and return it, both checked."""
        newest = self._newest.get(vote.signer)
        if newest is None or (vote.height, vote.view, vote.kind) > (newest.height, newest.view, newest.kind):
            self._newest[vote.signer] = vote
        if not 0 <= vote.height - self._height < HEIGHTS_HELD:
            return None
        ballots = self._ballots(vote)
        held = ballots.get(vote.signer)
        ballot = Ballot(vote, verified=verified)
        if held is None or held.vote.view < vote.view:
            ballots[vote.signer] = ballot
        elif held.vote.view == vote.view and held.statement != ballot.statement:
            if not self.holds(held):
                ballots[vote.signer] = ballot
            elif self.holds(ballot):
                return held.vote
        return None

    def holds(self, ballot: Ballot) -> bool:
        """Check a ballot's signature, if that was not done before; a forged vote is forgotten."""
        if not ballot.verified:
            if not self._members.has_signed(ballot.vote.signer, ballot.vote):
                self.forgers.append(ballot.vote.signer)
                ballots = self._ballots(ballot.vote)
                if ballots.get(ballot.vote.signer) is ballot:
                    del ballots[ballot.vote.signer]
                return False
            ballot.verified = True
        return True

    def ballot(self, signer: int, kind: VoteType) -> Ballot | None:
        """Return a signer's ballot of this kind at the height in flight."""
        return self._held[0][kind is VoteType.COMMIT].get(signer)

    def newest(self, signer: int) -> Vote | None:
        """Return the newest vote heard from a signer, for an ANSWER; its signature may be unchecked."""
        return self._newest.get(signer)

    def voters(self, digest: bytes) -> tuple[int, ...]:
        """Return who voted for a block at the height in flight: they said that they hold its bodies."""
        found = {
            signer for ballots in self._held[0] for signer, ballot in ballots.items() if ballot.vote.digest == digest
        }
        return tuple(sorted(found))

    def prepared(self, view: int, digest: bytes) -> Certificate | None:
        """Return the prepared certificate of a block at the height in flight, if a quorum voted for it."""
        return self._certificate(self._held[0][0], (view, digest, ZERO_DIGEST))

    def committed(self) -> Certificate | None:
        """Return the commit certificate of the height in flight, of whichever view, if there is one."""
        commits = self._held[0][1]
        if len(commits) < self._members.quorum:
            return None
        for statement in {ballot.statement: None for ballot in commits.values()}:
            certificate = self._certificate(commits, statement)
            if certificate is not None:
                return certificate
        return None

    def contradicted(self, certificate: Certificate, kind: VoteType) -> list[tuple[Vote, Vote]]:
        """Return whose votes, as held here, contradict what a certificate that holds shows: an equivocator's.

        Who tells each of two backups something else is found out so, when one of them shows what it was told.
        """
        found: list[tuple[Vote, Vote]] = []
        if not 0 <= certificate.height - self._height < HEIGHTS_HELD:
            return found
        held = self._held[certificate.height - self._height][kind is VoteType.COMMIT]
        statement = (certificate.view, certificate.digest, certificate.result)
        primary = self._members.primary(certificate.view, certificate.height)
        for signer, signature in zip(certificate.signers, certificate.signatures, strict=True):
            ballot = held.get(signer)
            if ballot is None or ballot.vote.view != certificate.view or ballot.statement == statement:
                continue
            if signer != self._members.position and self.holds(ballot):
                its_kind = VoteType.PROPOSAL if kind is VoteType.PREPARE and signer == primary else kind
                epoch, view, height = certificate.epoch, certificate.view, certificate.height
                shown = Vote(its_kind, epoch, view, height, certificate.digest, certificate.result, signer, signature)
                found.append((ballot.vote, shown))
        return found

    def advance(self, height: int) -> None:
        """Forget what is below ``height``, which is in flight from now on."""
        for _ in range(min(height - self._height, HEIGHTS_HELD)):
            self._held.pop(0)
            self._held.append(({}, {}))
        self._height = height

    def _ballots(self, vote: Vote) -> dict[int, Ballot]:
        return self._held[vote.height - self._height][vote.kind is VoteType.COMMIT]

    def _certificate(self, ballots: dict[int, Ballot], statement: Statement) -> Certificate | None:
        matching = [ballot for ballot in ballots.values() if ballot.statement == statement]
        if len(matching) < self._members.quorum:
            return None
        # What was checked before counts first, so that no more signatures are checked than a quorum needs.
        matching.sort(key=lambda ballot: not ballot.verified)
        good: dict[int, bytes] = {}
        for ballot in matching:
            if self.holds(ballot):
                good[ballot.vote.signer] = ballot.vote.signature
                if len(good) == self._members.quorum:
                    return self._certify(statement, good)
        return None

    def _certify(self, statement: Statement, signatures: dict[int, bytes]) -> Certificate:
        view, digest, result = statement
        signers = tuple(sorted(signatures))
        ordered = tuple(signatures[signer] for signer in signers)
        certificate = Certificate(self._members.epoch, view, self._height, digest, result, signers, ordered)
        self._members.remember(certificate)
        return certificate
