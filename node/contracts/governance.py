"""Members: the state that a network begins with. Who joins or leaves later is decided by votes."""

from node.contracts.entries import KeyEntry, MemberEntry, key_key, member_key, members_key, validators_key
from storage.schema.codec import encode
from storage.schema.genesis import Genesis


def genesis_state(genesis: Genesis) -> dict[bytes, bytes]:
    """Return the state of height 0: the founders, and whose each of their signing keys is; sorted by key."""
    state = {
        members_key(): encode(tuple(member.name for member in genesis.body.members)),
        validators_key(): encode(genesis.validators),
    }
    for member in genesis.body.members:
        state[member_key(member.name)] = encode(
            MemberEntry(
                member.name,
                member.organisation_key,
                member.node_key,
                member.service_key,
                member.encryption_key,
                member.addresses,
                member.roles,
            )
        )
        state[key_key(member.organisation_key)] = encode(KeyEntry("organisation", member.name))
        state[key_key(member.node_key)] = encode(KeyEntry("node", member.name))
        state[key_key(member.service_key)] = encode(KeyEntry("service", member.name))
    return dict(sorted(state.items()))
