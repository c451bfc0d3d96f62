"""Which ordering engine an epoch has, as its validator set says."""

from collections.abc import Callable

from consensus.engine import Engine
from consensus.pbft.replica import Pbft
from node.replication.signer import NodeSigner
from storage.schema.epochs import Epochs
from storage.schema.genesis import Genesis
from storage.schema.signatures import public_key_of
from storage.schema.validators import Validator

EngineMaker = Callable[[Epochs], Engine]


def engine_maker(name: str, genesis: Genesis, node_seed: bytes) -> EngineMaker:
    """Return what makes a member's engine for the newest epoch; ``node_seed`` is 32 bytes, of its voting key."""
    voice = Validator(name, public_key_of(node_seed))

    def make(epochs: Epochs) -> Engine:
        validators = epochs.newest
        assert validators.engine == "pbft", "genesis admits no other engine"
        return Pbft(
            name,
            genesis.chain_id,
            validators,
            NodeSigner(node_seed, validators),
            rotation_blocks=genesis.parameters.rotation_blocks,
            handover_height=epochs.handover_height,
            # Once its key has been replaced a node that still holds the old one can only follow.
            is_seated=voice in validators.validators,
        )

    return make
