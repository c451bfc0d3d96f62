"""What a new view may propose: which changes hold, and what follows from a quorum of them. Pure functions.

The certificate of the highest view wins: if a block was committed in an earlier view, then some honest member of any
quorum of changes had prepared it there or later, or has committed it, and says so.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from consensus.pbft.membership import Membership
from consensus.pbft.messages import NewView, Prepared, SignedChange
from storage.schema.block import ZERO_DIGEST, VoteType


def select(changes: Iterable[SignedChange]) -> tuple[int, Prepared | None]:
    """Return the height on which the view opens, and what it must propose again above it, if anything.

    Changes of members that are below that height say nothing about the height above it.
    """
    brought = [signed.change for signed in changes]
    base = max(change.height for change in brought)
    prepared = [change.prepared for change in brought if change.height == base and change.prepared is not None]
    if not prepared:
        return base, None
    return base, max(prepared, key=lambda candidate: (candidate.certificate.view, candidate.certificate.digest))


def selected_digest(prepared: Prepared | None) -> bytes:
    """Return the digest of what must be proposed again, or zero."""
    return ZERO_DIGEST if prepared is None else prepared.certificate.digest


def change_objection(members: Membership, signed: SignedChange) -> str | None:
    """Return what is wrong with a change, or None: its signature and both certificates must hold."""
    change = signed.change
    if change.epoch != members.epoch or change.view == 0:
        return "a change into no view of this epoch"
    if not members.has_signed(change.signer, signed):
        return "a change with a bad signature"
    certificate = change.certificate
    if members.certified_height(certificate) != change.height:
        return "a change without the certificate of its height"
    if certificate is not None and not members.is_certificate(certificate, VoteType.COMMIT):
        return "a change with a bad commit certificate"
    return None if change.prepared is None else _prepared_objection(members, signed, change.prepared)


def _prepared_objection(members: Membership, signed: SignedChange, prepared: Prepared) -> str | None:
    certificate, header = prepared.certificate, prepared.header
    change = signed.change
    if certificate.height != change.height + 1 or certificate.view >= change.view:
        return "a change with a prepared certificate of another height or of no earlier view"
    if header.height != certificate.height or header.digest() != certificate.digest:
        return "a change with a header that its prepared certificate does not name"
    if not members.is_certificate(certificate, VoteType.PREPARE):
        return "a change with a bad prepared certificate"
    return None


def new_view_objection(members: Membership, new_view: NewView, is_known: Callable[[SignedChange], bool]) -> str | None:
    """Return what is wrong with a NEW-VIEW, or None; ``is_known`` tells which changes were found good before."""
    signers = [signed.change.signer for signed in new_view.changes]
    if len(signers) < members.quorum or not _ascend(signers):
        return "a NEW-VIEW without a quorum of distinct changes in order"
    if new_view.view == 0 or any(signed.change.view != new_view.view for signed in new_view.changes):
        return "a NEW-VIEW with changes into another view"
    base, _ = select(new_view.changes)
    if new_view.signer != members.primary(new_view.view, base + 1):
        return "a NEW-VIEW from a member that is not its primary"
    if not members.has_signed(new_view.signer, new_view):
        return "a NEW-VIEW with a bad signature"
    for signed in new_view.changes:
        if not is_known(signed):
            objection = change_objection(members, signed)
            if objection is not None:
                return objection
    return None


def _ascend(numbers: Sequence[int]) -> bool:
    return all(a < b for a, b in pairwise(numbers))
