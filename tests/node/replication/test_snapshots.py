"""A node far behind takes the state in parts instead of every block, believes none of it unproven, and gets history."""

import shutil
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path

import msgspec
import pytest
import trio

from node.network.peers import PeerFaultError, RequestRefusedError
from node.replication import snapshots as snapshots_module
from node.replication import state_fetch as fetch_module
from node.replication.wire import (
    BLOCKS_SERVICE,
    PARTS,
    PARTS_REQUEST,
    PARTS_SERVICE,
    SEEN_REQUEST,
    SEEN_SERVICE,
    SNAPSHOT_SERVICE,
    HistoryRequest,
    PartsRequest,
    SeenRequest,
)
from storage.arriving import Arriving
from storage.database import HistoryError
from storage.places import arriving_folder
from storage.schema.codec import encode
from storage.schema.genesis import Genesis
from storage.schema.seen import seen_digest
from storage.snapshot import FOUNDATION
from storage.vote_log import VoteLogAheadError
from tests.node.replication.conftest import Make
from tests.support.kept_ledger import KeptLedger
from tests.support.members import until
from tests.support.state_giver import Giver, Lie
from tests.support.wired_nodes import WiredNode, are_level, registration, running

pytestmark = pytest.mark.network

HEIGHTS = 12


@pytest.fixture
def kept(tmp_path: Path, genesis: Genesis) -> KeptLedger:
    """A chain that three of four members certified, two registrations in each block."""
    kept = KeptLedger(tmp_path / "chain" / "ledger", genesis)
    for height in range(1, HEIGHTS + 1):
        transactions = [registration(genesis, 2 * height + number) for number in range(2)]
        kept.append(transactions, time.time_ns() // 1_000_000 + height)
    return kept


def a_changed_part(giver: Giver, service: str, payload: bytes) -> bytes | None:
    if service != PARTS_SERVICE:
        return None
    parts = [giver.snapshot.part(part) for part in PARTS_REQUEST.decode(payload).parts]
    return encode([tuple((key, value + b"\x00") for key, value in part) for part in parts])


def a_part_too_many(giver: Giver, service: str, payload: bytes) -> bytes | None:
    return encode([()] * 4096) if service == PARTS_SERVICE else None


def an_uncertified_state(giver: Giver, service: str, payload: bytes) -> bytes | None:
    if service != SNAPSHOT_SERVICE:
        return None
    offered = giver.snapshot.foundation
    return encode(msgspec.structs.replace(offered, parts=bytes(len(offered.parts))))


def a_list_left_out(giver: Giver, service: str, payload: bytes) -> bytes | None:
    if service != SEEN_SERVICE:
        return None
    asked = SEEN_REQUEST.decode(payload)
    return encode(list(giver.snapshot.seen_after(asked.minute, asked.block))[1:])


async def taken(west: WiredNode, givers: list[Giver]) -> list[str]:
    """Run west among these until it has the state; returns why it has dropped whom."""
    async with AsyncExitStack() as stack:
        for giver in givers:
            await stack.enter_async_context(giver.network.run())
        await stack.enter_async_context(west.run())
        await until(lambda: sum(peer.connected for peer in west.network.statuses()) == len(givers))
        west.catch_up.want(HEIGHTS, tuple(giver.network._name for giver in givers))
        await until(west.has_taken_state.is_set)
        return [
            f"{peer.name} {peer.why}" for peer in west.network.statuses() if "gave" in peer.why or "off" in peer.why
        ]


async def test_the_state_is_taken_from_several_members_at_once(genesis: Genesis, make: Make, kept: KeptLedger) -> None:
    givers = [Giver(name, genesis, kept) for name in ("east", "north", "south")]

    dropped = await taken(make("west", blocks_behind_max=3), givers)
    west = make("west")

    assert dropped == []
    assert all(giver.asked.count(PARTS_SERVICE) >= 1 for giver in givers)
    assert not any(BLOCKS_SERVICE in giver.asked for giver in givers)
    assert west.chain.head.digest == kept.ledger.head.digest
    assert west.ledger.state.root == kept.ledger.state.root
    assert west.ledger.history_from == HEIGHTS + 1


@pytest.mark.parametrize("lie", [a_changed_part, a_part_too_many, an_uncertified_state, a_list_left_out])
async def test_who_gives_what_the_certificate_does_not_cover_is_dropped_and_the_others_give_it(
    genesis: Genesis, make: Make, kept: KeptLedger, lie: Lie
) -> None:
    givers = [Giver("east", genesis, kept, lie), Giver("north", genesis, kept), Giver("south", genesis, kept)]

    dropped = await taken(make("west", blocks_behind_max=3), givers)

    assert [words.split()[0] for words in dropped] == ["east"]
    assert make("west").ledger.state.root == kept.ledger.state.root


async def test_no_state_is_taken_on_the_word_of_as_few_as_may_all_be_liars(
    genesis: Genesis, make: Make, kept: KeptLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "OFFERS_WITHIN_S", 0.5)
    giver, west = Giver("east", genesis, kept), make("west", blocks_behind_max=3)
    async with giver.network.run(), west.run():
        await until(lambda: any(peer.connected for peer in west.network.statuses()))

        is_taken = await west.state_fetch.take()

    assert not is_taken
    assert PARTS_SERVICE not in giver.asked


async def test_what_was_taken_before_a_restart_is_not_asked_for_again(
    genesis: Genesis, make: Make, kept: KeptLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "ROUND_PAUSE_S", 0.0)

    def nothing_after_three(giver: Giver, service: str, payload: bytes) -> bytes | None:
        if service == PARTS_SERVICE and giver.asked.count(PARTS_SERVICE) > 3:
            raise RequestRefusedError("enough")
        return None

    givers = [Giver(name, genesis, kept, nothing_after_three) for name in ("east", "north")]
    west = make("west", blocks_behind_max=3)
    async with givers[0].network.run(), givers[1].network.run(), west.run():
        await until(lambda: sum(peer.connected for peer in west.network.statuses()) == 2)
        first = await west.state_fetch.take()
    asked = sum(giver.asked.count(PARTS_SERVICE) for giver in givers)

    others = [Giver(name, genesis, kept) for name in ("east", "north")]
    await taken(make("west", blocks_behind_max=3), others)

    assert not first
    assert asked > 3 * 2
    assert sum(giver.parts_given for giver in givers) > 0
    total = sum(kept_part != () for kept_part in map(others[0].snapshot.part, range(4096)))
    assert sum(giver.parts_given for giver in (*givers, *others)) == total
    assert make("west").ledger.state.root == kept.ledger.state.root


async def test_damage_in_what_was_taken_lets_it_begin_anew_and_the_ledger_alone(
    genesis: Genesis, make: Make, kept: KeptLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "RETRY_AFTER_S", 0.0)
    givers = [Giver(name, genesis, kept) for name in ("east", "north")]
    west, depth = make("west", blocks_behind_max=3), genesis.body.tree_depth
    snapshot = givers[0].snapshot
    folder = arriving_folder(tmp_path / "west" / "ledger")
    with closing(Arriving.open(folder, depth)) as arriving:
        arriving.begin(snapshot.foundation)
        arriving.add_parts({part: snapshot.part(part) for part in arriving.missing})
    Arriving.open(folder, depth).close()  # What stood in the log stands in a table now.
    (table,) = folder.glob("*.ldb")
    content = bytearray(table.read_bytes())
    # The last of the digests, which are read only once all parts are there.
    content[max(content.index(seen_digest([each.ids])) for each in snapshot.seen_after(0, 0))] ^= 1
    table.write_bytes(content)

    async with givers[0].network.run(), givers[1].network.run(), west.run():
        await until(lambda: sum(peer.connected for peer in west.network.statuses()) == 2)
        first = await west.state_fetch.take()
        is_removed = not folder.exists()
        second = await west.state_fetch.take()

    assert (first, is_removed, second) == (False, True, True)
    assert make("west").ledger.state.root == kept.ledger.state.root


async def test_a_wiped_node_takes_the_state_goes_on_with_the_others_and_gets_all_history_back(
    genesis: Genesis, make: Make, tmp_path: Path
) -> None:
    others = [make(name) for name in ("east", "north", "south")]
    async with running(*others):
        for number in range(8):
            await others[0].submit(registration(genesis, number))
            await until(lambda n=number: are_level(others, n + 1))
        first = make("west", blocks_behind_max=3)
        async with first.run():
            await until(first.has_taken_state.is_set)
        west = make("west")
        base = west.ledger.history_from
        with pytest.raises(HistoryError):
            west.ledger.check_history()

        async with west.run():
            await others[0].submit(registration(genesis, 99))
            await until(lambda: are_level([*others, west], 9))
            await until(lambda: west.ledger.history_from == 1)

        assert base == 9
        for height in range(1, west.height + 1):
            assert west.ledger.block(height).outcomes == others[0].ledger.block(height).outcomes
            assert west.ledger.encoded_block(height) == others[0].ledger.encoded_block(height)


async def test_a_node_whose_ledger_is_lost_follows_until_it_stands_where_its_vote_log_does_and_then_votes_again(
    genesis: Genesis, make: Make, tmp_path: Path
) -> None:
    nodes = [make(name) for name in ("east", "north", "south", "west")]
    async with running(*nodes):
        for number in range(3):
            await nodes[0].submit(registration(genesis, number))
            await until(lambda n=number: are_level(nodes, n + 1))
    nodes[3].close()
    shutil.rmtree(tmp_path / "west" / "ledger")
    (tmp_path / "west" / "ledger.created").unlink()
    others, west = [make(name) for name in ("east", "north", "south")], make("west")
    ahead = west.halted_log
    async with running(*others), west.run():
        await until(lambda: are_level([*others, west], 3))
        reason = west.driver.halted
        may_vote_before = west.may_vote

    assert isinstance(ahead, VoteLogAheadError)
    assert ahead.height in (2, 3)
    assert not may_vote_before
    assert reason is not None
    assert "votes again" in reason
    # Without south there is no quorum unless west votes.
    north, east, west = make("north"), make("east"), make("west")
    async with running(north, east, west):
        await north.submit(registration(genesis, 9))
        await until(lambda: are_level([north, east, west], 4))


async def test_a_held_state_is_kept_for_who_fetches_and_let_go_when_nobody_does(
    genesis: Genesis, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "SWEEP_EVERY_S", 0.01)
    west, other = make("west"), make("north")
    async with running(west, other, make("east")):
        await west.submit(registration(genesis, 1))
        await until(lambda: west.height == 1)
        offer = FOUNDATION.decode(await west.snapshots._offer("north", b""))
        await west.submit(registration(genesis, 2))
        await until(lambda: west.height == 2)
        part = next(part for part in range(4096) if west.snapshots._at(1).part(part))

        answer = PARTS.decode(await west.snapshots._parts("north", encode(PartsRequest(1, (part,)))))
        monkeypatch.setattr(snapshots_module, "IDLE_S", 0.0)
        await until(lambda: not west.snapshots._held)
        with pytest.raises(RequestRefusedError):
            await west.snapshots._seen("north", encode(SeenRequest(1, 0, 0)))

    assert offer.header.height == 1
    assert answer[0] == tuple((bytes(key), value) for key, value in answer[0]) != ()


@pytest.mark.parametrize("service", ["_parts", "_seen", "_history"])
async def test_a_malformed_request_for_the_state_is_the_fault_of_who_sent_it(make: Make, service: str) -> None:
    west = make("west")

    with pytest.raises(PeerFaultError):
        await getattr(west.snapshots, service)("east", b"\xc1")


async def test_what_no_state_of_the_network_has_and_what_is_not_here_is_refused(make: Make) -> None:
    west = make("west")

    with pytest.raises(RequestRefusedError):
        await west.snapshots._offer("east", b"")
    with pytest.raises(RequestRefusedError):
        await west.snapshots._parts("east", encode(PartsRequest(7, (1,))))
    with pytest.raises(RequestRefusedError):
        await west.snapshots._history("east", encode(HistoryRequest(1 << 62)))
    await trio.lowlevel.checkpoint()
