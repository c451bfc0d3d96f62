"""Which ordering engine a network runs, as its genesis says."""

from consensus.engine import Engine
from consensus.pbft.replica import Pbft
from node.replication.signer import NodeSigner
from storage.schema.genesis import Genesis


def make_engine(name: str, genesis: Genesis, node_seed: bytes) -> Engine:
    """Make the engine of a member; ``node_seed`` is the 32-byte seed of its voting key."""
    assert genesis.body.engine == "pbft", "genesis admits no other engine"
    signer = NodeSigner(node_seed, genesis.validators)
    rotation_blocks = genesis.parameters.rotation_blocks
    return Pbft(name, genesis.chain_id, genesis.validators, signer, rotation_blocks=rotation_blocks)
