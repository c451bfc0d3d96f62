"""Every code with which the system refuses something: what it means in words, and what to try.

The codes are stable: programs may compare them. Those of outcomes stand on the ledger; words and hints do not, and
may be made better at any time.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal for people: why, and what to try."""

    words: str
    hint: str


def _table(*rows: tuple[str, str, str]) -> dict[str, Refusal]:
    return {code: Refusal(words, hint) for code, words, hint in rows}


_REMOVED = (
    "member.removed",
    "the member has been removed from the network",
    "act through another member; a patient's own calls still count",
)

BEFORE_THE_LEDGER: dict[str, Refusal] = _table(
    (
        "bytes.malformed",
        "the bytes are not one canonical value of the right form",
        "encode them as docs/spec says",
    ),
    ("bytes.too_large", "the bytes are more than the limit", "send less, or in several calls"),
    ("id.malformed", "this is no identifier of the expected kind", "copy it whole; its first letter names its kind"),
    ("tx.version", "this network takes another version of transactions", "use a client of the network's version"),
    ("tx.method_unknown", "there is no such method", "see docs/spec/contracts.md for the methods"),
    ("tx.signers", "signers must be distinct, with one signature each", "sign once for each signer, in their order"),
    ("tx.other_network", "the transaction was made for another network", "sign it again for this network"),
    ("tx.expired", "the transaction's time is over", "sign it again with a later not_after; check the clock"),
    (
        "tx.too_far_future",
        "not_after is more than 24 hours ahead",
        "give an earlier not_after; check the clock",
    ),
    ("tx.replayed", "the ledger holds this transaction already", "nothing to do; to repeat the act, sign a new one"),
    ("tx.payer_unknown", "the member that is to pay is no member", "name a member of the network"),
    ("tx.payer_unbound", "the member that is to pay has not bound itself", "let the member that enrolled you pay"),
    _REMOVED,
    ("signature.invalid", "a signature does not verify under its key", "sign with the key that the call names"),
    ("block.count_full", "the block holds as many transactions as it may", "wait for the next block"),
    ("block.bytes_full", "the block is as large as it may be", "wait for the next block"),
    ("block.payer_full", "the member that pays has its share of the block", "wait for the next block"),
    ("mempool.full", "too many transactions are waiting", "try again in a few seconds"),
)

ON_THE_LEDGER: dict[str, Refusal] = _table(
    ("signers.count", "the call carries another number of signatures than it has parties", "see who signs this call"),
    ("signers.not_service_key", "the paying member's service key did not sign in its place", "ask that member's node"),
    (
        "signers.not_organisation_key",
        "the paying member's organisation key did not sign",
        "sign with the key that init wrote for the organisation",
    ),
    ("identity.signing_key_unsound", "the signing key could let anyone sign", "make a new key"),
    ("identity.sealing_key_unsound", "the sealing key could let anyone open what is sealed to it", "make a new key"),
    ("identity.key_in_use", "the key is a member's", "make a key of the person's own"),
    ("identity.already_registered", "somebody is registered under this key already", "make a new key for each member"),
    ("identity.unknown", "nobody is registered under the signing key", "register the person first"),
    ("identity.key_replaced", "the key has been replaced by another", "sign with the key that is valid now"),
    ("identity.not_patient", "only a patient may do this", "sign with the patient's own key"),
    ("identity.not_practitioner", "this takes an enrolled practitioner", "have a member enrol the practitioner"),
    ("identity.other_member", "another member enrolled this practitioner", "ask the member that did"),
    ("identity.revoked", "the member no longer vouches for this practitioner", "ask the member; it takes a new DID"),
    ("identity.expired", "the practitioner's enrolment is over", "have the member enrol them again"),
    ("identity.not_yet_valid", "the practitioner's enrolment has not begun", "wait until it begins"),
    ("identity.period_reversed", "the time ends before it starts", "give an end after the start"),
    ("identity.period_over", "the time is over already", "give an end in the future"),
    ("role.unknown", "no such role is known", "use a role of docs/spec/contracts.md"),
    ("category.unknown", "no such record category is known", "use a category of docs/spec/contracts.md"),
    ("purpose.unknown", "no such purpose of use is known", "use a code of HL7's PurposeOfUse, such as TREAT"),
    ("action.unknown", "no such action is known", "use read, correct or share"),
    ("member.unknown", "the network has no such member", "see: caretrace members list"),
    _REMOVED,
    ("member.name_used", "the name is, or was, another member's", "choose another name; none is given twice"),
    ("member.key_unsound", "a key could let anyone sign or open", "make new keys"),
    ("member.key_used", "a key is, or was, in use", "make new keys; none serves twice"),
    ("member.too_many", "the network has as many members as it may", "a member has to leave first"),
    ("member.role_same", "the member has this role already", "nothing to do"),
    ("member.keys_none", "the call names no key to replace", "name at least one key"),
    ("member.keys_too_soon", "the keys were replaced less than 24 hours ago", "wait, and try again"),
    ("network.not_validator", "only members that validate now decide", "ask a member that validates"),
    (
        "network.too_few_validators",
        "too few validators would be left to agree while one is faulty",
        "let another member validate first",
    ),
    ("proposal.already_open", "the same change is proposed already", "vote on it: caretrace members vote"),
    ("proposal.too_many", "too many proposals are open", "wait until one is decided, or ends"),
    ("proposal.not_found", "there is no such proposal", "see: caretrace members proposals"),
    ("proposal.closed", "the proposal is decided, or has ended", "propose it again, if it is still wanted"),
    ("proposal.already_voted", "the member has voted on this proposal", "nothing to do; a vote may not be changed"),
    ("record.not_found", "there is no such record", "see the patient's list of records"),
    ("record.unservable", "the record's custodian has left the network", "ask the hospital itself for it"),
    ("record.year_implausible", "the clinical year cannot be right", "give the year of the record, or none"),
    ("record.not_permitted", "the member may not add to this patient's file", "have the patient permit it"),
    ("consent.denied", "no consent of the patient permits this", "ask the patient for a consent that covers it"),
    ("consent.purpose_empty", "a grant must say for which purposes", "name at least one purpose, such as TREAT"),
    ("consent.uses_zero", "a grant of no uses grants nothing", "give at least 1, or no limit"),
    ("consent.grants_nothing", "nothing in the grant permits anything", "to forbid something, exclude it"),
    ("consent.excludes_nothing", "an exclusion is a deny at its root", "to permit something, grant it"),
    ("consent.period_reversed", "a period ends before it starts", "give an end after the start"),
    ("consent.period_over", "the period is over already", "give an end in the future"),
    ("consent.too_many_provisions", "the consent has too many provisions", "split it into several consents"),
    ("consent.too_many_grantees", "the consent names too many grantees", "split it into several consents"),
    ("consent.too_many", "too many consents stand for one grantee", "revoke one that is no longer needed"),
    ("consent.not_found", "there is no such consent", "see the patient's list of consents"),
    ("consent.not_yours", "another patient made it", "only the patient who made it may end it"),
    ("consent.already_revoked", "the consent was revoked before", "nothing to do"),
    ("consent.exclusion_already_ended", "the exclusion was ended before", "nothing to do"),
    ("access.not_found", "there is no such permit", "request access first"),
    ("access.not_custodian", "another member holds this record", "only the record's custodian serves it"),
    ("access.permit_ended", "the permit is over", "request access again"),
    (
        "access.already_served",
        "the permit was served before",
        "ask for the key again",
    ),
    ("evidence.not_node_key", "the key is not, and was not, the node key of a member", "see who signed the votes"),
    ("evidence.out_of_range", "the votes are too old, or of a height that is not there yet", "nothing to do"),
    ("evidence.no_conflict", "an honest node may have signed both", "show two votes at one place, for two things"),
    ("evidence.known", "of this key the ledger holds evidence at this height", "nothing to do"),
    ("evidence.forged", "the key has not signed both votes", "nothing to do"),
)

AT_THE_NODE: dict[str, Refusal] = _table(
    ("evidence.not_found", "there is no such evidence", "see the list of evidence"),
    ("did.malformed", "this is no did:key of an Ed25519 key", "copy it whole"),
    ("tx.not_found", "no block holds this transaction", "check the id; if it waits, try again in a moment"),
    ("tx.not_committed", "the transaction was not committed in time", "it may still be; ask for it again"),
    ("access.not_served", "the custodian could not have the reading committed in time", "ask again"),
    ("access.other_member", "the reader is at another member", "ask the node of the reader's own member"),
    ("custodian.unreachable", "the custodian's node does not answer", "try again later; nothing is lost"),
)

REFUSALS: dict[str, Refusal] = BEFORE_THE_LEDGER | ON_THE_LEDGER | AT_THE_NODE
