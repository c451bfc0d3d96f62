"""Healing: a damaged or lost ledger is put aside, kept, and had anew from the other members; nothing is repaired.

What this node has promised stands in its vote log, not in the ledger; so it follows until the new ledger stands where
that log does, and then votes again (docs/adr/0019).
"""

import logging
import time
from collections.abc import Iterable
from pathlib import Path

from node.runtime.parts import LEDGER_FOLDER, Parts
from storage.arriving import is_whole
from storage.database import DatabaseCorruptError, DatabaseError
from storage.places import arriving_folder, replace_ledger, set_aside
from storage.schema.genesis import Genesis
from storage.schema.validators import faults_tolerated

log = logging.getLogger("caretrace.healing")


def put_aside(data: Path, damage: DatabaseError, votes: str) -> None:
    """Put the ledger of a data folder into quarantine, and note there the name of the vote log that it knew.

    Raises:
        QuarantineFullError: the disk has damaged too many already.
    """
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    place = set_aside(data / LEDGER_FOLDER, name, f"{damage.code}: {damage}", votes)
    log.error("the ledger is damaged: %s. It lies in %s; it is had anew from the other members", damage, place)


def take_arrived(data: Path, genesis: Genesis) -> None:
    """Put a state that has arrived whole in the place of the ledger, if there is one."""
    ledger = data / LEDGER_FOLDER
    if is_whole(arriving_folder(ledger), genesis):
        replace_ledger(ledger)
        log.info("the ledger goes on from the state that was taken")


def heal_running(parts: Parts, damage: DatabaseCorruptError) -> None:
    """Begin anew because of what was read or verified, if enough others are there to have the ledger from.

    Were it a fault of this program that all members share, one after the other would put its ledger aside: at least
    f + 1 others must stand where this node does.
    """
    height, heights = parts.chain.head.height, parts.driver.engine.heights
    reached = [heights.get(peer.name) or 0 for peer in parts.network.statuses() if peer.connected]
    if can_be_had_anew(height, reached, len(parts.opened.ledger.validators.validators)):
        parts.rebirth.want(f"the ledger is damaged: {damage}", damage)
    else:
        log.error("the ledger is damaged: %s. Too few members stand at block %d to have it from", damage, height)


def can_be_had_anew(height: int, reached: Iterable[int], validator_count: int) -> bool:
    """Tell whether enough of the members reached, by the heights that they say, hold what this node does."""
    return sum(at >= height for at in reached) > faults_tolerated(validator_count)


def ignore_damage(damage: DatabaseCorruptError) -> None:
    """Say it, and leave the ledger as it is, for one who wants to look first."""
    log.error("the ledger is damaged: %s. It is left as it is", damage)
