"""States that arrive: a chain to take them from, and the taking, as tests of snapshots and of what follows need it."""

from contextlib import closing
from pathlib import Path

from node.contracts.governance import genesis_state
from node.execution.transition import trail_of
from storage.arriving import Arriving
from storage.history import Checked, check_past_block
from storage.ledger import Ledger
from storage.places import arriving_folder
from storage.snapshot import HeldSnapshot
from tests.support.kept_ledger import KeptLedger
from tests.support.story import World

NODE_KEY = bytes(range(32))


def kept(world: World) -> Ledger:
    assert isinstance(world.ledger, KeptLedger)
    return world.ledger.ledger


def depth_of(world: World) -> int:
    return world.genesis.body.tree_depth


def held(world: World) -> HeldSnapshot:
    return HeldSnapshot(kept(world), depth_of(world))


def arrive(world: World, target: Path, snapshot: HeldSnapshot, parts_max: int = 4096) -> bool:
    """Take as many parts as may be, and with the last one all else; tells whether it has become a ledger."""
    target.parent.mkdir(exist_ok=True)
    with closing(Arriving.open(arriving_folder(target), depth_of(world))) as arriving:
        arriving.begin(snapshot.foundation)
        for part in arriving.missing[:parts_max]:
            arriving.add_parts({part: snapshot.part(part)})
        if arriving.missing:
            return False
        arriving.add_seen(list(snapshot.seen_after(*arriving.last_seen)))
        arriving.finish(world.genesis, genesis_state(world.genesis), NODE_KEY)
    return True


def opened(world: World, target: Path) -> Ledger:
    return Ledger.open(target, world.genesis, genesis_state(world.genesis))


def on(world: World, ledger: Ledger) -> KeptLedger:
    """A ledger that is open, to append blocks to."""
    copy = KeptLedger.__new__(KeptLedger)
    copy.genesis, copy.ledger = world.genesis, ledger
    return copy


def take_one_below(world: World, ledger: Ledger) -> Checked:
    """Take the block below the lowest that is there from the world's own ledger."""
    past = check_past_block(
        kept(world).encoded_whole_block(ledger.history_from - 1),
        ledger.link_below,
        kept(world).epochs,
    )
    ids = [transaction.id for transaction in past.transactions]
    ledger.add_below(past.block, ids, trail_of(past.transactions, past.outcomes))
    return past
