"""The network of the vectors: four validators and an observer found it (docs/spec/genesis.md)."""

import json
from typing import Any, NamedTuple

from vector_primitives import ZERO_DIGEST, Key, named_bytes, pack, root, sealing_public, sha256, shown, signing_key

PARAMETERS: list[tuple[str, int]] = [
    ("block_bytes_max", 524288),
    ("block_tx_max", 500),
    ("clock_ahead_ms_max", 5000),
    ("clock_behind_ms_max", 5000),
    ("consents_per_grantee_max", 64),
    ("idle_block_s", 300),
    ("payer_tx_per_block_max", 500),
    ("permit_s", 600),
    ("rotation_blocks", 64),
]
TREE_DEPTH = 4
SIGNATURE_RULE = "ed25519-libsodium/1"


class Founder(NamedTuple):
    """A founding member with its four keys; of the encryption key only the public half is needed."""

    name: str
    organisation: Key
    node: Key
    service: Key
    encryption: bytes
    addresses: list[str]
    roles: list[str]

    def packed(self) -> list[Any]:
        keys = [self.organisation.public, self.node.public, self.service.public, self.encryption]
        return [self.name, *keys, self.addresses, self.roles]


def founder(name: str, *addresses: str, roles: list[str]) -> Founder:
    organisation, node, service = (signing_key(f"{name}/{kind}") for kind in ("organisation", "node", "service"))
    return Founder(name, organisation, node, service, sealing_public(f"{name}/encryption"), list(addresses), roles)


FOUNDERS = [
    founder("east", "/ip4/192.0.2.1/tcp/4001", roles=["validator"]),
    founder("ministry", roles=["observer"]),
    founder("north", "/dns4/north.example/tcp/4001", "/ip6/2001:db8::1/tcp/4001", roles=["validator"]),
    founder("south", "/ip4/192.0.2.3/tcp/4001", roles=["validator"]),
    founder("west", "/ip4/192.0.2.4/tcp/4001", roles=["validator"]),
]
VALIDATORS = [member for member in FOUNDERS if "validator" in member.roles]


def genesis_value() -> list[Any]:
    members = [member.packed() for member in FOUNDERS]
    parameters = [list(pair) for pair in PARAMETERS]
    return ["vectors", 0, "pbft", SIGNATURE_RULE, TREE_DEPTH, parameters, members]


BODY = pack(genesis_value())
CHAIN_ID = sha256(b"CARETRACE/genesis/1", BODY)
FOUNDING_PREIMAGE = b"CARETRACE/founding/1" + CHAIN_ID
VALIDATOR_SET = pack([0, "pbft", [[member.name, member.node.public] for member in VALIDATORS]])
VALIDATORS_HASH = sha256(b"CARETRACE/validators/1", VALIDATOR_SET)
FIRST_HEADER = pack(
    [0, CHAIN_ID, 0, 0, ZERO_DIGEST, ZERO_DIGEST, 0, VALIDATORS[0].name, 0, root([]), 0, 0, VALIDATORS_HASH, root([])]
)
FIRST_DIGEST = sha256(b"CARETRACE/header/1", FIRST_HEADER)


def genesis_file() -> bytes:
    readable = {
        "name": "vectors",
        "engine": "pbft",
        "sigrule": SIGNATURE_RULE,
        "tree_depth": TREE_DEPTH,
        "parameters": dict(PARAMETERS),
        "members": [
            {
                "name": member.name,
                "organisation_key": member.organisation.public.hex(),
                "node_key": member.node.public.hex(),
                "service_key": member.service.public.hex(),
                "encryption_key": member.encryption.hex(),
                "addresses": member.addresses,
                "roles": member.roles,
            }
            for member in FOUNDERS
        ],
    }
    content = {
        "schema": "caretrace.genesis/1",
        "chain_id": CHAIN_ID.hex(),
        "body": BODY.hex(),
        "signatures": {member.name: member.organisation.sign(FOUNDING_PREIMAGE).hex() for member in FOUNDERS},
        "readable": readable,
    }
    return (json.dumps(content, indent=1) + "\n").encode("ascii")


def founding() -> dict[str, Any]:
    return {
        "body": BODY.hex(),
        "chain_id": CHAIN_ID.hex(),
        "founding_preimage": FOUNDING_PREIMAGE.hex(),
        "validator_set": VALIDATOR_SET.hex(),
        "validators_hash": VALIDATORS_HASH.hex(),
        "first_header": FIRST_HEADER.hex(),
        "first_digest": FIRST_DIGEST.hex(),
        "refused_bodies": refused_bodies(),
    }


NAME, VERSION, ENGINE, SIGRULE, DEPTH, PARAMETER_LIST, MEMBERS = range(7)
ORGANISATION_KEY, NODE_KEY, SERVICE_KEY, ENCRYPTION_KEY, ADDRESSES, ROLES = range(1, 7)


def refused_bodies() -> list[dict[str, Any]]:
    """Bodies that encode well and found nothing: each changes one thing of the good body."""
    small_order, order_two = b"\x01" + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f")
    one_parameter_more = [*map(list, PARAMETERS), ["surprise", 1]]
    no_validators = [[*member.packed()[:ROLES], ["observer"]] for member in FOUNDERS]
    changes: list[tuple[str, tuple[int, ...], Any]] = [
        ("an unknown version", (VERSION,), 1),
        ("an unknown engine", (ENGINE,), "raft"),
        ("an unknown signature rule", (SIGRULE,), "ed25519-zip215/1"),
        ("a tree of depth 0", (DEPTH,), 0),
        ("a tree of depth 6", (DEPTH,), 6),
        ("the network's name in capitals", (NAME,), "Vectors"),
        ("a parameter missing", (PARAMETER_LIST,), [list(pair) for pair in PARAMETERS[1:]]),
        ("a parameter that nobody knows", (PARAMETER_LIST,), one_parameter_more),
        ("parameters out of order", (PARAMETER_LIST,), [list(pair) for pair in reversed(PARAMETERS)]),
        ("a parameter out of its bounds", (PARAMETER_LIST, 1, 1), 0),
        ("members out of order", (MEMBERS,), [member.packed() for member in reversed(FOUNDERS)]),
        ("a member twice", (MEMBERS,), [FOUNDERS[0].packed(), *(member.packed() for member in FOUNDERS)]),
        ("no members", (MEMBERS,), []),
        ("no validators", (MEMBERS,), no_validators),
        ("a node key that is another member's service key", (MEMBERS, 0, NODE_KEY), FOUNDERS[2].service.public),
        ("a node key of small order", (MEMBERS, 0, NODE_KEY), small_order),
        ("a service key of order two", (MEMBERS, 0, SERVICE_KEY), order_two),
        ("an organisation key that is no point", (MEMBERS, 0, ORGANISATION_KEY), b"\x02" + bytes(31)),
        ("an encryption key that is another member's", (MEMBERS, 0, ENCRYPTION_KEY), FOUNDERS[2].encryption),
        ("an encryption key of small order", (MEMBERS, 0, ENCRYPTION_KEY), bytes(32)),
        ("an encryption key not reduced modulo p", (MEMBERS, 0, ENCRYPTION_KEY), b"\xff" * 31 + b"\x7f"),
        ("a key of 31 bytes", (MEMBERS, 0, NODE_KEY), named_bytes("short", 31)),
        ("an address that is no multiaddr", (MEMBERS, 0, ADDRESSES), ["192.0.2.1:4001"]),
        ("an address with a control character", (MEMBERS, 0, ADDRESSES), ["/ip4/192.0.2.1\x1b[2J"]),
        ("nine addresses", (MEMBERS, 0, ADDRESSES), ["/ip4/192.0.2.1/tcp/4001"] * 9),
        ("no role", (MEMBERS, 0, ROLES), []),
        ("a role twice", (MEMBERS, 0, ROLES), ["validator", "validator"]),
        ("roles out of order", (MEMBERS, 0, ROLES), ["validator", "observer"]),
        ("an unknown role", (MEMBERS, 0, ROLES), ["auditor"]),
    ]
    return [{"why": why, "body": shown(pack(changed(place, to)))[2:]} for why, place, to in changes]


def changed(place: tuple[int, ...], to: Any) -> list[Any]:
    value = genesis_value()
    target = value
    for index in place[:-1]:
        target = target[index]
    target[place[-1]] = to
    return value
