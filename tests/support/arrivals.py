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
from tests.support.story import Story


def kept(story: Story) -> Ledger:
    assert isinstance(story.ledger, KeptLedger)
    return story.ledger.ledger


def depth_of(story: Story) -> int:
    return story.genesis.body.tree_depth


def held(story: Story) -> HeldSnapshot:
    return HeldSnapshot(kept(story), depth_of(story))


def arrive(story: Story, target: Path, snapshot: HeldSnapshot, parts_max: int = 4096) -> bool:
    """Take as many parts as may be, and with the last one all else; tells whether it has become a ledger."""
    target.parent.mkdir(exist_ok=True)
    with closing(Arriving.open(arriving_folder(target), depth_of(story))) as arriving:
        arriving.begin(snapshot.foundation)
        for part in arriving.missing[:parts_max]:
            arriving.add_parts({part: snapshot.part(part)})
        if arriving.missing:
            return False
        arriving.add_seen(list(snapshot.seen_after(*arriving.last_seen)))
        arriving.finish(story.genesis, genesis_state(story.genesis), has_vote_log=True)
    return True


def opened(story: Story, target: Path) -> Ledger:
    return Ledger.open(target, story.genesis, genesis_state(story.genesis))


def on(story: Story, ledger: Ledger) -> KeptLedger:
    """A ledger that is open, to append blocks to."""
    copy = KeptLedger.__new__(KeptLedger)
    copy.genesis, copy.ledger = story.genesis, ledger
    return copy


def take_one_below(story: Story, ledger: Ledger) -> Checked:
    """Take the block below the lowest that is there from the story's own ledger."""
    past = check_past_block(
        kept(story).encoded_whole_block(ledger.history_from - 1),
        ledger.link_below,
        story.genesis.chain_id,
        story.genesis.validators,
    )
    ids = [transaction.id for transaction in past.transactions]
    ledger.add_below(past.block, ids, trail_of(past.transactions, past.outcomes))
    return past
