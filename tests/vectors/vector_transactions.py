"""A transaction of every method (docs/spec/transaction.md), as the members and people of the vectors would make it."""

import struct
from typing import Any, NamedTuple

from vector_genesis import CHAIN_ID, FOUNDERS, founder
from vector_primitives import Key, derived_id, did, named_bytes, pack, sealing_public, sha256, shown, signing_key

BLOCK_TIME_MS = 1_767_225_600_250
NOT_AFTER_S = 1_767_225_900
SERVICE = {member.name: member.service for member in FOUNDERS}
PATIENT = signing_key("patient anna")
PHYSICIAN = signing_key("physician berg")
STRANGER = signing_key("a stranger")


class Made(NamedTuple):
    """A signed transaction and everything that is derived from it."""

    name: str
    fields: list[Any]
    arguments: list[Any]
    body: bytes
    preimage: bytes
    signatures: list[bytes]
    envelope: bytes
    id: bytes
    leaf: bytes


def body_of(name: str, payer: str, signers: list[Key], method: str, arguments: list[Any]) -> list[Any]:
    publics = [key.public for key in signers]
    return [0, CHAIN_ID, named_bytes(f"nonce of {name}", 16), NOT_AFTER_S, payer, publics, method, arguments]


def make(name: str, payer: str, signers: list[Key], method: str, arguments: list[Any]) -> Made:
    fields = body_of(name, payer, signers, method, arguments)
    body = pack(fields)
    preimage = b"CARETRACE/tx/1" + sha256(body)
    signatures = [key.sign(preimage) for key in signers]
    envelope = pack([body, signatures])
    identifier, leaf = sha256(b"CARETRACE/txid/1", body), sha256(b"\x00", envelope)
    return Made(name, fields, arguments, body, preimage, signatures, envelope, identifier, leaf)


ALWAYS: list[Any] = [None, None]
LABEL = named_bytes("label tag", 16)


def provision(effect: str, *, period: list[Any] = ALWAYS, years: list[Any] = ALWAYS, **lists: list[Any]) -> list[Any]:
    names = ("practitioners", "members", "roles", "actions", "purposes", "categories", "tags", "records")
    assert set(lists) <= {*names, "provisions"}
    return [effect, period, *(lists.get(name, []) for name in names), years, lists.get("provisions", [])]


ENROLMENT = make(
    "enrol a patient",
    "north",
    [PATIENT, SERVICE["north"]],
    "identity.register_patient",
    [sealing_public("patient anna/sealing")],
)
ENROL_PHYSICIAN = make(
    "enrol a physician",
    "south",
    [PHYSICIAN, SERVICE["south"]],
    "identity.enrol_practitioner",
    [sealing_public("physician berg/sealing"), "physician", 1_767_225_600, 1_798_761_600],
)
REVOKE_PHYSICIAN = make(
    "revoke a physician", "south", [SERVICE["south"]], "identity.revoke_practitioner", [PHYSICIAN.public]
)
REGISTER_RECORD = make(
    "register a record",
    "north",
    [SERVICE["north"]],
    "record.register",
    [PATIENT.public, "laboratory", [LABEL], 2025, named_bytes("commitment"), named_bytes("sealed pointer", 24)],
)
RECORD = derived_id(REGISTER_RECORD.id, 0)
GRANT = make(
    "grant the laboratory for treatment",
    "north",
    [PATIENT],
    "consent.grant",
    [
        provision(
            "permit",
            period=[1_767_225_600, 1_767_830_400],
            practitioners=[PHYSICIAN.public],
            actions=["read"],
            purposes=["TREAT"],
            categories=["laboratory"],
        ),
        None,
    ],
)
CONSENT = derived_id(GRANT.id, 0)
GRANT_EVERYTHING = make(
    "grant with every field filled, three levels deep",
    "north",
    [PATIENT],
    "consent.grant",
    [
        provision(
            "permit",
            period=[0, 2**63 - 1],
            practitioners=[PHYSICIAN.public, STRANGER.public],
            members=["south", "w-2"],
            roles=["south/physician", "west/Triage-nurse"],
            actions=["read", "share"],
            purposes=["TREAT", "ETREAT"],
            categories=["laboratory", "imaging"],
            tags=[LABEL, named_bytes("another tag", 16)],
            records=[RECORD],
            years=[2000, None],
            provisions=[
                provision("deny", tags=[LABEL], provisions=[provision("permit", records=[RECORD])]),
                provision("deny", period=[None, 1_767_225_700], years=[None, 1999]),
            ],
        ),
        3,
    ],
)
REVOKE = make("revoke a consent", "north", [PATIENT], "consent.revoke", [CONSENT])
EXCLUDE = make(
    "exclude a label, also from emergencies",
    "north",
    [PATIENT],
    "consent.exclude",
    [provision("deny", tags=[LABEL]), True],
)
END_EXCLUSION = make("end an exclusion", "north", [PATIENT], "consent.end_exclusion", [derived_id(EXCLUDE.id, 0)])
REQUEST = make("ask for a record", "south", [PHYSICIAN], "access.request", [RECORD, "TREAT"])
REQUEST_DENIED = make("ask for research", "south", [PHYSICIAN], "access.request", [RECORD, "HRESCH"])
SERVED = make("serve an access", "north", [SERVICE["north"]], "access.served", [derived_id(REQUEST.id, 0)])
EQUIVOCATOR, EQUIVOCATION = next(member for member in FOUNDERS if member.name == "south"), (0, 4, 2)


def vote_of_equivocator(kind: int, block: str) -> list[Any]:
    epoch, view, height = EQUIVOCATION
    digest, result = named_bytes(block), bytes(32)
    preimage = b"CARETRACE/vote/1" + CHAIN_ID + struct.pack(">QBQQ", epoch, kind, view, height) + digest + result
    return [kind, digest, result, EQUIVOCATOR.node.sign(preimage)]


EVIDENCE = make(
    "prove an equivocation",
    "north",
    [SERVICE["north"]],
    "network.evidence",
    [
        EQUIVOCATOR.node.public,
        *EQUIVOCATION,
        vote_of_equivocator(1, "a block"),
        vote_of_equivocator(2, "another block"),
    ],
)
EVIDENCE_ID = sha256(b"CARETRACE/evidence/1", EQUIVOCATOR.node.public, struct.pack(">Q", EQUIVOCATION[2]))
FOUR_SIGNERS = make(
    "four signers, the most there may be",
    "east",
    [STRANGER, PATIENT, PHYSICIAN, SERVICE["east"]],
    "access.request",
    [RECORD, "HOPERAT"],
)
ORGANISATION = {member.name: member.organisation for member in FOUNDERS}
NEWCOMER = founder("harbour", "/dns4/harbour.example/tcp/4001", roles=["observer"])
PROPOSE_ADMISSION = make(
    "propose to admit a hospital",
    "north",
    [ORGANISATION["north"]],
    "network.propose",
    [["admit", *NEWCOMER.packed()[:-1]], None],
)
PROPOSE_ROLE = make(
    "propose that a member only observes, for what it did",
    "south",
    [ORGANISATION["south"]],
    "network.propose",
    [["role", "west", "observer"], named_bytes("evidence")],
)
PROPOSE_REMOVAL = make(
    "propose to remove a member", "east", [ORGANISATION["east"]], "network.propose", [["remove", "ministry"], None]
)
VOTE = make(
    "reject a proposal", "east", [ORGANISATION["east"]], "network.vote", [derived_id(PROPOSE_ADMISSION.id, 0), False]
)
REPLACE_KEYS = make(
    "replace the node key and the encryption key",
    "west",
    [ORGANISATION["west"]],
    "network.replace_keys",
    [signing_key("west/node, anew").public, None, sealing_public("west/encryption, anew")],
)

# In the order in which a block may hold them: urgent calls first.
IN_BLOCK = [
    REVOKE_PHYSICIAN,
    REVOKE,
    EXCLUDE,
    REPLACE_KEYS,
    ENROLMENT,
    ENROL_PHYSICIAN,
    REGISTER_RECORD,
    GRANT,
    GRANT_EVERYTHING,
    END_EXCLUSION,
    REQUEST,
    REQUEST_DENIED,
    SERVED,
    PROPOSE_ADMISSION,
    PROPOSE_ROLE,
    PROPOSE_REMOVAL,
    VOTE,
    EVIDENCE,
]
FIELDS = ("version", "chain_id", "nonce", "not_after_s", "payer", "signers", "method", "arguments")


def transactions() -> list[dict[str, Any]]:
    return [
        {
            "name": made.name,
            "fields": shown(dict(zip(FIELDS, made.fields, strict=True))),
            "arguments": pack(made.arguments).hex(),
            "body": made.body.hex(),
            "preimage": made.preimage.hex(),
            "signatures": [signature.hex() for signature in made.signatures],
            "envelope": made.envelope.hex(),
            "id": made.id.hex(),
            "leaf": made.leaf.hex(),
        }
        for made in [*IN_BLOCK, FOUR_SIGNERS]
    ]


def keys() -> dict[str, Any]:
    named = [PATIENT, PHYSICIAN, STRANGER]
    named += [key for member in FOUNDERS for key in (member.organisation, member.node, member.service)]
    return {
        "signing": [
            {"name": key.name, "seed": key.seed.hex(), "public": key.public.hex(), "did": did(key.public)}
            for key in named
        ],
        "sealing": [
            {"name": name, "secret": named_bytes(name).hex(), "public": sealing_public(name).hex()}
            for name in [
                "patient anna/sealing",
                "physician berg/sealing",
                *(f"{member.name}/encryption" for member in FOUNDERS),
            ]
        ],
    }
